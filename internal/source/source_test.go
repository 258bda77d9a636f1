package source

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// known is small and made of what every Linux has.
func known() KnownPaths {
	return KnownPaths{Sensitive: []string{"/", "/etc", "/etc/passwd", "/usr", "/proc", "/var/run"}}
}

func gather(t *testing.T, k KnownPaths, paths ...string) []spec.Source {
	t.Helper()
	mounts := make([]spec.Mount, len(paths))
	for i, p := range paths {
		mounts[i] = spec.Mount{Type: spec.MountBind, Source: p, Target: "/x"}
	}
	set, err := Gather(mounts, nil, k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := set.Close(); err != nil {
			t.Error(err)
		}
	})
	out := make([]spec.Source, len(paths))
	for i := range paths {
		out[i] = set.Sources[i]
	}
	return out
}

// inMountNamespace runs the test again in a mount namespace of its own, and
// says whether this is that run.
func inMountNamespace(t *testing.T) bool {
	t.Helper()
	const mark = "SOURCE_TEST_NAMESPACE"
	if os.Getenv(mark) == t.Name() {
		return true
	}
	if os.Geteuid() != 0 {
		t.Fatal("needs root to mount")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), mark+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

func mount(t *testing.T, source, target, fs string, flags uintptr) {
	t.Helper()
	if err := os.MkdirAll(target, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(source, target, fs, flags, ""); err != nil {
		t.Fatalf("mount %s on %s: %v", source, target, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func TestFactsOfAPlainDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	s := gather(t, known(), dir)[0]
	if s.Err != "" || s.Asked != dir || s.Real != dir || !s.Mode.IsDir() || s.Mode.Perm() != 0o750 || s.FS == "" || s.Magic == 0 {
		t.Errorf("facts: %+v", s)
	}
	if !slices.Contains(s.Aliases, dir) || len(s.Above) > 0 || len(s.Sockets) > 0 || s.WalkTruncated || s.MagicLink {
		t.Errorf("facts: %+v", s)
	}
	var want, got unix.Stat_t
	if err := unix.Stat(dir, &want); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(s.Runtime, &got); err != nil {
		t.Fatalf("the runtime's path: %v", err)
	}
	if got.Ino != want.Ino || s.Ino != want.Ino || s.Dev != want.Dev {
		t.Errorf("inode %d:%d, want %d:%d", s.Dev, s.Ino, want.Dev, want.Ino)
	}
}

func TestHeldSourceSurvivesASwap(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good"), filepath.Join(dir, "bad")
	for _, d := range []string{good, bad} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := gather(t, known(), good)[0]
	if err := unix.Renameat2(unix.AT_FDCWD, good, unix.AT_FDCWD, bad, unix.RENAME_EXCHANGE); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(s.Runtime, &st); err != nil {
		t.Fatal(err)
	}
	if st.Ino != s.Ino {
		t.Errorf("the runtime would see inode %d, judged was %d", st.Ino, s.Ino)
	}
}

func TestHardLinkToASecret(t *testing.T) {
	dir := t.TempDir()
	secret, tree := filepath.Join(dir, "secret"), filepath.Join(dir, "tree")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(tree, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(secret, filepath.Join(tree, "a/b")); err != nil {
		t.Fatal(err)
	}
	k := KnownPaths{Sensitive: []string{secret}}
	for _, s := range gather(t, k, tree, filepath.Join(tree, "a/b")) {
		if !slices.Contains(s.Above, secret) {
			t.Errorf("%s: above %q", s.Asked, s.Above)
		}
	}
}

// A store that was moved away behind a link is still the store.
func TestKnownPathBehindALink(t *testing.T) {
	dir := t.TempDir()
	data, link := filepath.Join(dir, "data"), filepath.Join(dir, "link")
	if err := os.MkdirAll(filepath.Join(data, "volumes"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(data, link); err != nil {
		t.Fatal(err)
	}
	s := gather(t, KnownPaths{Sensitive: []string{link}}, filepath.Join(data, "volumes"), data, dir)
	if !slices.Contains(s[0].Aliases, filepath.Join(link, "volumes")) {
		t.Errorf("below: %q", s[0].Aliases)
	}
	for _, above := range s[1:] {
		if !slices.Contains(above.Above, link) {
			t.Errorf("%s: above %q", above.Asked, above.Above)
		}
	}
}

func TestKindsOfFiles(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	s := gather(t, KnownPaths{}, fifo, "/dev/null", "/proc/sys", "/etc/passwd")
	if time.Since(start) > time.Second {
		t.Error("took too long: was the FIFO opened?")
	}
	if s[0].Mode&os.ModeNamedPipe == 0 || s[0].Err != "" {
		t.Errorf("fifo: %+v", s[0])
	}
	if s[1].Mode&os.ModeCharDevice == 0 || unix.Major(s[1].Rdev) != 1 || unix.Minor(s[1].Rdev) != 3 {
		t.Errorf("device: %+v", s[1])
	}
	if s[2].FS != "proc" || s[2].Magic != unix.PROC_SUPER_MAGIC {
		t.Errorf("proc: %+v", s[2])
	}
	if !s[3].Mode.IsRegular() {
		t.Errorf("file: %+v", s[3])
	}
}

func TestSourcesThatCannotBeHad(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.Symlink("nothing", at("dangling")); err != nil {
		t.Fatal(err)
	}
	for i := range 41 {
		if err := os.Symlink(fmt.Sprintf("l%d", i+1), at(fmt.Sprintf("l%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(at("l41"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("loop", at("loop")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		source   string
		notExist bool
		says     string
	}{
		{at("missing"), true, "does not exist"},
		{at("dangling"), true, "symbolic link"},
		{"/etc/passwd/x", true, "not a directory"},
		{at("l0"), false, "too many"},
		{at("loop"), false, "too many"},
		{"relative", false, "absolute"},
		{"", false, "absolute"},
		{"/x\x00y", false, "not a path"},
		{"/" + strings.Repeat("x", 5000), false, "not a path"},
	} {
		s := gather(t, known(), c.source)[0]
		if s.Err == "" || s.NotExist != c.notExist || !strings.Contains(s.Err, c.says) || s.MagicLink {
			t.Errorf("%.60q: %+v", c.source, s)
		}
		if _, err := os.Lstat(at("missing")); err == nil {
			t.Fatal("a missing source was created")
		}
	}
	// One link fewer than the kernel's limit works.
	if s := gather(t, known(), at("l1"))[0]; s.Err != "" || s.Real != at("l41") {
		t.Errorf("40 links: %+v", s)
	}
}

func TestDeletedWhileHeld(t *testing.T) {
	dir := t.TempDir()
	gone := filepath.Join(dir, "gone")
	if err := os.Mkdir(gone, 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := openPath(gone)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	var s spec.Source
	if err := (&host{}).facts(fd, &s); err == nil {
		t.Errorf("facts of a deleted directory: %+v", s)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	h, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if h.Real != dir {
		t.Errorf("%+v", h.Source)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(h.Runtime); err == nil {
		t.Error("still open after Close")
	}
	for p, kind := range map[string]fail.Kind{dir + "/no": fail.NotFound, "/proc/self/root": fail.Refused} {
		if _, err := Open(p); fail.KindOf(err) != kind {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestDevicesAndNothing(t *testing.T) {
	set, err := Gather(
		[]spec.Mount{{Type: spec.MountVolume, Source: "v"}, {Type: spec.MountTmpfs}},
		[]spec.Device{{Host: "/dev/zero"}, {Host: "vendor.com/x=y", CDI: true}},
		known(),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	if len(set.Sources) != 0 || len(set.Devices) != 1 || unix.Minor(set.Devices[0].Rdev) != 5 {
		t.Errorf("%+v", set)
	}
}

// Whatever hangs, the launcher comes back.
func TestPatience(t *testing.T) {
	if testing.Short() {
		t.Skip("waits")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	if os.Geteuid() != 0 || !inMountNamespace(t) {
		return
	}
	// A FUSE filesystem whose server never answers: the descriptor is held and
	// nobody reads it.
	dev, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no FUSE here: %v", err)
	}
	dir := t.TempDir()
	opts := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", dev.Fd())
	if err := unix.Mount("hang", dir, "fuse", 0, opts); err != nil {
		t.Skipf("cannot mount FUSE: %v", err)
	}
	done := make(chan []spec.Source, 1)
	go func() {
		mounts := []spec.Mount{{Type: spec.MountBind, Source: dir + "/below"}, {Type: spec.MountBind, Source: dir}}
		set, _ := Gather(mounts, nil, KnownPaths{})
		done <- []spec.Source{set.Sources[0], set.Sources[1]}
	}()
	var got []spec.Source
	select {
	case got = <-done:
	case <-ctx.Done():
		t.Error("hung")
	}
	dev.Close() // ends the waiting
	unix.Unmount(dir, unix.MNT_DETACH)
	if got == nil {
		return
	}
	if !strings.Contains(got[0].Err, "does not answer") {
		t.Errorf("below: %+v", got[0])
	}
	// The root itself needs no word from the server.
	if got[1].Err != "" || got[1].FS != "fuse" || !got[1].WalkTruncated {
		t.Errorf("root: %+v", got[1])
	}
}

func FuzzParseDirents(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24, 0, 8, 'a', 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, e := range parseDirents(b) {
			if e.name == "." || e.name == ".." || len(e.name) > len(b) {
				t.Errorf("%q", e.name)
			}
		}
	})
}

func BenchmarkGather(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		set, err := Gather([]spec.Mount{{Type: spec.MountBind, Source: dir}}, nil, known())
		if err != nil {
			b.Fatal(err)
		}
		set.Close()
	}
}
