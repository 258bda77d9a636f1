package launcher

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// explain tells what the user can mend from other failures of the runtime, a
// command that does not exist (127) or cannot be executed (126) among them,
// by looking at the files as the kernel would: not by the runtime's words,
// which the image can choose.
func (r *run) explain(cause error) error {
	root, err := view(r.snapMounts)
	if err != nil {
		return cause
	}
	defer root.Close()
	s := sight{root, r.spec.Mounts, r.rec.Block.HostUID, r.rec.Block.HostGID}
	// In the order in which the runtime does them.
	for _, err := range []error{
		targets(root, r.Workload.Mounts, r.Sources),
		s.workdir(r.spec.Process.Cwd),
		s.command(r.spec.Process),
	} {
		if err != nil {
			return err
		}
	}
	return cause
}

// targets finds a directory to be mounted on a file of the image, or a file
// on a directory.
func targets(root *os.File, mounts []spec.Mount, sources map[int]spec.Source) error {
	word := map[bool]string{true: "a directory", false: "not a directory"}
	for i, m := range mounts {
		src, ok := sources[i]
		if !ok || m.Type != spec.MountBind {
			continue
		}
		st, err := statIn(root, m.Target)
		if dir := isDir(st); err == nil && dir != src.Mode.IsDir() {
			return fail.New(fail.Usage, "%s: %q is %s, and %q in the image is %s", m.Origin, m.Source, word[!dir], m.Target, word[dir]).
				Hint("mount a directory on a directory, and a file on a file")
		}
	}
	return nil
}

// sight is what a process of the container will see.
type sight struct {
	root     *os.File // the image's files
	mounts   []specs.Mount
	uid, gid uint32 // where the container's ids begin on the host
}

// errUnseen says that a path is in a file system only the container has.
var errUnseen = errors.New("unseen")

// stat looks at a clean absolute path, in the image or what is mounted there.
// Ids are the container's.
func (s sight) stat(p string) (st unix.Stat_t, m *specs.Mount, err error) {
	for i, c := range s.mounts {
		if (p == c.Destination || strings.HasPrefix(p, c.Destination+"/")) && (m == nil || len(c.Destination) >= len(m.Destination)) {
			m = &s.mounts[i]
		}
	}
	if m == nil {
		st, err = statIn(s.root, p)
		return st, nil, err
	}
	rel := strings.TrimPrefix(p, m.Destination)
	switch {
	case m.Type != "bind" && rel == "":
		return unix.Stat_t{Mode: unix.S_IFDIR | 0o777}, m, nil
	case m.Type == "tmpfs":
		return st, m, unix.ENOENT
	case m.Type != "bind":
		return st, m, errUnseen
	case rel == "":
		err = unix.Stat(m.Source, &st)
	default:
		var dir *os.File
		if dir, err = openDirAt(m.Source); err != nil {
			return st, m, err
		}
		defer dir.Close()
		st, err = statIn(dir, rel)
	}
	if st.Uid >= s.uid && st.Gid >= s.gid {
		st.Uid, st.Gid = st.Uid-s.uid, st.Gid-s.gid
	}
	return st, m, err
}

// flagged says whether a mount has a flag, by its options or, where the
// source was mounted with it already, by what the kernel says.
func flagged(m *specs.Mount, option string, flag int64) bool {
	if m == nil {
		return false
	}
	var fs unix.Statfs_t
	return slices.Contains(m.Options, option) || slices.Contains(m.Options, "r"+option) ||
		m.Type == "bind" && unix.Statfs(m.Source, &fs) == nil && fs.Flags&flag != 0
}

func statIn(root *os.File, p string) (st unix.Stat_t, err error) {
	f, err := openIn(root, p, unix.O_PATH)
	if err != nil {
		return st, err
	}
	defer f.Close()
	return st, unix.Fstat(int(f.Fd()), &st)
}

func isDir(st unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

// workdir finds what keeps the working directory from being one. The runtime
// makes it where it is missing.
func (s sight) workdir(dir string) error {
	for at := dir; at != "/"; at = path.Dir(at) {
		st, m, err := s.stat(at)
		switch {
		case err == nil && !isDir(st):
			return fail.New(fail.Usage, "the working directory %q cannot be used: %q is not a directory", dir, at)
		case errors.Is(err, unix.ENOENT) && flagged(m, "ro", unix.ST_RDONLY):
			return fail.New(fail.Usage, "the working directory %q does not exist, and cannot be made: %q is mounted read-only", dir, m.Destination)
		}
	}
	return nil
}

// command finds why a process cannot be executed, looking for it as
// exec.LookPath does; nil if that is not the reason.
func (s sight) command(p *specs.Process) error {
	if len(p.Args) == 0 {
		return nil
	}
	arg := p.Args[0]
	named := strings.Contains(arg, "/")
	e := &fail.Error{Kind: fail.CmdNotFound, Msg: "executable file not found in $PATH"}
	var candidates []string
	switch {
	case arg == "":
		e.Msg = "the command is empty"
	case path.IsAbs(arg):
		candidates = []string{arg}
	case named:
		candidates = []string{path.Join(p.Cwd, arg)}
	default:
		for _, d := range strings.Split(pathOf(p.Env), ":") {
			if path.IsAbs(d) {
				candidates = append(candidates, path.Join(d, arg))
			}
		}
	}
	if named {
		e.Msg = "no such file or directory"
	}
	for _, c := range candidates {
		st, m, err := s.stat(path.Clean(c))
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ELOOP) {
			continue
		}
		why, next := s.inexecutable(path.Clean(c), st, m, p.User)
		if err != nil || why == "" {
			return nil // it is there: the failure is another
		}
		if e.Next = next; named {
			e.Kind, e.Msg = fail.CmdNotExec, why
			continue
		}
		e.Msg = fmt.Sprintf("executable file not found in $PATH: %q: %s", c, why)
	}
	e.Msg = fmt.Sprintf("cannot run %q: %s", arg, e.Msg)
	return e
}

func pathOf(env []string) string {
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			return v
		}
	}
	return ""
}

// inexecutable says why a file that is there cannot be executed, and what to
// do; "" if it can.
func (s sight) inexecutable(p string, st unix.Stat_t, m *specs.Mount, u specs.User) (why, next string) {
	if isDir(st) {
		return "is a directory", ""
	}
	for dir := path.Dir(p); dir != "/"; dir = path.Dir(dir) {
		if st, _, err := s.stat(dir); err == nil && !executable(st, u) {
			return fmt.Sprintf("permission denied: %q is closed to uid %d", dir, u.UID), ""
		}
	}
	switch {
	case !executable(st, u):
		return "permission denied: it is not executable", ""
	case flagged(m, "noexec", unix.ST_NOEXEC):
		return fmt.Sprintf("permission denied: programs do not run from the mount at %q", m.Destination),
			"if they may, let the mount say exec: -v SRC:" + m.Destination + ":ro,exec"
	}
	return "", ""
}

// executable applies the mode bits to a user without capabilities.
func executable(st unix.Stat_t, u specs.User) bool {
	switch {
	case st.Uid == u.UID:
		return st.Mode&0o100 != 0
	case st.Gid == u.GID || slices.Contains(u.AdditionalGids, st.Gid):
		return st.Mode&0o010 != 0
	}
	return st.Mode&0o001 != 0
}
