package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// The names of a network's containers are links, too:
//
//	names/NAME/ID -> "INDEX ADDR[,ADDR]"
//	members/ID       the same text, then a name on each line
//
// The first finds the addresses of a name, the second, through the claim, the
// names of an address and what to remove. A name counts as long as its
// container has the claim.

const (
	maxNames   = 256 // of one container
	maxMembers = 64  // that one name is looked up to
	maxMember  = maxNames * 256
)

func (s Store) nameDir(network, name string) string  { return s.dir(network) + "/names/" + name }
func (s Store) memberFile(network, id string) string { return s.dir(network) + "/members/" + id }

// hostName gives a name as it is kept, in lower case: labels of letters,
// digits, and inner hyphens, or underscores, as the command line takes them.
func hostName(s string) (string, bool) {
	s = strings.ToLower(s)
	if s == "" || len(s) > 253 {
		return "", false
	}
	for l := range strings.SplitSeq(s, ".") {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' ||
			strings.ContainsFunc(l, func(r rune) bool { return r > 0x7f || !isAlnum(byte(r)) && r != '-' && r != '_' }) {
			return "", false
		}
	}
	return s, true
}

// AddNames makes a container known to others on the network of a lease by the
// lease's names.
func (s Store) AddNames(l Lease, id string) error {
	if err := l.check(); err != nil {
		return err
	}
	if !validID(id) || len(l.Names) > maxNames {
		return fail.New(fail.Usage, "a container has at most %d names on a network", maxNames)
	}
	at := member{index: l.Index}
	for _, p := range l.Addrs {
		at.addrs = append(at.addrs, p.Addr())
	}
	for _, n := range l.Names {
		name, ok := hostName(n)
		if !ok {
			return fail.New(fail.Usage, "%.80q cannot be a name on a network", n)
		}
		at.names = append(at.names, name)
	}
	err := s.removeMember(l.Network, id) // of a start before
	if err == nil {
		err = os.MkdirAll(s.dir(l.Network)+"/members", 0o700)
	}
	if err == nil {
		err = s.saveMember(l.Network, id, at)
	}
	for _, name := range at.names {
		if err == nil {
			err = addName(s.nameDir(l.Network, name), id, at.line())
		}
	}
	return fail.Wrap(fail.HostCannot, err, "the names on the network %q", l.Network)
}

func addName(dir, id, text string) error {
	var err error
	for range 16 { // whoever removes a name's last container removes its directory
		if err = os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		_ = unix.Unlink(dir + "/" + id)
		if err = unix.Symlink(text, dir+"/"+id); !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return err
}

// Rename lets others on a container's networks find it by another name, if
// it is running; keep are names of it that stay.
func (h *Host) Rename(id, old, name string, keep []string) error {
	st, _, err := loadState(h.Store.Root + "/containers/" + id)
	errs := []error{err}
	for _, l := range st.Leases {
		if l.ICC {
			errs = append(errs, h.Store.rename(l.Network, id, old, name, keep))
		}
	}
	return errors.Join(errs...)
}

func (s Store) rename(network, id, old, name string, keep []string) error {
	m, err := s.member(network, id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	next, ok := hostName(name)
	if !ok {
		return fail.New(fail.Usage, "%.80q cannot be a name on a network", name)
	}
	old = strings.ToLower(old)
	is := func(n string) func(string) bool { return func(k string) bool { return strings.EqualFold(k, n) } }
	gone := old != next && slices.Contains(m.names, old) && !strings.HasPrefix(id, old) && !slices.ContainsFunc(keep, is(old))
	if err == nil && !slices.Contains(m.names, next) {
		m.names = slices.Insert(m.names, min(1, len(m.names)), next)
		if err = s.saveMember(network, id, m); err == nil { // what to remove, before it is there
			err = addName(s.nameDir(network, next), id, m.line())
		}
	}
	if err == nil && gone {
		if err = unix.Unlink(s.nameDir(network, old) + "/" + id); errors.Is(err, unix.ENOENT) {
			err = nil
		}
		_ = unix.Rmdir(s.nameDir(network, old))
		m.names = slices.DeleteFunc(m.names, func(n string) bool { return n == old })
		err = errors.Join(err, s.saveMember(network, id, m))
	}
	return fail.Wrap(fail.HostCannot, err, "the names on the network %q", network)
}

func (s Store) saveMember(network, id string, m member) error {
	return replaceFile(s.memberFile(network, id), []byte(m.line()+"\n"+strings.Join(m.names, "\n")+"\n"), false)
}

// RemoveNames undoes AddNames. It is idempotent.
func (s Store) RemoveNames(l Lease, id string) error {
	if !validName(l.Network) || !validID(id) {
		return l.check()
	}
	return s.removeMember(l.Network, id)
}

func (s Store) removeMember(network, id string) error {
	m, err := s.member(network, id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	// One that cannot be read goes as well: names whose index is another
	// container's count for nothing.
	var errs []error
	for _, n := range m.names {
		err := unix.Unlink(s.nameDir(network, n) + "/" + id)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, err)
		}
		_ = unix.Rmdir(s.nameDir(network, n))
	}
	// What the names are is forgotten last.
	if len(errs) == 0 {
		if err := os.Remove(s.memberFile(network, id)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return fail.Wrap(fail.HostCannot, errors.Join(errs...), "the names on the network %q", network)
}

// reclaimNames removes the names of dead containers.
func (s Store) reclaimNames(network string, dead func(id string) bool) error {
	entries, err := os.ReadDir(s.dir(network) + "/members")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		if validID(e.Name()) && dead(e.Name()) {
			errs = append(errs, s.removeMember(network, e.Name()))
		}
	}
	return errors.Join(errs...)
}

// Lookup gives the addresses of the containers that have a name on a network,
// in no order that means anything; none if nobody has it. It costs the same
// whatever the number of containers.
func (s Store) Lookup(network, name string) []netip.Addr {
	name, ok := hostName(name)
	if !ok || !validName(network) {
		return nil
	}
	f, err := os.Open(s.nameDir(network, name))
	if err != nil {
		return nil
	}
	defer f.Close()
	ids, _ := f.Readdirnames(maxMembers)
	slices.Sort(ids)
	var out []netip.Addr
	for _, id := range ids {
		t, err := os.Readlink(s.nameDir(network, name) + "/" + id)
		if err != nil {
			continue
		}
		m, err := parseMember(t)
		if err == nil && s.has(network, id, m.index) {
			out = append(out, m.addrs...)
		}
	}
	return out
}

// NamesOf gives the names that a running container has on a network, none if
// it is no member.
func (s Store) NamesOf(network, id string) []string {
	if !validName(network) || !validID(id) {
		return nil
	}
	m, _ := s.member(network, id)
	return m.names
}

// has says whether a claim is a container's.
func (s Store) has(network, id string, i uint64) bool {
	holder, err := s.holder(network, key(i))
	return err == nil && holder == id
}

// Reverse gives the names of the container that has an address on a network.
func (s Store) Reverse(network string, a netip.Addr) []string {
	d, err := s.Load(network)
	if err != nil {
		return nil
	}
	a = a.Unmap()
	for _, p := range d.Subnets {
		i, ok := index(p, a)
		if !ok {
			continue
		}
		id, err := s.holder(network, key(i))
		if err != nil {
			return nil
		}
		if m, err := s.member(network, id); err == nil && slices.Contains(m.addrs, a) {
			return m.names
		}
	}
	return nil
}

// member is what is kept about one container of a network.
type member struct {
	index uint64
	addrs []netip.Addr
	names []string
}

func (m member) line() string {
	var a []string
	for _, x := range m.addrs {
		a = append(a, x.String())
	}
	return fmt.Sprintf("%d %s", m.index, strings.Join(a, ","))
}

func (s Store) member(network, id string) (member, error) {
	b, err := readOwn(s.memberFile(network, id), maxMember)
	if err != nil {
		return member{}, err
	}
	return parseMember(strings.TrimSuffix(string(b), "\n"))
}

// parseMember reads "INDEX ADDR[,ADDR]" and a name on each line after it.
func parseMember(t string) (member, error) {
	lines := strings.Split(t, "\n")
	i, addrs, ok := strings.Cut(lines[0], " ")
	var m member
	var err error
	if m.index, err = strconv.ParseUint(i, 10, 64); err != nil || !ok {
		return member{}, fmt.Errorf("%.80q is not the place of a container on a network", lines[0])
	}
	for a := range strings.SplitSeq(addrs, ",") {
		x, err := netip.ParseAddr(a)
		if err != nil || x.Zone() != "" {
			return member{}, fmt.Errorf("%.80q is not the place of a container on a network", lines[0])
		}
		m.addrs = append(m.addrs, x)
	}
	for _, n := range lines[1:] {
		if n == "" {
			continue
		}
		name, ok := hostName(n)
		if !ok || name != n || len(m.names) == maxNames {
			return member{}, fmt.Errorf("%.80q cannot be a name on a network", n)
		}
		m.names = append(m.names, name)
	}
	return m, nil
}
