// Package words has what the text formats share: a container as flags that say
// each default of safe-run, so that a program without these defaults starts the
// same; the way back; and what has to be kept because a format has no key for it.
package words

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/internal/argv"
	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// Flag is one flag of run by its long name.
type Flag struct{ Name, Value string }

// Word is the flag as one word that run takes.
func (f Flag) Word() string { return "--" + f.Name + "=" + f.Value }

// Parse takes a word --NAME or --NAME=VALUE apart.
func Parse(word string) Flag {
	name, value, has := strings.Cut(strings.TrimPrefix(word, "--"), "=")
	if !has {
		value = "true"
	}
	return Flag{name, value}
}

// Say gives a flag as another program has it, none if it has nothing near. If it
// is not exact it does not come back as it was, and is written only where the
// flag itself is kept.
type Say func(f Flag) (out []Flag, exact bool)

// Exact is the Say of a program that has all flags.
func Exact(f Flag) ([]Flag, bool) { return []Flag{f}, true }

// Workload gives the flags of a workload, in the order of argv.Flags. Errors are
// those of argv.Flags.
func Workload(w spec.Workload) ([]string, error) {
	words, err := argv.Flags(w)
	if err != nil {
		return nil, err
	}
	words = words[:len(words)-len(w.Args)-1]
	if n := len(words); n > 0 && words[n-1] == "--" {
		words = words[:n-1]
	}
	return words, nil
}

// seccompFile says whether a flag names the filter of the container's own.
func seccompFile(f Flag) bool {
	return f.Name == "security-opt" && strings.HasPrefix(f.Value, "seccomp=/")
}

// Hardened gives the flags of a container and, said as flags, what is a default
// of safe-run. The filter of system calls is named by its file, which stands
// beside the document.
func Hardened(c convert.Container, o convert.Options, say Say) ([]Flag, error) {
	wanted, err := Workload(c.Workload)
	if err != nil {
		return nil, err
	}
	var out []Flag
	for _, word := range wanted {
		f := Parse(word)
		if seccompFile(f) {
			continue
		}
		if f.Name == "tmpfs" {
			f.Value = hardTmpfs(f.Value, o.Limits)
		}
		// A share of the memory limit is one of the host's memory elsewhere.
		share, shared := shareTmpfs(f, c.Workload, o.Limits)
		said, exact := say(share)
		exact = exact && !shared
		if exact || slices.Contains(c.Kept, word) {
			out = append(out, said...)
		}
	}
	for _, f := range defaults(c, o) {
		said, _ := say(f)
		out = append(out, said...)
	}
	for i := range out {
		out[i].Value = pretty(out[i])
	}
	slices.SortStableFunc(out, func(a, b Flag) int { return rank(a.Name) - rank(b.Name) })
	return out, nil
}

// defaults are the flags that say what safe-run does without them.
func defaults(c convert.Container, o convert.Options) (out []Flag) {
	w, l := c.Workload, o.Limits
	add := func(missing bool, name, value string) {
		if missing {
			out = append(out, Flag{name, value})
		}
	}
	add(true, "cap-drop", "ALL")
	add(true, "security-opt", "no-new-privileges")
	unconfined := slices.ContainsFunc(w.SecurityOpts, func(s string) bool { return strings.HasPrefix(s, "seccomp") && strings.HasSuffix(s, "unconfined") })
	add(len(c.Filter) > 0 && !unconfined && (o.Files || w.Seccomp != nil), "security-opt", "seccomp="+convert.SeccompName(c.Name))
	add(w.ReadOnly == nil, "read-only", "true")
	for _, target := range convert.TmpfsDefaults() {
		add(!covered(w.Mounts, target), "tmpfs", defaultTmpfs(target, l))
	}
	add(w.ShmSize == nil && l.Shm > 0 && w.IPCMode == "" && !covered(w.Mounts, "/dev/shm"), "shm-size", strconv.FormatInt(l.Shm, 10))
	memory := l.Memory
	if w.Resources.Memory != nil {
		memory = *w.Resources.Memory
	}
	add(w.Resources.Memory == nil && memory > 0, "memory", strconv.FormatInt(memory, 10))
	add(w.Resources.MemorySwap == nil && memory > 0, "memory-swap", strconv.FormatInt(memory, 10))
	add(w.Resources.PidsLimit == nil && l.Pids > 0, "pids-limit", strconv.FormatInt(l.Pids, 10))
	limited := func(name string) bool {
		return slices.ContainsFunc(w.Ulimits, func(u spec.Ulimit) bool { return u.Name == name })
	}
	add(!limited("core"), "ulimit", "core=0:0")
	add(!limited("nofile") && l.Nofile > 0, "ulimit", fmt.Sprintf("nofile=%d:%d", l.Nofile, l.Nofile))
	add(w.IPCMode == "", "ipc", "private")
	add(w.CgroupNSMode == "", "cgroupns", "private")
	add(w.LogDriver == "", "log-driver", "json-file")
	for _, opt := range logDefaults() {
		key, _, _ := strings.Cut(opt, "=")
		_, said := w.LogOpts[key]
		add(w.LogDriver == "" && !said, "log-opt", opt)
	}
	return out
}

// logDefaults are the options of the log where none are said.
func logDefaults() []string { return []string{"max-size=10m", "max-file=3"} }

func covered(mounts []spec.Mount, target string) bool {
	return slices.ContainsFunc(mounts, func(m spec.Mount) bool { return m.Target == target || strings.HasPrefix(target, m.Target+"/") })
}

// defaultTmpfs is the tmpfs that is there without being asked for. /run has
// another mode than what --tmpfs makes.
func defaultTmpfs(target string, l spec.Limits) string {
	v := hardTmpfs(target, l)
	if target == "/run" {
		v += ",mode=0755"
	}
	return v
}

// hardTmpfs adds what --tmpfs does here by itself to the options said.
func hardTmpfs(value string, l spec.Limits) string {
	target, list := TmpfsOptions(value)
	has := func(words ...string) bool {
		return slices.ContainsFunc(list, func(o string) bool {
			key, _, _ := strings.Cut(o, "=")
			return slices.Contains(words, key)
		})
	}
	for _, add := range []struct {
		missing bool
		option  string
	}{
		{!has("size") && l.Tmpfs > 0, "size=" + Size(l.Tmpfs)},
		{!has("exec", "noexec"), "noexec"},
		{!has("suid", "nosuid"), "nosuid"},
		{!has("dev", "nodev"), "nodev"},
		{!has("nr_inodes") && l.TmpfsInodes > 0, inodes(l)},
	} {
		if add.missing {
			list = append(list, add.option)
		}
	}
	return Tmpfs(target, list)
}

func inodes(l spec.Limits) string { return "nr_inodes=" + strconv.FormatInt(l.TmpfsInodes, 10) }

// shareTmpfs turns size=N% into bytes.
func shareTmpfs(f Flag, w spec.Workload, l spec.Limits) (Flag, bool) {
	if f.Name != "tmpfs" || !strings.Contains(f.Value, "%") {
		return f, false
	}
	memory := l.Memory
	if w.Resources.Memory != nil {
		memory = *w.Resources.Memory
	}
	target, list := TmpfsOptions(f.Value)
	found := false
	for i, o := range list {
		share, is := strings.CutSuffix(strings.TrimPrefix(o, "size="), "%")
		if percent, err := strconv.ParseInt(share, 10, 64); is && err == nil && memory > 0 {
			list[i] = "size=" + Size(memory/100*percent)
			found = true
		}
	}
	return Flag{f.Name, Tmpfs(target, list)}, found
}

// Relax takes back what Hardened adds and convert.Normal does not take for a
// default.
func Relax(flags []Flag, l spec.Limits) (out []Flag) {
	driver := "json-file"
	for _, f := range flags {
		if f.Name == "log-driver" {
			driver = f.Value
		}
	}
	for _, f := range flags {
		switch {
		case f.Name == "tmpfs":
			target, options := TmpfsOptions(f.Value)
			options = slices.DeleteFunc(options, func(o string) bool { return o == inodes(l) || o == "notmpcopyup" })
			_, run := TmpfsOptions(defaultTmpfs("/run", l))
			run = slices.DeleteFunc(run, func(o string) bool { return o == inodes(l) })
			if target == "/run" && slices.Equal(options, run) {
				continue
			}
			f.Value = Tmpfs(target, options)
		case f.Name == "log-opt" && driver == "json-file" && slices.Contains(logDefaults(), f.Value):
			continue
		}
		out = append(out, f)
	}
	return out
}

// TmpfsOptions takes a value of --tmpfs apart.
func TmpfsOptions(value string) (target string, options []string) {
	target, all, _ := strings.Cut(value, ":")
	if all != "" {
		options = strings.Split(all, ",")
	}
	return target, options
}

// Tmpfs is the value TmpfsOptions reads.
func Tmpfs(target string, options []string) string {
	if len(options) == 0 {
		return target
	}
	return target + ":" + strings.Join(options, ",")
}

// Size writes bytes in the largest unit that holds them exactly.
func Size(n int64) string {
	for _, u := range []struct {
		shift int
		name  string
	}{{30, "g"}, {20, "m"}, {10, "k"}} {
		if n > 0 && n%(1<<u.shift) == 0 {
			return strconv.FormatInt(n>>u.shift, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// pretty writes numbers as people do.
func pretty(f Flag) string {
	switch f.Name {
	case "memory", "memory-swap", "memory-reservation", "shm-size":
		if n, err := strconv.ParseInt(f.Value, 10, 64); err == nil {
			return Size(n)
		}
	case "cpus":
		if strings.Contains(f.Value, ".") {
			return strings.TrimSuffix(strings.TrimRight(f.Value, "0"), ".")
		}
	}
	return f.Value
}

// rank orders flags: who it is, what it may do, its limits, and all else.
func rank(name string) int {
	order := []string{
		"detach", "interactive", "tty", "name", "hostname", "user", "group-add", "cap-drop", "cap-add", "security-opt", "read-only", "tmpfs", "shm-size",
		"memory", "memory-swap", "pids-limit", "cpus", "ulimit", "network",
	}
	if i := slices.Index(order, name); i >= 0 {
		return i
	}
	return len(order)
}

// maxKept bounds what is read of kept flags, in bytes.
const maxKept = 1 << 20

// JSON writes kept flags as one line. What is not UTF-8 cannot be kept.
func JSON(kept []string) (string, error) {
	for _, w := range kept {
		if !utf8.ValidString(w) {
			return "", fail.New(fail.Usage, "%.80q is not text, and only a command line can say it", w)
		}
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(kept); err != nil {
		return "", fail.Wrap(fail.Internal, err, "keeping flags")
	}
	return escaped(strings.TrimSuffix(b.String(), "\n")), nil
}

// FromJSON reads kept flags. Each has to be a flag of run, as if it was typed.
func FromJSON(data string) ([]Flag, error) {
	var kept []string
	if len(data) > maxKept {
		return nil, fail.New(fail.Usage, "more than %d bytes of flags", maxKept)
	}
	if err := json.Unmarshal([]byte(data), &kept); err != nil {
		return nil, fail.New(fail.Usage, "flags are kept as a JSON array of words: %.120q", data)
	}
	return Flags(kept)
}

// Flags checks words that are kept.
func Flags(kept []string) (out []Flag, err error) {
	for _, w := range kept {
		flags, rest, err := cli.Split([]string{w})
		if err != nil || len(rest) > 0 || len(flags) != 1 || !strings.HasPrefix(w, "--") {
			return nil, fail.New(fail.Usage, "%.120q is not a flag of safe-run, one word --NAME=VALUE", w)
		}
		out = append(out, Flag{flags[0].Long, flags[0].Value})
	}
	return out, nil
}
