package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// childWord as first argument makes the probe run one attempt in a process of
// its own: those that a filter answers by killing, or that need a parent.
const childWord = "\x01child"

// Exit codes of a child; an errno e is 100+e.
const (
	childOpen   = 10
	childKilled = 11 // not the process but the thread that tried
	childErrno  = 100
)

// childTries are the attempts that run in a child, by name.
func childTries() map[string]func() error {
	m := map[string]func() error{
		"noop": func() error { return nil },
		"ptrace": func() error {
			// PTRACE_SEIZE, unlike ATTACH, leaves the parent running.
			const ptraceSeize = 0x4206
			_, _, e := syscall.RawSyscall6(syscall.SYS_PTRACE, ptraceSeize, uintptr(os.Getppid()), 0, 0, 0, 0)
			return errnoOrNil(e)
		},
	}
	for name, f := range otherABIs {
		m[name] = f
	}
	return m
}

// runChild is main for a child. It does not return.
func runChild(name string) {
	f, ok := childTries()[name]
	if !ok {
		os.Exit(2)
	}
	// A killed thread takes its share of GOMAXPROCS with it: on a machine with
	// one CPU nothing would be left to see that.
	runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0)))
	err := onThread(f)
	var e syscall.Errno
	switch {
	case errors.Is(err, errThreadKilled):
		os.Exit(childKilled)
	case err == nil:
		os.Exit(childOpen)
	case errors.As(err, &e) && e < 255-childErrno:
		os.Exit(childErrno + int(e))
	}
	os.Exit(2)
}

var errThreadKilled = errors.New("the thread was killed")

// onThread runs f on a thread of its own. A filter's answer to a foreign
// system call may be to kill just the thread that made it, and the rest of
// the process would wait for it for ever.
func onThread(f func() error) error {
	tid := make(chan int, 1)
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		tid <- syscall.Gettid()
		result <- f()
	}()
	status := fmt.Sprintf("/proc/self/task/%d/status", <-tid)
	for {
		select {
		case err := <-result:
			return err
		case <-time.After(5 * time.Millisecond):
			// The first thread of a process stays to be seen, as a zombie.
			text, err := os.ReadFile(status)
			if err != nil || strings.HasPrefix(statusFields(string(text))["State"], "Z") {
				return errThreadKilled
			}
		}
	}
}

// inChild runs an attempt in a child; death by a signal is a refusal: SIGSYS
// by the filter, SIGSEGV where the kernel has no such entry point.
func inChild(name string, attr *syscall.SysProcAttr) outcome {
	self, err := os.Executable()
	if err != nil {
		return outcome{verdict: open, note: "cannot find myself: " + err.Error()}
	}
	cmd := &exec.Cmd{Path: self, Args: []string{self, childWord, name}, SysProcAttr: attr}
	err = cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		// The fork or the exec itself was refused.
		o := byErrno(err)
		var e syscall.Errno
		// The limit of the user namespace itself (user.max_user_namespaces).
		if errors.As(err, &e) && e == syscall.ENOSPC {
			o = outcome{verdict: blocked, errno: e, note: "limit of namespaces is 0"}
		}
		return o
	}
	ws := exit.Sys().(syscall.WaitStatus)
	switch {
	case ws.Signaled() && ws.Signal() == syscall.SIGSYS:
		return outcome{verdict: blocked, note: "killed by SIGSYS"}
	case ws.Signaled() && ws.Signal() == syscall.SIGSEGV:
		return outcome{verdict: absent, note: "killed by SIGSEGV: no such entry"}
	case ws.Signaled():
		return outcome{verdict: blocked, note: "killed by " + ws.Signal().String()}
	case ws.ExitStatus() == childKilled:
		return outcome{verdict: blocked, note: "thread killed by the filter"}
	case ws.ExitStatus() == childOpen:
		return outcome{verdict: open, note: "it worked"}
	case ws.ExitStatus() > childErrno:
		return byErrno(syscall.Errno(ws.ExitStatus() - childErrno))
	}
	return outcome{verdict: open, note: "child: " + exit.String()}
}

// Namespace flags; syscall has all but these two.
const cloneNewCgroup, cloneNewTime = 0x02000000, 0x00000080

var namespaces = []struct {
	name string
	flag uintptr
}{
	{"user", syscall.CLONE_NEWUSER},
	{"mount", syscall.CLONE_NEWNS},
	{"net", syscall.CLONE_NEWNET},
	{"pid", syscall.CLONE_NEWPID},
	{"ipc", syscall.CLONE_NEWIPC},
	{"uts", syscall.CLONE_NEWUTS},
	{"cgroup", cloneNewCgroup},
	{"time", cloneNewTime},
}

func childAttempts() []attempt {
	const g = "namespaces and processes"
	var rows []attempt
	for _, ns := range namespaces {
		if ns.flag != cloneNewTime { // as a clone flag this bit is part of the exit signal
			rows = append(rows, attempt{"clone-" + ns.name, g, "clone with a new " + ns.name + " namespace", func() outcome {
				return inChild("noop", &syscall.SysProcAttr{Cloneflags: ns.flag})
			}})
		}
		rows = append(rows, attempt{"unshare-" + ns.name, g, "unshare the " + ns.name + " namespace", func() outcome {
			return inChild("noop", &syscall.SysProcAttr{Unshareflags: ns.flag})
		}})
	}
	rows = append(rows, attempt{"ptrace-parent", g, "ptrace the parent process (pid 1)", func() outcome {
		return inChild("ptrace", nil)
	}})
	for name := range otherABIs {
		rows = append(rows, attempt{"abi-" + name, "system calls", "system calls through the " + name + " entry", func() outcome {
			return inChild(name, nil)
		}})
	}
	return rows
}
