// Package harness sets up what tests of the finished program stand on: the
// program and its engine as the sources say now, with state of their own, in
// a network of their own.
package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Ground is an engine of its own with images loaded, and where things are.
type Ground struct {
	Repo   string // root of the checkout
	Bin    string // build/safe-run
	Dir    string // of this run, removed at the end; every uid may pass
	Root   string // SAFE_RUN_ROOT
	State  string // SAFE_RUN_STATE
	Socket string // containerd's
}

// inside marks the second start of a test program, in its own namespaces.
const inside = "SAFE_RUN_TEST_ISOLATED"

// Main runs the tests of a package on a Ground with the named images of
// build/images, which make builds from the given targets, and gives the exit
// code. ready gets the Ground before the first test; what is in ended is
// called after the last. It needs root.
//
// The program is started again in mount and network namespaces of its own,
// where only the loopback interface is.
func Main(m *testing.M, repo string, targets, images []string, ready func(*Ground), ended ...func() error) int {
	code, err := runAll(m, repo, targets, images, ready, ended)
	if err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		return 1
	}
	return code
}

func runAll(m *testing.M, repo string, targets, images []string, ready func(*Ground), ended []func() error) (code int, err error) {
	if os.Geteuid() != 0 {
		return 1, errors.New("these tests run containers and need root")
	}
	if repo, err = filepath.Abs(repo); err != nil {
		return 1, err
	}
	if _, err := os.Stat(filepath.Join(repo, "go.mod")); err != nil {
		// No sources: a virtual machine, which has what it was given. A test that
		// wants another image fails for want of it.
		images = slices.DeleteFunc(slices.Clone(images), func(i string) bool {
			_, err := os.Stat(imageFile(repo, i))
			return err != nil
		})
	} else if os.Getenv(inside) == "" {
		// Before the namespaces: apt needs the machine's network.
		if err := build(repo, targets); err != nil {
			return 1, err
		}
	}
	if err := Isolate(); err != nil {
		return 1, err
	}
	g, err := Start(repo, images...)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, g.Stop()) }()
	ready(g)
	code = m.Run()
	for _, end := range ended {
		err = errors.Join(err, end())
	}
	return code, err
}

// build makes the targets. Where they are built already it takes a second.
func build(repo string, targets []string) error {
	cmd := exec.Command("make", append([]string{"-C", repo}, targets...)...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("make: %w", err)
	}
	return nil
}

// Isolate starts the running program again, with the same arguments, in a
// network namespace in which only the loopback interface is, and a mount
// namespace without the machine's own containerd, which would be preferred.
// In the second start it does nothing.
func Isolate() error {
	if os.Getenv(inside) != "" {
		return os.Unsetenv(inside)
	}
	// Namespaces belong to the thread, and exec(2) makes it the process's only one.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("namespaces of its own: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	const containerd = "/run/containerd"
	if _, err := os.Stat(containerd + "/containerd.sock"); err == nil {
		if err := unix.Mount("none", containerd, "tmpfs", 0, ""); err != nil {
			return err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return unix.Exec(self, os.Args, append(os.Environ(), inside+"=1"))
}

// Start makes the directories, starts the engine and loads the images. Every
// safe-run started after it uses them.
func Start(repo string, images ...string) (*Ground, error) {
	dir, err := os.MkdirTemp("", "safe-run-test-")
	if err != nil {
		return nil, err
	}
	g := &Ground{
		Repo: repo, Bin: filepath.Join(repo, "build/safe-run"), Dir: dir,
		Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state"),
	}
	if err := g.start(images); err != nil {
		return nil, errors.Join(err, g.Stop())
	}
	return g, nil
}

func (g *Ground) start(images []string) error {
	// Bind sources of the tests lie below, and the container's ids must get there.
	if err := os.Chmod(g.Dir, 0o755); err != nil {
		return err
	}
	for _, k := range []string{"CONTAINERD_ADDRESS", "CONTAINERD_NAMESPACE", "SAFE_RUN_FAULT", "SUDO_UID", "SUDO_GID", "DOCKER_CONFIG"} {
		if err := os.Unsetenv(k); err != nil {
			return err
		}
	}
	for k, v := range map[string]string{"SAFE_RUN_ROOT": g.Root, "SAFE_RUN_STATE": g.State} {
		if err := os.Setenv(k, v); err != nil {
			return err
		}
	}
	a := g.Run("engine", "start")
	if a.Code != 0 {
		return fmt.Errorf("engine start: %s", a)
	}
	g.Socket = strings.TrimSpace(a.Stdout)
	for _, i := range images {
		if a := g.Run("load", "--quiet", "-i", imageFile(g.Repo, i)); a.Code != 0 {
			return fmt.Errorf("load %s: %s", i, a)
		}
	}
	return nil
}

func imageFile(repo, image string) string { return filepath.Join(repo, "build/images", image+".tar") }

// sweep lets a command clean up what killed launchers left.
func (g *Ground) sweep() error {
	if a := g.Run("images", "--quiet"); a.Code != 0 {
		return fmt.Errorf("clean-up: %s", a)
	}
	return nil
}

// Stop ends the engine and removes all that Start made; if the engine does
// not end, the directory stays to be looked at.
func (g *Ground) Stop() error {
	if err := g.sweep(); err != nil {
		return err
	}
	if a := g.Run("engine", "stop"); a.Code != 0 {
		return fmt.Errorf("engine stop: %s\nit uses %s", a, g.Dir)
	}
	return os.RemoveAll(g.Dir)
}
