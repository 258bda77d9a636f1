// Package network gives containers their networks: bridges with addresses,
// published ports, a filter that is closed where nothing was asked for, and
// names. A container's network namespace is made by the runtime inside the
// container's own user namespace; it is wired here, between create and start,
// in this process.
//
// What all containers share (bridges, one nftables table) exists only while
// one of them has a network: afterwards the host is as it was before.
package network

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/cni"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/netfilter"
	"github.com/safe-run/safe-run/internal/ports"
	"github.com/safe-run/safe-run/internal/resolver"
	"github.com/safe-run/safe-run/internal/threads"
	"github.com/safe-run/safe-run/spec"
)

// DefaultName is the network of containers that name none.
const DefaultName = "bridge"

// Host is the network side of one pair of state directories.
type Host struct {
	Store Store
	Table netfilter.Table
	CNI   cni.Config
}

// Open gives the networks of a state directory. It touches nothing.
func Open(root, run string) *Host {
	return &Host{
		Store: Store{Root: root, Run: run},
		Table: netfilter.Table{Name: tableName(root)},
		CNI:   cni.Config{CacheDir: filepath.Join(root, "networks", ".cni")},
	}
}

// defaultRoot is the state directory whose names on the host are plain.
const defaultRoot = "/var/lib/safe-run"

// tableName keeps the installations of one host apart.
func tableName(root string) string {
	if root == defaultRoot {
		return "safe-run"
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(root))
	return fmt.Sprintf("safe-run-%08x", h.Sum32())
}

// Ask is what one container wants of its networks.
type Ask struct {
	ID, Name, Hostname string
	Dir                string // the container's own directory
	Uses               []spec.NetworkUse
	Publish            []spec.Publish
	PublishAll         bool
	Exposed            []spec.PortRange // the image's, then --expose
	PublishDefault     netip.Addr       // for ports that name no address; zero: all of the host's
	Egress             spec.Egress
	DNS, DNSSearch     []string
	DNSOptions         []string

	// HolderName names a process that has a port, "" if it has no better name
	// than its own.
	HolderName func(pid int) string
	// Notice tells the user something in one line.
	Notice func(string)
}

// wired says whether a list of networks asks for any that this package wires.
func wired(uses []spec.NetworkUse) bool {
	for _, u := range uses {
		if _, joins := u.JoinedContainer(); u.Name != "none" && u.Name != "host" && !joins {
			return true
		}
	}
	return false
}

// Endpoint is the network of one container, from its reservation to its end.
type Endpoint struct {
	host *Host
	ask  Ask
	st   state

	cni      []*cni.Network // by index into st.CNI
	held     *ports.Held
	file     []byte // resolv.conf
	names    *resolver.Names
	ready    chan struct{} // closed when the shared things are there
	readyErr error
	nsfd     *os.File
	dns      dnsSockets
	unlisted unlisted
}

// Reserve takes addresses and ports for a container and begins to make what
// it shares with others. Nothing of a network is visible inside yet; what
// was taken is given back by Host.Remove, whether Reserve failed or not.
// Without a network to wire it gives an Endpoint that has none.
func (h *Host) Reserve(ctx context.Context, a Ask) (*Endpoint, error) {
	e := &Endpoint{host: h, ask: a, ready: make(chan struct{})}
	if !wired(a.Uses) {
		close(e.ready)
		return e, e.planNames()
	}
	err := e.reserve()
	if err != nil {
		close(e.ready)
		return e, err
	}
	go func() {
		defer close(e.ready)
		e.readyErr = e.share(ctx)
	}()
	return e, nil
}

func (e *Endpoint) reserve() (err error) {
	defs, err := e.definitions()
	if err != nil {
		return err
	}
	// The state is there before what it speaks of.
	e.st.ID, e.st.Egress = e.ask.ID, e.ask.Egress
	if err := e.st.save(e.ask.Dir); err != nil {
		return err
	}
	defer func() { // what was taken until an error is given back by the file, too
		if serr := e.st.save(e.ask.Dir); err == nil {
			err = serr
		}
	}()
	for i, d := range defs {
		if d == nil {
			continue
		}
		l, err := e.claim(*d, i)
		if err != nil {
			return err
		}
		e.st.Leases = append(e.st.Leases, l)
	}
	if err := e.publish(); err != nil {
		return err
	}
	return errors.Join(e.checkCNI(), e.planNames())
}

// definitions looks the networks up: safe-run's own first, then CNI's, whose
// places in the list are nil.
func (e *Endpoint) definitions() ([]*Definition, error) {
	var out []*Definition
	for i, u := range e.ask.Uses {
		d, err := e.host.Definition(u.Name)
		if err == nil {
			out = append(out, &d)
			continue
		}
		if fail.KindOf(err) != fail.NotFound {
			return nil, err
		}
		n, ok, cerr := cni.Find(e.host.CNI, u.Name)
		if cerr != nil {
			return nil, cerr
		}
		if !ok {
			return nil, err
		}
		out = append(out, nil)
		e.cni = append(e.cni, n)
		e.st.CNI = append(e.st.CNI, cniUse{Network: u.Name, Interface: interfaceName(i), use: u})
	}
	if len(e.st.CNI) > 0 && len(out) > len(e.st.CNI) {
		return nil, fail.New(fail.Usage, "a container cannot be on a CNI network and on another one at once")
	}
	if len(e.st.CNI) > 0 && e.ask.Egress.Mode != spec.EgressAll {
		return nil, fail.New(fail.HostCannot, "--egress cannot be enforced on the CNI network %q, which safe-run does not filter", e.st.CNI[0].Network)
	}
	return out, nil
}

// Definition gives a network of safe-run's own by name.
func (h *Host) Definition(name string) (Definition, error) {
	if name == DefaultName {
		return h.Store.Default()
	}
	return h.Store.Load(name)
}

func interfaceName(i int) string { return fmt.Sprintf("eth%d", i) }

// claim takes the container's address on one network, and its names there.
func (e *Endpoint) claim(d Definition, i int) (Lease, error) {
	u := e.ask.Uses[i]
	want, err := wantOf(u)
	if err != nil {
		return Lease{}, err
	}
	l, err := e.host.Store.Claim(d, e.ask.ID, want)
	if err != nil {
		return Lease{}, err
	}
	l.Interface = interfaceName(i)
	l.HostInterface = hostInterface(e.ask.ID, i)
	if d.ICC {
		l.Names = e.memberNames(u)
		err = e.host.Store.AddNames(l, e.ask.ID)
	}
	return l, err
}

// memberNames are the names others on the network find the container by:
// docker's are its name, its short id, and the aliases.
func (e *Endpoint) memberNames(u spec.NetworkUse) []string {
	names := []string{e.ask.ID[:12]}
	for _, n := range append([]string{e.ask.Name, e.ask.Hostname}, u.Aliases...) {
		if n = strings.ToLower(n); n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}

func (e *Endpoint) notice(s string) {
	if e.ask.Notice != nil {
		e.ask.Notice(s)
	}
}

// share makes what containers share, and enters this one's elements.
func (e *Endpoint) share(ctx context.Context) error {
	if len(e.st.Leases) == 0 {
		return nil
	}
	resolved := make(chan error, 1)
	go func() { resolved <- e.resolveEgress(ctx) }()
	err := e.host.locked(func() error {
		there, err := e.host.Table.Exists()
		if err == nil {
			err = e.host.Table.Ensure()
		}
		if err != nil {
			return err
		}
		lost := []string{}
		for _, l := range e.st.Leases {
			made, err := e.host.ensure(l, e.notice)
			if err != nil {
				return err
			}
			if made {
				lost = append(lost, l.Network)
			}
		}
		if !there {
			lost = nil
		}
		if err := e.host.rejoin(e.st.ID, lost, e.notice); err != nil {
			return err
		}
		for _, el := range e.st.elements() {
			if err := e.host.Table.Add(el); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, <-resolved)
}

// ensure makes the bridge of a lease, its entries in the table, and its way
// through the filters of others. made says that there was no bridge. The
// caller holds the lock.
func (h *Host) ensure(l Lease, notice func(string)) (made bool, err error) {
	d, err := h.Definition(l.Network)
	if err != nil {
		return false, err
	}
	if made, err = ensureBridge(d); err != nil {
		return false, err
	}
	if err := h.Table.AddNetwork(d.filter()); err != nil {
		return false, err
	}
	if d.Internal {
		return made, nil
	}
	told, err := h.openForward(d)
	for _, t := range told {
		if h.untold(t) {
			notice(t)
		}
	}
	return made, err
}

// filter is the network as the table knows it.
func (d Definition) filter() netfilter.Network {
	return netfilter.Network{Bridge: d.Bridge, Subnets: d.Subnets, Internal: d.Internal, ICC: d.ICC}
}

// locked runs f while no other process changes what containers share.
func (h *Host) locked(f func() error) error {
	unlock, err := h.Store.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	return f()
}

// Wire connects the network namespace of a created container's process. It
// waits for what Reserve began.
func (e *Endpoint) Wire(ctx context.Context, pid int) (err error) {
	<-e.ready
	if e.readyErr != nil || len(e.st.Leases)+len(e.st.CNI) == 0 {
		return e.readyErr
	}
	if e.nsfd, err = holdNetNS(pid); err != nil {
		return err
	}
	if err := Wire(e.nsfd, e.st.Leases); err != nil {
		return err
	}
	if e.Late() {
		if err := e.wireCNI(ctx); err != nil {
			return err
		}
	}
	return e.listenDNS()
}

// holdNetNS opens a process's network namespace, which must not be this
// process's own.
func holdNetNS(pid int) (*os.File, error) {
	f, err := os.Open(threads.Dir(pid) + "/ns/net")
	if err != nil {
		return nil, fail.Wrap(fail.Internal, err, "the container's network namespace")
	}
	var theirs, ours unix.Stat_t
	err = errors.Join(unix.Fstat(int(f.Fd()), &theirs), unix.Stat("/proc/thread-self/ns/net", &ours))
	if err == nil && theirs.Ino == ours.Ino && theirs.Dev == ours.Dev {
		err = errors.New("it is the host's")
	}
	if err != nil {
		f.Close()
		return nil, fail.Wrap(fail.Internal, err, "the container's network namespace")
	}
	return f, nil
}

// Addresses are the container's own, the one its host name stands for first.
func (e *Endpoint) Addresses() []netip.Addr {
	var out []netip.Addr
	for _, l := range e.st.Leases {
		for _, p := range l.Addrs {
			out = append(out, p.Addr())
		}
	}
	for _, u := range e.st.CNI {
		out = append(out, u.addrs...)
	}
	return out
}

// Gateway is the host's address on the container's first network, which
// host-gateway stands for. It is not valid if there is none.
func (e *Endpoint) Gateway() netip.Addr {
	for _, l := range e.st.Leases {
		for _, g := range l.Gateways {
			return g
		}
	}
	return netip.Addr{}
}

// ResolvConf is the content of the container's resolv.conf.
func (e *Endpoint) ResolvConf() []byte { return e.file }
