package launcher

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// maxAccounts bounds the image's passwd and group files (CVE-2026-46680's
// class: containerd bounds them at 10 MiB as well).
const maxAccounts = 10 << 20

// facts are what a launch must know of an image's files. Layers are content
// addressed, so facts of a chain id never change and are kept in a cache.
type facts struct {
	Passwd []byte `json:"passwd,omitempty"`
	Group  []byte `json:"group,omitempty"`
	// Leads says where a path leads inside the image once all symbolic links
	// are followed, without leaving the image.
	Leads map[string]string `json:"leads"`
}

// systemPaths are where mounts of ours go. If the image made a link of one,
// the runtime would mount somewhere else (CVE-2026-41579, CVE-2019-19921).
var systemPaths = []string{"/dev", "/proc", "/sys", "/etc", "/run", "/tmp"}

// factsFor gives the facts of an image, from the cache if all paths in ask
// are known there, else from the files seen through open.
func factsFor(cacheDir, chainID string, ask []string, open func() (*os.File, error)) (facts, error) {
	file := filepath.Join(cacheDir, "facts-"+digest.FromString(chainID).Encoded())
	var f facts
	if b, err := os.ReadFile(file); err == nil && json.Unmarshal(b, &f) == nil && f.Leads != nil {
		if !slices.ContainsFunc(ask, func(p string) bool { _, ok := f.Leads[p]; return !ok }) {
			return f, nil
		}
	}
	root, err := open()
	if err != nil {
		return facts{}, err
	}
	defer root.Close()
	if f.Leads == nil {
		f.Leads = map[string]string{}
		if f.Passwd, err = readIn(root, "/etc/passwd"); err != nil {
			return facts{}, err
		}
		if f.Group, err = readIn(root, "/etc/group"); err != nil {
			return facts{}, err
		}
	}
	for _, p := range slices.Concat(systemPaths, ask) {
		if _, known := f.Leads[p]; known {
			continue
		}
		if f.Leads[p], err = lead(root, p); err != nil {
			return facts{}, err
		}
	}
	// A cache that cannot be written, or would be large, costs time only.
	if len(f.Passwd)+len(f.Group) < 1<<20 && len(f.Leads) < 1000 {
		if b, err := json.Marshal(f); err == nil {
			tmp := file + "." + strconv.Itoa(os.Getpid())
			if os.WriteFile(tmp, b, 0o600) != nil || os.Rename(tmp, file) != nil {
				os.Remove(tmp)
			}
		}
	}
	return f, nil
}

// check refuses images whose links would redirect mounts or the working
// directory into the kernel's file systems.
func (f facts) check(targets []string) error {
	for _, p := range systemPaths {
		if to := f.Leads[p]; to != p {
			return fail.New(fail.Refused, "the image has a symbolic link at %s (to %q), where the container's own file systems are mounted", p, to).
				Hint("build the image with a directory at %s", p)
		}
	}
	for _, p := range targets {
		to := f.Leads[p]
		for _, k := range []string{"/proc", "/sys", "/dev"} {
			if (to == k || strings.HasPrefix(to, k+"/")) && !strings.HasPrefix(to, "/dev/shm") && p != to {
				return fail.New(fail.Refused, "in the image, %q leads to %q: mounts and working directories below %s are refused", p, to, k)
			}
		}
	}
	return nil
}

// openIn opens a path inside the tree at root, with every link taken as if
// root were /.
func openIn(root *os.File, p string, flags uint64) (*os.File, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(int(root.Fd()), p, &how)
	// The kernel does not vouch for a ".." in a link if anything was mounted or
	// renamed meanwhile; in a mount whose namespace has ended, a view, it never
	// does. Then the links are followed here.
	if errors.Is(err, unix.EAGAIN) && flags&unix.O_NOFOLLOW == 0 {
		var to string
		if to, err = lead(root, p); err != nil {
			return nil, err
		}
		fd, err = unix.Openat2(int(root.Fd()), to, &how)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: p, Err: err}
	}
	return os.NewFile(uintptr(fd), "/proc/self/fd/"+strconv.Itoa(fd)), nil
}

// readIn reads a regular file of the image; a missing one is empty. A FIFO
// does not make it wait, a huge file is an error.
func readIn(root *os.File, p string) ([]byte, error) {
	f, err := openIn(root, p, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENXIO) {
		return nil, nil
	}
	if err != nil {
		return nil, fail.Wrap(fail.Refused, err, "the image's %s", p)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return nil, fail.New(fail.Refused, "the image's %s is not a regular file", p)
	}
	if st.Size() > maxAccounts {
		return nil, fail.New(fail.Refused, "the image's %s has %d bytes; at most %d are read", p, st.Size(), maxAccounts)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxAccounts))
	return b, fail.Wrap(fail.Internal, err, "the image's %s", p)
}

// lead follows all links of p inside the tree at root. What does not exist is
// taken literally. More than 40 links are an error, as in the kernel.
func lead(root *os.File, p string) (string, error) {
	rest := strings.Split(strings.Trim(path.Clean("/"+p), "/"), "/")
	at, links := "/", 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, name)
		f, err := openIn(root, next, unix.O_PATH|unix.O_NOFOLLOW)
		if err != nil {
			at = next
			continue
		}
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(f.Fd()), "", buf)
		f.Close()
		if err != nil {
			at = next // not a link
			continue
		}
		if links++; links > 40 {
			return "", fail.New(fail.Refused, "too many symbolic links in the image at %q", p)
		}
		to := string(buf[:n])
		if path.IsAbs(to) {
			at = "/"
		}
		rest = append(strings.Split(strings.Trim(to, "/"), "/"), rest...)
		if len(rest) > 1000 {
			return "", fail.New(fail.Refused, "symbolic links of the image make %q endless", p)
		}
	}
	return at, nil
}

// view opens the files of an image from the mounts of one of its snapshots.
// Several layers are joined in a mount namespace that ends with the
// descriptor: nothing of it shows on the host, and a crash leaves nothing.
func view(ms []mount.Mount) (*os.File, error) {
	if len(ms) != 1 {
		return nil, fail.New(fail.Internal, "unexpected snapshot mounts: %d", len(ms))
	}
	m := ms[0]
	if m.Type == "bind" {
		return openDir(m.Source)
	}
	var lower []string
	for _, o := range m.Options {
		if v, ok := strings.CutPrefix(o, "lowerdir="); ok {
			lower = strings.Split(v, ":")
		}
	}
	switch {
	case m.Type != "overlay" || len(lower) == 0:
		return nil, fail.New(fail.Internal, "unexpected snapshot mount of type %q", m.Type)
	case len(lower) == 1:
		return openDir(lower[0])
	}
	// Relative names keep the option below the one page mount(2) takes.
	base := filepath.Dir(filepath.Dir(lower[0]))
	for i, d := range lower {
		rel, err := filepath.Rel(base, d)
		if err != nil {
			return nil, fail.Wrap(fail.Internal, err, "layers of the image")
		}
		lower[i] = rel
	}
	type result struct {
		f   *os.File
		err error
	}
	ch := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its namespace
		f, err := func() (*os.File, error) {
			if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
				return nil, err
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				return nil, err
			}
			if err := unix.Chdir(base); err != nil {
				return nil, err
			}
			// Any directory serves as the mount point: nobody else sees it.
			if err := unix.Mount("overlay", "/proc", "overlay", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, "lowerdir="+strings.Join(lower, ":")); err != nil {
				return nil, err
			}
			return openDirAt("/proc")
		}()
		ch <- result{f, err}
	}()
	r := <-ch
	return r.f, fail.Wrap(fail.HostCannot, r.err, "reading the image's files")
}

func openDir(p string) (*os.File, error) {
	f, err := openDirAt(p)
	return f, fail.Wrap(fail.HostCannot, err, "reading the image's files")
}

func openDirAt(p string) (*os.File, error) {
	fd, err := unix.Open(p, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "/proc/self/fd/"+strconv.Itoa(fd)), nil
}
