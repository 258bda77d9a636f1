// Package engine finds the containerd to talk to: the system's, or else the
// one installed beside safe-run, which it starts, watches and stops. It also
// checks that containerd and the runtime are not older than the oldest
// versions without known escapes.
package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// Where things are unless flags say otherwise.
const (
	DefaultRoot   = "/var/lib/safe-run"
	DefaultState  = "/run/safe-run"
	SystemAddress = "/run/containerd/containerd.sock"
)

// Binaries of an engine directory that safe-run cannot do without.
var binaries = []string{"containerd", "containerd-shim-runc-v2", "runc"}

// Engine is the containerd that comes with safe-run. It is a value: nothing
// runs because of it until Start.
type Engine struct {
	bin   string
	root  string
	state string
}

// Locate gives the directory that holds the embedded engine: "engine" beside
// the executable (a build tree), or "../lib/safe-run/engine" (installed).
// Symbolic links to the executable are followed first. The error has kind
// NotFound and says where it looked.
func Locate() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", fail.Wrap(fail.Internal, err, "finding the path of this program")
	}
	return locate(exe)
}

func locate(exe string) (string, error) {
	tried, err := places(exe)
	if err != nil {
		return "", err
	}
	for _, dir := range tried {
		if missing(dir) == "" {
			return dir, nil
		}
	}
	return "", fail.New(fail.NotFound, "no engine in %q or %q", tried[0], tried[1])
}

// places are the directories the engine may be in.
func places(exe string) ([]string, error) {
	real, err := filepath.EvalSymlinks(exe)
	if errors.Is(err, os.ErrNotExist) { // removed since it was started; the engine need not be
		real, err = exe, nil
	}
	if err != nil {
		return nil, fail.Wrap(fail.Internal, err, "finding the path of this program")
	}
	at := filepath.Dir(real)
	return []string{filepath.Join(at, "engine"), filepath.Join(at, "../lib/safe-run/engine")}, nil
}

// Program gives the path of a program that lies beside the engine's, whether or
// not these are there as well. The error has kind NotFound and says where it
// looked.
func Program(name string) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", fail.Wrap(fail.Internal, err, "finding the path of this program")
	}
	tried, err := places(exe)
	if err != nil {
		return "", err
	}
	for _, dir := range tried {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fail.New(fail.NotFound, "no %s in %q or %q", name, tried[0], tried[1])
}

// missing names the first binary that dir lacks, or "".
func missing(dir string) string {
	for _, b := range binaries {
		st, err := os.Stat(filepath.Join(dir, b))
		if err != nil || !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
			return b
		}
	}
	return ""
}

// New describes the engine whose binaries are in bin, that keeps its data
// below root and its sockets below state (both absolute).
func New(bin, root, state string) (*Engine, error) {
	for what, p := range map[string]string{"engine": bin, "root": root, "state": state} {
		if err := plainPath(p); err != nil {
			return nil, fail.New(fail.Usage, "the %s directory %q %v", what, p, err)
		}
	}
	e := &Engine{bin: bin, root: filepath.Join(root, "engine"), state: filepath.Join(state, "engine")}
	// sun_path has 108 bytes, one of them for the final NUL.
	if n := len(e.Address() + ".ttrpc"); n > 107 {
		return nil, fail.New(fail.Usage, "the state directory %q is too long: its sockets need %d bytes, the kernel has 107", state, n)
	}
	return e, nil
}

// plainPath accepts paths that need no quoting in a TOML literal string.
func plainPath(p string) error {
	switch {
	case !filepath.IsAbs(p):
		return errors.New("is not absolute")
	case filepath.Clean(p) != p:
		return fmt.Errorf("is not in its shortest form, %q", filepath.Clean(p))
	}
	for _, c := range []byte(p) {
		if c < 0x20 || c == 0x7f || c == '\'' {
			return errors.New("holds a control character or a quote")
		}
	}
	return nil
}

// Address is the path of the engine's socket.
func (e *Engine) Address() string { return filepath.Join(e.state, "containerd.sock") }

// Bin is the directory of the engine's binaries.
func (e *Engine) Bin() string { return e.bin }

// Root is the directory of the engine's data.
func (e *Engine) Root() string { return e.root }

// State is the directory of the engine's sockets and running tasks. It is lost
// at a reboot.
func (e *Engine) State() string { return e.state }

// LogPath is the file the engine writes its messages to. It is kept below two
// MiB.
func (e *Engine) LogPath() string { return filepath.Join(e.root, "containerd.log") }

// Temp is where its shims, and safe-run for it, mount layers for a moment.
func (e *Engine) Temp() string { return filepath.Join(e.state, "tmp") }

func (e *Engine) configPath() string { return filepath.Join(e.state, "config.toml") }
func (e *Engine) lockPath() string   { return filepath.Join(e.state, "lock") }

// prepare makes the engine's directories. What it keeps is for root alone.
// The state directories can be passed through by all, but not read, because
// a container's init, which is no longer root of the host, walks through them
// to its rootfs; their sockets and files are for root alone.
func (e *Engine) prepare() error {
	for dir := filepath.Dir(filepath.Dir(e.state)); ; dir = filepath.Dir(dir) {
		st, err := os.Stat(dir)
		if err == nil && st.Mode()&0o001 == 0 {
			return fail.New(fail.HostCannot, "containers cannot reach their files below %q: %q has mode %04o and lets no other user through", e.state, dir, st.Mode().Perm()).
				Hint("choose another directory with --state, or chmod o+x %q", dir)
		}
		if dir == "/" {
			break
		}
	}
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{
		{filepath.Dir(e.root), 0o711},
		{e.root, 0o700},
		// containerd makes the last of these at its first use, and if it cannot,
		// does not try again for as long as it runs.
		{filepath.Join(e.root, "io.containerd.content.v1.content"), 0o700},
		{filepath.Join(e.root, "io.containerd.content.v1.content", "ingest"), 0o700},
		{filepath.Dir(e.state), 0o711},
		{e.state, 0o711},
		{filepath.Join(e.state, "s"), 0o700},
		{e.Temp(), 0o700},
	} {
		if err := ownDir(d.path, d.mode); err != nil {
			return err
		}
	}
	return nil
}

// ownDir makes path, or takes it over if it is a directory of ours that nobody
// else could have written into.
func ownDir(path string, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fail.Wrap(fail.HostCannot, err, "making the engine's directory")
	}
	err := os.Mkdir(path, mode)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fail.Wrap(fail.HostCannot, err, "making the engine's directory")
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "opening the engine's directory %q", path)
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fail.Wrap(fail.HostCannot, err, "looking at the engine's directory %q", path)
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return fail.New(fail.HostCannot, "%q belongs to uid %d with mode %04o: the engine's directory must be root's and writable for root alone", path, st.Uid, st.Mode&0o7777).
			Hint("remove it, or choose another with --root and --state")
	}
	// Neither the umask of whoever starts the engine, nor who was there first
	// after a reboot, must decide who gets through.
	if os.FileMode(st.Mode&0o777) != mode {
		if err := unix.Fchmod(fd, uint32(mode)); err != nil {
			return fail.Wrap(fail.HostCannot, err, "setting the mode of %q", path)
		}
	}
	return nil
}

// probe connects to a containerd and gives the process that listens there (0
// if that is not known).
func probe(ctx context.Context, address string, timeout time.Duration) (pid int, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c, pid, err := dial(ctx, address)
	if err != nil {
		return 0, err
	}
	return pid, c.Close()
}

// Dial connects to a containerd that root runs, or who runs this program. One
// of anybody else's could have mounted what it likes and, by its PATH, choose
// the program that is run as the runtime. It asks at each connection, since
// the socket can be another one every time.
func Dial(ctx context.Context, address string) (net.Conn, error) {
	c, _, err := dial(ctx, strings.TrimPrefix(address, "unix://"))
	return c, err
}

func dial(ctx context.Context, address string) (c net.Conn, pid int, err error) {
	var d net.Dialer
	if c, err = d.DialContext(ctx, "unix", address); err != nil {
		return nil, 0, err
	}
	cred, err := peer(c)
	if err == nil && cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		err = fail.New(fail.Refused, "%q is served by uid %d: only a containerd of root's is used", address, cred.Uid)
	}
	if err != nil {
		return nil, 0, errors.Join(err, c.Close())
	}
	return c, int(cred.Pid), nil
}

// peer says who listens at the other end of a unix socket.
func peer(c net.Conn) (cred *unix.Ucred, err error) {
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return cred, errors.Join(err, cerr)
}

// socketPath takes the spellings containerd's clients take.
func socketPath(address string) (string, error) {
	p := strings.TrimPrefix(address, "unix://")
	if !filepath.IsAbs(p) || strings.ContainsRune(p, 0) || len(p) > 107 {
		return "", fail.New(fail.Usage, "%.200q is not the address of a containerd: an absolute path of a socket is needed", address)
	}
	return p, nil
}
