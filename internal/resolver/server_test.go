package resolver

import (
	"context"
	"encoding/binary"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// members is a Server of a network with containers.
func members() *Server {
	names := map[string][]netip.Addr{
		"web":         addrs("10.210.0.2", "fd00::2"),
		"db.internal": addrs("10.210.0.3", "10.210.0.4", "10.210.0.5"),
		"v4only":      addrs("10.210.0.6"),
	}
	subnet := netip.MustParsePrefix("10.210.0.0/20")
	return &Server{
		Members: func(n string) []netip.Addr { return names[n] },
		Reverse: func(a netip.Addr) []string {
			if a == netip.MustParseAddr("10.210.0.2") || a == netip.MustParseAddr("fd00::2") {
				return []string{"web"}
			}
			return nil
		},
		Own: subnet.Contains,
	}
}

func TestMembers(t *testing.T) {
	s := members()
	asked := make(chan string, 100)
	s.Upstream = []netip.Addr{upstream(t, "127.0.0.2", func(msg []byte, tcp bool) [][]byte {
		q, _, _ := parseQuery(msg)
		asked <- q.q.Name.String()
		return zone{"example.com A": "203.0.113.7", "x.web": "203.0.113.8"}.serve(msg, tcp)
	})}
	ns := start(t, s)
	for _, network := range []string{"udp", "tcp"} {
		c := dial(t, ns, network)
		for _, test := range []struct {
			name string
			t    dnsmessage.Type
			want string
		}{
			{"web.", dnsmessage.TypeA, "10.210.0.2"},
			{"WeB.", dnsmessage.TypeA, "10.210.0.2"},
			{"web.", dnsmessage.TypeAAAA, "fd00::2"},
			{"web.", dnsmessage.TypeMX, ""},
			{"v4only.", dnsmessage.TypeAAAA, ""},
			{"gone.", dnsmessage.TypeA, "NameError"},
			{"gone.", dnsmessage.TypeTXT, "NameError"},
			{"example.com.", dnsmessage.TypeA, "203.0.113.7"},
			{"none.example.com.", dnsmessage.TypeA, "NameError"},
			{"x.web.", dnsmessage.TypeA, "203.0.113.8"},
			{"2.0.210.10.in-addr.arpa.", dnsmessage.TypePTR, "web."},
			{"2.0.210.10.in-addr.arpa.", dnsmessage.TypeTXT, ""},
			{"9.0.210.10.in-addr.arpa.", dnsmessage.TypePTR, "NameError"},
			{"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", dnsmessage.TypePTR, "web."},
			{".", dnsmessage.TypeNS, "NameError"},
		} {
			if got := dig(t, c, test.name, test.t); got != test.want {
				t.Errorf("%s %s %s: %q, want %q", network, test.name, test.t, got, test.want)
			}
		}
		seen := map[string]bool{}
		for range 6 {
			seen[dig(t, c, "db.internal.", dnsmessage.TypeA)] = true
		}
		if len(seen) != 3 {
			t.Errorf("round robin: %v", seen)
		}
	}
	for range len(asked) {
		n := <-asked
		if !strings.Contains(strings.TrimSuffix(n, "."), ".") && n != "." || strings.Contains(n, ".210.10.") {
			t.Errorf("%q went upstream", n)
		}
	}
}

func TestForward(t *testing.T) {
	big := strings.Repeat("203.0.113.1 ", 60)
	z := zone{"big.test A": big, "alias.test A": "alias.test=real.test real.test=203.0.113.9", "host A": "203.0.113.5"}
	var seen atomic.Pointer[[]byte]
	good := upstream(t, "127.0.0.3", func(msg []byte, tcp bool) [][]byte {
		seen.Store(&msg)
		q, _, _ := parseQuery(msg)
		if resp := z.answer(msg); tcp || len(resp) <= q.size {
			return [][]byte{resp}
		}
		return [][]byte{q.reply(answer{truncated: true}, plainUDP)}
	})
	bad := upstream(t, "127.0.0.4", zone{"alias.test": "SERVFAIL", "broken.test": "SERVFAIL"}.serve)
	silent := upstream(t, "127.0.0.5", func([]byte, bool) [][]byte { return nil })
	closed := netip.MustParseAddr("127.0.0.6")

	t.Run("answers", func(t *testing.T) {
		ns := start(t, &Server{Upstream: []netip.Addr{good}})
		u, c := dial(t, ns, "udp"), dial(t, ns, "tcp")
		if got := dig(t, u, "alias.test.", dnsmessage.TypeA); got != "real.test. 203.0.113.9" {
			t.Errorf("alias: %q", got)
		}
		// Without names of members a name without a dot is the host's business.
		if got := dig(t, u, "host.", dnsmessage.TypeA); got != "203.0.113.5" {
			t.Errorf("single label: %q", got)
		}
		if got := dig(t, u, "big.test.", dnsmessage.TypeA); got != "TC" {
			t.Errorf("big by UDP: %q", got)
		}
		if got := dig(t, c, "big.test.", dnsmessage.TypeA); len(strings.Fields(got)) != 60 {
			t.Errorf("big by TCP: %q", got)
		}
		if got := text(t, send(t, u, question(t, "big.test.", dnsmessage.TypeA, 9000), 5*time.Second)); len(strings.Fields(got)) != 60 {
			t.Errorf("big by EDNS: %q", got)
		}
		q, v, _ := parseQuery(*seen.Load())
		if v != serve || q.size != maxUDP || q.id == 4711 {
			t.Errorf("upstream got %+v", q)
		}
	})
	for _, test := range []struct {
		name string
		up   []netip.Addr
		ask  string
		want string
		max  time.Duration
	}{
		{"failure, then good", []netip.Addr{bad, good}, "alias.test.", "real.test. 203.0.113.9", time.Second},
		{"closed, then good", []netip.Addr{closed, good}, "alias.test.", "real.test. 203.0.113.9", time.Second},
		{"silent, then good", []netip.Addr{silent, good}, "alias.test.", "real.test. 203.0.113.9", 3 * time.Second},
		{"only failure", []netip.Addr{bad}, "broken.test.", "ServerFailure", time.Second},
		{"nobody", []netip.Addr{closed}, "broken.test.", "ServerFailure", time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := dial(t, start(t, &Server{Upstream: test.up}), "udp")
			begin := time.Now()
			if got := dig(t, c, test.ask, dnsmessage.TypeA); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
			if d := time.Since(begin); d > test.max {
				t.Errorf("it took %v", d)
			}
			// Who was silent is asked last from then on.
			begin = time.Now()
			if got := dig(t, c, test.ask, dnsmessage.TypeA); got != test.want || time.Since(begin) > time.Second {
				t.Errorf("again: %q after %v", got, time.Since(begin))
			}
		})
	}
}

func TestEgressList(t *testing.T) {
	var queries atomic.Int32
	up := upstream(t, "127.0.0.7", func(msg []byte, tcp bool) [][]byte {
		queries.Add(1)
		return zone{
			"ok.test A":     "ok.test=cdn.test cdn.test=203.0.113.1 other.test=203.0.113.66",
			"ok.test AAAA":  "2001:db8::1 ::ffff:10.0.0.1",
			"rebind.test":   "127.0.0.1 169.254.169.254",
			"private.test":  "10.210.0.9",
			"listed.test A": "203.0.113.3",
		}.serve(msg, tcp)
	})
	var opened atomic.Int32
	s := members()
	s.Upstream = []netip.Addr{up}
	s.Permit = func(name string, a []netip.Addr) bool {
		if len(a) > 0 {
			opened.Add(1)
		}
		return !slices.ContainsFunc(a, s.Own) && slices.Contains([]string{"ok.test", "rebind.test", "private.test"}, name)
	}
	c := dial(t, start(t, s), "udp")
	for _, test := range []struct {
		name    string
		t       dnsmessage.Type
		want    string
		queries int32
	}{
		{"secret.tunnel.test.", dnsmessage.TypeA, "NameError", 0},
		{"x.ok.test.", dnsmessage.TypeA, "NameError", 0},
		{"listed.test.", dnsmessage.TypeTXT, "NameError", 0},
		{"ok.test.", dnsmessage.TypeTXT, "", 0},
		{"8.8.8.8.in-addr.arpa.", dnsmessage.TypePTR, "NameError", 0},
		{"web.", dnsmessage.TypeA, "10.210.0.2", 0},
		{"OK.test.", dnsmessage.TypeA, "203.0.113.1", 1},
		{"ok.test.", dnsmessage.TypeA, "203.0.113.1", 0},
		{"ok.test.", dnsmessage.TypeAAAA, "2001:db8::1", 1},
		{"rebind.test.", dnsmessage.TypeA, "NameError", 1},
		{"private.test.", dnsmessage.TypeA, "NameError", 1},
	} {
		before := queries.Load()
		if got := dig(t, c, test.name, test.t); got != test.want {
			t.Errorf("%s %s: %q, want %q", test.name, test.t, got, test.want)
		}
		if n := queries.Load() - before; n != test.queries {
			t.Errorf("%s %s: %d queries upstream, want %d", test.name, test.t, n, test.queries)
		}
	}
	before := opened.Load()
	for range 500 {
		_ = send(t, c, question(t, "ok.test.", dnsmessage.TypeA, 0), time.Second)
	}
	if n := opened.Load() - before; n > 2 {
		t.Errorf("500 queries for a listed name changed the filter %d times", n)
	}
}

func TestFloodIsBounded(t *testing.T) {
	var asked atomic.Int32
	up := upstream(t, "127.0.0.8", func([]byte, bool) [][]byte { asked.Add(1); return nil })
	s := members()
	s.Upstream = []netip.Addr{up}
	ns := start(t, s)
	c := dial(t, ns, "udp")
	before := runtime.NumGoroutine()
	msg := question(t, "a.b.test.", dnsmessage.TypeA, 0)
	most := 0
	for end, i := time.Now().Add(time.Second), uint16(0); time.Now().Before(end); i++ {
		binary.BigEndian.PutUint16(msg, i)
		_, _ = c.Write(msg)
		if i%1000 == 0 {
			most = max(most, runtime.NumGoroutine()-before)
		}
	}
	if most > maxInFlight+10 {
		t.Errorf("%d goroutines", most)
	}
	if n := asked.Load(); n == 0 || n > maxInFlight {
		t.Errorf("%d queries upstream in a second", n)
	}
	// Names of members are answered while the others wait.
	ok := false
	for range 20 {
		if got := send(t, dial(t, ns, "udp"), question(t, "web.", dnsmessage.TypeA, 0), time.Second); got != nil {
			ok = true
			break
		}
	}
	if !ok {
		t.Error("no answer for a member's name")
	}
	// Connections beyond the bound wait; they get their turn.
	for range 2 * maxConns {
		dial(t, ns, "tcp")
	}
	time.Sleep(100 * time.Millisecond)
	if n := runtime.NumGoroutine() - before; n > maxInFlight+maxConns+10 {
		t.Errorf("%d goroutines", n)
	}
}

func TestLimiter(t *testing.T) {
	l := limiter{tokens: burst}
	now := time.Unix(0, 0)
	for range burst {
		if d := l.take(now); d != 0 {
			t.Fatal(d)
		}
	}
	if d := l.take(now); d != time.Second/perSecond {
		t.Error(d)
	}
	if d := l.take(now.Add(time.Hour)); d != 0 {
		t.Error(d)
	}
}

// Without a way out programs learn at once that a name is not known.
func TestPrograms(t *testing.T) {
	ns := start(t, members())
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, Plan(PlanInput{Network: true, Internal: true, ICC: true}).File, 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(script string) (out string) {
		in(t, ns, func() {
			cmd := exec.Command("unshare", "-m", "sh", "-ec", "mount --bind "+conf+" /etc/resolv.conf; "+script)
			b, _ := cmd.CombinedOutput()
			out = string(b)
		})
		return out
	}
	for _, test := range []struct{ script, want string }{
		{"busybox nslookup web", "10.210.0.2"},
		{"busybox nslookup web", "fd00::2"},
		{"busybox nslookup -type=a WEB 127.0.0.11", "10.210.0.2"},
		{"busybox nslookup 10.210.0.2", "web"},
		{"busybox nslookup none.example.com || echo no", "NXDOMAIN"},
		{"getent -s dns ahosts web", "10.210.0.2"},
		{"getent -s dns hosts db.internal", "10.210.0.3"},
		{"getent -s dns hosts 10.210.0.2", "web"},
		{"getent -s dns ahosts none.example.com || echo status $?", "status 2"},
	} {
		begin := time.Now()
		if out := run(test.script); !strings.Contains(out, test.want) {
			t.Errorf("%s: %s", test.script, out)
		}
		if d := time.Since(begin); d > 3*time.Second { // the libraries' time-out is 5
			t.Errorf("%s took %v", test.script, d)
		}
	}
}

func TestServeEnds(t *testing.T) {
	ns := container(t)
	udp, tcp, err := Listen(int(ns.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- members().Serve(context.Background(), udp, tcp) }()
	c := dial(t, ns, "tcp")
	if got := dig(t, c, "web.", dnsmessage.TypeA); got != "10.210.0.2" {
		t.Error(got)
	}
	udp.Close()
	tcp.Close()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(2 * time.Second):
		t.Fatal("Serve goes on without its sockets")
	}
}
