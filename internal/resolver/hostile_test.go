package resolver

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// An upstream server, or who speaks for it, that lies.
func TestHostileUpstream(t *testing.T) {
	wrong := func(change func(msg []byte) []byte) func([]byte, bool) [][]byte {
		return func(msg []byte, _ bool) [][]byte {
			right := zone{"a.test": "203.0.113.9"}.answer(msg)
			lie := change(bytes.ReplaceAll(right, []byte{203, 0, 113, 9}, []byte{6, 6, 6, 6}))
			return [][]byte{lie, right}
		}
	}
	for i, test := range []struct {
		name string
		f    func([]byte) []byte
	}{
		{"id", func(m []byte) []byte { m[0] ^= 1; return m }},
		{"a query", func(m []byte) []byte { m[2] &^= 0x80; return m }},
		{"name", func(m []byte) []byte { m[13] = 'b'; return m }},
		{"type", func(m []byte) []byte { m[21] = 16; return m }},
		{"no question", func(m []byte) []byte { m[5] = 0; return m }},
		{"two questions", func(m []byte) []byte { m[5] = 2; return m }},
		{"short", func(m []byte) []byte { return m[:11] }},
		{"header", func(m []byte) []byte { return m[:12] }},
		{"loop", func(m []byte) []byte { m[12], m[13] = 0xc0, 12; return m }},
		{"huge", func(m []byte) []byte { return append(m, make([]byte, 9000)...) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			up := upstream(t, fmt.Sprintf("127.0.1.%d", i+1), wrong(test.f))
			c := dial(t, start(t, &Server{Upstream: []netip.Addr{up}}), "udp")
			if got := dig(t, c, "a.test.", dnsmessage.TypeA); got != "203.0.113.9" {
				t.Errorf("%q", got)
			}
		})
	}
	t.Run("more than asked", func(t *testing.T) {
		up := upstream(t, "127.0.2.1", zone{"a.test": strings.Repeat("1.2.3.4 ", 100)}.serve)
		c := dial(t, start(t, &Server{Upstream: []netip.Addr{up}}), "udp")
		if got := dig(t, c, "a.test.", dnsmessage.TypeA); got != "TC" {
			t.Errorf("%q", got)
		}
	})
}

// What is not a query gets a code or nothing, and the server lives on.
func TestHostileClients(t *testing.T) {
	ns := start(t, members())
	c := dial(t, ns, "udp")
	good := question(t, "web.", dnsmessage.TypeA, 0)
	change := func(f func(m []byte)) []byte {
		m := bytes.Clone(good)
		f(m)
		return m
	}
	for _, test := range []struct {
		name string
		msg  []byte
		want string // "": nothing
	}{
		{"empty", nil, ""},
		{"short", good[:11], ""},
		{"answer", change(func(m []byte) { m[2] |= 0x80 }), ""},
		{"header", good[:12], "FormatError"},
		{"no question", change(func(m []byte) { m[5] = 0 }), "FormatError"},
		{"many questions", change(func(m []byte) { m[4] = 0xff }), "FormatError"},
		{"opcode", change(func(m []byte) { m[2] |= 0x28 }), "NotImplemented"},
		{"loop", change(func(m []byte) { m[12], m[13] = 0xc0, 12 }), "FormatError"},
		{"class", change(func(m []byte) { m[len(m)-1] = 3 }), "Refused"},
		{"transfer", change(func(m []byte) { m[len(m)-3] = 252 }), "Refused"},
		{"huge", append(bytes.Clone(good), make([]byte, 5000)...), ""},
		{"bad bytes", change(func(m []byte) { copy(m[13:], "/\x00\n") }), "NameError"},
	} {
		resp := send(t, c, test.msg, 200*time.Millisecond)
		if test.want == "" && resp != nil || test.want != "" && (resp == nil || text(t, resp) != test.want) {
			t.Errorf("%s: %x", test.name, resp)
		}
	}
	// EDNS of a version to come, RFC 6891 section 6.1.3.
	m := question(t, "web.", dnsmessage.TypeA, 1232)
	m[len(m)-5] = 1
	resp := send(t, c, m, time.Second)
	if len(resp) == 0 || resp[len(resp)-6] != 1 {
		t.Errorf("EDNS version: %x", resp)
	}
	if got := dig(t, c, "web.", dnsmessage.TypeA); got != "10.210.0.2" {
		t.Errorf("afterwards: %q", got)
	}
	// A message longer than it says, one that never comes, one too long.
	for _, raw := range [][]byte{{0, 0}, {0xff, 0xff, 1, 2, 3}, {0, 20, 1}} {
		tc := dial(t, ns, "tcp")
		_, _ = tc.Write(raw)
	}
	if got := dig(t, dial(t, ns, "tcp"), "web.", dnsmessage.TypeA); got != "10.210.0.2" {
		t.Errorf("TCP afterwards: %q", got)
	}
}

func FuzzMessage(f *testing.F) {
	f.Add(question(f, "web.", dnsmessage.TypeA, 0))
	f.Add(question(f, "2.0.210.10.in-addr.arpa.", dnsmessage.TypePTR, 4096))
	f.Add(question(f, "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", dnsmessage.TypePTR, 1))
	f.Add(zone{"a.test": "a.test=b.test b.test=1.2.3.4"}.answer(question(f, "a.test.", dnsmessage.TypeA, 0)))
	s := members()
	s.Upstream = addrs("127.0.0.1")
	h := newHandler(s)
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, tcp := range []bool{false, true} {
			q, resp, forward := h.local(msg, tcp)
			if forward {
				out, err := q.pack(1)
				if err != nil || len(out) > len(msg)+20 {
					t.Fatalf("%v: %d bytes of %d", err, len(out), len(msg))
				}
				if again, v, _ := parseQuery(out); v != serve || again.q != q.q {
					t.Fatalf("%+v is sent as %+v", q, again)
				}
				continue
			}
			if resp == nil {
				continue
			}
			if !tcp && len(resp) > q.size {
				t.Fatalf("%d bytes for %d", len(resp), q.size)
			}
			var m dnsmessage.Message
			if err := m.Unpack(resp); err != nil || !m.Response || m.ID != binary.BigEndian.Uint16(msg) {
				t.Fatalf("%v in %x", err, resp)
			}
		}
		// The same bytes as an upstream server's.
		if q, v, _ := parseQuery(msg); v == serve {
			_, _ = readAddresses(msg, q.q)
		}
		asked := dnsmessage.Question{Name: dnsmessage.MustNewName("a.test."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
		if found, err := readAddresses(msg, asked); err == nil && len(found.addrs) > maxAddrs {
			t.Fatal(len(found.addrs))
		}
		replies(msg, 4711, asked)
	})
}
