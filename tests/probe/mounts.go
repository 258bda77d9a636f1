package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// mountLine is what the probe needs of a line of /proc/self/mountinfo.
type mountLine struct {
	target  string
	fs      string
	options []string // of the mount
	super   []string // of the file system
	shared  bool
	dir     bool // a directory
	device  bool // a device node bound on its own
}

func (m mountLine) has(option string) bool { return slices.Contains(m.options, option) }

func (m mountLine) writable() bool { return m.has("rw") && slices.Contains(m.super, "rw") }

// unescape undoes the octal escapes of mountinfo.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// parseMountinfo reads the format of proc_pid_mountinfo(5).
func parseMountinfo(text string) []mountLine {
	var all []mountLine
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		dash := slices.Index(f, "-")
		if dash < 6 || len(f) < dash+4 {
			continue
		}
		all = append(all, mountLine{
			target:  unescape.Replace(f[4]),
			fs:      f[dash+1],
			options: strings.Split(f[5], ","),
			super:   strings.Split(f[dash+3], ","),
			shared:  slices.ContainsFunc(f[6:dash], func(s string) bool { return strings.HasPrefix(s, "shared:") }),
		})
	}
	return all
}

func mounts() []mountLine {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	all := topmost(parseMountinfo(string(text)))
	for i := range all {
		if info, err := os.Lstat(all[i].target); err == nil {
			all[i].dir = info.IsDir()
			all[i].device = info.Mode()&os.ModeDevice != 0
		}
	}
	return all
}

// topmost leaves out what another mount on the same target hides.
func topmost(all []mountLine) []mountLine {
	last := map[string]int{}
	for i, m := range all {
		last[m.target] = i
	}
	var seen []mountLine
	for i, m := range all {
		if last[m.target] == i {
			seen = append(seen, m)
		}
	}
	return seen
}

// kernelFS have no files of anyone's making: nothing can be stored in them.
var kernelFS = []string{"proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue"}

// writableDirs are the mounted directories in which a file can be made.
func writableDirs() []mountLine {
	var dirs []mountLine
	for _, m := range mounts() {
		if !m.dir || !m.writable() || slices.Contains(kernelFS, m.fs) {
			continue
		}
		f, err := os.CreateTemp(m.target, "probe-*")
		if err != nil {
			continue
		}
		f.Close()
		os.Remove(f.Name())
		dirs = append(dirs, m)
	}
	return dirs
}

func listed(found []string, none string) outcome {
	if len(found) > 0 {
		return outcome{verdict: open, note: strings.Join(found, " ")}
	}
	return outcome{verdict: blocked, note: none}
}

func mountsThat(bad func(mountLine) bool) []string {
	var found []string
	for _, m := range mounts() {
		if !m.device && !slices.Contains(kernelFS, m.fs) && bad(m) {
			found = append(found, m.target)
		}
	}
	return found
}

func writableExecutable() outcome {
	return listed(mountsThat(func(m mountLine) bool { return m.writable() && !m.has("noexec") }), "none")
}

func suidDevMounts() outcome {
	return listed(mountsThat(func(m mountLine) bool {
		// The kernel gives a device node on /dev no power there is
		// not already in the device cgroup; setuid bits count.
		return m.writable() && (!m.has("nosuid") || !m.has("nodev") && m.target != "/dev")
	}), "none")
}

func sharedMounts() outcome {
	return listed(mountsThat(func(m mountLine) bool { return m.shared }), "none")
}

func unsizedTmpfs() outcome {
	return listed(mountsThat(func(m mountLine) bool {
		sized := slices.ContainsFunc(m.super, func(s string) bool { return strings.HasPrefix(s, "size=") })
		return m.fs == "tmpfs" && m.writable() && !sized
	}), "none")
}

// execWritten writes a program to each writable directory and runs it. A
// script whose interpreter is the probe is enough, and fits in the smallest
// one: the kernel looks at the mount before it looks into the file.
func execWritten() outcome {
	self, err := os.Executable()
	if err != nil {
		return outcome{verdict: open, note: err.Error()}
	}
	dirs := writableDirs()
	if len(dirs) == 0 {
		return outcome{verdict: blocked, note: "no writable directory"}
	}
	var all []outcome
	for _, m := range dirs {
		path := filepath.Join(m.target, "probe-script")
		if err := os.WriteFile(path, []byte("#!"+self+" "+childWord+"\n"), 0o755); err != nil {
			all = append(all, outcome{verdict: open, note: "cannot try in " + m.target + ": " + err.Error()})
			continue
		}
		err := exec.Command(path).Run()
		_ = os.Remove(path)
		var exit *exec.ExitError
		o := byErrno(pathErrno(err))
		if errors.As(err, &exit) {
			o = outcome{verdict: open, note: "it ran from " + m.target}
		}
		all = append(all, o)
	}
	w := worst(all)
	if w.verdict == blocked {
		w.note = fmt.Sprintf("in %d directories", len(dirs))
	}
	return w
}

// setuidBit tries to set the bit where the file outlives the container: in
// writable directories that are not of memory.
func setuidBit() outcome {
	var all []outcome
	for _, m := range writableDirs() {
		if m.fs == "tmpfs" {
			continue
		}
		path := filepath.Join(m.target, "probe-setuid")
		fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL|syscall.O_CLOEXEC, 0o755)
		if err != nil {
			continue
		}
		err = syscall.Fchmod(fd, syscall.S_ISUID|0o755)
		var st syscall.Stat_t
		if err == nil && (syscall.Fstat(fd, &st) != nil || st.Mode&syscall.S_ISUID == 0) {
			err = syscall.EPERM // accepted and not done
		}
		_ = syscall.Close(fd)
		_ = syscall.Unlink(path)
		o := byErrno(err)
		if o.verdict == open {
			o.note = "in " + m.target
		}
		all = append(all, o)
	}
	if len(all) == 0 {
		return outcome{verdict: absent, note: "no directory of the host is writable"}
	}
	return worst(all)
}
