package cni

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain runs the tests in network and mount namespaces of their own, the
// "host" of these tests. The binary can also be the process of a container.
func TestMain(m *testing.M) {
	const inside, container = "SAFE_RUN_CNI_TEST", "container"
	if len(os.Args) == 2 && os.Args[1] == container {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	if os.Getenv(inside) != "" {
		syscall.Umask(0o022)
		if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), loopbackUp()); err != nil {
			println(err.Error())
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // the death signal is the thread's
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0] // a fuzzing run starts its workers by this name
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	var exit *exec.ExitError
	switch err := cmd.Run(); {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	default:
		println("these tests need root and namespaces:", err.Error())
		os.Exit(1)
	}
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

// startContainer starts a process in a network namespace that belongs to a
// user namespace, as a container's does. end ends it.
func startContainer(t *testing.T) (netns string, end func()) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "container")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 65536}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNET | syscall.CLONE_NEWUSER,
		UidMappings: ids, GidMappings: ids,
		Credential: &syscall.Credential{},
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() {
		stdin.Close()
		_ = cmd.Wait()
	}
	t.Cleanup(end)
	return filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "ns/net"), end
}

// within runs f on a thread that is in a network namespace.
func within(t *testing.T, netns string, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread goes
		ns, err := os.Open(netns)
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// listenIn has a server in a network namespace that greets.
func listenIn(t *testing.T, netns, at string) {
	t.Helper()
	within(t, netns, func() error {
		l, err := net.Listen("tcp", at)
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = c.Write([]byte("hello"))
				c.Close()
			}
		}()
		return nil
	})
}

// site is a host with CNI.
type site struct {
	Config
	t *testing.T
}

// newSite has the plugins of the engine's folder and those of the test's own.
func newSite(t *testing.T) site {
	t.Helper()
	// As in a home directory: not to be trusted by its place.
	dir := t.TempDir()
	s := site{Config{
		ConfDir:  filepath.Join(dir, "net.d"),
		BinDirs:  []string{filepath.Join(dir, "own"), filepath.Join(dir, "real"), filepath.Join(dir, "absent")},
		CacheDir: filepath.Join(dir, "cache"),
	}, t}
	for _, d := range []string{s.ConfDir, s.BinDirs[0], s.BinDirs[1]} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// real brings the plugins of the engine's folder to where root alone can
// change them, wherever the source is.
func (s site) real(names ...string) {
	s.t.Helper()
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join("../../build/engine/cni", name))
		if err != nil {
			s.t.Fatalf("%v: make cni", err)
		}
		s.write(filepath.Join(s.BinDirs[1], name), string(data), 0o755)
	}
}

// plugin makes a plugin of a shell script.
func (s site) plugin(name, script string) {
	s.t.Helper()
	s.write(filepath.Join(s.BinDirs[0], name), "#!/bin/sh\n"+script, 0o755)
}

func (s site) conf(file, text string) {
	s.t.Helper()
	s.write(filepath.Join(s.ConfDir, file), text, 0o644)
}

func (s site) write(path, text string, mode os.FileMode) {
	s.t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		s.t.Fatal(err)
	}
}

func (s site) find(name string) *Network {
	s.t.Helper()
	n, ok, err := Find(s.Config, name)
	if err != nil || !ok {
		s.t.Fatalf("%s: %v, %v", name, ok, err)
	}
	return n
}
