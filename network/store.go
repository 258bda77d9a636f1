package network

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// Options are what a network is created with.
type Options struct {
	Name    string
	Subnets []netip.Prefix // at most one of each family; an IPv4 one is picked if there is none
	NoIPv4  bool           // only what Subnets and IPv6 say
	IPv6    bool           // pick an IPv6 subnet if Subnets has none
	// Internal networks have no way to the outside, ICC ones let their
	// containers reach each other.
	Internal, ICC bool
	Labels        map[string]string
}

// Store is where networks are kept: definitions and claims below
// Root/networks, which survive a reboot, the lock in Run.
type Store struct {
	Root string
	Run  string
}

const (
	definitionFile = "network.json"
	maxDefinition  = 256 << 10 // bytes of the file
)

// reserved are the names that mean something else to --network.
func reserved(name string) bool {
	return slices.Contains([]string{"none", "host", DefaultName, "default", "container"}, name)
}

func (s Store) networks() string { return filepath.Join(s.Root, "networks") }

// dir is the directory of one network, whose name has been checked.
func (s Store) dir(name string) string { return s.networks() + "/" + name }

// Default gives the network "bridge". It is made at its first use, with
// subnets that collide with nothing the host has then, and stays.
func (s Store) Default() (Definition, error) {
	d, err := s.Load(DefaultName)
	if fail.KindOf(err) != fail.NotFound {
		return d, err
	}
	return s.create(Options{Name: DefaultName, IPv6: hasIPv6()})
}

// Create makes a network. The error is of kind Usage if the options are wrong,
// Conflict if the name is taken or a subnet overlaps what the host or another
// network has, HostCannot if no subnet is free.
func (s Store) Create(o Options) (Definition, error) {
	if reserved(o.Name) {
		return Definition{}, fail.New(fail.Usage, "a network cannot be named %q: that name has a meaning of its own", o.Name)
	}
	if !validName(o.Name) {
		return Definition{}, fail.New(fail.Usage, "a network cannot be named %.140q: a name is a letter or digit, then letters, digits, \"_\", \".\" or \"-\", at most 128", o.Name)
	}
	if err := checkLabels(o.Labels); err != nil {
		return Definition{}, err
	}
	return s.create(o)
}

func (s Store) create(o Options) (Definition, error) {
	unlock, err := s.lockDefinitions()
	if err != nil {
		return Definition{}, err
	}
	defer unlock()
	d, err := s.Load(o.Name)
	switch {
	case err == nil && o.Name == DefaultName:
		return d, nil
	case err == nil:
		return Definition{}, fail.New(fail.Conflict, "network with name %s already exists", o.Name)
	case fail.KindOf(err) != fail.NotFound:
		return Definition{}, err
	}
	others, err := s.List()
	if err != nil {
		return Definition{}, err
	}
	d = Definition{
		Name: o.Name, ID: randomID(), Created: time.Now().UTC().Truncate(time.Second),
		Internal: o.Internal, ICC: o.ICC, Labels: o.Labels,
	}
	if d.Subnets, err = s.subnets(o, others); err != nil {
		return Definition{}, err
	}
	d.Bridge = s.bridgeName(o.Name, others)
	if err := d.check(); err != nil {
		return Definition{}, fail.Wrap(fail.Internal, err, "a new network")
	}
	return d, s.write(d)
}

// write puts a new definition in place. The claims are there before: only the
// definition says that a network exists.
func (s Store) write(d Definition) error {
	b, err := json.MarshalIndent(d, "", "\t")
	if err == nil {
		err = os.MkdirAll(s.claims(d.Name), 0o700)
	}
	if err == nil {
		err = replaceFile(filepath.Join(s.dir(d.Name), definitionFile), append(b, '\n'), true)
	}
	return fail.Wrap(fail.HostCannot, err, "keeping the network %q", d.Name)
}

// replaceFile writes a file that nobody ever sees in part.
func replaceFile(path string, b []byte, sync bool) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil && sync {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// Load gives a network by name. The error is of kind NotFound if there is
// none, Internal if its file is not as it was written.
func (s Store) Load(name string) (Definition, error) {
	if !validName(name) {
		return Definition{}, fail.New(fail.NotFound, "network %.140q not found", name)
	}
	b, err := readOwn(filepath.Join(s.dir(name), definitionFile), maxDefinition)
	if errors.Is(err, fs.ErrNotExist) && name == DefaultName {
		return Definition{}, fail.New(fail.NotFound, "the network %q is made by the first container that uses it", name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return Definition{}, fail.New(fail.NotFound, "network %s not found", name).
			Hint("safe-run network ls lists them, safe-run network create %s makes one", name)
	}
	var d Definition
	if err == nil {
		d, err = parseDefinition(name, b)
	}
	return d, fail.Wrap(fail.Internal, err, "the file of the network %q", name)
}

// readOwn reads a file that only this user can have written.
func readOwn(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return nil, fmt.Errorf("it is not a file of uid %d that nobody else can write (mode %#o, uid %d)", os.Geteuid(), st.Mode, st.Uid)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("it has more than %d bytes", limit)
	}
	return b, err
}

// List gives all networks, by name. Those that cannot be read are in the
// error; the others are given all the same.
func (s Store) List() ([]Definition, error) {
	names, err := s.names()
	var out []Definition
	errs := []error{err}
	for _, n := range names {
		d, err := s.Load(n)
		switch {
		case err == nil:
			out = append(out, d)
		case fail.KindOf(err) != fail.NotFound: // else being made or removed
			errs = append(errs, err)
		}
	}
	return out, errors.Join(errs...)
}

// names are those of the directories, in order.
func (s Store) names() ([]string, error) {
	entries, err := os.ReadDir(s.networks())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fail.Wrap(fail.Internal, err, "listing the networks")
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() && validName(e.Name()) {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// Remove removes a network that no container uses. The error is of kind
// Conflict, and names them, if there are any. The default network stays.
func (s Store) Remove(name string) error {
	if name == DefaultName {
		return fail.New(fail.Usage, "the network %q cannot be removed: containers that name no other use it", name)
	}
	unlock, err := s.lockDefinitions()
	if err != nil {
		return err
	}
	defer unlock()
	// One that cannot be read can still be removed.
	if _, err := s.Load(name); fail.KindOf(err) == fail.NotFound {
		return err
	}
	// The kernel removes no directory with a claim in it, and no claim can be
	// made in one that is gone: no container slips in between.
	err = unix.Rmdir(s.claims(name))
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return fail.New(fail.Conflict, "the network %q is in use by %s", name, s.holders(name)).
			Hint("remove the containers first")
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fail.Wrap(fail.HostCannot, err, "removing the network %q", name)
	}
	// The definition goes first: what is left after a crash is no network, and
	// used again by the next of that name.
	err = os.Remove(filepath.Join(s.dir(name), definitionFile))
	if err == nil {
		err = os.RemoveAll(s.dir(name))
	}
	return fail.Wrap(fail.HostCannot, err, "removing the network %q", name)
}

// Lock serialises changes of what containers share on the host: it is held by
// one process at a time, and dropped with it.
func (s Store) Lock() (unlock func(), err error) {
	path := filepath.Join(s.Run, "network.lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(s.Run, 0o711); err == nil {
			f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		}
	}
	if err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "the lock of the networks")
	}
	return flock(f)
}

// lockDefinitions serialises those who make and remove networks. It is another
// lock than Lock's, which the caller may hold.
func (s Store) lockDefinitions() (func(), error) {
	if err := os.MkdirAll(s.networks(), 0o700); err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "the directory of networks")
	}
	f, err := os.Open(s.networks())
	if err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "the directory of networks")
	}
	var st unix.Stat_t
	if err = unix.Fstat(int(f.Fd()), &st); err == nil && (int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0) {
		err = fmt.Errorf("%q must be a directory of uid %d that nobody else can write (is mode %#o, uid %d)", s.networks(), os.Geteuid(), st.Mode, st.Uid)
	}
	if err != nil {
		_ = f.Close()
		return nil, fail.Wrap(fail.HostCannot, err, "the directory of networks")
	}
	return flock(f)
}

// flock locks an open file until the function it gives is called.
func flock(f *os.File) (func(), error) {
	var err error
	for {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, fail.Wrap(fail.HostCannot, err, "locking %q", f.Name())
	}
	return func() { _ = f.Close() }, nil
}

func randomID() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails, by its documentation
	return hex.EncodeToString(b)
}

// bridgeName keeps the interfaces of networks and of installations apart.
func (s Store) bridgeName(name string, others []Definition) string {
	if s.Root == defaultRoot && name == DefaultName {
		return "saferun0"
	}
	for i := 0; ; i++ {
		h := hex.EncodeToString(sum(fmt.Sprintf("%s\x00%s\x00%d", s.Root, name, i)))
		b := "sr" + h[:12]
		if s.Root == defaultRoot {
			b = "sr-" + h[:8]
		}
		if !slices.ContainsFunc(others, func(d Definition) bool { return d.Bridge == b }) {
			return b
		}
	}
}

func sum(s string) []byte {
	h := sha256.Sum256([]byte(s))
	return h[:]
}
