package netfilter

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// layoutHash is of the messages that make layoutVersion. If this differs, raise
// layoutVersion: tables of hosts that are running were made by the version before.
const layoutHash = "f8e484e83cf1de78"

func TestLayoutVersion(t *testing.T) {
	var b batch
	Table{Name: "t"}.create(&b)
	if b.err != nil {
		t.Fatal(b.err)
	}
	h := sha256.New()
	for _, m := range b.msgs {
		h.Write(m.Data)
	}
	if got := hex.EncodeToString(h.Sum(nil)[:8]); got != layoutHash {
		t.Errorf("the layout is %q: raise layoutVersion, and set layoutHash", got)
	}
}

// The table must be one that nft(8) can show and read again.
func TestShownByNft(t *testing.T) {
	n := newSpace(t)
	tb := Table{Name: "safe-run", NetNS: n.fd}
	fill(t, tb)
	expires := regexp.MustCompile(` expires [0-9a-z]+`)
	shown := n.run("", "nft", "list", "ruleset")
	flat := strings.Join(strings.Fields(shown), " ")
	for _, want := range []string{
		`comment "made and removed by safe-run, layout 2"`,
		`elements = { "sr-internal" }`,
		"meta priority . ip daddr . meta l4proto . th dport @egress4",
		"127.0.0.1 . tcp . 8082 : 10.210.0.1 . 80",
		"02:42:00:00:00:01 . fd12::2",
	} {
		if !strings.Contains(flat, want) {
			t.Errorf("nft does not show %q in:\n%s", want, shown)
		}
	}
	again := newSpace(t)
	again.run(shown, "nft", "-f", "-")
	got := expires.ReplaceAllString(again.run("", "nft", "list", "ruleset"), "")
	if want := expires.ReplaceAllString(shown, ""); got != want {
		t.Errorf("what nft shows reads as another table:\n%s\nof:\n%s", got, want)
	}
}

// fill makes a table with something in every set.
func fill(t testing.TB, tb Table) Endpoint {
	t.Helper()
	e := someEndpoint(1)
	host := func(s string) Publish {
		a, to := netip.MustParseAddr(s), e.Addrs[0]
		if a.Is6() {
			to = e.Addrs[1]
		}
		return Publish{Host: a, HostPort: 8082, Proto: unix.IPPROTO_TCP, To: netip.AddrPortFrom(to, 80)}
	}
	for _, h := range []string{"0.0.0.0", "::", "192.0.2.1", "2001:db8::1", "127.0.0.1"} {
		e.Publish = append(e.Publish, host(h))
	}
	e.LimitEgress = true
	e.Allow = []Allow{to("192.0.2.7", 6, 1, 1), to("198.51.100.0/24", 6, 1, 9), to("2001:db8::7", 6, 1, 1), to("2001:db8::/64", 6, 5, 9)}
	err := tb.Ensure()
	for _, n := range []Network{bridged, icc, internal} {
		if err == nil {
			err = tb.AddNetwork(n)
		}
	}
	if err == nil {
		err = tb.Add(e)
	}
	if err == nil {
		err = tb.Permit(e.Addrs, []Allow{
			to("192.0.2.8", 6, 1, 1, time.Hour), to("192.0.2.8", 6, 5, 9, time.Hour),
			to("2001:db8::8", 6, 1, 1, time.Hour), to("2001:db8::8", 6, 5, 9, time.Hour),
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sets() {
		if len(listSet(t, tb, s.name)) == 0 {
			t.Errorf("set %s is empty", s.name)
		}
	}
	return e
}

func TestTableComesAndGoes(t *testing.T) {
	n := newSpace(t)
	tb := Table{Name: "safe-run", NetNS: n.fd}
	other := Table{Name: "safe-run-12345678", NetNS: n.fd}
	n.run("table ip filter { chain FORWARD { type filter hook forward priority 0; policy accept; }; }", "nft", "-f", "-")
	before := n.run("", "nft", "list", "ruleset")
	exists := func(want bool) {
		t.Helper()
		if got, err := tb.Exists(); got != want || err != nil {
			t.Errorf("exists: %v, %v", got, err)
		}
	}
	exists(false)
	// Nothing is there to remove.
	for _, err := range []error{tb.Remove(), tb.RemoveNetwork(bridged), tb.RemoveEndpoint(someEndpoint(1)), tb.Permit(someEndpoint(1).Addrs, nil)} {
		if err != nil {
			t.Error(err)
		}
	}
	e := fill(t, tb)
	exists(true)
	if err := other.Ensure(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, err := range []error{tb.Ensure(), tb.AddNetwork(bridged), tb.AddNetwork(internal), tb.AddNetwork(icc), tb.Add(e)} {
			if err != nil {
				t.Error(err)
			}
		}
	}
	if missing, err := tb.Verify(e); len(missing) > 0 || err != nil {
		t.Errorf("missing %v, %v", missing, err)
	}
	for range 2 {
		for _, err := range []error{tb.RemoveEndpoint(e), tb.RemoveNetwork(bridged), tb.RemoveNetwork(internal), tb.RemoveNetwork(icc)} {
			if err != nil {
				t.Error(err)
			}
		}
	}
	if missing, err := tb.Verify(e); len(missing) != 2+5+4+2 || err != nil {
		t.Errorf("missing %v, %v", missing, err)
	}
	for _, s := range sets() {
		if left := listSet(t, tb, s.name); len(left) > 0 && !s.expires && !strings.HasPrefix(s.name, setBlocked) {
			t.Errorf("%s has %d elements left", s.name, len(left))
		}
	}
	for _, tb := range []Table{tb, tb, other} {
		if err := tb.Remove(); err != nil {
			t.Error(err)
		}
	}
	exists(false)
	if after := n.run("", "nft", "list", "ruleset"); after != before {
		t.Errorf("after:\n%s\nbefore:\n%s", after, before)
	}
}

// What a dead container left is replaced, and its late removal takes nothing
// of the one that has the port now.
func TestStaleElements(t *testing.T) {
	tb := Table{Name: "safe-run", NetNS: newSpace(t).fd}
	if err := tb.Ensure(); err != nil {
		t.Fatal(err)
	}
	dead, next := someEndpoint(1), someEndpoint(2)
	for _, e := range []*Endpoint{&dead, &next} {
		for port := range uint16(5) {
			e.Publish = append(e.Publish, Publish{netip.IPv4Unspecified(), 8080 + port, unix.IPPROTO_TCP, netip.AddrPortFrom(e.Addrs[0], 80)})
		}
		if err := tb.Add(*e); err != nil {
			t.Fatal(err)
		}
	}
	if missing, err := tb.Verify(next); len(missing) > 0 || err != nil {
		t.Errorf("missing %v, %v", missing, err)
	}
	if err := tb.RemoveEndpoint(dead); err != nil {
		t.Fatal(err)
	}
	if missing, err := tb.Verify(next); len(missing) > 0 || err != nil {
		t.Errorf("missing %v, %v", missing, err)
	}
	// Some of it is gone already.
	var b batch
	tb.deleteElements(&b, []element{
		{set: setOwnAny + "4", key: append(ifname(next.Bridge), fields(uint8(unix.IPPROTO_TCP), uint16(8081))...)},
		{set: mapAny + "4", key: fields(uint8(unix.IPPROTO_TCP), uint16(8083))},
	})
	if err := tb.with("delete", func(c *conn) error { return c.commit(&b) }); err != nil {
		t.Fatal(err)
	}
	if err := tb.RemoveEndpoint(next); err != nil {
		t.Fatal(err)
	}
	if left := listSet(t, tb, mapAny+"4"); len(left) > 0 {
		t.Errorf("%d ports are left", len(left))
	}
}

// A table of another version is replaced in one step, with what is in it.
func TestAnotherVersion(t *testing.T) {
	n := newSpace(t)
	tb := Table{Name: "safe-run", NetNS: n.fd}
	e := fill(t, tb)
	var b batch
	want := map[string]int{}
	var all []element
	for _, s := range sets() {
		es := listSet(t, tb, s.name)
		want[s.name] = len(es)
		if !strings.HasPrefix(s.name, setBlocked) {
			all = append(all, es...)
		}
	}
	// The same table, but for its comment and a rule, and a set that is gone.
	if err := tb.Remove(); err != nil {
		t.Fatal(err)
	}
	tb.create(&b)
	for i := range b.msgs {
		b.msgs[i].Data = []byte(strings.Replace(string(b.msgs[i].Data), "layout ", "LAYOUT ", 1))
	}
	tb.createSet(&b, set{name: "old", key: []string{"ifname"}}, 99)
	tb.createRule(&b, "forward", when().accept())
	tb.addElements(&b, all)
	if err := tb.with("make", func(c *conn) error { return c.commit(&b) }); err != nil {
		t.Fatal(err)
	}
	if err := tb.Ensure(); err != nil {
		t.Fatal(err)
	}
	for set, k := range want {
		if got := len(listSet(t, tb, set)); got != k {
			t.Errorf("%s has %d elements, not %d", set, got, k)
		}
	}
	for _, e := range listSet(t, tb, setTimed+"4") {
		if e.for_ < 59*time.Minute || e.for_ > time.Hour {
			t.Errorf("an element expires after %s", e.for_)
		}
	}
	if missing, err := tb.Verify(e); len(missing) > 0 || err != nil {
		t.Errorf("missing %v, %v", missing, err)
	}
	if got := n.run("", "nft", "list", "ruleset"); strings.Contains(got, "LAYOUT") || strings.Contains(got, "set old") {
		t.Error("the old table is still there")
	}
}

func TestErrorsHaveAKind(t *testing.T) {
	tb := Table{Name: "safe-run", NetNS: 1 << 20}
	err := tb.Ensure()
	if err == nil || !strings.Contains(err.Error(), "safe-run") {
		t.Errorf("no network namespace: %v", err)
	}
	for _, c := range []struct {
		errno unix.Errno
		doing string
		says  string // in the hint
	}{
		{unix.EPERM, doingMake, "CAP_NET_ADMIN"},
		{unix.EACCES, doingLook, "CAP_NET_ADMIN"},
		{unix.EPROTONOSUPPORT, doingLook, "CONFIG_NF_TABLES"},
		{unix.EAFNOSUPPORT, doingLook, "CONFIG_NF_TABLES"},
		{unix.EINVAL, doingLook, "CONFIG_NF_TABLES"},
		{unix.ENOENT, doingMake, "CONFIG_NFT_"},
		{unix.ENOENT, "add a container", ""},
		{unix.EINVAL, "add a container", ""},
		{unix.ENOBUFS, doingLook, ""},
	} {
		err := tb.failed(os.NewSyscallError("x", c.errno), c.doing)
		var e *fail.Error
		if !errors.As(err, &e) || (e.Kind == fail.HostCannot) != (c.says != "") || !strings.Contains(e.Next, c.says) {
			t.Errorf("%v: %v", c.doing, err)
		}
	}
}
