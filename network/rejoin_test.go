package network

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/safe-run/safe-run/internal/netfilter"
)

// TestRejoin: what others take from the host under containers that run, the
// next launch gives back to all of them.
func TestRejoin(t *testing.T) {
	s, d := bridgeNet(t, Options{Internal: true})
	h := &Host{Store: s, Table: netfilter.Table{Name: "safe-run-test"}}
	must(t, h.Table.Ensure())
	c := newContainer(t, testID(1))
	must(t, c.join(s, d))
	dir := filepath.Join(s.Root, "containers", c.id)
	must(t, os.MkdirAll(dir, 0o700))
	st := state{ID: c.id, Leases: c.lease}
	must(t, st.save(dir))
	// One that is not wired yet has elements only once it enters them.
	early := state{ID: testID(2)}
	l, err := s.Claim(d, early.ID, Want{})
	must(t, err)
	l.Interface, l.HostInterface = "eth0", hostInterface(early.ID, 0)
	early.Leases = []Lease{l}
	must(t, os.MkdirAll(filepath.Join(s.Root, "containers", early.ID), 0o700))
	must(t, early.save(filepath.Join(s.Root, "containers", early.ID)))

	reached := func(when string, want bool) {
		t.Helper()
		for _, p := range d.Subnets {
			var at netip.AddrPort
			c.do(t, func() error { at = serve(t, c.addr(p.Addr().Is4())); return nil })
			err := dial(at, wait)
			for n := 0; want && err != nil && n < 10; n++ { // the kernel may notice a link a second later
				err = dial(at, wait)
			}
			if (err == nil) != want {
				t.Errorf("%s: connecting to %s: %v", when, at, err)
			}
		}
	}
	rejoin := func(lost []string) {
		t.Helper()
		must(t, h.Table.Ensure())
		_, err := h.ensure(c.lease[0], func(string) {})
		must(t, err)
		reached("before", false)
		must(t, h.rejoin(testID(3), lost, func(string) {}))
		reached("after", true)
		checkPort(t, c.lease[0], false)
	}
	rejoin(nil) // the table is new: nobody is in it
	must(t, h.Table.Remove())
	rejoin(nil)
	br, err := rt(t).link(d.Bridge)
	must(t, err)
	must(t, rt(t).remove(br.Attrs().Index))
	rejoin([]string{d.Name})
}

// TestRemoveUnread: a container whose file a power failure has emptied can be
// removed, whatever is wrong with another network.
func TestRemoveUnread(t *testing.T) {
	s, d := bridgeNet(t, Options{})
	must(t, os.MkdirAll(s.claims("other"), 0o700))
	must(t, os.WriteFile(filepath.Join(s.dir("other"), definitionFile), []byte("{"), 0o600))
	_, err := s.Claim(d, testID(1), Want{})
	must(t, err)
	dir := filepath.Join(s.Root, "containers", testID(1))
	must(t, os.MkdirAll(dir, 0o700))
	must(t, os.WriteFile(filepath.Join(dir, stateFile), nil, 0o600))
	h := &Host{Store: s, Table: netfilter.Table{Name: "safe-run-test"}}
	must(t, h.Remove(t.Context(), dir))
	if used, err := s.InUse(d.Name); used || err != nil {
		t.Errorf("the network is in use: %v, %v", used, err)
	}
}
