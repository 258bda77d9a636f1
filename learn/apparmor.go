package learn

import (
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/profiles"
)

// How many paths below one directory become a rule for all of it: the first
// is tried, and the next if there are too many rules.
var foldAt = [...]int{8, 4, 2, 1}

// maxExecuted is how many programs of a directory are named one by one.
const maxExecuted = 32

// AppArmorRules gives the rules on files a recording needs. What is read is
// not recorded, nor what is mapped as code: everything can be, as it could
// before, but only what was written can be written and only what was executed
// be executed. Locks are not recorded either, and harm nobody.
//
// Paths that differ in each run (process ids, random names) become patterns,
// and many files of one directory that directory.
func AppArmorRules(rec Recording) []profiles.AppArmorFile {
	rules := []profiles.AppArmorFile{{Path: "/", Access: "r"}, {Path: "/**", Access: "mrk"}}
	written, executed := pathsOf(rec)
	for _, at := range foldAt {
		got := executedRules(executed, at*maxExecuted/foldAt[0])
		got = append(got, writtenRules(written, at)...)
		if len(rules)+len(got) <= profiles.MaxAppArmorFiles {
			return append(rules, got...)
		}
	}
	// More directories than there may be rules: the top ones.
	return append(rules, topRules(written, executed)...)
}

// pathsOf lists the patterns of what was written and executed.
func pathsOf(rec Recording) (written, executed map[string]bool) {
	written, executed = map[string]bool{}, map[string]bool{}
	note := func(to map[string]bool, p string) {
		// Where it leads; and, of a link that was itself changed, where that is.
		name, end := strings.TrimSuffix(p, "/"), ""
		if name != p {
			end = "/"
		}
		full := p
		if to := rec.Links[name]; to != "" {
			full = to + end
		}
		if to := rec.Links[path.Dir(name)]; to != "" {
			p = path.Join(to, path.Base(name)) + end
		}
		for _, p := range []string{p, full} {
			if p = pattern(p); p != "" && !inBase(p) {
				to[p] = true
			}
		}
	}
	for _, u := range rec.Paths {
		switch {
		case u.Errno != 0:
		case u.Write:
			note(written, u.Path)
			if changesDirectories(u.Syscall) {
				note(written, asDirectory(u.Path))
			}
		case u.Syscall == "execve" || u.Syscall == "execveat":
			note(executed, u.Path)
		}
	}
	for _, w := range rec.Written {
		if slices.ContainsFunc(rec.Had.Mounts, func(m specs.Mount) bool { return m.Destination == w.Path }) {
			continue // made by the runtime to mount something on
		}
		if w.Dir {
			note(written, asDirectory(w.Path))
		} else {
			note(written, w.Path)
		}
	}
	if slices.ContainsFunc(rec.Syscalls, func(s SyscallUse) bool { return s.Name == "mq_open" }) {
		note(written, "/*") // the path of a message queue, wherever they are mounted; its name is not recorded
	}
	for _, s := range rec.Sockets {
		// The kernels of some distributions ask for a socket's path, too.
		if s.Proto == "unix" && s.Errno == unix.Errno(0) {
			note(written, s.Address)
		}
	}
	return written, executed
}

// asDirectory: the rules of directories end in a slash.
func asDirectory(p string) string { return strings.TrimSuffix(p, "/") + "/" }

// changesDirectories says whether the path of a call can be a directory's.
func changesDirectories(call string) bool {
	for _, word := range []string{"mkdir", "rmdir", "unlinkat", "rename", "chmod", "chown", "utime", "xattr"} {
		if strings.Contains(call, word) {
			return true
		}
	}
	return false
}

// inBase: every profile has rules for these.
func inBase(p string) bool {
	switch p {
	case "/", "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/console", "/dev/ptmx":
		return true
	case "/proc/*/exe": // a link: the rules are on where it leads
		return true
	}
	for _, tree := range []string{"/dev/pts/", "/dev/fd/", "/dev/std", "/proc/*/fd/", "/run/safe-run/"} {
		if strings.HasPrefix(p, tree) {
			return true
		}
	}
	return false
}

// pattern makes of a path one that holds in another run and can stand in a
// rule, "" if there is none. Where a name cannot be told, it is any name; where
// too many cannot, all that is below.
func pattern(p string) string {
	if !strings.HasPrefix(p, "/") {
		return ""
	}
	dir := strings.HasSuffix(p, "/")
	p = path.Clean(p)
	if p == "/" {
		return p
	}
	for _, tree := range []string{"/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue"} { // nothing in them has a lasting name
		if strings.HasPrefix(p, tree+"/") {
			return tree + "/**"
		}
	}
	names := strings.Split(p[1:], "/")
	out, stars, second := "", 0, ""
	if names[0] == "proc" && len(names) > 1 {
		switch names[1] { // links to the directories of processes
		case "self":
			names[1] = "1"
		case "thread-self":
			names = append([]string{"proc", "1", "task", "1"}, names[2:]...)
		}
	}
	for _, name := range names {
		name = lasting(name, names[0] == "proc")
		if strings.Contains(name, "*") {
			switch stars++; stars {
			case 2:
				second = out
			case 3:
				return within(second)
			}
		}
		if len(out)+len(name) > 400 {
			if stars > 1 {
				out = second
			}
			return within(out)
		}
		out += "/" + name
	}
	if dir {
		out += "/"
	}
	if profiles.CheckAppArmorFile(profiles.AppArmorFile{Path: out, Access: "w"}) != nil {
		return ""
	}
	return out
}

// within is all below a directory; never all there is.
func within(dir string) string {
	if dir == "" || strings.HasPrefix(dir, "/*") {
		return ""
	}
	return dir + "/**"
}

// lasting gives a pattern for a name that is another one in each run: numbers
// in /proc, and random endings as mkstemp(3) makes them. A name that cannot be
// written in a rule is any name.
func lasting(name string, proc bool) string {
	if strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c > '~' || strings.ContainsRune("\"\\[]{}?^*", c) }) {
		return "*"
	}
	if name == unnamed {
		return name + "*"
	}
	stem, ext := name, ""
	if i := strings.LastIndexByte(name, '.'); i > 0 && !random(name[i+1:]) {
		stem, ext = name[:i], name[i:]
	}
	end := len(strings.TrimRight(stem, "0123456789"))
	switch digits := len(stem) - end; {
	case digits == len(stem) && proc && digits > 0:
		return "*" + ext
	case digits >= 4 && !proc: // a process or a time
		return stem[:end] + "*" + ext
	}
	start := strings.LastIndexAny(stem, ".-_") + 1
	if six := len(stem) - 6; six > start && strings.Trim(stem[start:six], "abcdefghijklmnopqrstuvwxyz") == "" && random(stem[six:]) {
		return stem[:six] + "*" + ext
	}
	if random(stem[start:]) {
		return stem[:start] + "*" + ext
	}
	return name
}

// random: six letters and digits or more, of at least two kinds, that alternate
// as words do not.
func random(s string) bool {
	if len(s) < 6 {
		return false
	}
	kind := func(c byte) int {
		switch {
		case c >= '0' && c <= '9':
			return 1
		case c >= 'A' && c <= 'Z':
			return 2
		case c >= 'a' && c <= 'z':
			return 3
		}
		return 0
	}
	changes := 0
	for i := range len(s) {
		if kind(s[i]) == 0 {
			return false
		}
		if i > 0 && kind(s[i]) != kind(s[i-1]) {
			changes++
		}
	}
	return changes >= 3
}

// folder is a node in a tree of paths. That of a directory itself, whose path
// ends in a slash, has the name "".
type folder struct {
	names map[string]*folder
	rule  bool // this path itself
}

func (f *folder) add(p string) {
	for name := range strings.SplitSeq(p[1:], "/") {
		next := f.names[name]
		if next == nil {
			next = &folder{names: map[string]*folder{}}
			f.names[name] = next
		}
		f = next
	}
	f.rule = true
}

// fold lists the paths of a tree at dir; if there are more than most below
// a directory that may be open as a whole, it is.
func (f *folder) fold(dir string, most int) (out []string) {
	if f.rule {
		out = append(out, dir)
	}
	for name, below := range f.names {
		out = append(out, below.fold(dir+"/"+name, most)...)
	}
	if len(out) > most && foldable(dir) || slices.Contains(out, dir+"/**") {
		kept := []string{dir + "/**"}
		for _, p := range out {
			if p == dir || p == dir+"/" { // ** is no directory itself
				kept = append(kept, p)
			}
		}
		return kept
	}
	return out
}

// foldable: not the directories that programs of all kinds share, nor those
// with a pattern in their name, which cannot have a second.
func foldable(dir string) bool {
	switch dir {
	case "", "/usr", "/etc", "/var", "/var/lib", "/proc", "/sys", "/dev", "/home", "/opt", "/bin", "/sbin", "/lib":
		return false
	}
	return strings.Count(dir, "*") < 2
}

func writtenRules(paths map[string]bool, most int) (rules []profiles.AppArmorFile) {
	root := &folder{names: map[string]*folder{}}
	for p := range paths {
		root.add(p)
	}
	list := root.fold("", most)
	slices.Sort(list)
	for _, p := range slices.Compact(list) {
		rules = append(rules, profiles.AppArmorFile{Path: p, Access: "rwlk"})
	}
	return rules
}

func executedRules(paths map[string]bool, most int) (rules []profiles.AppArmorFile) {
	in := map[string]int{}
	for p := range paths {
		in[path.Dir(p)]++
	}
	var list []string
	for p := range paths {
		if dir := path.Dir(p); in[dir] > most && dir != "/" && !strings.Contains(dir, "*") {
			p = dir + "/*"
		}
		list = append(list, p)
	}
	slices.Sort(list)
	for _, p := range slices.Compact(list) {
		rules = append(rules, profiles.AppArmorFile{Path: p, Access: "mrix"})
	}
	return rules
}

// topRules open whole trees.
func topRules(written, executed map[string]bool) (rules []profiles.AppArmorFile) {
	for access, paths := range map[string]map[string]bool{"rwlk": written, "mrix": executed} {
		trees := map[string]bool{}
		for p := range paths {
			top, _, below := strings.Cut(p[1:], "/")
			switch {
			case strings.Contains(top, "*") || !below: // all of the root directory's own
				trees["/*"] = true
			default:
				trees["/"+top+"/**"] = true
			}
		}
		for p := range trees {
			rules = append(rules, profiles.AppArmorFile{Path: p, Access: access})
		}
	}
	slices.SortFunc(rules, func(a, b profiles.AppArmorFile) int { return strings.Compare(a.Path+" "+a.Access, b.Path+" "+b.Access) })
	if len(rules) > profiles.MaxAppArmorFiles-2 {
		return []profiles.AppArmorFile{{Path: "/**", Access: "rwlkmix"}}
	}
	return rules
}
