package threats

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/tests/harness"
)

// sums are digests of the programs of the host that run on behalf of a container.
func sums(t *testing.T) (all []string) {
	t.Helper()
	files := []string{here.Bin}
	for _, name := range []string{"runc", "containerd-shim-runc-v2", "containerd", "tini"} {
		files = append(files, filepath.Join(here.Repo, "build/engine", name))
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s %x", f, sha256.Sum256(b)))
	}
	return all
}

func TestR1(t *testing.T) {
	row(t, "R1")
	before := sums(t)
	hostileImages(t, "command: /proc/self/exe", "command: a script for /proc/self/exe")
	// Who executes itself is the runtime, for a moment, in an exec as well; a
	// container waits for that moment with all its might.
	d := denOf(t, []string{"--tmpfs", "/x:exec", "--security-opt", "no-new-privileges"})
	here.Run("exec", d.name, "sh", "-c", `printf '#!/proc/self/exe\n' >/x/evil; chmod 755 /x/evil`)
	loop := exec.Command(here.Bin, "exec", d.name, "sh", "-c",
		`echo ready; while [ ! -e /x/stop ]; do for p in /proc/[0-9]*; do (echo EVIL >"$p/exe") 2>/dev/null && echo "opened $p"; done; done`)
	var seen strings.Builder
	loop.Stdout = &seen
	if err := loop.Start(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		here.Run("exec", d.name, "/x/evil")
		here.Run("exec", d.name, "/proc/self/exe", "init")
	}
	here.Run("exec", d.name, "touch", "/x/stop")
	_ = loop.Wait()
	if !strings.HasPrefix(seen.String(), "ready\n") {
		t.Error("the loop that tries to write was not run")
	}
	for _, l := range strings.Split(strings.TrimSpace(seen.String()), "\n")[1:] {
		t.Errorf("a program could be opened for writing: %s", l)
	}
	if after := sums(t); !slices.Equal(before, after) {
		t.Errorf("a program of the host has changed:\n%v\n%v", before, after)
	}
}

func TestR2(t *testing.T) {
	row(t, "R2")
	var lines [][]string
	for fd := 3; fd <= 20; fd++ {
		lines = append(lines, []string{"-w", "/proc/self/fd/" + strconv.Itoa(fd)})
	}
	for _, dir := range []string{"/dev/fd/7", "/proc/1/cwd", "/proc/self/cwd/../fd/7", "//proc/self/fd/8", "/tmp/../proc/thread-self/fd/9", "/sys"} {
		lines = append(lines, []string{"-w", dir})
	}
	refused(t, "", lines...)
	hostileImages(t, "workdir:")
	d := denOf(t, nil)
	for _, dir := range []string{"/proc/self/fd/7", "/dev/fd/7", "/proc/1/cwd", "/tmp/../proc/self/fd/8"} {
		if a := here.Run("exec", "-w", dir, d.name, "echo", "RAN"); a.Code == 0 || a.Stdout != "" {
			t.Errorf("exec -w %s: %s", dir, a)
		}
	}
	// A link made after the start, in a place the container can write to.
	for fd := 3; fd < 12; fd++ {
		link := fmt.Sprintf("rm -f /tmp/fd; ln -s /proc/self/fd/%d /tmp/fd", fd)
		here.Run("exec", d.name, "sh", "-c", link)
		if a := here.Run("exec", "-w", "/tmp/fd", d.name, "sh", "-c", "ls ../../../../../../root/.ssh ../../../../../../var/lib; readlink /proc/self/cwd"); a.Code == 0 && !strings.HasPrefix(a.Stdout, "/") {
			t.Errorf("exec in a link to descriptor %d: %s", fd, a)
		}
	}
	here.Run("exec", d.name, "rm", "-f", "/tmp/fd")
	probed(t, "stray-fds", "pid1-root")
	inModes(t, nil, `readlink /proc/self/cwd; cd ../../../../../..; pwd; sh -c 'ls -d /proc/self/fd/[3-9] /proc/self/fd/[1-9][0-9]' 2>/dev/null; [ . -ef / ] && echo same`,
		prints("/\n/\nsame\n"))
}

func TestR3(t *testing.T) {
	row(t, "R3")
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil {
		t.Fatal(err)
	}
	kept(t, "masked-paths", "core_pattern", "sysrq-trigger")
	inModes(t, nil, `for f in /proc/keys /proc/timer_list /proc/kcore /proc/sched_debug; do [ ! -e $f ] || [ "$(stat -c %t:%T $f)" = 1:3 ] || echo "$f: $(stat -c %t:%T $f)"; done
[ "$(stat -c %F:%t:%T /dev/null)" = "character special file:1:3" ] || ls -l /dev/null
(echo x >/proc/sys/kernel/core_pattern) 2>/dev/null && echo written; (echo x >/proc/sysrq-trigger) 2>/dev/null && echo written; true`, prints(""))
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	refused(t, "mount-target",
		[]string{"-v", filepath.Dir(file) + ":/dev"}, []string{"-v", file + ":/dev/null"}, []string{"-v", "r3-volume:/dev"}, []string{"-v", "r3-volume:/proc"},
		[]string{"-v", file + ":/proc/keys"}, []string{"-v", filepath.Dir(file) + ":/sys/firmware"}, []string{"--tmpfs", "/dev"}, []string{"--tmpfs", "/proc/self"},
		[]string{"--mount", "type=bind,source=" + file + ",target=/dev/./null"}, []string{"--mount", "type=tmpfs,target=/tmp/../dev"})
	hostileImages(t, "root: /dev/", "root: /proc")
	if now, _ := os.ReadFile("/proc/sys/kernel/core_pattern"); string(now) != string(pattern) {
		t.Errorf("core_pattern is %q now, it was %q", now, pattern)
	}
}

func TestR4(t *testing.T) {
	row(t, "R4")
	const number = "stat -c '%t %F' /dev/console /dev/pts/0"
	if a := here.Run("run", "--rm", "-t", denImage, "sh", "-c", number); strings.ReplaceAll(a.Stdout, "\r", "") != strings.Repeat("88 character special file\n", 2) {
		t.Errorf("the console is no pty: %s", a)
	}
	if a := here.Run("run", "--rm", denImage, "ls", "/dev/console"); a.Code == 0 {
		t.Errorf("a console without -t: %s", a)
	}
	hostileImages(t, "root: /dev/console", "root: /dev/pts", "root: /dev/ptmx")
	// A neighbour with the same volume swaps what it can while terminals are made.
	detached(t, "r4-renames", "-v", "r4-shared:/data", denImage, "sh", "-c",
		"cd /data; mkdir pts; ln -s /proc/sys/kernel console; while :; do mv pts a; mv console pts; mv pts console; mv a pts; done")
	t.Cleanup(func() { here.Run("volume", "rm", "r4-shared") })
	before := ownMounts(t)
	for range 6 {
		if a := here.Run("run", "--rm", "-t", "-v", "r4-shared:/data", denImage, "sh", "-c", number); strings.ReplaceAll(a.Stdout, "\r", "") != strings.Repeat("88 character special file\n", 2) {
			t.Errorf("beside a neighbour that renames: %s", a)
		}
	}
	if a := here.Run("run", "--rm", "-t", "-v", "r4-shared:/dev/pts", denImage, "true"); a.Code != 125 {
		t.Errorf("a volume over /dev/pts: %s", a)
	}
	if after := ownMounts(t); after != before {
		t.Errorf("mounts of the host: %s\nnow %s", before, after)
	}
}

// ownMounts is the mount table of the tests outside of their own directories,
// where containers have theirs.
func ownMounts(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for _, l := range lines(string(b)) {
		if f := strings.Fields(l); !strings.HasPrefix(f[4], here.Dir) {
			kept = append(kept, strings.Join(f[3:6], " "))
		}
	}
	return strings.Join(kept, "\n")
}

func TestR8(t *testing.T) {
	row(t, "R8")
	hostileImages(t, "root: a mount goes below a link", "volume: behind a link out", "volume: inside of another")
	outside := filepath.Join(here.Dir, "r8-outside")
	if err := errors.Join(os.Mkdir(outside, 0o777), os.Chmod(outside, 0o777)); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(outside)
	t.Cleanup(func() { here.Run("volume", "rm", "r8-a", "r8-b") })
	detached(t, "r8-neighbour", "-v", "r8-a:/data", denImage, "sh", "-c", "mkdir /data/x /data/x/z; ln -s "+strings.Repeat("../", 30)+outside+" /data/y; touch /data/done; sleep 1000")
	volume := filepath.Join(here.Root, "volumes", "r8-a", "_data")
	patient(t, func() error { _, err := os.Stat(volume + "/done"); return err })
	stop := harness.Exchange(volume+"/x", volume+"/y")
	defer stop()
	before, ran := ownMounts(t), 0
	for range 6 {
		a := here.Run("run", "--rm", "-v", "r8-a:/data", "-v", "r8-b:/data/x/z", denImage, "sh", "-c", "echo RAN; touch /data/x/z/mine")
		switch {
		case a.Stdout == "RAN\n":
			ran++
		case a.Code != 125:
			t.Errorf("%s", a)
		}
	}
	if n := stop(); n < 100 {
		t.Errorf("only %d swaps", n)
	}
	t.Logf("%d of 6 ran", ran)
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("made on the host: %v %v", entries, err)
	}
	if after := ownMounts(t); after != before {
		t.Errorf("mounts of the host: %s\nnow %s", before, after)
	}
}

func TestR9(t *testing.T) {
	row(t, "R9")
	inModes(t, nil, "grep -E 'Cap(Inh|Amb)' /proc/self/status", prints("CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n"))
	// Not either where capabilities were asked for.
	inModes(t, []string{"--cap-add", "CHOWN", "--cap-add", "NET_BIND_SERVICE"}, "grep -E 'CapInh' /proc/self/status", prints("CapInh:\t0000000000000000\n"))
	s, _ := drySpec(t, "--cap-add", "CHOWN")
	if c := s.Process.Capabilities; c == nil || len(c.Inheritable) > 0 || len(c.Bounding) != 1 {
		t.Errorf("capabilities of the specification: %+v", c)
	}
}

func TestR10(t *testing.T) {
	row(t, "R10")
	refused(t, "cgroupns-host", []string{"--cgroupns=host"}, []string{"--cgroupns", "host"})
	refused(t, "cgroup-parent", []string{"--cgroup-parent", "/"}, []string{"--cgroup-parent", "../../x"})
	refused(t, "writable-cgroups", []string{"--security-opt", "writable-cgroups=true"})
	kept(t, "cgroup-mkdir", "cgroup-limits", "cgroup-procs", "cgroup-release_agent")
	inModes(t, nil, `grep -v ':/$' /proc/self/cgroup; mkdir /sys/fs/cgroup/x 2>/dev/null && echo made; for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/x 2>/dev/null && echo "made in $d"; done
awk '$9=="cgroup" || $9=="cgroup2" || $8=="cgroup" || $8=="cgroup2" {print $6}' /proc/self/mountinfo | grep -v ^ro; true`, func(t *testing.T, mode, out string) {
		// With v1 the directory of the hierarchies is a tmpfs of the container's own.
		if out != "" && out != "made\n" {
			t.Errorf("printed %q", out)
		}
	})
	host, err := os.Readlink("/proc/self/ns/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	if own, err := os.Readlink("/proc/" + hostPID(t, denOf(t, nil).name) + "/ns/cgroup"); err != nil || own == host {
		t.Errorf("the cgroup namespace of the host: %v", err)
	}
}
