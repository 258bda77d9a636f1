package threats

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/source"
	"github.com/safe-run/safe-run/policy"
	"github.com/safe-run/safe-run/spec"
	"github.com/safe-run/safe-run/tests/harness"
)

// someUser has no account and owns nothing but what a test gives to him.
const someUser = 12345

// underSudo makes the rest of the test one that somebody calls through sudo,
// with an engine and a state of its own: the environment moves neither then.
func underSudo(t *testing.T, uid int) {
	t.Helper()
	dir := groundDir(t)
	outer, own := here, *here
	own.Root, own.State = "/var/lib/safe-run", "/run/safe-run"
	for name, at := range map[string]string{"root": own.Root, "state": own.State} {
		if err := os.Mkdir(at, 0o755); err == nil {
			t.Cleanup(func() { must(t, os.Remove(at)) })
		}
		mounted(t, makeDir(t, filepath.Join(dir, name)), at, "", unix.MS_BIND, "")
	}
	t.Setenv("SUDO_UID", strconv.Itoa(uid))
	t.Setenv("SUDO_GID", strconv.Itoa(uid))
	t.Setenv("SUDO_USER", "somebody")
	succeeded := func(args ...string) string {
		a := own.Run(args...)
		if a.Code != 0 {
			t.Errorf("%s: %s", args, a)
		}
		return strings.TrimSpace(a.Stdout)
	}
	own.Socket = succeeded("engine", "start")
	t.Cleanup(func() {
		if ids := strings.Fields(succeeded("ps", "-aq")); len(ids) > 0 {
			succeeded(append([]string{"rm", "-f", "-v"}, ids...)...)
		}
		succeeded("engine", "stop")
		here = outer
	})
	succeeded("load", "--quiet", "-i", filepath.Join(own.Repo, "build/images/busybox.tar"))
	here = &own
}

func owned(t *testing.T, p string, uid int, mode os.FileMode) string {
	t.Helper()
	must(t, os.Lchown(p, uid, uid), os.Chmod(p, mode))
	return p
}

func TestM1(t *testing.T) {
	row(t, "M1")
	dir := groundDir(t)
	link := func(name, target string) string { return linkTo(t, filepath.Join(dir, name), target) }
	link("etc1", "/etc")
	link("etc2", "etc1/../etc/../etc")
	own := makeDir(t, filepath.Join(dir, "own"))
	put(t, filepath.Join(own, "mine"), "")
	link("loop", "loop")
	link("a", "b")
	link("b", "a")
	for i := range 42 {
		link("n"+strconv.Itoa(i), "n"+strconv.Itoa(i+1))
	}
	link("n42", "own")
	// data -> something of root's, made by whoever can write there.
	secrets := makeDir(t, filepath.Join(dir, "secrets"))
	theirs := owned(t, makeDir(t, filepath.Join(dir, "theirs")), someUser, 0o755)
	evil := linkTo(t, filepath.Join(theirs, "data"), secrets)
	must(t, os.Lchown(evil, someUser, someUser))
	good := linkTo(t, filepath.Join(theirs, "current"), "release")
	must(t, os.Lchown(good, someUser, someUser))
	put(t, filepath.Join(owned(t, makeDir(t, filepath.Join(theirs, "release")), someUser, 0o755), "mine"), "")
	up := linkTo(t, filepath.Join(theirs, "up"), dir)
	must(t, os.Lchown(up, someUser, someUser))
	refusedEach(t, attempts{
		"bind-system":     bindsOf(filepath.Join(dir, "etc1"), filepath.Join(dir, "etc2")),
		"bind-secret":     bindsOf(filepath.Join(dir, "etc2/shadow")),
		"bind-missing":    bindsOf(link("dangling", "none"), filepath.Join(dir, "etc1/passwd/x")),
		"bind-unreadable": bindsOf(filepath.Join(dir, "loop"), filepath.Join(dir, "a"), filepath.Join(dir, "b/x"), filepath.Join(dir, "n0")),
		"bind-link":       bindsOf(evil, up+"/own", filepath.Join(theirs, "up/theirs/data")),
	})
	for _, p := range []string{link("to-own", own), good, filepath.Join(theirs, "release"), filepath.Join(dir, "n40")} {
		if out := runs(t, "-v", p+":/x:ro", "busybox", "ls", "/x"); out != "mine\n" {
			t.Errorf("%s: %q", p, out)
		}
	}
	// Through sudo, what is bound is what that user could open.
	closed := owned(t, makeDir(t, filepath.Join(dir, "closed")), 0, 0o700)
	makeDir(t, filepath.Join(closed, "below"))
	readable := owned(t, makeDir(t, filepath.Join(dir, "readable")), 0, 0o755)
	underSudo(t, someUser)
	refusedEach(t, attempts{"bind-caller": append(bindsOf(closed, closed+"/below", closed+"/none", owned(t, put(t, filepath.Join(dir, "file"), ""), 0, 0o600)),
		lineOf("-v", readable+":/x"), lineOf("-v", "/root/.ssh:/x:ro"), lineOf("-v", up+"/closed/x:/x:ro"))})
	runs(t, "-v", theirs+":/x", "-v", readable+":/y:ro", "-v", evil+":/z:ro", "busybox", "true")
}

func TestM2(t *testing.T) {
	row(t, "M2")
	dir := groundDir(t)
	good, evil := makeDir(t, filepath.Join(dir, "good")), linkTo(t, filepath.Join(dir, "evil"), "/")
	put(t, filepath.Join(makeDir(t, good+"/etc"), "mine"), "")
	stop := harness.Exchange(good, evil)
	defer func() { t.Logf("%d swaps", stop()) }()
	// What was judged harmless is what a descriptor is held of.
	seen := map[string]int{}
	for until := time.Now().Add(harness.Patient(20 * time.Second)); seen["own"] < 50 || seen["refused"] < 50; {
		if time.Now().After(until) {
			t.Fatalf("the race was not run: %v", seen)
		}
		mounts := []spec.Mount{{Origin: "-v", Type: spec.MountBind, Source: good + "/etc", Target: "/x", ReadOnly: true}}
		set, err := source.Gather(mounts, nil, policy.KnownPaths(here.Root, here.State))
		must(t, err)
		_, refusals := policy.Review(policy.Request{Workload: spec.Workload{Image: "busybox", Mounts: mounts}, Sources: set.Sources, Provisional: true})
		if len(refusals) > 0 {
			seen["refused"]++
		} else if names, err := os.ReadDir(set.Sources[0].Runtime); err != nil || len(names) != 1 || names[0].Name() != "mine" {
			t.Fatalf("judged harmless, and it is %v %v", names, err)
		} else {
			seen["own"]++
		}
		must(t, set.Close())
	}
	// The same with whole starts.
	for range 8 {
		a := here.Run("--rm", "-v", good+"/etc:/x:ro", "busybox", "ls", "/x")
		if (a.Code != 0 || a.Stdout != "mine\n") && (a.Code != 125 || a.Stdout != "") {
			t.Errorf("the host's files, or something unexpected: %s", a)
		}
	}
}

func TestM3(t *testing.T) {
	row(t, "M3")
	dir := groundDir(t)
	f, err := os.Open("/etc")
	must(t, err)
	defer f.Close()
	own := fmt.Sprintf("/proc/%d/", os.Getpid())
	all := attempts{
		"bind-root":       bindsOf(own+"root", own+"root/", own+"task/"+strconv.Itoa(os.Getpid())+"/root"),
		"bind-system":     bindsOf(own+"root/etc", own+"fd/"+strconv.Itoa(int(f.Fd())), own+"fd/"+strconv.Itoa(int(f.Fd()))+"/"),
		"bind-magic-link": bindsOf(own+"cwd", linkTo(t, filepath.Join(dir, "cwd"), own+"cwd")),
		"bind-kernel|bind-missing|bind-unreadable": bindsOf("/dev/fd/9", "/proc/self/fd/9"),
		"bind-kernel": bindsOf("/proc", "/proc/self", own, "/proc/sys", "/sys", "/sys/fs/cgroup", "/dev/pts", "/proc/self/ns"),
		"bind-kernel|bind-magic-link|bind-device":                                       bindsOf("/proc/self/ns/net", "/proc/self/exe", "/dev/stdin"),
		"bind-root|bind-magic-link|bind-unreadable|bind-kernel|bind-system|bind-device": bindsOf("/proc/1/root", "/proc/1/cwd", "/proc/1/root/etc", "/proc/1/fd/0"),
	}
	// The kernel's file systems, wherever they are mounted.
	n := 0
	for _, fs := range []string{"proc", "sysfs", "tracefs", "debugfs", "bpf", "securityfs", "mqueue", "devpts", "cgroup2", "configfs", "pstore", "efivarfs", "fusectl", "binfmt_misc"} {
		at := filepath.Join(dir, fs)
		must(t, os.Mkdir(at, 0o755))
		if unix.Mount("none", at, fs, 0, "") != nil {
			continue // not in this kernel
		}
		n++
		t.Cleanup(func() { must(t, unix.Unmount(at, unix.MNT_DETACH)) })
		_, _ = os.ReadDir(filepath.Join(at, "tracing")) // debugfs mounts it when somebody looks
		all["bind-kernel"] = append(all["bind-kernel"], bindsOf(at, linkTo(t, at+"-link", at))...)
	}
	if n < 4 {
		t.Errorf("only %d file systems of the kernel", n)
	}
	refusedEach(t, all)
	// And above them, because a bind takes along what is mounted below.
	turnedDown(t, "bind-kernel|bind-root", "-v", dir+":/x")
}

func TestM4(t *testing.T) {
	row(t, "M4")
	d := denOf(t, denMounts(t))
	a := here.Run("inspect", "-f", "{{.Id}}", d.name)
	id := strings.TrimSpace(a.Stdout)
	if a.Code != 0 || len(id) < 12 {
		t.Fatal(a)
	}
	snapshots, err := filepath.Glob(here.Root + "/engine/io.containerd.snapshotter.v1.overlayfs/snapshots/*/fs")
	if err != nil || len(snapshots) == 0 {
		t.Fatalf("no snapshots: %v", err)
	}
	all := bindsOf(here.Root, here.State, filepath.Join(here.Root, "volumes"), filepath.Join(here.Root, "volumes", denVolume), filepath.Join(here.Root, "volumes", denVolume, "_data"),
		filepath.Join(here.Root, "containers", id), filepath.Join(here.Root, "containers", id, "hosts"), snapshots[0], filepath.Dir(snapshots[0]), filepath.Join(here.State, "io", id), here.Dir)
	link := linkTo(t, filepath.Join(groundDir(t), "link"), filepath.Join(here.Root, "volumes", denVolume, "_data"))
	copied := mounted(t, snapshots[0], filepath.Join(filepath.Dir(link), "copied"), "", unix.MS_BIND, "")
	all = append(all, bindsOf(link, copied)...)
	refusedEach(t, attempts{"bind-container-store|engine-socket|bind-root|socket": all})
	// By its name a volume can be had.
	if out := runs(t, "-v", denVolume+":/v:ro", "busybox", "sh", "-c", "touch /v/x 2>/dev/null || echo read-only"); out != "read-only\n" {
		t.Errorf("%q", out)
	}
}

func TestM13(t *testing.T) {
	row(t, "M13")
	dir := groundDir(t)
	missing := []string{filepath.Join(dir, "typo"), filepath.Join(dir, "no/such/dir"), linkTo(t, filepath.Join(dir, "dangling"), "target"), filepath.Join(dir, "dangling/below"), "/m13-no-such-directory"}
	refusedEach(t, attempts{"bind-missing": append(bindsOf(missing...), bindsOf(missing...)...), "": {
		lineOf("--mount", "type=bind,src="+missing[0]+",dst=/x,bind-create-src=true"), lineOf("-v", "relative/x:/x"),
	}})
	for _, p := range append(missing, filepath.Join(dir, "no"), filepath.Join(dir, "target")) {
		if st, err := os.Lstat(p); err == nil && st.Mode()&os.ModeSymlink == 0 {
			t.Errorf("%s was made", p)
		}
	}
}

// A server that never answers, and an automount that would start something.
func TestM17(t *testing.T) {
	row(t, "M17")
	dir := groundDir(t)
	fuse, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("no FUSE here: %v", err)
	}
	defer unix.Close(fuse)
	dead := mounted(t, "dead", filepath.Join(dir, "dead"), "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fuse))
	for _, p := range []string{dead + "/x", linkTo(t, filepath.Join(dir, "link"), dead+"/z/y")} {
		a := turnedDown(t, "bind-unreadable", "-v", p+":/x:ro")
		if a.Took > harness.Patient(15*time.Second) || !strings.Contains(a.Stderr, "does not answer") {
			t.Errorf("%s: it took %v: %s", p, a.Took, a)
		}
	}
	// The directory itself can be looked at; to be given ids it needs a server.
	if a := here.Run("--rm", "-v", dead+":/x:ro", "busybox", "ls", "/x"); a.Code != 125 || a.Took > harness.Patient(15*time.Second) {
		t.Errorf("the mount itself: %s in %v", a, a.Took)
	}
	automount(t, filepath.Join(dir, "auto"))
}

func automount(t *testing.T, at string) {
	t.Helper()
	var pipe [2]int
	must(t, unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK), os.Mkdir(at, 0o755))
	defer unix.Close(pipe[0])
	// Its group must not be ours, which is never made to wait.
	daemon := startSleeper(t)
	err := unix.Mount("m17", at, "autofs", 0, fmt.Sprintf("fd=%d,pgrp=%d,minproto=5,maxproto=5,direct", pipe[1], daemon))
	must(t, errors.Join(err, unix.Close(pipe[1])))
	defer func() { must(t, unix.Unmount(at, unix.MNT_DETACH)) }()
	for _, flags := range bindsOf(at, at) {
		if a := turnedDown(t, "bind-unreadable", flags...); a.Took > harness.Patient(15*time.Second) {
			t.Errorf("it took %v", a.Took)
		}
	}
	var asked [16]byte
	if n, err := unix.Read(pipe[0], asked[:]); err == nil {
		t.Errorf("the automount was started: %d bytes", n)
	} else if !errors.Is(err, syscall.EAGAIN) {
		t.Error(err)
	}
}
