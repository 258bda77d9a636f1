package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// pathErrno is the errno of an error of package os.
func pathErrno(err error) error {
	var e syscall.Errno
	if errors.As(err, &e) {
		return e
	}
	return err
}

// writeOpen opens for writing and never writes.
func writeOpen(path string) func() outcome {
	return func() outcome {
		fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
		if err == nil {
			err = syscall.Close(fd)
		}
		return byErrno(err, syscall.ENOENT)
	}
}

// deviceOpen: a device that is not there cannot be opened, and whether the
// machine has one does not matter.
func deviceOpen(paths ...string) func() outcome {
	return func() outcome {
		var all []outcome
		for _, p := range paths {
			fd, err := syscall.Open(p, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
			if err == nil {
				_ = syscall.Close(fd)
			}
			o := byErrno(err)
			if errors.Is(err, syscall.ENOENT) {
				o = outcome{verdict: blocked, errno: syscall.ENOENT, note: "no such node"}
			}
			if o.verdict == open {
				o.note = p + ": " + o.note
			}
			all = append(all, o)
		}
		return worst(all)
	}
}

// blockDevices looks for any block device below /dev.
func blockDevices() outcome {
	var found []string
	_ = filepath.WalkDir("/dev", func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type()&os.ModeDevice != 0 && d.Type()&os.ModeCharDevice == 0 {
			found = append(found, path)
		}
		return nil
	})
	if len(found) > 0 {
		return outcome{verdict: open, note: strings.Join(found, " ")}
	}
	return outcome{verdict: blocked, note: "none"}
}

func mknod(mode uint32, major, minor int) func() outcome {
	return func() outcome {
		path := filepath.Join(scratch(), fmt.Sprintf("probe-node-%d-%d", major, minor))
		err := syscall.Mknod(path, mode|0o600, major<<8|minor)
		_ = syscall.Unlink(path)
		return byErrno(err)
	}
}

// scratch is a directory the probe may write to, or /tmp if there is none.
func scratch() string {
	for _, m := range writableDirs() {
		return m.target
	}
	return "/tmp"
}

// createIn makes and removes a file in each directory.
func createIn(dirs ...string) func() outcome {
	return func() outcome {
		var all []outcome
		for _, d := range dirs {
			path := filepath.Join(d, "safe-run-probe-file")
			fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL|syscall.O_CLOEXEC, 0o600)
			if err == nil {
				_ = syscall.Close(fd)
				_ = syscall.Unlink(path)
			}
			o := byErrno(err, syscall.ENOENT)
			if o.verdict == open {
				o.note = d + ": " + o.note
			}
			all = append(all, o)
		}
		return worst(all)
	}
}

// cgroupDirs are the hierarchies to be seen: one with cgroup v2, one for each
// controller with v1.
func cgroupDirs() []string {
	dirs := []string{"/sys/fs/cgroup"}
	entries, _ := os.ReadDir("/sys/fs/cgroup")
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, filepath.Join("/sys/fs/cgroup", e.Name()))
		}
	}
	return dirs
}

func cgroupMkdir() outcome {
	var all []outcome
	for _, d := range cgroupDirs() {
		path := filepath.Join(d, "safe-run-probe")
		err := syscall.Mkdir(path, 0o755)
		if err == nil {
			_ = syscall.Rmdir(path)
		}
		all = append(all, byErrno(err, syscall.ENOENT))
	}
	return worst(all)
}

func cgroupWrite(names ...string) func() outcome {
	return func() outcome {
		var all []outcome
		for _, d := range cgroupDirs() {
			for _, n := range names {
				o := writeOpen(filepath.Join(d, n))()
				if o.verdict == open {
					o.note = filepath.Join(d, n) + ": " + o.note
				}
				all = append(all, o)
			}
		}
		return worst(all)
	}
}

// maskedPaths must show nothing: they give away the host's memory, keys,
// timing or hardware, or change it.
var maskedPaths = []string{
	"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/key-users",
	"/proc/kallsyms", "/proc/kmsg", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
	"/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware", "/sys/kernel/debug",
	"/sys/kernel/security", "/sys/kernel/tracing", "/sys/fs/bpf", "/sys/fs/pstore", "/sys/fs/selinux",
}

// masked reads one byte, or one directory entry.
func masked(path string) outcome {
	info, err := os.Stat(path)
	if err != nil {
		return byErrno(pathErrno(err), syscall.ENOENT)
	}
	// O_NONBLOCK: /proc/kmsg waits for the kernel's next message.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return byErrno(pathErrno(err), syscall.ENOENT, syscall.ENODEV)
	}
	defer f.Close()
	if info.IsDir() {
		names, err := f.Readdirnames(1)
		if len(names) == 0 && (err == nil || errors.Is(err, io.EOF)) {
			return outcome{verdict: blocked, note: "empty"}
		}
		return outcome{verdict: open, note: path + " has entries"}
	}
	n, err := f.Read(make([]byte, 1))
	if n == 0 && errors.Is(err, io.EOF) {
		return outcome{verdict: blocked, note: "empty"}
	}
	if err != nil {
		return byErrno(pathErrno(err), syscall.EAGAIN)
	}
	return outcome{verdict: open, note: path + " can be read"}
}

func maskedAll() outcome {
	paths := maskedPaths
	thermal, _ := filepath.Glob("/sys/devices/system/cpu/cpu*/thermal_throttle")
	paths = append(paths[:len(paths):len(paths)], thermal...)
	count := map[verdict]int{}
	var opened []string
	var all []outcome
	for _, p := range paths {
		o := masked(p)
		count[o.verdict]++
		if o.verdict == open {
			opened = append(opened, p)
		}
		all = append(all, o)
	}
	w := worst(all)
	w.note = fmt.Sprintf("%d masked, %d absent", count[blocked], count[absent])
	if len(opened) > 0 {
		w.note += ", OPEN: " + strings.Join(opened, " ")
	}
	return w
}

// oomScore: the kernel kills others first for a process with a low score.
func oomScore() outcome {
	const path = "/proc/self/oom_score_adj"
	old, err := os.ReadFile(path)
	if err != nil {
		return byErrno(pathErrno(err))
	}
	err = os.WriteFile(path, []byte("-1000"), 0)
	if err == nil {
		_ = os.WriteFile(path, old, 0)
	}
	return byErrno(pathErrno(err))
}

func fileAttempts() []attempt {
	const kernel, cgroups, rootfs, devices = "kernel files", "cgroups", "root file system", "devices"
	return []attempt{
		{"core_pattern", kernel, "core_pattern: a program the host runs on a crash", writeOpen("/proc/sys/kernel/core_pattern")},
		{"modprobe", kernel, "modprobe: a program the host runs", writeOpen("/proc/sys/kernel/modprobe")},
		{"hotplug", kernel, "hotplug helper", writeOpen("/proc/sys/kernel/hotplug")},
		{"poweroff_cmd", kernel, "poweroff_cmd", writeOpen("/proc/sys/kernel/poweroff_cmd")},
		{"uevent_helper", kernel, "uevent_helper", writeOpen("/sys/kernel/uevent_helper")},
		{"binfmt_misc", kernel, "binfmt_misc: interpreters of the host", writeOpen("/proc/sys/fs/binfmt_misc/register")},
		{"sysrq-trigger", kernel, "sysrq-trigger (opened only)", writeOpen("/proc/sysrq-trigger")},
		{"drop_caches", kernel, "drop_caches", writeOpen("/proc/sys/vm/drop_caches")},
		{"irq", kernel, "interrupt routing", writeOpen("/proc/irq/default_smp_affinity")},
		{"max_user_namespaces", kernel, "raise its own limit of user namespaces", writeOpen("/proc/sys/user/max_user_namespaces")},
		{"sys-power", kernel, "suspend the machine (opened only)", writeOpen("/sys/power/state")},
		{"oom_score_adj", kernel, "oom_score_adj -1000: let others be killed first", oomScore},
		{"masked-paths", kernel, "read what must be masked (kcore, keys, timers, ...)", maskedAll},

		{"cgroup-mkdir", cgroups, "make a cgroup", cgroupMkdir},
		{"cgroup-release_agent", cgroups, "release_agent: a program the host runs", cgroupWrite("release_agent")},
		{"cgroup-limits", cgroups, "lift its own limits", cgroupWrite("memory.max", "memory.limit_in_bytes", "pids.max", "cpu.max")},
		{"cgroup-procs", cgroups, "move processes between cgroups", cgroupWrite("cgroup.procs", "tasks")},
		{"cgroup-devices", cgroups, "allow itself devices", cgroupWrite("devices.allow")},

		{"rootfs-write", rootfs, "write to /, /etc, /bin, /usr, /proc, /sys", createIn("/", "/etc", "/bin", "/usr", "/proc", "/sys", "/dev/..")},
		{"exec-written", rootfs, "run a program it has written itself", execWritten},
		{"wx-mounts", rootfs, "mounts both writable and executable", writableExecutable},
		{"nosuid-nodev", rootfs, "writable mounts that honour setuid bits or devices", suidDevMounts},
		{"setuid-bit", rootfs, "leave a setuid file in a directory of the host", setuidBit},
		{"shared-mounts", rootfs, "mounts whose changes reach the host", sharedMounts},
		{"unsized-tmpfs", rootfs, "memory file systems without a limit", unsizedTmpfs},

		{"mknod-block", devices, "make a node of the first disk", mknod(syscall.S_IFBLK, 8, 0)},
		{"mknod-mem", devices, "make a node of the machine's memory", mknod(syscall.S_IFCHR, 1, 1)},
		{"dev-mem", devices, "open /dev/mem, /dev/kmem, /dev/port", deviceOpen("/dev/mem", "/dev/kmem", "/dev/port")},
		{"dev-kmsg", devices, "open /dev/kmsg", deviceOpen("/dev/kmsg")},
		{"dev-disk", devices, "any block device below /dev", blockDevices},
		{"dev-other", devices, "open kvm, fuse, tun, loop-control, rtc", deviceOpen("/dev/kvm", "/dev/fuse", "/dev/net/tun", "/dev/loop-control", "/dev/rtc0", "/dev/vhost-vsock", "/dev/uinput")},
		{"pid1-root", "namespaces and processes", "another file system behind /proc/1/root", procRoot},
		{"stray-fds", "namespaces and processes", "descriptors left open by the launcher", strayFDs},
	}
}

// procRoot: /proc/1/root and the working directory must lead to the
// container's own root.
func procRoot() outcome {
	var own, other, up syscall.Stat_t
	if err := syscall.Stat("/", &own); err != nil {
		return byErrno(err)
	}
	if err := syscall.Stat("/proc/1/root/", &other); err != nil {
		other = own // refused: as good as the same
	}
	if err := syscall.Stat("/proc/self/cwd/"+strings.Repeat("../", 32), &up); err != nil {
		up = own
	}
	if other.Ino != own.Ino || other.Dev != own.Dev || up.Ino != own.Ino || up.Dev != own.Dev {
		return outcome{verdict: open, note: "not the container's root"}
	}
	return outcome{verdict: blocked, note: "own root"}
}

// inherited are the descriptors above 2 that were open across exec: they are
// the ones without close-on-exec, for Go opens its own with it.
func inherited() []string {
	var found []string
	for fd := 3; fd < 1024; fd++ {
		flags, _, e := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
		if e != 0 || flags&syscall.FD_CLOEXEC != 0 {
			continue
		}
		link, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		found = append(found, fmt.Sprintf("%d -> %q", fd, link))
	}
	return found
}

func strayFDs() outcome {
	if found := inherited(); len(found) > 0 {
		return outcome{verdict: open, note: strings.Join(found, ", ")}
	}
	return outcome{verdict: blocked, note: "none"}
}
