package netfilter

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// crossing is a host between two others, that forwards nothing.
type crossing struct {
	t           *testing.T
	host        *space
	left, right *space
	f           Forwarding
	before      string
}

func newCrossing(t *testing.T) *crossing {
	x := &crossing{t: t, host: newSpace(t), left: newSpace(t), right: newSpace(t)}
	x.host.sysctl("net/ipv4/conf/all/accept_redirects", "0")
	for _, n := range []struct {
		name string
		peer *space
		net  string
	}{{"eth0", x.left, "1"}, {"eth1", x.right, "2"}} {
		veth(x.host, n.name, n.peer, "eth0")
		x.host.addr(n.name, "192.0."+n.net+".1/24", "2001:db8:"+n.net+"::1/64")
		n.peer.addr("eth0", "192.0."+n.net+".2/24", "2001:db8:"+n.net+"::2/64")
		n.peer.route("0.0.0.0/0", "192.0."+n.net+".1")
		n.peer.route("::/0", "2001:db8:"+n.net+"::1")
		x.host.waitUp(n.name)
		n.peer.waitUp("eth0")
	}
	x.host.sysctl("net/ipv6/conf/eth1/accept_ra", "0")
	x.host.sysctl("net/ipv4/conf/eth1/forwarding", "1")
	x.right.serve("right", "[::]:80")
	x.f = Forwarding{
		Table: Table{Name: "safe-run", NetNS: x.host.fd},
		State: filepath.Join(t.TempDir(), "forwarding.json"),
		Ours:  func(name string) bool { return strings.HasPrefix(name, "sr") || strings.HasPrefix(name, "sv") },
	}
	x.before = x.settings()
	return x
}

// settings are all that forwarding has to do with.
func (x *crossing) settings() (out string) {
	x.host.do(func() {
		for _, pattern := range []string{
			"ipv4/ip_forward", "ipv4/conf/*/forwarding", "ipv4/conf/*/accept_redirects",
			"ipv6/conf/*/forwarding", "ipv6/conf/*/accept_ra", "ipv6/conf/*/accept_redirects",
		} {
			paths, _ := filepath.Glob(sysctls + pattern)
			for _, p := range paths {
				b, err := os.ReadFile(p)
				if err != nil {
					x.t.Errorf("%v", err)
				}
				out += p + "=" + string(b)
			}
		}
	})
	return out
}

func (x *crossing) enable(v4, v6 bool) string {
	x.t.Helper()
	notice, err := x.f.Enable(v4, v6)
	if err != nil {
		x.t.Fatal(err)
	}
	return notice
}

func (x *crossing) restore(kept bool) {
	x.t.Helper()
	got, err := x.f.Restore()
	if err != nil || got != kept {
		x.t.Fatalf("kept %v, %v", got, err)
	}
	_, err = os.Stat(x.f.State)
	if there := err == nil; there != kept {
		x.t.Errorf("the state file is there: %v", there)
	}
	if there, err := x.f.guard().Exists(); there != kept || err != nil {
		x.t.Errorf("the guard is there: %v, %v", there, err)
	}
	if now := x.settings(); !kept && now != x.before {
		x.t.Errorf("now:\n%s\nbefore:\n%s", now, x.before)
	}
}

func TestForwarding(t *testing.T) {
	t.Parallel()
	x := newCrossing(t)
	x.left.both(t, "before", "192.0.2.2:80", dropped)
	notice := x.enable(true, true)
	if !strings.Contains(notice, "net.ipv4.ip_forward, net.ipv6.conf.all.forwarding") {
		t.Errorf("notice: %q", notice)
	}
	for key, want := range map[string]string{
		"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1",
		"net/ipv6/conf/eth0/accept_ra": "2", "net/ipv6/conf/eth1/accept_ra": "0", "net/ipv6/conf/default/accept_ra": "1",
	} {
		if got := x.host.readSysctl(key); got != want {
			t.Errorf("%s is %s", key, got)
		}
	}
	// Between the host's own interfaces nothing passes.
	x.left.both(t, "guarded", "192.0.2.2:80", dropped)
	x.left.both(t, "guarded", "[2001:db8:2::2]:80", dropped)
	if again := x.enable(true, true); again != "" {
		t.Errorf("notice again: %q", again)
	}
	// A container's bridge is not among them.
	ct := newSpace(t)
	veth(x.host, "sr0", ct, "eth0")
	x.host.addr("sr0", "10.210.0.1/24", "fd12::1/64")
	ct.addr("eth0", "10.210.0.2/24", "fd12::2/64")
	ct.route("0.0.0.0/0", "10.210.0.1")
	ct.route("::/0", "fd12::1")
	x.right.route("10.210.0.0/24", "192.0.2.1")
	x.right.route("fd12::/64", "2001:db8:2::1")
	x.host.waitUp("sr0")
	ct.waitUp("eth0")
	ct.both(t, "container", "192.0.2.2:80", "right 10.210.0.2")
	ct.both(t, "container", "[2001:db8:2::2]:80", "right fd12::2")
	// Somebody flushes all rules: the next launch puts the guard back.
	x.host.run("", "nft", "flush", "ruleset")
	x.left.both(t, "without the guard", "192.0.2.2:80", "right 192.0.1.2")
	x.enable(true, true)
	x.left.both(t, "guarded again", "192.0.2.2:80", dropped)

	l, err := x.host.nl.LinkByName("sr0")
	if err == nil {
		err = x.host.nl.LinkDel(l)
	}
	if err != nil {
		t.Fatal(err)
	}
	x.restore(false)
	x.restore(false)
}

// Someone else began to use forwarding.
func TestForwardingKept(t *testing.T) {
	t.Parallel()
	x := newCrossing(t)
	x.enable(true, true)
	x.host.bridge("virbr0", "192.168.122.1/24")
	vm := newSpace(t)
	veth(x.host, "vnet0", vm, "eth0")
	vm.addr("eth0", "192.168.122.2/24")
	vm.route("0.0.0.0/0", "192.168.122.1")
	x.host.port("vnet0", "virbr0", false)
	x.host.waitUp("vnet0")
	x.host.waitUp("virbr0")
	x.right.route("192.168.122.0/24", "192.0.2.1")
	for range 2 {
		x.restore(true)
		vm.both(t, "another's", "192.0.2.2:80", "right 192.168.122.2")
		x.left.both(t, "guarded", "192.0.2.2:80", dropped)
	}
	if there, err := x.f.Table.Exists(); there || err != nil {
		t.Errorf("the table itself: %v, %v", there, err)
	}
	if err := x.f.Table.Remove(); err != nil {
		t.Fatal(err)
	}
	x.left.both(t, "guarded after the table is gone", "192.0.2.2:80", dropped)
	for _, name := range []string{"virbr0", "vnet0"} {
		l, err := x.host.nl.LinkByName(name)
		if err == nil {
			err = x.host.nl.LinkDel(l)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	x.restore(false)
}

// What a bridge of the host's passes from port to port is not routed.
func TestGuardSparesBridges(t *testing.T) {
	t.Parallel()
	x := newCrossing(t)
	a, b := newSpace(t), newSpace(t)
	x.host.bridge("br7")
	for i, n := range []*space{a, b} {
		name := "p" + string(rune('0'+i))
		veth(x.host, name, n, "eth0")
		n.addr("eth0", "192.0.7."+string(rune('1'+i))+"/24")
		x.host.port(name, "br7", false)
		x.host.waitUp(name)
	}
	x.host.sysctl("net/bridge/bridge-nf-call-iptables", "1")
	b.serve("b", "[::]:80")
	x.enable(true, false)
	a.both(t, "bridged", "192.0.7.2:80", "b 192.0.7.1")
}

func TestForwardingParts(t *testing.T) {
	t.Parallel()
	t.Run("IPv4 alone", func(t *testing.T) {
		x := newCrossing(t)
		if notice := x.enable(true, false); strings.Contains(notice, "ipv6") {
			t.Errorf("notice: %q", notice)
		}
		if v := x.host.readSysctl("net/ipv6/conf/all/forwarding"); v != "0" {
			t.Error("IPv6 is forwarded")
		}
		// IPv6 later, with the same memory of what was there.
		veth(x.host, "later", newSpace(t), "eth0")
		x.enable(true, true)
		x.left.both(t, "guarded", "192.0.2.2:80", dropped)
		x.left.both(t, "guarded", "[2001:db8:2::2]:80", dropped)
		x.restore(true)
		l, _ := x.host.nl.LinkByName("later")
		if err := x.host.nl.LinkDel(l); err != nil {
			t.Fatal(err)
		}
		x.restore(false)
	})
	t.Run("no IPv6 address", func(t *testing.T) {
		x := newCrossing(t)
		for _, name := range []string{"eth0", "eth1"} {
			l, _ := x.host.nl.LinkByName(name)
			as, err := x.host.nl.AddrList(l, unix.AF_INET6)
			if err != nil {
				t.Fatal(err)
			}
			for i := range as {
				if as[i].IP.IsGlobalUnicast() {
					_ = x.host.nl.AddrDel(l, &as[i])
				}
			}
		}
		x.host.bridge("sr0", "fd12::1/64")
		if notice := x.enable(false, true); notice != "" {
			t.Errorf("notice: %q", notice)
		}
	})
	t.Run("on already", func(t *testing.T) {
		x := newCrossing(t)
		x.host.sysctl("net/ipv4/ip_forward", "1")
		x.before = x.settings()
		if notice := x.enable(true, false); notice != "" {
			t.Errorf("notice: %q", notice)
		}
		x.restore(false)
		// The administrator routes IPv4, and goes on to.
		x.enable(true, true)
		x.left.both(t, "routed by the administrator", "192.0.2.2:80", "right 192.0.1.2")
		x.left.both(t, "guarded", "[2001:db8:2::2]:80", dropped)
		x.restore(false)
	})
	t.Run("changed meanwhile", func(t *testing.T) {
		x := newCrossing(t)
		x.enable(true, true)
		x.host.sysctl("net/ipv6/conf/eth0/accept_ra", "0")
		x.host.sysctl("net/ipv4/ip_forward", "0")
		x.host.sysctl("net/ipv4/conf/all/accept_redirects", "1")
		x.host.sysctl("net/ipv4/conf/eth1/forwarding", "1")
		if kept, err := x.f.Restore(); kept || err != nil {
			t.Fatal(kept, err)
		}
		for key, want := range map[string]string{
			"net/ipv6/conf/eth0/accept_ra": "0", "net/ipv4/conf/all/accept_redirects": "1", "net/ipv6/conf/all/forwarding": "0",
		} {
			if got := x.host.readSysctl(key); got != want {
				t.Errorf("%s is %s", key, got)
			}
		}
	})
	t.Run("killed after the state was written", func(t *testing.T) {
		x := newCrossing(t)
		x.enable(true, true)
		b, err := os.ReadFile(x.f.State)
		if err != nil {
			t.Fatal(err)
		}
		x.restore(false)
		if err := os.WriteFile(x.f.State, b, 0o600); err != nil {
			t.Fatal(err)
		}
		x.restore(false)
		if err := os.WriteFile(x.f.State, b, 0o600); err != nil {
			t.Fatal(err)
		}
		x.enable(true, true)
		x.restore(false)
	})
	t.Run("an earlier boot", func(t *testing.T) {
		x := newCrossing(t)
		s := forwardingState{Boot: "another", V4: true, Before: map[string]string{forward4: "1"}, Set: map[string]string{forward4: "0"}}
		b, _ := json.Marshal(s)
		if err := os.WriteFile(x.f.State, b, 0o600); err != nil {
			t.Fatal(err)
		}
		x.restore(false)
	})
	t.Run("a hostile file", func(t *testing.T) {
		x := newCrossing(t)
		for _, s := range []string{"", "{", `{"before":{"../../kernel/core_pattern":"x"}}`, `{"set":{"/x":"1"}}`, `{"interfaces":["0123456789abcdef"]}`, `{"before":{"a//b":"1"}}`} {
			if err := os.WriteFile(x.f.State, []byte(s), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := x.f.Restore(); err == nil {
				t.Errorf("%q: no error", s)
			}
		}
	})
}

// The host has its default route from a router's advertisement, and keeps it.
func TestForwardingKeepsAdvertisedRoute(t *testing.T) {
	t.Parallel()
	x := newCrossing(t)
	x.left.sysctl("net/ipv6/conf/eth0/accept_ra", "0")
	advertised := func() bool {
		rs, err := x.host.nl.RouteList(nil, unix.AF_INET6)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			if r.Gw != nil && (r.Dst == nil || r.Dst.IP.IsUnspecified()) && r.Protocol == unix.RTPROT_RA {
				return true
			}
		}
		return false
	}
	for range 50 {
		advertise(t, x.left, "eth0")
		time.Sleep(50 * time.Millisecond)
		if advertised() {
			break
		}
	}
	if !advertised() {
		t.Fatal("no route from the router's advertisement")
	}
	x.enable(true, true)
	if !advertised() {
		t.Error("the route is gone")
	}
}

func FuzzForwardingState(f *testing.F) {
	f.Add([]byte(`{"boot":"x","v4":true,"interfaces":["eth0"],"before":{"ipv4/ip_forward":"0"},"set":{"ipv4/ip_forward":"1"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s forwardingState
		if s.parse(b) != nil {
			return
		}
		for key := range s.Set {
			if p := filepath.Join(sysctls, key); !strings.HasPrefix(p, sysctls) {
				t.Errorf("%q leads to %s", key, p)
			}
		}
	})
}
