package netfilter

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	rtnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// Forwarding is the host's forwarding of packets between interfaces, which
// containers need. While it is on because of safe-run, a guard keeps the host
// from becoming a router between the interfaces it had before: a table of its
// own, that stays for as long as forwarding does.
type Forwarding struct {
	Table Table  // the guard's has this name with "-guard"
	State string // file that remembers what was before; it must not outlive a boot, or it is ignored
	// Ours says of an interface whether it is safe-run's own.
	Ours func(name string) bool
}

// forwardingState is the content of the state file.
type forwardingState struct {
	Boot       string            `json:"boot"`
	V4         bool              `json:"v4"` // turned on by safe-run
	V6         bool              `json:"v6"`
	Interfaces []string          `json:"interfaces"`        // the host's, when it was turned on
	Bridges    []string          `json:"bridges,omitempty"` // those of them that are bridges
	Before     map[string]string `json:"before"`            // sysctl: its value
	Set        map[string]string `json:"set"`               // sysctl: what safe-run made of it
}

const (
	sysctls      = "/proc/sys/net/"
	forward4     = "ipv4/ip_forward"
	forward6     = "ipv6/conf/all/forwarding"
	redirects4   = "ipv4/conf/all/accept_redirects"
	maxStateFile = 1 << 20
)

// guard is the table that keeps the host from routing between interfaces that
// are not ours.
func (f Forwarding) guard() Table { return Table{Name: f.Table.Name + "-guard", NetNS: f.Table.NetNS} }

// Enable turns forwarding on where it is off: for IPv4, and for IPv6 if the host
// has an IPv6 address that others can reach. Everything it changes is written
// to the state file first. It says in a line what it changed, or "".
//
// Interfaces that take router advertisements (accept_ra 1) go on to
// (accept_ra 2), or the host would lose its own routes.
func (f Forwarding) Enable(v4, v6 bool) (notice string, err error) {
	err = f.Table.inside(func() error {
		notice, err = f.enable(v4, v6)
		return err
	})
	return notice, fail.Wrap(fail.HostCannot, err, "forwarding")
}

func (f Forwarding) enable(v4, v6 bool) (string, error) {
	on4, err4 := readSysctl(forward4)
	on6, err6 := readSysctl(forward6)
	if errors.Is(err6, fs.ErrNotExist) {
		v6, err6 = false, nil
	}
	if err := errors.Join(err4, err6); err != nil {
		return "", err
	}
	v4, v6 = v4 && on4 == "0", v6 && on6 == "0"
	if !v4 && !v6 {
		return "", f.watch()
	}
	links, err := rtnl.LinkList()
	if err != nil {
		return "", err
	}
	if v6 && !f.reachable6(links) {
		v6 = false
	}
	if !v4 && !v6 {
		return "", nil
	}
	s, err := f.load()
	if err != nil {
		return "", err
	}
	// What was there when forwarding first came on is what the guard is about.
	if !s.V4 && !s.V6 {
		s = forwardingState{Before: map[string]string{}, Set: map[string]string{}}
		if s.Boot, err = bootID(); err != nil {
			return "", err
		}
		for _, l := range links {
			if name := l.Attrs().Name; name != "lo" && !f.Ours(name) {
				s.Interfaces = append(s.Interfaces, name)
				if l.Type() == "bridge" {
					s.Bridges = append(s.Bridges, name)
				}
			}
		}
	}
	order, err := s.plan(v4, v6)
	if err != nil {
		return "", err
	}
	if err := f.save(s); err != nil {
		return "", err
	}
	// The guard comes before what it guards against.
	if err := f.guard().keepApart(s); err != nil {
		return "", err
	}
	for _, key := range order {
		if err := writeSysctl(key, s.Set[key]); err != nil {
			return "", err
		}
	}
	var what []string
	for _, key := range []string{forward4, forward6} {
		if slices.Contains(order, key) {
			what = append(what, "net."+strings.ReplaceAll(key, "/", "."))
		}
	}
	return fmt.Sprintf("turned on forwarding (%s) while containers use a network; nothing is forwarded between this host's other interfaces",
		strings.Join(what, ", ")), nil
}

// watch sees to it that the guard is there if it should be.
func (f Forwarding) watch() error {
	s, err := f.load()
	if err != nil || !s.V4 && !s.V6 {
		return err
	}
	if there, err := f.guard().Exists(); there || err != nil {
		return err
	}
	return f.guard().keepApart(s)
}

// plan enters what is going to be set, and what it is now, and gives the keys
// in the order to set them in.
//
// Setting the forwarding of all sets that of each interface, and for IPv4 turns
// accept_redirects off (and on again with the opposite, whatever it was).
func (s *forwardingState) plan(v4, v6 bool) (order []string, err error) {
	note := func(key, only, set string) error {
		v, err := readSysctl(key)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || only != "" && v != only {
			return err
		}
		if _, noted := s.Before[key]; !noted {
			s.Before[key] = v
		}
		if set != "" {
			s.Set[key] = set
			order = append(order, key)
		}
		return nil
	}
	each := func(version, name string, f func(dir string) error) error {
		entries, err := os.ReadDir(sysctls + version + "/conf")
		for _, e := range entries {
			if e.Name() != "all" && err == nil {
				err = f(version + "/conf/" + e.Name() + "/" + name)
			}
		}
		return err
	}
	remember := func(key string) error { return note(key, "1", "") }
	if v4 {
		err = errors.Join(note(redirects4, "", ""), each("ipv4", "forwarding", remember), note(forward4, "", "1"))
		s.V4 = true
	}
	if v6 {
		err = errors.Join(err,
			each("ipv6", "accept_ra", func(key string) error {
				if key == "ipv6/conf/default/accept_ra" {
					return nil // of interfaces to come, such as containers'
				}
				return note(key, "1", "2")
			}),
			each("ipv6", "forwarding", remember), note(forward6, "", "1"))
		s.V6 = true
	}
	return order, err
}

// reachable6 says whether the host has an IPv6 address of more than a link's
// scope, on an interface that is not ours.
func (f Forwarding) reachable6(links []rtnl.Link) bool {
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	addrs, err := rtnl.AddrList(nil, unix.AF_INET6)
	return err == nil && slices.ContainsFunc(addrs, func(a rtnl.Addr) bool {
		name := names[a.LinkIndex]
		return name != "" && name != "lo" && !f.Ours(name) && a.IP.IsGlobalUnicast()
	})
}

// Restore puts back what Enable changed, as far as it is still as Enable left
// it, and removes the guard. If there is an interface now that was not there,
// and is not ours, someone else may rely on forwarding by now: then all stays as
// it is, guard and state file too, and kept is true. The next Restore looks
// again. It does nothing if there is nothing to put back.
func (f Forwarding) Restore() (kept bool, err error) {
	err = f.Table.inside(func() error {
		kept, err = f.restore()
		return err
	})
	return kept, fail.Wrap(fail.HostCannot, err, "forwarding")
}

func (f Forwarding) restore() (kept bool, err error) {
	s, err := f.load()
	if err != nil {
		return false, err
	}
	if !s.V4 && !s.V6 {
		return false, f.forget()
	}
	links, err := rtnl.LinkList()
	if err != nil {
		return false, err
	}
	for _, l := range links {
		if name := l.Attrs().Name; name != "lo" && !f.Ours(name) && !slices.Contains(s.Interfaces, name) {
			return true, nil
		}
	}
	// Forwarding first: it changes the others.
	var errs error
	undo := func(key string) bool {
		was, noted := s.Before[key]
		now, err := readSysctl(key)
		if !noted || err != nil || now != s.Set[key] {
			return false
		}
		errs = errors.Join(errs, writeSysctl(key, was))
		return true
	}
	off := map[string]bool{"ipv4": undo(forward4), "ipv6": undo(forward6)}
	for _, key := range slices.Sorted(maps.Keys(s.Before)) {
		version, _, _ := strings.Cut(key, "/")
		switch _, set := s.Set[key]; {
		case key == forward4, key == forward6:
		case set:
			undo(key)
		case off[version]: // changed by the kernel along with it
			if _, err := readSysctl(key); err == nil {
				errs = errors.Join(errs, writeSysctl(key, s.Before[key]))
			}
		}
	}
	if errs != nil {
		return false, errs
	}
	return false, f.forget()
}

// forget removes the guard and the state file.
func (f Forwarding) forget() error {
	if err := f.guard().Remove(); err != nil {
		return err
	}
	if err := os.Remove(f.State); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// load reads the state file. There is nothing in one of an earlier boot: the
// kernel's settings are not those any longer.
func (f Forwarding) load() (s forwardingState, err error) {
	file, err := os.Open(f.State)
	if errors.Is(err, fs.ErrNotExist) {
		return forwardingState{}, nil
	}
	if err != nil {
		return s, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxStateFile))
	if err == nil {
		err = s.parse(b)
	}
	if err != nil {
		return forwardingState{}, fmt.Errorf("%s: %w", f.State, err)
	}
	boot, err := bootID()
	if err != nil || s.Boot != boot {
		return forwardingState{}, err
	}
	return s, nil
}

func (s *forwardingState) parse(b []byte) error {
	if err := json.Unmarshal(b, s); err != nil {
		return err
	}
	for _, m := range []map[string]string{s.Before, s.Set} {
		for key, v := range m {
			if !filepath.IsLocal(key) || filepath.Clean(key) != key || len(v) > 16 {
				return fmt.Errorf("it sets %.60q to %.20q", key, v)
			}
		}
	}
	for _, name := range slices.Concat(s.Interfaces, s.Bridges) {
		if name == "" || len(name) >= unix.IFNAMSIZ {
			return fmt.Errorf("%.40q is no name of an interface", name)
		}
	}
	return nil
}

func (f Forwarding) save(s forwardingState) error {
	b, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(f.State+".new", b, 0o600); err != nil {
		_ = os.Remove(f.State + ".new")
		return err
	}
	return os.Rename(f.State+".new", f.State)
}

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

func readSysctl(key string) (string, error) {
	b, err := os.ReadFile(sysctls + key)
	return strings.TrimSpace(string(b)), err
}

func writeSysctl(key, value string) error {
	return os.WriteFile(sysctls+key, []byte(value), 0)
}
