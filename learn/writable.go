package learn

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode"

	"github.com/safe-run/safe-run/profiles"
)

const (
	defaultTmpfs = 64 << 20 // bytes, of a tmpfs without a size
	maxWritable  = 64       // directories in a profile
	maxTarget    = 1024     // bytes of a path
)

// tmpfsDefaults are the directories every container has as tmpfs, and the
// modes they have.
func tmpfsDefaults() map[string]uint32 {
	return map[string]uint32{"/tmp": 0o1777, "/run": 0o755, "/var/tmp": 0o1777, "/dev/shm": 0o1777}
}

// place is a directory that has to be writable.
type place struct {
	path     string
	volume   bool // it holds files of the image
	bytes    int64
	mode     uint32 // of the image's directory
	uid, gid uint32
	uses     []PathUse
}

// writablePlaces gives the directories a recording needs writable beyond those
// it had, and those that cannot be.
func writablePlaces(rec Recording, own []string) (out []profiles.Writable, unmet []Unmet) {
	covered := append(slices.Sorted(maps.Keys(tmpfsDefaults())), own...)
	places := map[string]*place{}
	refused := map[string]Unmet{}
	for _, w := range rec.Written {
		if !plainPath(w.Path) || !plainPath(w.Parent) {
			if len(refused) == maxWritable {
				continue
			}
			refused[shown(w.Path)] = Unmet{What: "writing to " + shown(w.Path), Why: "no mount can be made at a path with such characters", Next: "let the application write elsewhere"}
			continue
		}
		if insideAny(w.Path, covered) || ofRuntime(w, covered, rec.Paths) {
			continue
		}
		at, volume := where(w)
		if why := unfit(at, volume); why != "" {
			u := Unmet{What: "writing to " + shown(at), Why: why, Next: "let the application write elsewhere, by its configuration; it wrote " + shown(w.Path)}
			if _, ok := refused[at]; !ok {
				refused[at] = u
			}
			continue
		}
		p := places[at]
		if p == nil {
			p = &place{path: at, volume: volume, mode: 0o755}
			if at == w.Parent {
				p.mode, p.uid, p.gid = w.ParentMode, w.ParentUID, w.ParentGID
			}
			places[at] = p
		}
		p.volume = p.volume || volume
		p.bytes += w.Bytes
	}
	for _, p := range outermost(places) {
		if len(out) == maxWritable {
			unmet = append(unmet, Unmet{What: "writing to " + shown(p.path), Why: fmt.Sprintf("there are more than %d such directories", maxWritable), Next: "mount a volume above them"})
			continue
		}
		out = append(out, p.writable(rec))
	}
	out = append(out, fullDefaults(rec, own)...)
	for _, at := range slices.Sorted(maps.Keys(refused)) {
		unmet = append(unmet, refused[at])
	}
	return out, unmet
}

// where gives the directory to be mounted for what was written: with a tmpfs
// if that hides nothing of the image.
func where(w Written) (at string, volume bool) {
	switch {
	case !w.ParentHolds:
		return w.Parent, false
	case w.Dir && w.New:
		rest, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(w.Path, w.Parent), "/"), "/")
		return path.Join(w.Parent, rest), false
	}
	return w.Parent, true
}

// ofRuntime says of an empty new entry that the program did not make it:
// the runtime makes the places that something is mounted at, and what is on
// the way to them. A program may know a path by another name, through a link.
func ofRuntime(w Written, covered []string, uses []PathUse) bool {
	return w.New && w.Bytes == 0 && !slices.ContainsFunc(uses, func(u PathUse) bool {
		return written(u) && (inside(u.Path, w.Path) || path.Base(u.Path) == path.Base(w.Path)) && !insideAny(u.Path, covered)
	})
}

func written(u PathUse) bool { return u.Write && u.Errno == 0 }

// unfit says why nothing can be mounted at a directory.
func unfit(dir string, volume bool) string {
	if dir == "/" {
		return "it is the root of the file system"
	}
	for _, tree := range []string{"/proc", "/sys", "/dev"} {
		if inside(dir, tree) {
			return "it is of the kernel's"
		}
	}
	first := strings.Split(strings.TrimPrefix(dir, "/"), "/")
	system := slices.Contains([]string{"etc", "usr", "bin", "sbin"}, first[0]) || strings.HasPrefix(first[0], "lib")
	if !system {
		return ""
	}
	if len(first) == 1 {
		return "it holds the system's own files"
	}
	// A mount that hides nothing is no harm, and applications do live
	// in /usr/src, /usr/share and /usr/local/NAME.
	rest := first[1:]
	if first[0] == "usr" && rest[0] == "local" {
		if len(rest) == 1 {
			return "it holds the system's own files"
		}
		rest = rest[1:]
	}
	if volume && (first[0] != "usr" || slices.Contains([]string{"bin", "sbin", "share", "src", "include", "games", "etc"}, rest[0]) && len(rest) == 1 ||
		slices.Contains([]string{"bin", "sbin", "etc"}, rest[0]) || strings.HasPrefix(rest[0], "lib")) {
		return "it holds the system's own files"
	}
	return ""
}

// outermost gives the places that lie in no other one, which take what the
// ones within needed. Sorted.
func outermost(places map[string]*place) (out []*place) {
	for _, at := range slices.Sorted(maps.Keys(places)) {
		p := places[at]
		i := slices.IndexFunc(out, func(o *place) bool { return inside(at, o.path) })
		if i < 0 {
			out = append(out, p)
			continue
		}
		out[i].bytes += p.bytes
	}
	return out
}

// writable describes the place to a profile.
func (p *place) writable(rec Recording) profiles.Writable {
	uids := map[uint32]bool{}
	executed := false
	for _, u := range rec.Paths {
		switch {
		case !inside(u.Path, p.path):
		case written(u):
			p.uses = append(p.uses, u)
			// Who writes deeper does so in directories the application makes.
			if path.Dir(u.Path) == p.path {
				uids[u.UID] = true
			}
		case u.Errno == 0 && isExec(u.Syscall):
			executed = true
		}
	}
	w := profiles.Writable{Path: p.path, Exec: executed, Why: "the application writes there", Evidence: evidence(p.uses)}
	if executed {
		w.Why += ", and executes a program from it"
	}
	if p.volume {
		w.Volume = "anonymous"
		w.Why += "; the image has files there, which a volume begins with"
		return w
	}
	mode, uid, gid := p.mode, p.uid, p.gid
	switch len(uids) {
	case 0:
	case 1:
		for only := range uids {
			if only != uid {
				uid, gid = only, 0
			}
		}
		mode |= 0o700
	default:
		mode = 0o1777
	}
	w.Mode = fmt.Sprintf("%04o", mode)
	if uid != 0 {
		w.UID = &uid
	}
	if gid != 0 {
		w.GID = &gid
	}
	w.Size = tmpfsSize(max(p.bytes, rec.Peak.Tmpfs[p.path]))
	return w
}

// tmpfsSize gives the size a tmpfs should have that was seen with so many
// bytes: room for four times as much, and the default where that would be
// above it and twice as much is not.
func tmpfsSize(bytes int64) string {
	const room, least = 4, 16 << 20 // less is no protection worth a full disk
	if size := powerOfTwo(room*bytes, least); size <= defaultTmpfs {
		return mebibytes(size)
	}
	if 2*bytes <= defaultTmpfs {
		return ""
	}
	return mebibytes(powerOfTwo(2*bytes, least))
}

// fullDefaults gives the default tmpfs that have to be larger, but for
// /dev/shm, which has a limit of its own. own are the mounts of the user, who
// gave them a size.
func fullDefaults(rec Recording, own []string) (out []profiles.Writable) {
	modes := tmpfsDefaults()
	for _, at := range slices.Sorted(maps.Keys(modes)) {
		size, used := largerDefault(rec, at)
		if size == 0 || at == shmPath || slices.Contains(own, at) {
			continue
		}
		out = append(out, profiles.Writable{
			Path: at, Mode: fmt.Sprintf("%04o", modes[at]), Size: mebibytes(size),
			Why: "the default size is too small: " + mebibytes(used) + " were in use",
		})
	}
	return out
}

const shmPath = "/dev/shm"

// largerDefault gives the bytes a tmpfs of the default size should have
// instead, 0 if that is enough, and those that were seen in use.
func largerDefault(rec Recording, at string) (size, used int64) {
	used = rec.Peak.Tmpfs[at]
	if slices.Contains(rec.Limits.Tmpfs, at) {
		used = max(used, defaultTmpfs)
	}
	if 2*used <= defaultTmpfs {
		return 0, used
	}
	return powerOfTwo(2*used, defaultTmpfs), used
}

func powerOfTwo(n, least int64) int64 {
	size := least
	for size < n && size < 1<<40 {
		size *= 2
	}
	return size
}

func mebibytes(n int64) string { return fmt.Sprintf("%dm", (n+1<<20-1)>>20) }

// evidence sums up uses: the most frequent one speaks for all.
func evidence(uses []PathUse) *profiles.Evidence {
	if len(uses) == 0 {
		return nil
	}
	e := profiles.Evidence{}
	top := slices.MaxFunc(uses, func(a, b PathUse) int {
		return cmp.Or(cmp.Compare(a.Count, b.Count), cmp.Compare(b.Path, a.Path), cmp.Compare(b.Syscall, a.Syscall))
	})
	for _, u := range uses {
		e.Count += u.Count
	}
	e.Process, e.Call = noted(shown(top.Process)), noted(top.Syscall)+" "+noted(shown(top.Path))
	return &e
}

func isExec(call string) bool { return call == "execve" || call == "execveat" }

// inside says whether p is dir or lies in it.
func inside(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
}

func insideAny(p string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return inside(p, d) })
}

// plainPath says whether a path can stand in a mount option and in a terminal.
func plainPath(p string) bool {
	return len(p) <= maxTarget && path.IsAbs(p) && path.Clean(p) == p &&
		!strings.ContainsFunc(p, func(r rune) bool {
			return !unicode.IsPrint(r) || r == unicode.ReplacementChar || strings.ContainsRune(`,:"'\[]{}`, r)
		})
}
