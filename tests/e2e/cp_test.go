package e2e

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/tests/harness"
)

// copyFrom starts a container to copy from and to, with a tmpfs at /t and a
// volume at /v, and gives the host's directory of the volume.
func copyFrom(t *testing.T, name string, flags ...string) (volume string) {
	t.Helper()
	args := append([]string{"run", "-d", "--network", "none", "--name", name, "--tmpfs", "/t", "-v", name + ":/v"}, flags...)
	if r := run(append(args, "busybox", "sleep", "1000")...); r.code != 0 {
		t.Fatal(r)
	}
	t.Cleanup(func() {
		if r := run("rm", "-f", name); r.code != 0 {
			t.Error(r)
		}
		if r := run("volume", "rm", name); r.code != 0 {
			t.Error(r)
		}
	})
	return filepath.Join(here.root, "volumes", name, "_data")
}

// cp must end with code; what it says must contain each of words.
func cp(t *testing.T, code int, args []string, words ...string) answer {
	t.Helper()
	r := call(request{args: append([]string{"cp"}, args...)})
	if r.code != code {
		t.Errorf("cp %q: %s", args, r)
	}
	for _, w := range words {
		if !strings.Contains(r.stderr, w) {
			t.Errorf("cp %q does not say %q: %s", args, w, r)
		}
	}
	return r
}

// inside runs a shell script in the container and gives its output.
func inside(t *testing.T, name, script string) string {
	t.Helper()
	r := run("exec", name, "sh", "-c", script)
	if r.code != 0 {
		t.Errorf("%s: %s", script, r)
	}
	return strings.TrimSpace(r.stdout)
}

func TestCopy(t *testing.T) {
	copyFrom(t, "copy")
	dir := tempDir(t)
	src := filepath.Join(dir, "src")
	if err := os.MkdirAll(src+"/sub", 0o750); err != nil {
		t.Fatal(err)
	}
	writeFile(t, src+"/f", "one", 0o640)
	writeFile(t, src+"/s", "two", 0o755|os.ModeSetuid)
	writeFile(t, src+"/sub/g", "three", 0o600)
	if err := errors.Join(os.Symlink("f", src+"/l"), os.Link(src+"/f", src+"/h"), os.Chown(src+"/sub/g", 1000, 1001)); err != nil {
		t.Fatal(err)
	}

	cp(t, 0, []string{src + "/f", "copy:/t/"})
	cp(t, 0, []string{src + "/f", "copy:t/renamed"})
	cp(t, 0, []string{src, "copy:/t/new"})
	cp(t, 0, []string{src, "copy:/t"})
	cp(t, 0, []string{"-a", src + "/.", "copy:/v"})
	cp(t, 0, []string{"-L", src + "/l", "copy:/t/followed"})
	for script, want := range map[string]string{
		"cat /t/f /t/renamed /t/followed":          "oneoneone",
		"cat /t/new/sub/g /t/src/sub/g":            "threethree",
		"readlink /t/new/l":                        "f",
		"stat -c '%u:%g %a' /t/f /t/new/s":         "0:0 640\n0:0 755",
		"stat -c '%u:%g %a' /t/new/sub/g /t/new":   "0:0 600\n0:0 750",
		"stat -c '%u:%g %a' /v/sub/g":              "1000:1001 600",
		"stat -c %h /t/new/f":                      "2",
		"test /t/new/f -ef /t/new/h && echo same ": "same",
	} {
		if got := inside(t, "copy", script); got != want {
			t.Errorf("%s: %q", script, got)
		}
	}

	inside(t, "copy", "chmod 4755 /t/new/s; ln -s new/f /t/link; ln -s / /t/root")
	out := filepath.Join(dir, "out")
	cp(t, 0, []string{"copy:/t/new", out})
	cp(t, 0, []string{"copy:/t/link", dir})
	cp(t, 0, []string{"-L", "copy:/t/link", dir + "/one"})
	cp(t, 0, []string{"copy:/t/root/etc/passwd", dir + "/passwd"})
	cp(t, 0, []string{"-a", "copy:/v/sub", dir})
	var g, s unix.Stat_t
	if err := errors.Join(unix.Stat(dir+"/sub/g", &g), unix.Stat(out+"/s", &s)); err != nil || g.Uid != 1000 || g.Gid != 1001 || s.Mode&0o7777 != 0o755 {
		t.Errorf("%v %+v %o", err, g, s.Mode)
	}
	if to, err := os.Readlink(dir + "/link"); err != nil || to != "new/f" {
		t.Errorf("%q %v", to, err)
	}
	for p, want := range map[string]string{out + "/f": "one", out + "/sub/g": "three", dir + "/one": "one"} {
		if b, err := os.ReadFile(p); err != nil || string(b) != want {
			t.Errorf("%s: %q %v", p, b, err)
		}
	}
	if host, err := os.ReadFile("/etc/passwd"); err == nil {
		if b, err := os.ReadFile(dir + "/passwd"); err != nil || bytes.Equal(b, host) {
			t.Errorf("the host's /etc/passwd, or none: %v", err)
		}
	}

	// As a stream, and back.
	r := call(request{args: []string{"cp", "copy:/t/new", "-"}})
	if r.code != 0 {
		t.Fatal(r)
	}
	if back := call(request{args: []string{"cp", "-", "copy:/v"}, stdin: r.stdout}); back.code != 0 {
		t.Error(back)
	}
	if got := inside(t, "copy", "cat /v/new/sub/g"); got != "three" {
		t.Errorf("%q", got)
	}
}

func TestCopyErrors(t *testing.T) {
	copyFrom(t, "errs")
	dir := tempDir(t)
	f := writeFile(t, dir+"/f", "x", 0o644)
	inside(t, "errs", "mkfifo /t/fifo; mkdir /t/d; echo 1 >/t/d/ok; mkfifo /t/d/p; nc -l -U /t/d/s 2>/dev/null & true")
	for _, c := range []struct {
		from, to string
		words    string
	}{
		{f, "errs:/x", "container rootfs is marked read-only"},
		{f, "errs:/nope/x", "Could not find the file /nope in container errs"},
		{f, "errs:/t/nope/", "no such directory"},
		{f, "errs:/proc/x", "is on procfs"},
		{f, "errs:/dev/null", "must be a directory or a regular file"},
		{dir, "errs:/etc/passwd", "cannot copy directory"},
		{dir + "/nope", "errs:/t", "no such file or directory"},
		{"errs:/nope", dir, "Could not find the file /nope in container errs"},
		{"errs:/t/d", f, "cannot copy directory"},
		{"errs:/t/d", dir + "/a/b", "does not exist"},
		{"errs:/t/fifo", dir, "is a FIFO"},
		{"errs:/dev/zero", dir, "is a device"},
		{"errs:/proc/self/environ", dir, ""},
		{"errs:/proc/1/environ", dir, "is on procfs"},
		{"errs:/t/d", dir, `"d/p": is a FIFO`},
		{"nobody:/x", dir, "No such container: nobody"},
		{"errs:/x", "errs:/y", "copying between containers is not supported"},
		{f, dir, "must specify at least one container source"},
	} {
		cp(t, 1, []string{c.from, c.to}, c.words)
	}
	if b, err := os.ReadFile(dir + "/d/ok"); err != nil || string(b) != "1\n" {
		t.Errorf("the rest of a directory is not copied: %q %v", b, err)
	}
	if r := call(request{args: []string{"cp", "-", "errs:/t"}, stdin: hostileArchive(t)}); r.code != 1 || !strings.Contains(r.stderr, "leads out") {
		t.Error(r)
	}
	if r := run("cp", "--"+"__inside"); r.code != 1 {
		t.Error(r)
	}
}

func hostileArchive(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := errors.Join(w.WriteHeader(&tar.Header{Name: "a/../../x", Size: 1, Mode: 0o600}), w.Close())
	if err == nil {
		t.Fatal("an unfinished archive is complete")
	}
	return b.String()
}

func TestCopyStopped(t *testing.T) {
	copyFrom(t, "still")
	dir := tempDir(t)
	f := writeFile(t, dir+"/f", "x", 0o644)
	if r := run("stop", "-t", "0", "still"); r.code != 0 {
		t.Fatal(r)
	}
	cp(t, 0, []string{f, "still:/v/f"})
	cp(t, 0, []string{"still:/v/f", dir + "/back"})
	cp(t, 0, []string{"still:/etc/passwd", dir + "/passwd"})
	cp(t, 1, []string{f, "still:/x"}, "container rootfs is marked read-only")
	cp(t, 1, []string{f, "still:/t/x"}, "only there while the container runs")
	if b, err := os.ReadFile(dir + "/back"); err != nil || string(b) != "x" {
		t.Errorf("%q %v", b, err)
	}
	if r := run("start", "still"); r.code != 0 {
		t.Fatal(r)
	}
	if got := inside(t, "still", "stat -c %u:%g /v/f"); got != "0:0" {
		t.Errorf("owner %q", got)
	}
}

// TestCopyCaller: under sudo the host's files are read and written with the
// rights of the user who called it.
func TestCopyCaller(t *testing.T) {
	copyFrom(t, "caller")
	dir := tempDir(t)
	secret := writeFile(t, dir+"/secret", "root's", 0o600)
	own := filepath.Join(dir, "own")
	if err := errors.Join(os.Mkdir(own, 0o700), os.Chown(own, 1000, 1000)); err != nil {
		t.Fatal(err)
	}
	sudo := func(code int, args ...string) {
		t.Helper()
		// Under sudo the environment does not move the state: it is put where it is looked for.
		const script = `mount -t tmpfs none /var/lib && mount -t tmpfs none /run && mkdir /var/lib/safe-run /run/safe-run &&
			mount --bind "$SAFE_RUN_ROOT" /var/lib/safe-run && mount --bind "$SAFE_RUN_STATE" /run/safe-run && exec "$@"`
		r := call(request{
			bin: "unshare", args: append([]string{"--mount", "sh", "-c", script, "sh", here.bin, "cp"}, args...),
			env: []string{"SUDO_UID=1000", "SUDO_GID=1000"},
		})
		if r.code != code || strings.Contains(r.stderr, "No such container") {
			t.Errorf("%q: %s", args, r)
		}
	}
	sudo(1, secret, "caller:/t")
	sudo(1, "caller:/etc/passwd", dir)
	sudo(1, "caller:/etc/passwd", secret)
	sudo(0, "-a", "caller:/etc", own)
	var st unix.Stat_t
	if err := unix.Stat(own+"/etc/passwd", &st); err != nil || st.Uid != 1000 || st.Gid != 1000 {
		t.Errorf("%+v %v", st, err)
	}
	if b, err := os.ReadFile(secret); err != nil || string(b) != "root's" {
		t.Errorf("%q %v", b, err)
	}
}

// TestCopySwaps copies 200 times while a directory and a link that leads out
// are exchanged, as a process inside could do it (CVE-2018-15664).
func TestCopySwaps(t *testing.T) {
	volume := copyFrom(t, "swaps")
	dir := tempDir(t)
	outside := filepath.Join(dir, "outside")
	if err := errors.Join(os.Mkdir(outside, 0o777), os.Chmod(outside, 0o777)); err != nil {
		t.Fatal(err)
	}
	writeFile(t, outside+"/f", "canary", 0o666)
	f := writeFile(t, dir+"/g", "mine", 0o644)
	if err := errors.Join(os.Mkdir(volume+"/d", 0o777), os.Symlink(strings.Repeat("../", 40)+outside, volume+"/l")); err != nil {
		t.Fatal(err)
	}
	writeFile(t, volume+"/d/f", "inside", 0o644)
	defer harness.Exchange(volume+"/d", volume+"/l")()
	worked := map[bool]int{}
	for i := range 100 {
		r := run("cp", f, "swaps:/v/d/g")
		worked[true] += 1 - min(r.code, 1)
		from := []string{"swaps:/v/d/f", "swaps:/v/d/.", "swaps:/v/d"}[i%3]
		r = run("cp", "-L", from, filepath.Join(dir, fmt.Sprint("out", i)))
		worked[false] += 1 - min(r.code, 1)
	}
	if worked[true] == 0 || worked[false] == 0 {
		t.Errorf("no copy worked in one direction: %v", worked)
	}
	entries, err := os.ReadDir(outside)
	b, rerr := os.ReadFile(outside + "/f")
	if err := errors.Join(err, rerr); err != nil || len(entries) != 1 || string(b) != "canary" {
		t.Errorf("outside: %v %q %v", entries, b, err)
	}
	err = filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || strings.HasPrefix(p, outside) {
			return err
		}
		b, err := os.ReadFile(p)
		if bytes.Contains(b, []byte("canary")) {
			t.Errorf("%s was read from outside", p)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestCopyEndless: a file that grows all the time is cut, and an interrupt
// ends a copy that waits for its input.
func TestCopyEndless(t *testing.T) {
	copyFrom(t, "endless")
	dir := tempDir(t)
	inside(t, "endless", "(while :; do head -c 100000 /dev/zero; sleep 0.01; done >>/t/grows) >/dev/null 2>&1 & sleep 0.2")
	cp(t, 0, []string{"endless:/t/grows", dir})
	inside(t, "endless", "kill $(pgrep -f head) || true; rm -f /t/grows")

	in, keep, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer keep.Close()
	c := exec.Command(here.bin, "cp", "-", "endless:/t")
	c.Stdin = in
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(patient(300 * time.Millisecond))
	_ = c.Process.Signal(syscall.SIGINT)
	timer := time.AfterFunc(patient(10*time.Second), func() { _ = c.Process.Kill() })
	defer timer.Stop()
	if _ = c.Wait(); c.ProcessState.ExitCode() != 130 {
		t.Errorf("interrupted: %s", c.ProcessState)
	}
}
