package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// pingGroups holds group ids, which are shown as those of the one who reads.
const pingGroups = "net.ipv4.ping_group_range"

// sysctls compares the settings of the container's network and IPC namespaces:
// a runtime writes them through the container's own /proc, and has been led to
// another file there (CVE-2025-52881).
//
// Those of its user namespace cannot be read from outside, and values that are
// no numbers are kept by the kernel in a form of its own; they are not compared.
func (a *attestation) sysctls() error {
	var names []string
	kinds := 0
	for _, name := range slices.Sorted(maps.Keys(a.spec.Linux.Sysctl)) {
		switch kind := sysctlNamespace(name); {
		case kind == 0 || numbers(a.spec.Linux.Sysctl[name]) == nil:
			continue
		case kind == unix.CLONE_NEWNET && !a.private(specs.NetworkNamespace), kind == unix.CLONE_NEWIPC && !a.private(specs.IPCNamespace):
			continue // the host's; a specification that sets them there is refused long before
		default:
			names = append(names, name)
			kinds |= kind
		}
	}
	if len(names) == 0 {
		return nil
	}
	got := map[string]string{}
	done := make(chan error, 1)
	// What these files say depends on the namespaces of the thread that reads.
	go func() {
		done <- a.within(kinds, func() error {
			for _, name := range names {
				text, err := a.file("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
				switch {
				case err == nil:
					got[name] = text
				case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission):
					return fmt.Errorf("%s: %w", name, withoutErrno(err))
				}
			}
			return nil
		})
	}()
	if err := <-done; err != nil {
		return err
	}
	for _, name := range names {
		want := numbers(a.spec.Linux.Sysctl[name])
		if name == pingGroups {
			want = a.hostGroups(want)
		}
		if have := numbers(got[name]); !slices.Equal(want, have) {
			a.differ("sysctl "+name, fmt.Sprint(want), strings.TrimSpace(got[name]))
		}
	}
	return nil
}

// sysctlNamespace is the kind of namespace a setting belongs to, 0 for those
// that are not compared.
func sysctlNamespace(name string) int {
	switch {
	case strings.HasPrefix(name, "net."):
		return unix.CLONE_NEWNET
	case strings.HasPrefix(name, "fs.mqueue."), strings.HasPrefix(name, "kernel.msg"), strings.HasPrefix(name, "kernel.shm"), name == "kernel.sem":
		return unix.CLONE_NEWIPC
	}
	return 0
}

// within runs a function in namespaces of the process. A thread that does not
// come back from there ends with its goroutine.
func (a *attestation) within(kinds int, look func() error) error {
	runtime.LockOSThread()
	home := true
	defer func() {
		if home {
			runtime.UnlockOSThread()
		}
	}()
	for _, ns := range []struct {
		kind int
		file string
	}{{unix.CLONE_NEWNET, "ns/net"}, {unix.CLONE_NEWIPC, "ns/ipc"}} {
		if kinds&ns.kind == 0 {
			continue
		}
		own, err := unix.Open("/proc/thread-self/"+ns.file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("own namespace: %w", withoutErrno(err))
		}
		defer func() {
			if unix.Setns(own, ns.kind) != nil {
				home = false
			}
			_ = unix.Close(own)
		}()
		fd, err := unix.Openat(a.dir, ns.file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return pathError(ns.file, err)
		}
		err = unix.Setns(fd, ns.kind)
		_ = unix.Close(fd)
		if err != nil {
			return fmt.Errorf("entering %s: %w", ns.file, withoutErrno(err))
		}
	}
	return look()
}

// numbers are the values of a setting, nil if one is none.
func numbers(text string) []int64 {
	var out []int64
	for f := range strings.FieldsSeq(text) {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return nil
		}
		out = append(out, n)
	}
	return out
}

// hostGroups are groups of the container as this process sees them.
func (a *attestation) hostGroups(ids []int64) []int64 {
	if !a.private(specs.UserNamespace) {
		return ids
	}
	out := make([]int64, 0, len(ids))
	for _, id := range ids {
		for _, m := range a.spec.Linux.GIDMappings {
			if first := int64(m.ContainerID); id >= first && id-first < int64(m.Size) {
				out = append(out, int64(m.HostID)+id-first)
				break
			}
		}
	}
	return out
}
