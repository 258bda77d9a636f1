package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go/features"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// ErrBelowFloor is in every error that says a runtime or containerd is too old
// or lacks a feature, so that a site that allows old ones can tell it from
// others.
var ErrBelowFloor = errors.New("below the oldest version that is safe")

// version is MAJOR.MINOR.PATCH; pre is set for what comes before the release
// of that number (-rc.1, -beta, ~rc1).
type version struct {
	n   [3]int
	pre bool
}

func (v version) less(n [3]int) bool {
	if c := slices.Compare(v.n[:], n[:]); c != 0 {
		return c < 0
	}
	return v.pre
}

// parseVersion takes "1.5.2", "v2.4.2+unknown", "1.1.5+ds1-1", "1.4.0-rc.3",
// "1.3.3-0ubuntu1". A distribution's own suffix counts for nothing.
func parseVersion(s string) (version, error) {
	var v version
	rest := strings.TrimPrefix(s, "v")
	for i := range 3 {
		end := 0
		for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
			end++
		}
		n, err := strconv.Atoi(rest[:end])
		if err != nil || end > 6 {
			return v, fmt.Errorf("%.60q is not a version", s)
		}
		v.n[i] = n
		rest = rest[end:]
		if i == 2 {
			break
		}
		if !strings.HasPrefix(rest, ".") {
			return v, fmt.Errorf("%.60q is not a version", s)
		}
		rest = rest[1:]
	}
	for _, p := range []string{"-rc", "-alpha", "-beta", "-pre", "-dev", "~"} {
		v.pre = v.pre || strings.HasPrefix(rest, p)
	}
	return v, nil
}

// runcFloors are the first releases of each line with the fix of
// CVE-2026-41579, the last of the known ways out (runc's CHANGELOG). Lines
// without an entry have none, if older than the last of these.
var runcFloors = [][3]int{{1, 3, 6}, {1, 4, 3}, {1, 5, 0}}

// CheckRunc says whether a version of runc ("1.5.2") is new enough. The error
// is nil, or has kind HostCannot and ErrBelowFloor in it.
func CheckRunc(s string) error {
	v, err := parseVersion(s)
	if err != nil {
		return below("runc: %v", err)
	}
	floor := runcFloors[len(runcFloors)-1]
	for _, f := range runcFloors {
		if f[0] == v.n[0] && f[1] == v.n[1] {
			floor = f
		}
	}
	if v.less(floor) {
		return below("runc %.60q has known ways out of a container; fixed are 1.3.6, 1.4.3, 1.5.0 and later", s)
	}
	return nil
}

// CheckContainerd says whether a version of containerd ("v2.4.2") is new
// enough. Errors as CheckRunc.
func CheckContainerd(s string) error {
	v, err := parseVersion(s)
	if err != nil {
		return below("containerd: %v", err)
	}
	if v.less([3]int{2, 0, 0}) {
		return below("containerd %.60q is too old: 2.0.0 or later is needed", s)
	}
	// That one release unpacks layers through the links of others (CVE-2025-47290).
	if v.n[0] == 2 && v.n[1] == 1 && v.less([3]int{2, 1, 1}) {
		return below("containerd %.60q lets a layer write to the host's files (CVE-2025-47290); fixed is 2.1.1", s)
	}
	return nil
}

func below(format string, args ...any) error {
	return &fail.Error{
		Kind: fail.HostCannot, Msg: fmt.Sprintf(format, args...), Err: ErrBelowFloor,
		Next: "update it, or install safe-run with its own engine",
	}
}

// CheckFeatures says whether the answer of "RUNTIME features" holds all that
// the hardened spec relies on. A field a runtime does not know is ignored in
// silence, so what it does not name is taken as missing. Errors as CheckRunc.
func CheckFeatures(f *features.Features) error {
	var lacks []string
	need := func(ok bool, what string) {
		if !ok {
			lacks = append(lacks, what)
		}
	}
	l := f.Linux
	if l == nil {
		l = &features.Linux{}
	}
	for _, ns := range []string{"cgroup", "ipc", "mount", "network", "pid", "user", "uts"} {
		need(slices.Contains(l.Namespaces, ns), ns+" namespaces")
	}
	for _, o := range []string{"rro", "rnosuid", "rnodev", "rnoexec", "rprivate"} {
		need(slices.Contains(f.MountOptions, o), "mount option "+o)
	}
	need(l.Seccomp != nil && isTrue(l.Seccomp.Enabled), "seccomp")
	need(l.MountExtensions != nil && l.MountExtensions.IDMap != nil && isTrue(l.MountExtensions.IDMap.Enabled), "idmapped mounts")
	if len(lacks) > 0 {
		return below("the runtime lacks %s", strings.Join(lacks, ", "))
	}
	return nil
}

func isTrue(b *bool) bool { return b != nil && *b }

// Runtimes name themselves in an annotation of their features.
var versionKeys = []struct {
	key   string
	check func(string) error
}{
	{"org.opencontainers.runc.version", CheckRunc},
	// crun mounts by descriptors and had none of runc's races; its features
	// decide.
	{"run.oci.crun.version", func(string) error { return nil }},
}

// CheckRuntime asks the runtime binary at path what it is and can do.
// Errors as CheckRunc; a binary that cannot be run is HostCannot.
func CheckRuntime(ctx context.Context, path string) error {
	out, err := ask(ctx, path, "features")
	if err != nil {
		// runc before 1.1 has no such command, but says its version.
		if v, verr := ask(ctx, path, "--version"); verr == nil {
			line, _, _ := bytes.Cut(v, []byte{'\n'})
			if s, ok := strings.CutPrefix(string(line), "runc version "); ok {
				if err := CheckRunc(strings.TrimSpace(s)); err != nil {
					return err
				}
			}
		}
		return fail.Wrap(fail.HostCannot, err, "asking %q for its features", path)
	}
	var f features.Features
	if err := json.Unmarshal(out, &f); err != nil {
		return fail.Wrap(fail.HostCannot, err, "reading the features of %q", path)
	}
	known := false
	for _, k := range versionKeys {
		v, ok := f.Annotations[k.key]
		if !ok {
			continue
		}
		known = true
		if err := k.check(v); err != nil {
			return err
		}
	}
	if !known {
		return below("%q is neither runc nor crun", path)
	}
	return CheckFeatures(&f)
}

// ask runs a runtime with nothing but an argument.
func ask(ctx context.Context, path, arg string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, arg)
	cmd.Env = []string{"PATH=" + defaultPath}
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second
	out := &capped{left: 1 << 20}
	errs := &capped{left: 64 << 10}
	cmd.Stdout, cmd.Stderr = out, errs
	if err := cmd.Run(); err != nil {
		if len(errs.kept) > 0 {
			return nil, fmt.Errorf("%w: %.300q", err, bytes.TrimSpace(errs.kept))
		}
		return nil, err
	}
	return out.kept, nil
}

// capped takes so much and no more: the write that is too much fails, which
// ends a runtime that floods. The buffer is not an embedded bytes.Buffer, whose
// ReadFrom would take everything.
type capped struct {
	kept []byte
	left int
}

func (c *capped) Write(p []byte) (int, error) {
	if len(p) > c.left {
		return 0, errors.New("too much output")
	}
	c.left -= len(p)
	c.kept = append(c.kept, p...)
	return len(p), nil
}

// FloorQuery says what Floors is to check.
type FloorQuery struct {
	Runtime string // path of the runtime binary
	PID     int    // process of containerd, 0 if unknown: then it is asked each time
	// Version asks containerd for its version.
	Version func(context.Context) (string, error)
	// Cache is a directory of root's in which a good verdict is kept, because
	// asking costs the start of a process. "" keeps none.
	Cache string
}

// Floors checks that the runtime and containerd are new enough and can do what
// is needed. A good verdict is kept for that very file (path, device, inode,
// size, times) and that very containerd process; a bad one is not. Errors as
// CheckRunc.
func Floors(ctx context.Context, q FloorQuery) error {
	key, err := q.key()
	if err != nil {
		return err
	}
	file := filepath.Join(q.Cache, "floors")
	if q.Cache != "" && q.PID > 0 {
		if b, err := readOwn(file, 4096); err == nil && string(b) == key {
			return nil
		}
	}
	if q.Version != nil {
		v, err := q.Version(ctx)
		if err != nil {
			return fail.Wrap(fail.HostCannot, err, "asking containerd for its version")
		}
		if err := CheckContainerd(v); err != nil {
			return err
		}
	}
	if err := CheckRuntime(ctx, q.Runtime); err != nil {
		return err
	}
	if q.Cache != "" {
		// Without the file the next launch asks again.
		tmp := fmt.Sprintf("%s.%d", file, os.Getpid())
		if os.WriteFile(tmp, []byte(key), 0o600) != nil || os.Rename(tmp, file) != nil {
			_ = os.Remove(tmp)
		}
	}
	return nil
}

// key names what the verdict is about.
func (q FloorQuery) key() (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(q.Runtime, &st); err != nil {
		return "", fail.Wrap(fail.HostCannot, err, "looking at the runtime %q", q.Runtime)
	}
	start := ""
	if q.PID > 0 {
		b, err := readBounded(fmt.Sprintf("/proc/%d/stat", q.PID), 4096)
		if err != nil {
			return "", fail.Wrap(fail.HostCannot, err, "looking at containerd (process %d)", q.PID)
		}
		// Field 22, the start time, counted from behind the name in brackets.
		if f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])); len(f) > 19 {
			start = f[19]
		}
	}
	return fmt.Sprintf("safe-run floors 1\n%q %d:%d %d %d.%d %d.%d\n%d %s %v\n", q.Runtime, st.Dev, st.Ino, st.Size,
		st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec, q.PID, start, runcFloors), nil
}

// readOwn reads a file that nobody but this user could have written.
func readOwn(path string, limit int64) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return nil, os.ErrPermission
	}
	return readBounded(path, limit)
}
