package learn

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// initVar has the setup of a container's first process in its environment.
const initVar = "SAFE_RUN_RECORDER_TEST"

// loopVar has the number of calls of a container that does nothing else.
const loopVar = "SAFE_RUN_RECORDER_LOOP"

// container is a process in namespaces of its own that behaves like a
// runtime's init: it does much with all its rights, waits, and executes.
type container struct {
	Script  string   // for busybox sh
	Keep    []uint   // capabilities it keeps
	Filter  []uint32 // numbers of system calls refused with EPERM
	Host    bool     // in the host's user namespace
	Read    bool     // make the file system at /mnt read-only
	Program []string // instead of the script
	Loop    int      // instead of it: so many calls of getppid; it prints the nanoseconds of processor time of one
}

func TestMain(m *testing.M) {
	if n, err := strconv.Atoi(os.Getenv(loopVar)); err == nil {
		fmt.Println(callCost(n))
		os.Exit(0)
	}
	if s := os.Getenv(initVar); s != "" {
		if err := containerInit(s); err != nil {
			_, _ = os.Stderr.WriteString("init: " + err.Error() + "\n")
		}
		os.Exit(99)
	}
	os.Exit(m.Run())
}

func containerInit(setup string) error {
	var c container
	runtime.LockOSThread() // the filter is one thread's
	if err := json.Unmarshal([]byte(setup), &c); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/mnt", "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	for _, d := range []string{"/mnt/deep", "/mnt/deep/down", "/mnt/bin", "/mnt/inner"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("tmpfs", "/mnt/inner", "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	if err := os.Mkdir("/mnt/little", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/mnt/little", "tmpfs", 0, "size=4k"); err != nil {
		return err
	}
	if err := os.WriteFile("/mnt/file", []byte("not a program"), 0o644); err != nil {
		return err
	}
	// What a runtime does, and must not be blamed on the container.
	_ = unix.Mknod("/mnt/noise", unix.S_IFCHR|0o600, 0x103)
	_ = unix.Chown("/mnt/file", 0, 0)
	_ = unix.Sethostname([]byte("noise"))
	_ = unix.Mount("none", "/mnt/deep", "ext4", 0, "")
	if c.Read {
		if err := unix.Mount("", "/mnt", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
			return err
		}
	}
	for i := uint(0); i <= unix.CAP_LAST_CAP; i++ {
		if !slices.Contains(c.Keep, i) {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(i), 0, 0, 0); err != nil {
				return err
			}
		}
	}
	if _, err := os.Stdout.WriteString("ready\n"); err != nil {
		return err
	}
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		return err
	}
	if len(c.Filter) > 0 {
		if err := refuseCalls(c.Filter); err != nil {
			return err
		}
	}
	argv := c.Program
	if argv == nil {
		argv = []string{"/bin/busybox", "sh", "-c", c.Script}
	}
	env := []string{"PATH=/bin:/usr/bin:/sbin:/usr/sbin"}
	if c.Loop > 0 {
		argv, env = []string{"/proc/self/exe"}, append(env, loopVar+"="+strconv.Itoa(c.Loop))
	}
	return syscall.Exec(argv[0], argv, env)
}

// callCost gives the processor time of a system call in nanoseconds: the least
// of ten rounds, since others are on the machine.
func callCost(n int) float64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	used := func() int64 {
		var ru unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_THREAD, &ru); err != nil {
			panic(err)
		}
		return ru.Utime.Nano() + ru.Stime.Nano()
	}
	least := math.Inf(1)
	for range 10 {
		from := used()
		for range n / 10 {
			unix.Getppid()
		}
		least = min(least, float64(used()-from)/float64(n/10))
	}
	return least
}

// refuseCalls loads a filter for this thread, which execve keeps.
func refuseCalls(numbers []uint32) error {
	prog := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}}
	for _, nr := range numbers {
		prog = append(prog, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: nr},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)})
	}
	prog = append(prog, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return setFilter(prog)
}

// started is a container whose program waits to be executed.
type started struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func start(t testing.TB, c container) *started {
	t.Helper()
	setup, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), initVar+"="+string(setup))
	cmd.Dir = "/"
	cmd.Stderr = io.Discard
	if testing.Verbose() {
		cmd.Stderr = os.Stderr
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 700000, Size: 65536}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS,
		UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Credential: &syscall.Credential{},
	}
	if c.Host {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: cmd.SysProcAttr.Cloneflags &^ unix.CLONE_NEWUSER}
	}
	s := &started{cmd: cmd}
	if s.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	s.out = bufio.NewReader(out)
	line, err := s.out.ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("the container's init said %q, %v", line, err)
	}
	return s
}

// run lets the program be executed, waits for its end and gives what it
// printed.
func (s *started) run(t testing.TB) string {
	t.Helper()
	if _, err := s.in.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	_ = s.in.Close()
	printed, err := io.ReadAll(s.out)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.cmd.Wait()
	if s.cmd.ProcessState.ExitCode() == 99 {
		t.Fatal("the container's init failed")
	}
	return string(printed)
}

func open(t testing.TB, mode Mode) *Recorder {
	t.Helper()
	r, err := Open(mode)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// record runs a container with a recorder of its own.
func record(t testing.TB, mode Mode, c container) Recording {
	t.Helper()
	r := open(t, mode)
	s := start(t, c)
	if err := r.Follow(s.cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	s.run(t)
	rec, err := r.Read()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			b, _ := json.MarshalIndent(rec, "", " ")
			t.Logf("%.30000s", b)
		}
	})
	return rec
}

// caps are the capabilities of a recording as NAME verdict call.
func caps(r Recording) (list []string) {
	for _, c := range r.Capabilities {
		verdict := "granted"
		if c.Refused {
			verdict = "refused"
		}
		if c.Host {
			verdict = "host"
		}
		list = append(list, strings.Join([]string{c.Name, verdict, c.Syscall}, " "))
	}
	return list
}
