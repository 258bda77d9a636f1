package learn

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/spec"
)

// Context is what the recorded container had, which advice depends on.
type Context struct {
	Capabilities []string      // held by its program, CAP_ names
	Mounts       []specs.Mount // all
	Memory, Pids int64         // limits: bytes, number; 0: not known
	OwnSeccomp   bool          // the filter is narrower than the built-in one: the user's, or a profile's
	Egress       bool          // connections are held to a list
	// Granted says whether the site's policy lets the image have a capability
	// (CAP_ name). nil: those that need no grant.
	Granted func(name string) bool
	// HostOnly says whether the kernel asks for a capability in the host's user
	// namespace alone, and what it gives away there. nil: of none is it known.
	HostOnly func(name string) (why string, only bool)
}

const maxAdvice = 20

// The order of advice: what most likely ended the program comes first.
const (
	rankLimit = iota
	rankCapability
	rankReadOnly
	rankNoexec
	rankGranted // capabilities that need the site's grant
	rankFilter
	rankMode
	rankHidden
	rankProbe // what programs try and do without
)

// advice is one line: WHAT: WHY (COUNT times, to WHO): NEXT. Pieces with the
// same key are one line.
type advice struct {
	rank      int
	what, why string
	next      string
	count     uint64
	who       map[string]bool
}

type advices map[string]*advice

// add counts a denial; the most important piece gives the words.
func (all advices) add(key string, a advice, process string) {
	old := all[key]
	if old == nil {
		a.who = map[string]bool{}
		all[key] = &a
		old = &a
	} else {
		old.count += a.count
		if a.rank < old.rank {
			old.rank, old.what, old.why, old.next = a.rank, a.what, a.why, a.next
		}
	}
	if process != "" {
		old.who[shown(process)] = true
	}
}

func (a *advice) String() string {
	s := a.why
	if a.what != "" {
		s = a.what + ": " + s
	}
	if a.count > 0 {
		s += " (" + times(a.count)
		if who := slices.Sorted(maps.Keys(a.who)); len(who) > 0 {
			more := ""
			if n := len(who) - 3; n > 0 {
				who, more = who[:3], fmt.Sprintf(" and %d others", n)
			}
			s += ", to " + strings.Join(who, ", ") + more
		}
		s += ")"
	}
	if a.next != "" {
		s += ": " + a.next
	}
	return s
}

// Explain says what was refused to a container, how often and to whom, and the
// flag that would allow it: one line each, the most important first, at most
// 20 and one that counts the rest. Lines are printable and bounded, whatever
// the container called its files and processes.
func Explain(rec Recording, w Context) []string {
	all := advices{}
	rec.Paths, rec.Refused = filtered(rec, w)
	limitAdvice(all, rec, w)
	capabilityAdvice(all, rec, w)
	pathAdvice(all, rec, w)
	socketAdvice(all, rec, w)
	callAdvice(all, rec, w)
	hiddenAdvice(all, rec, w)
	list := slices.Collect(maps.Values(all))
	slices.SortFunc(list, func(a, b *advice) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(b.count, a.count), cmp.Compare(a.what, b.what), cmp.Compare(a.why, b.why))
	})
	var out []string
	for i, a := range list {
		if i == maxAdvice {
			return append(out, fmt.Sprintf("and %d more", len(list)-i))
		}
		out = append(out, a.String())
	}
	return out
}

// mountAt gives the mount a path is on; nil: the root file system.
func mountAt(mounts []specs.Mount, p string) (at *specs.Mount) {
	for i, m := range mounts {
		if m.Destination != "/" && inside(p, m.Destination) && (at == nil || len(m.Destination) >= len(at.Destination)) {
			at = &mounts[i]
		}
	}
	return at
}

// otherWays are what may do instead of a capability.
func otherWays(name string) string {
	switch name {
	case "CAP_SETUID", "CAP_SETGID":
		return ", or start it as that user: --user"
	case "CAP_DAC_OVERRIDE":
		return "--user with the owner of these files, or "
	case "CAP_SYS_RESOURCE":
		return ", or if it raises a limit: --ulimit"
	case "CAP_IPC_LOCK":
		return ", or --ulimit memlock"
	}
	return ""
}

func capabilityAdvice(all advices, rec Recording, w Context) {
	uses := map[string][]CapabilityUse{}
	for _, c := range rec.Capabilities {
		if name, err := spec.Capability(c.Name); err == nil && c.Refused {
			uses[name] = append(uses[name], c)
		}
	}
	dropReadSearch(uses)
	for _, name := range slices.Sorted(maps.Keys(uses)) {
		// Most frequent first: its words are kept.
		slices.SortStableFunc(uses[name], func(a, b CapabilityUse) int { return cmp.Compare(b.Count, a.Count) })
		for _, c := range uses[name] {
			rank, why, next := judge(name, c, w)
			what := shown(c.Syscall)
			if p := pathOf(rec, name, c); p != "" {
				what += " " + p
			}
			all.add(name, advice{rank: rank, what: what, why: why, next: next, count: c.Count}, c.Process)
		}
	}
}

// judge says what can be done about a refused capability.
func judge(name string, c CapabilityUse, w Context) (rank int, why, next string) {
	refused := name + " was refused"
	if w.HostOnly != nil {
		if gives, only := w.HostOnly(name); only {
			return rankGranted, refused, hostsOwn(name, gives)
		}
	}
	switch {
	case c.Host && setsLimit(c.Syscall):
		return rankGranted, "the limit cannot be raised, " + refused, raiseLimit
	case c.Host:
		return rankGranted, refused, "it cannot be given: the kernel asks for it in a user namespace that is not the container's"
	case slices.Contains(w.Capabilities, name):
		return rankMode, refused, "the container has it, this process had given it up"
	case name == "CAP_DAC_OVERRIDE":
		return rankCapability, "the modes of the file deny it, and " + refused, otherWays(name) + addCapability(name, w)
	case w.granted(name):
		return rankCapability, refused, addCapability(name, w) + otherWays(name)
	}
	return rankGranted, refused, addCapability(name, w) + otherWays(name)
}

// hostsOwn says of a capability that is one of the host's alone what else there
// is.
func hostsOwn(name, gives string) string {
	next := "it cannot be given: the kernel asks for it in the host's user namespace (" + gives + "); "
	if name == "CAP_MKNOD" {
		return next + "a device that exists is given with --device, which the site's policy must grant"
	}
	return next + "only --userns host has it, which the site's policy must grant with it"
}

func (w Context) granted(name string) bool {
	if w.Granted != nil {
		return w.Granted(name)
	}
	return spec.FreeCapability(name)
}

func addCapability(name string, w Context) string {
	flag := "--cap-add " + plainName(name)
	if !w.granted(name) {
		flag += ", which the site's policy must grant"
	}
	return flag
}

func pathAdvice(all advices, rec Recording, w Context) {
	var readOnly []PathUse
	told := map[string]bool{}
	for _, p := range rec.Paths {
		told[p.Path] = told[p.Path] || p.Errno == unix.EROFS && !probing(p.Syscall)
	}
	for _, p := range rec.Paths {
		switch {
		case p.Errno == 0 || len(p.Capabilities) > 0:
			// done, or told with the capability
		case p.Errno == unix.ENOSPC:
			roomAdvice(all, p, w)
		case p.Errno == unix.EROFS:
			if probing(p.Syscall) && told[p.Path] {
				continue
			}
			if probing(p.Syscall) {
				all.add("probe "+path.Dir(p.Path), advice{rank: rankProbe, what: shown(p.Syscall) + " " + shown(p.Path), why: "the file system is read-only", count: p.Count}, p.Process)
				continue
			}
			readOnly = append(readOnly, p)
		default:
			deniedPath(all, p, w)
		}
	}
	readOnlyAdvice(all, readOnly, w)
}

// probing calls only ask.
func probing(call string) bool {
	return strings.HasPrefix(call, "access") || strings.HasPrefix(call, "faccessat")
}

// deniedPath is about EACCES and EPERM that no capability was asked for.
func deniedPath(all advices, p PathUse, w Context) {
	what := shown(p.Syscall) + " " + shown(p.Path)
	if isExec(p.Syscall) {
		m := mountAt(w.Mounts, p.Path)
		if m != nil && slices.Contains(m.Options, "noexec") {
			next := "a mount there that says exec: -v SOURCE:" + shown(m.Destination) + ":exec"
			if m.Type == "tmpfs" {
				next = "--tmpfs " + shown(m.Destination) + ":exec"
			}
			all.add("exec "+m.Destination, advice{rank: rankNoexec, what: what, why: "programs do not run from the mount at " + shown(m.Destination), next: next, count: p.Count}, p.Process)
			return
		}
		all.add("exec "+p.Path, advice{rank: rankMode, what: what, why: "it is not executable", count: p.Count}, p.Process)
		return
	}
	rank, key := rankMode, "mode "+path.Dir(p.Path)
	if probing(p.Syscall) || inside(p.Path, "/proc") || inside(p.Path, "/sys") || inside(p.Path, "/dev") {
		rank, key = rankProbe, "probe "+path.Dir(p.Path)
	}
	a := advice{rank: rank, what: what, why: "denied by the file's owner and mode", count: p.Count}
	if rank == rankMode {
		a.next = "--user with the owner of these files, or files that uid " + strconv.FormatUint(uint64(p.UID), 10) + " may use"
	}
	all.add(key, a, p.Process)
}

// readOnlyAdvice gives one line for each directory that would have to be
// writable, which takes those within.
func readOnlyAdvice(all advices, uses []PathUse, w Context) {
	at := map[string][]PathUse{}
	for _, p := range uses {
		dir := path.Dir(p.Path)
		if strings.HasPrefix(p.Syscall, "mkdir") {
			dir = p.Path
		}
		at[dir] = append(at[dir], p)
	}
	var dirs []string
	for _, dir := range slices.Sorted(maps.Keys(at)) {
		i := slices.IndexFunc(dirs, func(d string) bool { return inside(dir, d) && unfit(d, false) == "" })
		key := dir
		if i >= 0 {
			key = dirs[i]
		} else {
			dirs = append(dirs, dir)
		}
		for _, p := range at[dir] {
			why, next := writableWay(key, p, w)
			all.add("ro "+key, advice{rank: rankReadOnly, what: shown(p.Syscall) + " " + shown(p.Path), why: why, next: next, count: p.Count}, p.Process)
		}
	}
}

func writableWay(dir string, p PathUse, w Context) (why, next string) {
	if m := mountAt(w.Mounts, dir); m != nil {
		why = "the mount at " + shown(m.Destination) + " is read-only"
		if name, ok := strings.CutPrefix(path.Clean(p.Path), "/proc/sys/"); ok {
			name = strings.ReplaceAll(name, "/", ".")
			if spec.NamespacedSysctl(name, true, true) {
				return why, "--sysctl " + shown(name) + "=VALUE"
			}
			return why, "it cannot be given: the setting " + shown(name) + " is the host's"
		}
		if insideAny(m.Destination, []string{"/proc", "/sys", "/dev"}) || inside(dir, "/proc") || inside(dir, "/sys") {
			return why, "it cannot be made writable"
		}
		return why, "leave its ro out, if the site's policy lets you"
	}
	why = "the root file system is read-only"
	if !path.IsAbs(dir) || !plainPath(dir) || unfit(dir, false) != "" {
		return why, "let the application write elsewhere, by its configuration"
	}
	if mends := unfit(dir, true); mends != "" {
		return why, "--tmpfs " + shellWord(dir) + " if the image has nothing there; else let the application write elsewhere"
	}
	if changesExisting(p.Syscall) {
		return why, "-v " + shellWord(dir) + ", or -v NAME:" + shellWord(dir) + " to keep it: a volume begins with the image's files"
	}
	return why, "--tmpfs " + shellWord(dir) + ", or -v NAME:" + shellWord(dir) + " to keep it, or if the image has files there"
}

// changesExisting calls are on files that are there: of the image, then.
func changesExisting(call string) bool {
	for _, c := range []string{"unlink", "rmdir", "rename", "chmod", "fchmod", "chown", "lchown", "fchown", "truncate", "ftruncate", "utime", "setxattr", "lsetxattr", "removexattr"} {
		if strings.HasPrefix(call, c) {
			return true
		}
	}
	return false
}

func socketAdvice(all advices, rec Recording, w Context) {
	for _, name := range rec.Unlisted {
		all.add("name "+name, advice{rank: rankReadOnly, what: "lookup " + shown(name), why: "not on the list of connections", next: "--egress " + shown(name) + ":PORT"}, "")
	}
	for _, s := range rec.Sockets {
		listed := w.Egress && s.Errno == unix.ECONNREFUSED && !s.Bind && s.Proto == "tcp" && !loopback(s.Address)
		if s.Errno != unix.EACCES && s.Errno != unix.EPERM && !listed {
			continue
		}
		const bindService = "CAP_NET_BIND_SERVICE"
		address := shown(s.Address)
		switch {
		case s.Bind && s.Port > 0 && s.Port < 1024:
			what := fmt.Sprintf("bind port %d", s.Port)
			if a := all[bindService]; a != nil {
				a.what = what // counted with the capability
				continue
			}
			all.add(bindService, advice{rank: rankCapability, what: what, why: "ports below 1024 are refused", next: "--cap-add NET_BIND_SERVICE", count: s.Count}, s.Process)
		case s.Bind:
			all.add("bind "+s.Address, advice{rank: rankMode, what: "bind " + address, why: "refused by the file's directory, or the address", count: s.Count}, s.Process)
		case s.Proto == "unix":
			all.add("connect "+s.Address, advice{rank: rankMode, what: "connect " + address, why: "denied by the socket's owner and mode", next: "--user with its owner", count: s.Count}, s.Process)
		case listed:
			all.add("connect "+s.Address, advice{rank: rankReadOnly, what: "connect " + address, why: "refused by the other side, or not on the list of connections", next: "--egress " + address, count: s.Count}, s.Process)
		case w.Egress:
			all.add("connect "+s.Address, advice{rank: rankReadOnly, what: "connect " + address, why: "not on the list of connections", next: fmt.Sprintf("--egress %s/%s", address, shown(s.Proto)), count: s.Count}, s.Process)
		default:
			all.add("connect "+s.Address, advice{rank: rankMode, what: "connect " + address, why: "refused by the kernel", count: s.Count}, s.Process)
		}
	}
}
