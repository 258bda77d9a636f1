package resolver

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/spec"
)

// FuzzConf: whatever the host's resolv.conf and the flags say, a container's
// is short, of printable ASCII, has the lines it may have and those alone, and
// a resolver reads in it what was meant. No server is asked that nobody named.
func FuzzConf(f *testing.F) {
	f.Add("nameserver 192.0.2.1\nsearch a.test\noptions ndots:1\n", "::1%x", "a.test", "ndots:0", uint8(0))
	f.Add("domain x;y\nnameserver fe80::1%e # no", "1.1.1.1", ".", "x", uint8(1))
	f.Add("nameserver 127.0.0.53\nnameserver ::ffff:10.0.0.1\nsearch a. b c\noptions edns0 trust-ad\nsearch", "", "", "", uint8(0x13))
	f.Add("nameserver 0.0.0.0\r\nnameserver\u00a01.2.3.4\nnameserver\t1.2.3.4\noptions "+strings.Repeat("a:1 b:2 ", 20), "fe80::1", "x_y.-", "a\nb", uint8(0xff))
	f.Fuzz(func(t *testing.T, text, dns, search, option string, how uint8) {
		c := parseConf(text)
		if len(c.Servers) > maxServers || len(c.Search) > maxSearch || len(c.Options) > maxOptions {
			t.Fatalf("%+v", c)
		}
		in := PlanInput{
			Network: how&1 == 0, IPv6: how&2 == 0, ICC: how&4 != 0, Internal: how&8 != 0,
			Egress: []spec.EgressMode{spec.EgressAll, spec.EgressNone, spec.EgressList}[how>>4%3], Host: c,
		}
		for _, a := range c.Servers {
			if how&0x80 != 0 && a.Is4() {
				in.Host.Near = append(in.Host.Near, a)
			}
		}
		for _, w := range []struct {
			word string
			list *[]string
		}{{dns, &in.DNS}, {search, &in.Search}, {option, &in.Options}} {
			if w.word != "" {
				*w.list = append(*w.list, w.word)
			}
		}
		p := Plan(in)
		named := []netip.Addr{netip.MustParseAddr(Address)}
		if a, ok := parseServer(dns); ok {
			named = append(named, a)
		} else {
			named = append(named, c.Servers...)
		}
		readable(t, in, p, named)
		for _, a := range p.Upstream {
			if !slices.Contains(named, a) || in.Internal || in.Egress == spec.EgressNone || !in.Network {
				t.Fatalf("%s is asked, of %v", a, named)
			}
		}
		if p.Forward != (len(p.Upstream) > 0) || !p.Embedded && p.Forward {
			t.Fatalf("%+v", p)
		}
	})
}

func readable(t *testing.T, in PlanInput, p Setup, named []netip.Addr) {
	t.Helper()
	if len(p.File) > 16<<10 || !strings.HasPrefix(string(p.File), "# ") || !strings.HasSuffix(string(p.File), "\n") {
		t.Fatalf("%q", p.File)
	}
	said := map[string]string{}
	for line := range strings.Lines(string(p.File)) {
		if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Fatalf("%q", line)
		}
		word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if !slices.Contains([]string{"#", "nameserver", "search", "options"}, word) || word != "nameserver" && said[word] != "" {
			t.Fatalf("%q", p.File)
		}
		said[word] = strings.TrimSpace(said[word] + " " + rest)
	}
	again := parseConf(string(p.File))
	if !slices.Equal(words(again.Servers), strings.Fields(said["nameserver"])) || !slices.Equal(again.Search, strings.Fields(said["search"])) {
		t.Fatalf("%q is read as %+v", p.File, again)
	}
	for _, a := range again.Servers {
		if !slices.Contains(named, a) || a.Zone() != "" {
			t.Fatalf("%s is asked, of %v", a, named)
		}
	}
	if o := strings.Fields(said["options"]); !slices.Equal(again.Options, o[:min(len(o), maxOptions)]) || !in.Network && len(said) > 1 {
		t.Fatalf("%q is read as %+v", p.File, again)
	}
}
