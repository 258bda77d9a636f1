package cni

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// kept is what is kept of an attachment, in the directory "attachments" of
// Config.CacheDir: how it was made, and a mount of its network namespace.
type kept struct {
	dir, file          string
	network, id, iface string
}

// record is the content of the file.
type record struct {
	Config []byte         `json:"config"` // the whole list of plugins
	Args   map[string]any `json:"args,omitempty"`
}

// lockFile is the file of a record, locked. Plugins inherit it, so that a
// Teardown after a crash waits for one that is not done.
type lockFile struct{ *os.File }

// lockTime is how long a Teardown waits for plugins that a crash has left
// running. It goes on then: a plugin may have left a program behind for good.
const lockTime = 10 * time.Second

func (c Config) kept(network, id, iface string) kept {
	return kept{dir: filepath.Join(c.CacheDir, "attachments"), file: network + "-" + id + "-" + iface, network: network, id: id, iface: iface}
}

func (k kept) record() string { return filepath.Join(k.dir, k.file+".json") }
func (k kept) mount() string  { return filepath.Join(k.dir, k.file+".netns") }

func (k kept) unfinished() string { return k.record() + ".new" }

// begin keeps what Teardown needs, before there is something to give back.
func (k kept) begin(r record, netns string) (lock lockFile, err error) {
	if !filepath.IsAbs(k.dir) {
		return lock, errors.New("no directory is given for what is to be kept")
	}
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return lock, err
	}
	data, err := json.Marshal(r)
	if err != nil {
		return lock, err
	}
	f, err := os.OpenFile(k.unfinished(), os.O_RDWR|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return lock, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return lock, err
	}
	if _, err := f.Write(data); err != nil {
		return lock, err
	}
	// Unlike rename, not over another.
	err = os.Link(k.unfinished(), k.record())
	if err = errors.Join(err, os.Remove(k.unfinished())); err != nil {
		return lock, err
	}
	if err := k.hold(netns); err != nil {
		return lock, errors.Join(err, k.forget())
	}
	return lockFile{f}, nil
}

// hold mounts a network namespace, which lives as long as the mount: plugins
// find what they have to undo by what is in it, and a path through /proc can
// be another process's by then.
func (k kept) hold(netns string) error {
	ns, err := os.Open(netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	if !isForeignNS(ns) {
		return &fs.PathError{Op: "mount", Path: netns, Err: errors.New("it is not the network namespace of a container")}
	}
	f, err := os.OpenFile(k.mount(), os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	if err := unix.Mount(fdPath(ns), k.mount(), "", unix.MS_BIND, ""); err != nil {
		return &fs.PathError{Op: "mount", Path: k.mount(), Err: err}
	}
	return nil
}

// netns is the path for plugins: "" if the namespace is gone, as the
// specification has it.
func (k kept) netns() string {
	f, err := os.Open(k.mount())
	if err != nil {
		return ""
	}
	defer f.Close()
	if !isForeignNS(f) {
		return ""
	}
	return k.mount()
}

// isForeignNS says whether a file is a namespace other than this thread's
// own, where a plugin would take the host's interfaces away.
func isForeignNS(f *os.File) bool {
	var fsys unix.Statfs_t
	var st, own unix.Stat_t
	if unix.Fstatfs(int(f.Fd()), &fsys) != nil || fsys.Type != unix.NSFS_MAGIC {
		return false
	}
	if unix.Fstat(int(f.Fd()), &st) != nil || unix.Stat("/proc/thread-self/ns/net", &own) != nil {
		return false
	}
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	return err == nil && kind == unix.CLONE_NEWNET && st.Ino != own.Ino
}

// open reads the record of an attachment and waits until nobody works on it.
func (k kept) open(ctx context.Context) (r record, lock lockFile, ok bool, err error) {
	f, err := os.OpenFile(k.record(), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return r, lock, false, k.forget()
	}
	if err != nil {
		return r, lock, false, err
	}
	for end := time.Now().Add(lockTime); time.Now().Before(end); {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			break
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			f.Close()
			return r, lock, false, ctx.Err()
		}
	}
	data, err := readRegular(fdPath(f))
	if err == nil && len(data) > 0 {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		f.Close()
		return r, lock, false, err
	}
	return r, lockFile{f}, true, nil
}

// forget removes what was kept, the record last.
func (k kept) forget() error {
	if err := unix.Unmount(k.mount(), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return &fs.PathError{Op: "unmount", Path: k.mount(), Err: err}
	}
	for _, path := range []string{k.mount(), k.unfinished(), k.record()} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func fdPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }
