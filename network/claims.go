package network

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// A claim is a symbolic link in the network's directory of claims, named after
// the index, whose target is the container's id. Making a symbolic link fails
// if the name exists and carries its target from the first moment, so a claim
// is exclusive and never half-written, in one system call, without a lock, at
// a cost that does not depend on the number of containers. Where the next free
// one is likely to be is kept beside; a wrong hint costs more tries, never a
// wrong answer.
//
// A hardware address that was asked for is claimed likewise, as "m" and its
// digits. The others are made from the index and need none.

func (s Store) claims(name string) string { return s.dir(name) + "/claims" }

const hintFile = "next"

// validID says whether s can be a container's id in a claim.
func validID(s string) bool { return len(s) >= 12 && len(s) <= 64 && isHex(s) }

func key(i uint64) string              { return strconv.FormatUint(i, 10) }
func macKey(m net.HardwareAddr) string { return "m" + hex.EncodeToString(m) }
func short(id string) string           { return id[:min(len(id), 12)] }

// holder gives who has a claim.
func (s Store) holder(network, k string) (string, error) {
	id, err := os.Readlink(s.claims(network) + "/" + k)
	if err != nil {
		return "", err
	}
	if !validID(id) {
		return "", fail.New(fail.Internal, "%q in %q is not a claim: %.80q", k, s.claims(network), id).
			Hint("if no container of the network runs, remove it")
	}
	return id, nil
}

// keys lists the claims of a network.
func (s Store) keys(network string) ([]string, error) {
	f, err := os.Open(s.claims(network))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	if err == nil {
		defer f.Close()
		out, err = f.Readdirnames(-1)
	}
	return out, fail.Wrap(fail.Internal, err, "the claims of the network %q", network)
}

// holders names the containers of a network, for an error.
func (s Store) holders(network string) string {
	keys, _ := s.keys(network)
	var ids []string
	for _, k := range keys {
		if id, err := s.holder(network, k); err == nil && !slices.Contains(ids, short(id)) {
			ids = append(ids, short(id))
		}
	}
	slices.Sort(ids)
	if len(ids) > 5 {
		return fmt.Sprintf("%s and %d more containers", strings.Join(ids[:5], ", "), len(ids)-5)
	}
	return strings.Join(ids, ", ")
}

// InUse says whether a network has containers. A network that does not exist
// has none.
func (s Store) InUse(name string) (bool, error) {
	if !validName(name) {
		return false, nil
	}
	f, err := os.Open(s.claims(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	var some []string
	if err == nil {
		defer f.Close()
		some, err = f.Readdirnames(1)
		if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	return len(some) > 0, fail.Wrap(fail.Internal, err, "the claims of the network %q", name)
}

// others says whether a network has containers other than id, which may be "".
func (s Store) others(name, id string) (bool, error) {
	if !validName(name) {
		return false, nil
	}
	f, err := os.Open(s.claims(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fail.Wrap(fail.Internal, err, "the claims of the network %q", name)
	}
	defer f.Close()
	for {
		some, err := f.Readdirnames(8) // one container has fewer
		for _, k := range some {
			holder, herr := s.holder(name, k)
			if errors.Is(herr, fs.ErrNotExist) {
				continue // it goes just now
			}
			if herr != nil || holder != id {
				return true, nil
			}
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, fail.Wrap(fail.Internal, err, "the claims of the network %q", name)
		}
	}
}

// Release gives back what container id has of a lease. What it has not (any
// longer) is left alone: releasing twice is no error.
func (s Store) Release(l Lease, id string) error {
	if err := l.check(); err != nil {
		return err
	}
	keys := []string{key(l.Index), macKey(l.MAC)}
	if l.Index6 != 0 {
		keys = append(keys, key(l.Index6))
	}
	var errs []error
	for _, k := range keys {
		errs = append(errs, s.drop(l.Network, k, id))
	}
	return errors.Join(errs...)
}

// drop removes a claim of id. Those who remove exclude each other: between
// reading the link and removing it nobody else may remove it and a third make
// it.
func (s Store) drop(network, k, id string) error {
	f, err := os.Open(s.claims(network))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fail.Wrap(fail.Internal, err, "the claims of the network %q", network)
	}
	unlock, err := flock(f)
	if err != nil {
		return err
	}
	defer unlock()
	holder, err := s.holder(network, k)
	if errors.Is(err, fs.ErrNotExist) || err == nil && holder != id {
		return nil
	}
	if err == nil {
		err = unix.Unlink(s.claims(network) + "/" + k)
	}
	return fail.Wrap(fail.Internal, err, "releasing an address of the network %q", network)
}

// Reclaim releases what containers have on all networks that are not alive,
// and gives the number of claims. alive is asked once for each container,
// without a lock held; it must say true for every one whose record is there,
// from before Claim until after Release.
func (s Store) Reclaim(alive func(id string) bool) (n int, err error) {
	networks, err := s.names()
	errs := []error{err}
	verdict := map[string]bool{}
	dead := func(id string) bool {
		live, known := verdict[id]
		if !known {
			live = alive(id)
			verdict[id] = live
		}
		return !live
	}
	for _, network := range networks {
		keys, err := s.keys(network)
		errs = append(errs, err)
		for _, k := range keys {
			id, err := s.holder(network, k)
			if errors.Is(err, fs.ErrNotExist) || err == nil && !dead(id) {
				continue
			}
			if err == nil {
				err = s.drop(network, k, id)
			}
			if errs = append(errs, err); err == nil {
				n++
			}
		}
		errs = append(errs, s.reclaimNames(network, dead))
	}
	return n, errors.Join(errs...)
}

// hint reads where the next free index is likely to be.
func (s Store) hint(network string) uint64 {
	b, err := readOwn(filepath.Join(s.dir(network), hintFile), 32)
	if err != nil {
		return 0
	}
	i, _ := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	return i
}

// setHint is one write of constant length, so that two writers leave one of
// their values. Errors do not matter: it is a hint.
func (s Store) setHint(network string, i uint64) {
	fd, err := unix.Open(filepath.Join(s.dir(network), hintFile), unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return
	}
	_, _ = unix.Pwrite(fd, fmt.Appendf(nil, "%020d\n", i), 0)
	_ = unix.Close(fd)
}
