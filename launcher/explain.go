package launcher

import (
	"errors"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// explain tells a command that does not exist (127) or cannot be executed
// (126) from other failures of the runtime, by looking for it in the image as
// the kernel would: not by the runtime's words, which the image can choose.
func (r *run) explain(cause error) error {
	if len(r.spec.Process.Args) == 0 {
		return cause
	}
	root, err := view(r.snapMounts)
	if err != nil {
		return cause
	}
	defer root.Close()
	arg := r.spec.Process.Args[0]
	kind, why := lookup(root, arg, r.spec.Process.Cwd, pathOf(r.spec.Process.Env), r.spec.Process.User)
	if kind == fail.Internal || r.covered(arg) {
		return cause
	}
	return &fail.Error{Kind: kind, Msg: "cannot run " + strconv.Quote(arg) + ": " + why, Err: nil}
}

// covered says that a mount hides the command's place in the image, so that
// the image's files say nothing about it.
func (r *run) covered(arg string) bool {
	if !strings.Contains(arg, "/") {
		return false
	}
	p := path.Clean(arg)
	if !path.IsAbs(p) {
		p = path.Join(r.spec.Process.Cwd, p)
	}
	for _, m := range r.spec.Mounts {
		if strings.HasPrefix(p, strings.TrimSuffix(m.Destination, "/")+"/") {
			return true
		}
	}
	return false
}

func pathOf(env []string) string {
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			return v
		}
	}
	return ""
}

// lookup finds a command as exec.LookPath does, inside the image.
func lookup(root *os.File, arg, cwd, pathList string, u specs.User) (fail.Kind, string) {
	candidates := []string{}
	switch {
	case arg == "":
		return fail.CmdNotFound, "the command is empty"
	case path.IsAbs(arg):
		candidates = append(candidates, arg)
	case strings.Contains(arg, "/"):
		candidates = append(candidates, path.Join(cwd, arg))
	default:
		for _, d := range strings.Split(pathList, ":") {
			if path.IsAbs(d) {
				candidates = append(candidates, path.Join(d, arg))
			}
		}
	}
	kind, why := fail.CmdNotFound, "no such file or directory"
	if !strings.Contains(arg, "/") {
		why = "executable file not found in $PATH"
	}
	for _, c := range candidates {
		f, err := openIn(root, c, unix.O_PATH)
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ELOOP) {
			continue
		}
		if err != nil {
			return fail.Internal, ""
		}
		var st unix.Stat_t
		err = unix.Fstat(int(f.Fd()), &st)
		f.Close()
		switch {
		case err != nil:
			return fail.Internal, ""
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			kind, why = fail.CmdNotExec, "is a directory"
		case !executable(st, u):
			kind, why = fail.CmdNotExec, "permission denied: it is not executable"
		default:
			return fail.Internal, "" // it is there: the failure is another
		}
		if strings.Contains(arg, "/") {
			break
		}
	}
	return kind, why
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
