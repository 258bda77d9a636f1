package idmap

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

func uname(b spec.IDBlock) string { return "u" + strconv.FormatUint(uint64(b.HostUID), 10) }
func gname(b spec.IDBlock) string { return "g" + strconv.FormatUint(uint64(b.HostGID), 10) }

// text is what a claim's links say: OWNER UID GID TAKER.
func text(c Claim) string {
	return fmt.Sprintf("%s %d %d %s", c.Owner, c.Block.HostUID, c.Block.HostGID, c.Taker)
}

// read parses a claim. It is an error if the link is not about its own name.
func (p *Pool) read(name string) (Claim, error) {
	t, err := os.Readlink(p.dir + "/" + name)
	if err != nil {
		return Claim{}, err
	}
	f := strings.Fields(t)
	if len(f) == 4 && validOwner(f[0]) {
		uid, okU := decimal([]byte(f[1]))
		gid, okG := decimal([]byte(f[2]))
		c := Claim{Block: spec.IDBlock{HostUID: uint32(uid), HostGID: uint32(gid), Size: BlockSize}, Owner: f[0], Taker: f[3]}
		if okU && okG && (name == uname(c.Block) || name == gname(c.Block)) {
			return c, nil
		}
	}
	return Claim{}, fail.New(fail.Internal, "%q in %q is not a claim of ids: %.200q", name, p.dir, t).
		Hint("no container uses it if none of them maps to that id; then remove it")
}

// names lists the links in the directory.
func (p *Pool) names() ([]string, error) {
	d, err := os.Open(p.dir)
	if err != nil {
		return nil, fail.Wrap(fail.Internal, err, "listing the claims of ids")
	}
	defer func() { _ = d.Close() }()
	all, err := d.Readdirnames(-1)
	if err != nil {
		return nil, fail.Wrap(fail.Internal, err, "listing the claims of ids")
	}
	return slices.DeleteFunc(all, func(n string) bool {
		if len(n) < 2 || n[0] != 'u' && n[0] != 'g' {
			return true
		}
		_, ok := decimal([]byte(n[1:]))
		return !ok
	}), nil
}

// hint reads where the next free block is likely to be.
func (p *Pool) hint() int {
	b, err := os.ReadFile(filepath.Join(p.dir, hintFile))
	if err != nil || len(b) > 16 {
		return 0
	}
	i, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || i < 0 {
		return 0
	}
	return i % p.total
}

// setHint is one write of constant length, so that two writers leave one of
// their values. Errors do not matter: it is a hint.
func (p *Pool) setHint(i int) {
	fd, err := unix.Open(filepath.Join(p.dir, hintFile), unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return
	}
	_, _ = unix.Pwrite(fd, fmt.Appendf(nil, "%010d\n", i), 0)
	_ = unix.Close(fd)
}

// lock serialises those who remove claims.
func (p *Pool) lock() (func(), error) {
	fd, err := unix.Open(p.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fail.Wrap(fail.Internal, err, "opening the directory of ids %q", p.dir)
	}
	for {
		err = unix.Flock(fd, unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fail.Wrap(fail.Internal, err, "locking the directory of ids %q", p.dir)
	}
	return func() { _ = unix.Close(fd) }, nil
}

// running says whether the process that took a claim still exists.
func (p *Pool) running(taker string) bool {
	pid, start, ok := strings.Cut(taker, "-")
	n, err := strconv.Atoi(pid)
	if !ok || err != nil || n <= 0 {
		return false
	}
	now, err := startTime(p.proc, n)
	return err == nil && now == start
}

// startTime is field 22 of /proc/PID/stat: with the pid it names a process for
// as long as the host is up.
func startTime(proc string, pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("%s/%d/stat", proc, pid))
	if err != nil {
		return "", err
	}
	// The second field is a name in brackets and may hold anything.
	i := strings.LastIndexByte(string(b), ')')
	f := strings.Fields(string(b[i+1:]))
	if i < 0 || len(f) < 20 {
		return "", fmt.Errorf("stat of process %d is too short", pid)
	}
	return f[19], nil
}

func validOwner(s string) bool {
	if s == "" || len(s) > 128 || s[0] == '.' || s[0] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c == '.', c == '-':
		default:
			return false
		}
	}
	return true
}

// privateDir makes sure that dir is a directory of ours that others cannot
// write.
func privateDir(dir string) error {
	if !filepath.IsAbs(dir) {
		return fail.New(fail.Internal, "the directory of ids %q is not absolute", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fail.Wrap(fail.HostCannot, err, "making the directory of ids")
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fail.Wrap(fail.HostCannot, err, "looking at the directory of ids")
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return fail.New(fail.HostCannot, "%q must be a directory of uid %d that nobody else can write (is mode %#o, uid %d)",
			dir, os.Geteuid(), st.Mode, st.Uid)
	}
	return nil
}
