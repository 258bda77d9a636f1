package network

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

func claimNet(t testing.TB, subnets ...string) (Store, Definition) {
	hostNS(t)
	s := newStore(t)
	return s, newNetwork(t, s, Options{Subnets: prefixes(subnets...), NoIPv4: true})
}

func TestClaim(t *testing.T) {
	s, d := claimNet(t, "10.9.0.0/20", "fd09::/64")
	if used, err := s.InUse("net"); used || err != nil {
		t.Errorf("in use is %v, %v", used, err)
	}
	l, err := s.Claim(d, testID(1), Want{})
	must(t, err)
	if l.Index != 2 || l.Addrs[0].String() != "10.9.0.2/20" || l.Addrs[1].String() != "fd09::2/64" || l.MAC.String() != "02:42:0a:09:00:02" ||
		l.Gateways[0].String() != "10.9.0.1" || l.Gateways[1].String() != "fd09::1" || l.Bridge != d.Bridge {
		t.Errorf("the lease is %+v", l)
	}
	if used, err := s.InUse("net"); !used || err != nil {
		t.Errorf("in use is %v, %v", used, err)
	}
	addr, mac := netip.MustParseAddr, func(m string) net.HardwareAddr { x, err := net.ParseMAC(m); must(t, err); return x }
	for _, c := range []struct {
		w    Want
		kind fail.Kind
		says string
	}{
		{Want{V4: addr("10.9.0.2")}, fail.Conflict, "10.9.0.2 is taken by the container " + short(testID(1))},
		{Want{V6: addr("fd09::2")}, fail.Conflict, "is taken by"},
		{Want{V4: addr("10.9.0.1")}, fail.Conflict, "host's own"},
		{Want{V4: addr("10.9.0.0")}, fail.Usage, "network or broadcast"},
		{Want{V4: addr("10.9.15.255")}, fail.Usage, "network or broadcast"},
		{Want{V4: addr("10.9.16.2")}, fail.Usage, "not in the subnet"},
		{Want{V6: addr("fd09::1")}, fail.Conflict, "host's own"},
		{Want{V6: addr("fd0a::3")}, fail.Usage, "not in the subnet"},
		{Want{MAC: mac("01:00:5e:00:00:01")}, fail.Usage, "not the MAC address"},
		{Want{MAC: mac("00:00:00:00:00:00")}, fail.Usage, "not the MAC address"},
		{Want{MAC: mac("00:11:22:33:44:55:66:77")}, fail.Usage, "not the MAC address"},
		{Want{MAC: mac("02:42:0a:09:00:01")}, fail.Conflict, "belongs to another"},
		{Want{MAC: mac("02:42:0a:09:00:02")}, fail.Conflict, "belongs to another"},
	} {
		_, err := s.Claim(d, testID(2), c.w)
		kind(t, err, c.kind, c.says)
	}
	if keys, _ := s.keys("net"); len(keys) != 1 {
		t.Errorf("what failed left claims: %v", keys)
	}
	// Addresses with different numbers, and a hardware address.
	m, err := s.Claim(d, testID(3), Want{V4: addr("10.9.0.9"), V6: addr("fd09::1:2:3"), MAC: mac("06:01:02:03:04:05")})
	must(t, err)
	if m.Addrs[0].String() != "10.9.0.9/20" || m.Addrs[1].String() != "fd09::1:2:3/64" || m.MAC.String() != "06:01:02:03:04:05" {
		t.Errorf("the lease is %+v", m)
	}
	again, err := s.Claim(d, testID(3), Want{V4: addr("10.9.0.9"), V6: addr("fd09::1:2:3"), MAC: mac("06:01:02:03:04:05")})
	if err != nil || again.Index != m.Index {
		t.Errorf("what one has already is %+v, %v", again, err)
	}
	for _, w := range []Want{{V6: addr("fd09::9")}, {V6: addr("fd09::1:2:3")}, {MAC: mac("06:01:02:03:04:05")}} {
		_, err := s.Claim(d, testID(2), w)
		kind(t, err, fail.Conflict, "taken by the container "+short(testID(3)))
	}
	must(t, s.Release(m, testID(2))) // not its own
	if keys, _ := s.keys("net"); len(keys) != 4 {
		t.Errorf("there are the claims %v", keys)
	}
	must(t, s.Release(m, testID(3)))
	must(t, s.Release(m, testID(3)))
	must(t, s.Release(l, testID(1)))
	if used, err := s.InUse("net"); used || err != nil {
		t.Errorf("in use is %v, %v", used, err)
	}
	// The next one is not the address just left.
	n, err := s.Claim(d, testID(4), Want{})
	if err != nil || n.Index <= 3 {
		t.Errorf("the lease is %+v, %v", n, err)
	}
	_, err = s.Claim(d, "../x", Want{})
	kind(t, err, fail.Internal, "cannot own")
	kind(t, s.Release(Lease{Network: "../x"}, testID(1)), fail.Internal, "not a lease")
}

func TestClaimOneFamily(t *testing.T) {
	s, d := claimNet(t, "fd09::/64")
	l, err := s.Claim(d, testID(1), Want{V6: netip.MustParseAddr("fd09::5:0:0:2")})
	must(t, err)
	m, err := s.Claim(d, testID(2), Want{})
	must(t, err)
	if l.MAC.String() == m.MAC.String() || m.Addrs[0].String() != "fd09::2/64" || m.MAC.String() != "02:42:00:00:00:02" {
		t.Errorf("the leases are %+v and %+v", l, m)
	}
	_, err = s.Claim(d, testID(3), Want{V4: netip.MustParseAddr("10.0.0.2")})
	kind(t, err, fail.Usage, "has no IPv4")
	e := newNetwork(t, s, Options{Name: "small", Subnets: prefixes("10.9.0.0/24", "fd08::/124")})
	_, err = s.Claim(e, testID(3), Want{V4: netip.MustParseAddr("10.9.0.99")})
	kind(t, err, fail.Usage, "beyond the 14")
	if l, err = s.Claim(e, testID(3), Want{V4: netip.MustParseAddr("10.9.0.99"), V6: netip.MustParseAddr("fd08::3")}); err != nil || l.Index6 != 3 {
		t.Errorf("the lease is %+v, %v", l, err)
	}
}

func TestClaimFull(t *testing.T) {
	s, d := claimNet(t, "10.9.0.0/29")
	for i := range 5 {
		_, err := s.Claim(d, testID(i), Want{})
		must(t, err)
	}
	_, err := s.Claim(d, testID(9), Want{})
	kind(t, err, fail.HostCannot, "all 5 addresses")
	n, err := s.Reclaim(func(id string) bool { return id != testID(2) })
	if n != 1 || err != nil {
		t.Errorf("reclaimed %d, %v", n, err)
	}
	l, err := s.Claim(d, testID(9), Want{})
	if err != nil || l.Index != 4 {
		t.Errorf("the lease is %+v, %v", l, err)
	}
}

func TestClaimAtOnce(t *testing.T) {
	s, d := claimNet(t, "10.9.0.0/20", "fd09::/64")
	const many = 32
	var wg sync.WaitGroup
	leases := make([]Lease, many)
	for i := range many {
		wg.Go(func() {
			var err error
			if leases[i], err = s.Claim(d, testID(i), Want{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	seen := map[netip.Prefix]bool{}
	for _, l := range leases {
		if len(l.Addrs) != 2 || seen[l.Addrs[0]] || seen[l.Addrs[1]] {
			t.Errorf("%v is not its own", l.Addrs)
		}
		for _, p := range l.Addrs {
			seen[p] = true
		}
	}
	// Releases and claims at once never give one number twice.
	for i := range many {
		wg.Go(func() {
			if err := s.Release(leases[i], testID(i)); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if _, err := s.Claim(d, testID(100+i), Want{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	keys, err := s.keys("net")
	if len(keys) != many || err != nil {
		t.Errorf("there are %d claims, %v", len(keys), err)
	}
}

// A network goes or gets a claim, never both.
func TestRemoveAgainstClaim(t *testing.T) {
	hostNS(t)
	s := newStore(t)
	for range 40 {
		d := newNetwork(t, s, Options{})
		var wg sync.WaitGroup
		var removed, claimed error
		wg.Go(func() { removed = s.Remove("net") })
		wg.Go(func() { _, claimed = s.Claim(d, testID(1), Want{}) })
		wg.Wait()
		if (removed == nil) == (claimed == nil) {
			t.Fatalf("removed: %v, claimed: %v", removed, claimed)
		}
		if removed != nil {
			_, err := s.Reclaim(func(string) bool { return false })
			must(t, err)
			must(t, s.Remove("net"))
		}
	}
}

func TestReclaim(t *testing.T) {
	s, d := claimNet(t, "10.9.0.0/24")
	def, err := s.Default()
	must(t, err)
	for i := range 6 {
		for _, n := range []Definition{d, def} {
			l, err := s.Claim(n, testID(i), Want{})
			must(t, err)
			l.Names = []string{"shared", "own" + testID(i)[:11]}
			must(t, s.AddNames(l, testID(i)))
		}
	}
	asked := map[string]int{}
	n, err := s.Reclaim(func(id string) bool { asked[id]++; return id == testID(3) })
	if n != 10 || err != nil {
		t.Errorf("reclaimed %d, %v", n, err)
	}
	for id, n := range asked {
		if n != 1 {
			t.Errorf("asked %d times for %s", n, id)
		}
	}
	for _, n := range []string{"net", "bridge"} {
		if got := s.Lookup(n, "shared"); len(got) == 0 {
			t.Error("the living have no names")
		}
		for _, what := range []string{"members", "claims", "names/shared"} {
			e, err := os.ReadDir(filepath.Join(s.Root, "networks", n, what))
			if len(e) != 1 || err != nil {
				t.Errorf("%s has %v, %v", what, e, err)
			}
		}
		e, _ := os.ReadDir(filepath.Join(s.Root, "networks", n, "names"))
		if len(e) != 2 {
			t.Errorf("the names are %v", e)
		}
	}
	// What is no claim stays, and is told; the rest is reclaimed.
	must(t, os.Symlink("../../x", s.claims("net")+"/77"))
	n, err = s.Reclaim(func(string) bool { return false })
	kind(t, err, fail.Internal, "is not a claim")
	if n != 2 {
		t.Errorf("reclaimed %d", n)
	}
}

// A host that crashed may have lost the directory of claims.
func TestMend(t *testing.T) {
	s, d := claimNet(t, "10.9.0.0/24")
	must(t, os.Remove(s.claims("net")))
	if used, err := s.InUse("net"); used || err != nil {
		t.Errorf("in use is %v, %v", used, err)
	}
	_, err := s.Claim(d, testID(1), Want{})
	must(t, err)
}

func TestWantOf(t *testing.T) {
	w, err := wantOf(spec.NetworkUse{IP: "10.0.0.2", IP6: "fd00::2", MAC: "02-42-00-00-00-01"})
	if err != nil || w.V4.String() != "10.0.0.2" || w.V6.String() != "fd00::2" || w.MAC.String() != "02:42:00:00:00:01" {
		t.Errorf("%+v, %v", w, err)
	}
	for _, u := range []spec.NetworkUse{{IP: "fd00::2"}, {IP6: "10.0.0.2"}, {IP6: "fe80::1%eth0"}, {IP: "10.0.0"}, {MAC: "x"}} {
		_, err := wantOf(u)
		kind(t, err, fail.Usage, "")
	}
}

func TestNamesOfMembers(t *testing.T) {
	s, d := claimNet(t, "10.9.0.0/24", "fd09::/64")
	var leases []Lease
	for i := range 2 {
		l, err := s.Claim(d, testID(i), Want{})
		must(t, err)
		l.Names = []string{"Web", "db_" + testID(i)[10:11], "a.b-c"}
		must(t, s.AddNames(l, testID(i)))
		leases = append(leases, l)
	}
	if got := s.Lookup("net", "WEB"); len(got) != 4 {
		t.Errorf("web is %v", got)
	}
	if got := s.Lookup("net", "db_1"); len(got) != 2 || got[0] != leases[1].Addrs[0].Addr() || got[1] != leases[1].Addrs[1].Addr() {
		t.Errorf("db_1 is %v", got)
	}
	for _, a := range []string{"10.9.0.3", "fd09::3", "::ffff:10.9.0.3"} {
		if got := s.Reverse("net", netip.MustParseAddr(a)); strings.Join(got, " ") != "web db_1 a.b-c" {
			t.Errorf("%s is %v", a, got)
		}
	}
	for _, n := range []string{"", ".", "..", "../members", "a..b", "-a", "a/b", "a\x00b", "x", strings.Repeat("a", 64)} {
		if got := s.Lookup("net", n); got != nil {
			t.Errorf("%q is %v", n, got)
		}
		bad := leases[0]
		bad.Names = []string{n}
		if n == "x" {
			continue
		}
		if err := s.AddNames(bad, testID(0)); err == nil {
			t.Errorf("%q is taken", n)
		}
	}
	// Without the claim a name counts for nothing, also if the address has
	// another holder.
	must(t, s.Release(leases[1], testID(1)))
	_, err := s.Claim(d, testID(5), Want{V4: leases[1].Addrs[0].Addr()})
	must(t, err)
	if got := s.Lookup("net", "web"); len(got) != 2 {
		t.Errorf("web is %v", got)
	}
	if got := s.Reverse("net", leases[1].Addrs[0].Addr()); got != nil {
		t.Errorf("the reverse is %v", got)
	}
	for i, l := range leases {
		must(t, s.RemoveNames(l, testID(i)))
		must(t, s.RemoveNames(l, testID(i)))
	}
	if e, err := os.ReadDir(filepath.Join(s.Root, "networks/net/names")); len(e) != 0 || err != nil {
		t.Errorf("there are the names %v, %v", e, err)
	}
	if err := errors.Join(s.RemoveNames(leases[0], testID(0)), s.Remove("none")); err == nil {
		t.Error("a network that is none was removed")
	}
}

func TestParseMember(t *testing.T) {
	for _, bad := range []string{"", "1", "x 10.0.0.1", "1 ", "1 10.0.0.1,", "1 fe80::1%eth0", "1 10.0.0.1\nA", "1 10.0.0.1\n../x"} {
		if m, err := parseMember(bad); err == nil {
			t.Errorf("%q is %+v", bad, m)
		}
	}
}

func BenchmarkClaim(b *testing.B) {
	s, d := claimNet(b, "10.9.0.0/20", "fd09::/64")
	for b.Loop() {
		l, err := s.Claim(d, testID(1), Want{})
		must(b, err)
		must(b, s.Release(l, testID(1)))
	}
}
