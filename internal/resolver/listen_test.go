package resolver

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"golang.org/x/net/dns/dnsmessage"
)

func TestListen(t *testing.T) {
	loUp(t)
	before := threads(t)
	ns := start(t, members())
	// The namespace's own port 53 stays free, on all addresses.
	in(t, ns, func() {
		u, err := net.ListenPacket("udp4", "0.0.0.0:53")
		if err != nil {
			t.Fatal(err)
		}
		u.Close()
		l, err := net.Listen("tcp4", "0.0.0.0:53")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		// Only the address of the resolver is redirected.
		c, err := net.Dial("tcp4", "127.0.0.1:53")
		if err == nil {
			c.Close()
			t.Error("127.0.0.1:53 is redirected")
		}
	})
	for _, network := range []string{"udp", "tcp"} {
		if got := dig(t, dial(t, ns, network), "web.", dnsmessage.TypeA); got != "10.210.0.2" {
			t.Errorf("%s: %q", network, got)
		}
	}
	// Who takes over a running container listens again.
	udp, tcp, err := Listen(int(ns.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	defer tcp.Close()
	c, err := nftables.New(nftables.WithNetNSFd(int(ns.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	chains, err := c.ListChains()
	if err != nil || len(chains) != 1 || chains[0].Table.Name != Table {
		t.Fatalf("%+v, %v", chains, err)
	}
	if rules, err := c.GetRules(chains[0].Table, chains[0]); err != nil || len(rules) != 2 {
		t.Errorf("%d rules, %v", len(rules), err)
	}
	// The host has none of it, and no thread stayed in another namespace.
	c, err = nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	if tables, err := c.ListTables(); err != nil || len(tables) != 0 {
		t.Errorf("the host's tables: %+v, %v", tables, err)
	}
	if after := threads(t); after != before {
		t.Errorf("namespaces of threads: %q, before %q", after, before)
	}
}

// threads gives the network namespaces that this process's threads are in.
func threads(t *testing.T) string {
	t.Helper()
	list, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	var out []string
	for _, e := range list {
		if ns, err := os.Readlink("/proc/self/task/" + e.Name() + "/ns/net"); err == nil && !seen[ns] {
			seen[ns] = true
			out = append(out, ns)
		}
	}
	return strings.Join(out, " ")
}

func TestListenFails(t *testing.T) {
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	before, open := threads(t), descriptors(t)
	if _, _, err := Listen(int(f.Fd())); err == nil {
		t.Error("/dev/null is no namespace")
	}
	if _, _, err := Listen(-1); err == nil {
		t.Error("-1 is no namespace")
	}
	if after := threads(t); after != before {
		t.Errorf("namespaces of threads: %q, before %q", after, before)
	}
	if now := descriptors(t); now > open {
		t.Errorf("%d descriptors, before %d", now, open)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func BenchmarkListen(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		ns := container(b)
		b.StartTimer()
		udp, tcp, err := Listen(int(ns.Fd()))
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		udp.Close()
		tcp.Close()
		ns.Close()
		b.StartTimer()
	}
}

func BenchmarkQuery(b *testing.B) {
	s := members()
	s.Upstream = append(s.Upstream, upstream(b, "127.0.4.1", zone{"a.test": "203.0.113.1"}.serve))
	ns := start(b, s)
	for _, name := range []string{"web.", "a.test."} {
		c := dial(b, ns, "udp")
		msg := question(b, name, dnsmessage.TypeA, 0)
		b.Run(fmt.Sprintf("%q", name), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if send(b, c, msg, time.Second) == nil {
					b.Fatal("no answer")
				}
			}
		})
	}
}
