package ports

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain runs the tests in a network namespace of their own, where all
// ports are free. The binary can also be a process that has a port.
func TestMain(m *testing.M) {
	const inside = "SAFE_RUN_PORTS_TEST"
	if at := os.Getenv(listenAt); at != "" {
		listenForever(at)
	}
	if os.Getenv(inside) != "" {
		if err := loopbackUp(); err != nil {
			println("these tests need a loopback interface:", err.Error())
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // the death signal is the thread's
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0] // a fuzzing run starts its workers by this name
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	var exit *exec.ExitError
	switch err := cmd.Run(); {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	default:
		println("these tests need root and a network namespace:", err.Error())
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

// Environment of a test binary that has a port.
const (
	listenAt = "SAFE_RUN_PORTS_LISTEN"
	calledAs = "SAFE_RUN_PORTS_COMM"
)

func listenForever(at string) {
	var l net.Listener
	err := os.WriteFile("/proc/self/comm", []byte(os.Getenv(calledAs)), 0)
	if err == nil {
		l, err = net.Listen("tcp", at)
	}
	if err != nil {
		println(err.Error())
		os.Exit(1)
	}
	println("ready")
	for { // an empty select would be a deadlock without cgo
		_, _ = l.Accept()
	}
}

// listener starts a process of some name that listens at an address.
func listener(t *testing.T, at, name string) (pid int) {
	t.Helper()
	runtime.LockOSThread()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), listenAt+"="+at, calledAs+"="+name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); runtime.UnlockOSThread() })
	b := make([]byte, 100)
	if n, _ := out.Read(b); string(b[:n]) != "ready\n" {
		t.Fatalf("the listener said %q", b[:n])
	}
	return cmd.Process.Pid
}

var (
	any4 = netip.IPv4Unspecified()
	any6 = netip.IPv6Unspecified()
	lo4  = netip.MustParseAddr("127.0.0.1")
	lo6  = netip.IPv6Loopback()
)
