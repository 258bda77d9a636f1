package resolver

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

func write(t testing.TB, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestReadHost(t *testing.T) {
	loUp(t)
	for _, test := range []struct {
		name, text, systemd string
		want                Conf
	}{
		{name: "plain", text: "# c\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch a.test b.test.\noptions ndots:2 rotate\n", want: Conf{
			Servers: addrs("192.0.2.1", "2001:db8::1"), Search: []string{"a.test", "b.test"}, Options: []string{"ndots:2", "rotate"},
		}},
		{name: "systemd", text: "nameserver 127.0.0.53\noptions edns0\nsearch x.test", systemd: "nameserver 192.0.2.9\nsearch y.test", want: Conf{
			Servers: addrs("127.0.0.53"), Search: []string{"x.test"}, Options: []string{"edns0"}, Behind: addrs("192.0.2.9"), Near: addrs("127.0.0.53"),
		}},
		{name: "not only loopback", text: "nameserver 127.0.0.1\nnameserver 192.0.2.1", systemd: "nameserver 192.0.2.9", want: Conf{
			Servers: addrs("127.0.0.1", "192.0.2.1"), Near: addrs("127.0.0.1"),
		}},
		{name: "the last of search and domain", text: "search a.test\ndomain b.test c.test", want: Conf{Search: []string{"b.test"}}},
		{name: "twice and more than three", text: strings.Repeat("nameserver 192.0.2.1\n", 2) + "nameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4", want: Conf{
			Servers: addrs("192.0.2.1", "192.0.2.2", "192.0.2.3"),
		}},
		{name: "zone", text: "nameserver fe80::1%eth0\nnameserver fe80::1%e$h", want: Conf{Servers: addrs("fe80::1%eth0")}},
		{name: "hostile", text: "nameserver 1.1.1.1x\nnameserver\nnameserver 224.0.0.1\nnameserver 010.1.1.1\nsearch a\x00b $(x) ..\noptions a`b\nsortlist 1.1.1.1\n\xff\xfe\n", want: Conf{}},
		{name: "empty", want: Conf{}},
	} {
		got, err := ReadHost(write(t, test.text), write(t, test.systemd))
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, %v, want %+v", test.name, got, err, test.want)
		}
	}
	dir := t.TempDir()
	if c, err := ReadHost(filepath.Join(dir, "none")); err != nil || len(c.Servers) != 0 {
		t.Errorf("no file: %+v, %v", c, err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{fifo, dir, "/dev/zero"} {
		if _, err := ReadHost(p); fail.KindOf(err) != fail.HostCannot {
			t.Errorf("%s: %v", p, err)
		}
	}
	if c, err := ReadHost(write(t, strings.Repeat("nameserver 192.0.2.1 ", 1<<20))); err != nil || len(c.Servers) != 1 {
		t.Errorf("huge: %+v, %v", c, err)
	}
}

func TestLocal(t *testing.T) {
	loUp(t)
	for a, want := range map[string]bool{
		"127.0.0.1": true, "127.9.9.9": true, "::1": true, "0.0.0.0": true, "::": true, "::ffff:127.0.0.1": true,
		"192.0.2.1": false, "2001:db8::1": false, "fe80::1%none": false,
	} {
		if got := Local(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %t", a, got)
		}
	}
}

func TestPlan(t *testing.T) {
	ordinary := Conf{Servers: addrs("192.0.2.1", "2001:db8::1"), Search: []string{"corp.test"}, Options: []string{"rotate"}}
	stub := Conf{Servers: addrs("127.0.0.53"), Near: addrs("127.0.0.53"), Search: []string{"corp.test"}}
	behind := stub
	behind.Behind = addrs("192.0.2.7")
	const embedded = "nameserver 127.0.0.11|"
	for _, test := range []struct {
		name string
		in   PlanInput
		want string // of the file, without the comment
		up   string // of the embedded server; "-": there is none
	}{
		{"none", PlanInput{Host: ordinary, DNS: []string{"192.0.2.9"}}, "", "-"},
		{"ordinary", PlanInput{Network: true, Host: ordinary}, "nameserver 192.0.2.1|search corp.test|options rotate|", "-"},
		{"ordinary IPv6", PlanInput{Network: true, IPv6: true, Host: ordinary}, "nameserver 192.0.2.1|nameserver 2001:db8::1|search corp.test|options rotate|", "-"},
		{"systemd-resolved", PlanInput{Network: true, Host: behind}, "nameserver 192.0.2.7|search corp.test|", "-"},
		{"loopback", PlanInput{Network: true, Host: stub}, embedded + "search corp.test|", "127.0.0.53"},
		{"one is loopback", PlanInput{Network: true, Host: Conf{Servers: addrs("127.0.0.1", "192.0.2.1")}}, "nameserver 192.0.2.1|", "-"},
		{"the host's own", PlanInput{Network: true, Host: Conf{Servers: addrs("10.0.0.1"), Near: addrs("10.0.0.1")}}, embedded, "10.0.0.1"},
		{"only IPv6", PlanInput{Network: true, Host: Conf{Servers: addrs("2001:db8::1")}}, embedded, "2001:db8::1"},
		{"link-local", PlanInput{Network: true, IPv6: true, Host: Conf{Servers: addrs("fe80::1%eth0")}}, embedded, "fe80::1%eth0"},
		{"metadata", PlanInput{Network: true, Host: Conf{Servers: addrs("169.254.169.254")}, Blocked: netip.Addr.IsLinkLocalUnicast}, embedded, "169.254.169.254"},
		{"nothing", PlanInput{Network: true}, "", "-"},
		{"nothing, icc", PlanInput{Network: true, ICC: true}, embedded + "options ndots:0|", ""},
		{"icc", PlanInput{Network: true, ICC: true, Host: behind}, embedded + "search corp.test|options ndots:0|", "127.0.0.53"},
		{"icc, ndots", PlanInput{Network: true, ICC: true, Host: ordinary, Options: []string{"ndots:3"}}, embedded + "search corp.test|options ndots:3|", "192.0.2.1 2001:db8::1"},
		{"internal", PlanInput{Network: true, Internal: true, Host: ordinary, DNS: []string{"192.0.2.9"}}, embedded + "options rotate|", ""},
		{"internal icc", PlanInput{Network: true, Internal: true, ICC: true, Host: ordinary}, embedded + "options rotate ndots:0|", ""},
		{"no egress", PlanInput{Network: true, Egress: spec.EgressNone, Host: ordinary}, embedded + "options rotate|", ""},
		{"egress list", PlanInput{Network: true, Egress: spec.EgressList, Host: ordinary}, embedded + "search corp.test|options rotate|", "192.0.2.1 2001:db8::1"},
		{"--dns", PlanInput{Network: true, Host: stub, DNS: []string{"192.0.2.9", "192.0.2.9", "192.0.2.8"}}, "nameserver 192.0.2.9|nameserver 192.0.2.8|search corp.test|", "-"},
		{"--dns, four", PlanInput{Network: true, DNS: []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"}}, "nameserver 192.0.2.1|nameserver 192.0.2.2|nameserver 192.0.2.3|", "-"},
		{"--dns loopback", PlanInput{Network: true, Host: ordinary, DNS: []string{"127.0.0.1"}}, "nameserver 127.0.0.1|search corp.test|options rotate|", "-"},
		{"--dns loopback, icc", PlanInput{Network: true, ICC: true, Host: ordinary, DNS: []string{"127.0.0.1", "192.0.2.9"}}, embedded + "search corp.test|options rotate ndots:0|", "192.0.2.9"},
		{"--dns blocked", PlanInput{Network: true, DNS: []string{"169.254.169.253"}, Blocked: netip.Addr.IsLinkLocalUnicast}, embedded, "169.254.169.253"},
		{"--dns-search", PlanInput{Network: true, Host: ordinary, Search: []string{"a.test", "a.test", "b.test."}}, "nameserver 192.0.2.1|search a.test b.test|options rotate|", "-"},
		{"--dns-search .", PlanInput{Network: true, Host: ordinary, Search: []string{"."}}, "nameserver 192.0.2.1|options rotate|", "-"},
		{"--dns-option", PlanInput{Network: true, Host: ordinary, Options: []string{"timeout:1", "timeout:1"}}, "nameserver 192.0.2.1|search corp.test|options timeout:1|", "-"},
		{"injection", PlanInput{
			Network: true, Host: ordinary, IPv6: true, DNS: []string{"::1%a\nsearch x", "192.0.2.1\nsearch x"},
			Search: []string{"a\nnameserver 6.6.6.6", "a b"}, Options: []string{"a\nb", "x y"},
		}, "nameserver 192.0.2.1|nameserver 2001:db8::1|", "-"},
	} {
		p := Plan(test.in)
		comment, rest, ok := strings.Cut(string(p.File), "\n")
		if !ok || !strings.HasPrefix(comment, "# ") || strings.ReplaceAll(rest, "\n", "|") != test.want {
			t.Errorf("%s: %q", test.name, p.File)
		}
		up := strings.Join(words(p.Upstream), " ")
		if !p.Embedded {
			up = "-"
		}
		if up != test.up || p.Forward != (len(p.Upstream) > 0) {
			t.Errorf("%s: upstream %q, %+v", test.name, up, p)
		}
	}
}
