package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// refuses checks that a command failed with one clear line: what it was about
// and one of words, besides a hint, and nothing else.
func refuses(t *testing.T, about string, r answer, code int, words ...string) {
	t.Helper()
	var said []string
	for _, l := range lines(r.stderr) {
		// What starts meanwhile tells of it, which is no part of the failure.
		if !strings.Contains(l, "started its own containerd") && !strings.Contains(l, "turned on forwarding") {
			said = append(said, l)
		}
	}
	has := false
	for _, w := range words {
		has = has || len(said) > 0 && strings.Contains(said[0], w)
	}
	clear := len(said) == 1 || len(said) == 2 && strings.HasPrefix(said[1], "  ")
	if r.code != code || !has || !clear || !strings.HasPrefix(said[0], "safe-run: ") || len(said[0]) > 1000 {
		t.Errorf("%s: wanted exit %d and one line with one of %q, and a hint, got %s", about, code, words, r)
	}
}

// fine checks that a command succeeded.
func fine(t *testing.T, about string, r answer) {
	t.Helper()
	if r.code != 0 {
		t.Errorf("%s: %s", about, r)
	}
}

// disk mounts a file system of its own at a directory: an ext4 of so many MiB
// and inodes (0: as many as usual).
func disk(t *testing.T, at string, size, inodes int) {
	t.Helper()
	image := filepath.Join(tempDir(t), "disk")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, int64(size)<<20); err != nil {
		t.Fatal(err)
	}
	args := []string{"-q", "-F", "-t", "ext4", "-m", "0", "-b", "1024"}
	if inodes > 0 {
		args = append(args, "-N", fmt.Sprint(inodes))
	}
	for _, c := range [][]string{append(append([]string{"mke2fs"}, args...), image), {"mount", "-o", "loop", image, at}} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", c[0], err, out)
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// remote is elsewhere without an engine, on file systems that prepare mounts at
// the directories of the ground.
func remote(t *testing.T, prepare func()) {
	t.Helper()
	common := here
	dir := tempDir(t)
	here.root, here.state = filepath.Join(dir, "root"), filepath.Join(dir, "state")
	here.socket = filepath.Join(here.state, "engine", "containerd.sock")
	for _, d := range []string{here.root, here.state} {
		if err := os.Mkdir(d, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SAFE_RUN_ROOT", here.root)
	t.Setenv("SAFE_RUN_STATE", here.state)
	t.Cleanup(func() { here = common })
	prepare()
	t.Cleanup(func() {
		run("rm", "-f", "e2e-full", "e2e-kept")
		if r := run("engine", "stop"); r.code != 0 {
			t.Errorf("engine stop: %s", r)
		}
	})
}

func busyboxTar() string { return filepath.Join(here.repo, "build/images/busybox.tar") }

func loads(t *testing.T) {
	t.Helper()
	if r := run("load", "--quiet", "-i", busyboxTar()); r.code != 0 {
		t.Fatal(r)
	}
}

// fill uses the space of a directory's file system up; the file it returns
// holds it.
func fill(t *testing.T, dir string) string {
	t.Helper()
	p := filepath.Join(dir, "fill")
	f, err := os.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, n := range []int{1 << 20, 64 << 10, 4 << 10, 1 << 10} {
		for err = nil; err == nil; {
			_, err = f.Write(bytes.Repeat([]byte("x"), n))
		}
	}
	return p
}

// crowd uses the inodes of a directory's file system up, but for so many.
func crowd(t *testing.T, dir string, but int) string {
	t.Helper()
	p := filepath.Join(dir, "crowd")
	if err := os.Mkdir(p, 0o700); err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; ; n++ {
		if os.WriteFile(filepath.Join(p, fmt.Sprint(n)), nil, 0o600) != nil {
			break
		}
	}
	less(t, p, but)
	return p
}

// less gives so many inodes of a crowd back.
func less(t *testing.T, crowd string, n int) {
	t.Helper()
	entries, err := os.ReadDir(crowd)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries[:n] {
		if err := os.Remove(filepath.Join(crowd, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
}

const noSpace = "no space left on device"

// printer writes lines until it is asked to end.
var printer = []string{"busybox", "sh", "-c", "trap 'exit 0' TERM; i=0; while :; do echo line $i; i=$((i+1)); sleep 0.05; done"}

// without is what all of the full directories have in common: what needs room
// is refused in one line, what gives room or needs none works, a container
// runs on, and with the room everything works again. need says what has to
// work without room, besides ending containers.
func without(t *testing.T, use func() (free func()), need ...string) {
	loads(t)
	before := take(t)
	detach(t, append([]string{"--name", "e2e-full"}, printer...)...)
	if r := run("run", "--name", "e2e-kept", "busybox", "true"); r.code != 0 {
		t.Fatal(r)
	}
	running := take(t)
	free := use()

	refuses(t, "run", run("--rm", "busybox", "true"), 125, noSpace)
	refuses(t, "run with a name and a volume", run("--name", "e2e-none", "-v", "/data", "busybox", "true"), 125, noSpace)
	refuses(t, "run -d", run("-d", "--name", "e2e-none", "busybox", "true"), 125, noSpace)
	same(t, running, take(t))
	for _, n := range need {
		args := map[string][]string{
			"exec": {"exec", "e2e-full", "true"}, "restart": {"restart", "-t", "1", "e2e-full"},
			"rm": {"rm", "e2e-kept"}, "pause": {"pause", "e2e-full"}, "unpause": {"unpause", "e2e-full"},
		}[n]
		fine(t, n, run(args...))
	}
	fine(t, "ps", run("ps", "-a"))
	if r := run("logs", "-n", "1", "e2e-full"); r.code != 0 || !strings.HasPrefix(r.stdout, "line ") {
		t.Errorf("logs: %s", r)
	}
	if s := field("e2e-full", "{{.State.Status}}"); s != "running" {
		t.Errorf("the container is %s", s)
	}
	fine(t, "stop", run("stop", "-t", "1", "e2e-full"))
	if s := field("e2e-full", "{{.State.Status}}"); s != "exited" {
		t.Errorf("the stopped container is %s", s)
	}
	fine(t, "rm", run("rm", "-f", "e2e-full"))

	free()
	if r := run("--rm", "-v", "/data", "busybox", "echo", "again"); r.code != 0 || r.stdout != "again\n" {
		t.Errorf("with room again: %s", r)
	}
	run("rm", "-f", "e2e-kept")
	settle(t, before)
}

func remover(t *testing.T, path string) func() {
	return func() {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFullRoot: the disk of images, records and logs is full.
func TestFullRoot(t *testing.T) {
	remote(t, func() { disk(t, here.root, 48, 0) })
	without(t, func() func() {
		free := remover(t, fill(t, here.root))
		for _, args := range [][]string{{"load", "-q", "-i", filepath.Join(here.repo, "build/images/probe.tar")}} {
			refuses(t, args[0], run(args...), 1, noSpace, "MB left")
		}
		return free
	}, "exec", "pause", "unpause", "restart", "rm")
}

// TestNoInodes: the same disk has space, but no inodes.
func TestNoInodes(t *testing.T) {
	remote(t, func() { disk(t, here.root, 48, 400) })
	without(t, func() func() { return remover(t, crowd(t, here.root, 0)) }, "exec", "pause", "unpause", "rm")
}

// TestFullState: no space is left where the state until the next boot is, which
// the runtime's files are part of.
func TestFullState(t *testing.T) {
	remote(t, func() {
		if err := unix.Mount("none", here.state, "tmpfs", 0, "size=4m,mode=0711"); err != nil {
			t.Fatal(err)
		}
		state := here.state
		t.Cleanup(func() {
			if err := unix.Unmount(state, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	})
	without(t, func() func() { return remover(t, fill(t, here.state)) }, "pause", "unpause", "rm")
}

// TestFullAtStart: there is no room before the engine was ever started. Nothing
// of it stays running half, and it needs no repair afterwards.
func TestFullAtStart(t *testing.T) {
	// refused gives false once there is enough.
	refused := func(t *testing.T, about string) bool {
		r := run("load", "--quiet", "-i", busyboxTar())
		if r.code == 0 {
			return false
		}
		refuses(t, about, r, 1, noSpace, "inodes left")
		return true
	}
	works := func(t *testing.T) {
		loads(t)
		if r := run("--rm", "busybox", "echo", "again"); r.code != 0 || r.stdout != "again\n" {
			t.Error(r)
		}
	}
	t.Run("space", func(t *testing.T) {
		remote(t, func() { disk(t, here.root, 16, 0) })
		free := remover(t, fill(t, here.root))
		refuses(t, "run", run("--rm", "busybox", "true"), 125, noSpace)
		refused(t, "load")
		if pids := ours("containerd"); len(pids) != 0 {
			t.Errorf("an engine runs: %v", pids)
		}
		free()
		works(t)
	})
	t.Run("inodes", func(t *testing.T) {
		remote(t, func() { disk(t, here.root, 16, 640) })
		full := crowd(t, here.root, 0)
		// One more each time: it fails at another place.
		for n := 0; n < 24 && refused(t, fmt.Sprintf("%d inodes", n)); n++ {
			less(t, full, 1)
		}
		remover(t, full)()
		works(t)
	})
	t.Run("state", func(t *testing.T) {
		for n := 1; n <= 16; n += 3 {
			t.Run(fmt.Sprintf("%d inodes", n), func(t *testing.T) {
				remote(t, func() {
					if err := unix.Mount("none", here.state, "tmpfs", 0, fmt.Sprintf("size=1m,nr_inodes=%d,mode=0711", n)); err != nil {
						t.Fatal(err)
					}
				})
				if !refused(t, "load") {
					t.Log("that is enough")
				}
				run("engine", "stop") // it may lack the inode for its lock
				if err := unix.Unmount(here.state, unix.MNT_DETACH); err != nil {
					t.Fatal(err)
				}
			})
		}
	})
}

// TestFullCIDFile: an id that cannot be written undoes the launch, and no part
// of a file stays.
func TestFullCIDFile(t *testing.T) {
	dir := tempDir(t)
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k,mode=0755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	free := remover(t, fill(t, dir))
	before := take(t)
	file := filepath.Join(dir, "id")
	refuses(t, "run", run("--rm", "--cidfile", file, "busybox", "true"), 125, noSpace)
	if _, err := os.Lstat(file); err == nil {
		t.Error("a file without an id was left")
	}
	settle(t, before)
	free()
	fine(t, "with room", run("--rm", "--cidfile", file, "busybox", "true"))
}

// TestFullOfItsOwn: the volumes, or the records and logs, lie on a disk of
// their own that is full. What does not write there works.
func TestFullOfItsOwn(t *testing.T) {
	for name, check := range map[string]func(t *testing.T, dir string){
		"volumes": func(t *testing.T, dir string) {
			r := run("volume", "create", "e2e-none")
			refuses(t, "volume create", r, 1, noSpace)
			if !strings.Contains(r.stderr, dir+`" is full; safe-run volume prune`) {
				t.Errorf("the disk is not named: %s", r)
			}
			refuses(t, "run with files of the image", run("--rm", "-v", "e2e-none:/bin", "busybox", "true"), 125, noSpace)
			fine(t, "run without a volume", run("--rm", "busybox", "true"))
		},
		"containers": func(t *testing.T, dir string) {
			r := run("--rm", "busybox", "true")
			refuses(t, "run", r, 125, noSpace)
			if !strings.Contains(r.stderr, dir+`" is full`) {
				t.Errorf("the disk is not named: %s", r)
			}
			refuses(t, "run -d", run("-d", "--name", "e2e-none", "busybox", "true"), 125, noSpace)
			fine(t, "volume create", run("volume", "create", "e2e-full"))
			fine(t, "volume rm", run("volume", "rm", "e2e-full"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := ""
			remote(t, func() {
				dir = filepath.Join(here.root, name)
				if err := errors.Join(os.Mkdir(dir, 0o711), unix.Mount("none", dir, "tmpfs", 0, "size=64k,mode=0711")); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
						t.Error(err)
					}
				})
			})
			loads(t)
			before := take(t)
			free := remover(t, fill(t, dir))
			check(t, dir)
			free()
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
				t.Errorf("left: %v %v", left, err)
			}
			fine(t, "with room", run("--rm", "-v", "/data", "busybox", "true"))
			settle(t, before)
		})
	}
}
