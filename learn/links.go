package learn

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of following links: the container made them.
const (
	maxLinks     = 40   // followed for one path, as the kernel does
	maxResolved  = 5000 // paths looked up
	maxLookups   = 2e5  // pieces of lookupBytes of the names looked up for them
	lookupBytes  = 64
	maxLinkBytes = 4096
)

// Links gives, of the paths a recording has, those that lead elsewhere through
// symbolic links of the root file system (an overlay; as for Scratch) and
// where they lead. Programs are recorded by the names they were asked for
// with; the kernel's rules on files know only the last. What is mounted over the
// root file system is not looked into. Layers that cannot be read have no links.
func Links(rec Recording, upper string, lower []string) map[string]string {
	s := scan{}
	defer s.close()
	if s.open(upper, lower) != nil {
		return nil
	}
	t := tree{scan: &s, layers: append([]int{s.upper}, s.lower...), left: maxLookups}
	out := map[string]string{}
	looked := map[string]bool{}
	look := func(p string) {
		if !path.IsAbs(p) || len(p) > maxLinkBytes || len(looked) >= maxResolved || looked[p] {
			return
		}
		looked[p] = true
		if to := t.resolve(path.Clean(p), 0); to != "" && to != path.Clean(p) {
			out[p] = to
		}
	}
	for _, u := range rec.Paths {
		if u.Errno == 0 {
			look(u.Path)
			look(path.Dir(u.Path)) // what is removed or renamed is a link itself
		}
	}
	for _, u := range rec.Sockets {
		if u.Proto == "unix" {
			look(u.Address)
		}
	}
	return out
}

// tree looks names up in an overlay, without ever following a link itself.
type tree struct {
	scan   *scan
	layers []int // the topmost first
	left   int   // of what may be looked up
}

// resolve follows the links of a clean absolute path. From the first name that
// does not exist on nothing changes. It gives "" if there is no end of links,
// or too much was looked up.
func (t *tree) resolve(p string, links int) string {
	at, layers := "", t.layers
	names := strings.Split(strings.Trim(p, "/"), "/")
	for i, name := range names {
		rest := path.Join(names[i+1:]...)
		here := path.Join(strings.TrimPrefix(at, "/"), name)
		if here == "" {
			return "/"
		}
		if t.left <= 0 {
			return ""
		}
		layer, dirs := t.lookup(here, layers)
		if len(dirs) > 0 {
			at, layers = "/"+here, dirs
			continue
		}
		to := ""
		if layer >= 0 {
			to = readLink(layer, here)
		}
		switch {
		case to == "":
			return path.Join("/", here, rest)
		case links >= maxLinks:
			return ""
		case !path.IsAbs(to):
			to = path.Join("/", at, to)
		}
		return t.resolve(path.Join(to, rest), links+1)
	}
	return at
}

// lookup gives the layers that have rel as a directory, or the one that has
// it as something else; -1 if none has.
func (t *tree) lookup(rel string, in []int) (layer int, dirs []int) {
	for _, l := range in {
		t.left -= 1 + len(rel)/lookupBytes
		var st unix.Stat_t
		switch err := statBelow(l, rel, &st); {
		case err != nil:
			continue
		case whiteout(st):
			return -1, dirs
		case st.Mode&unix.S_IFMT != unix.S_IFDIR:
			return l, dirs
		}
		dirs = append(dirs, l)
		if t.scan.opaque(l, rel) {
			break
		}
	}
	return -1, dirs
}

// readLink gives the target of a link, "" if it is none.
func readLink(root int, rel string) string {
	fd, err := unix.Openat2(root, rel, &unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: noLinks})
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	var b [maxLinkBytes]byte
	n, err := unix.Readlinkat(fd, "", b[:])
	if err != nil || n == len(b) {
		return ""
	}
	return string(b[:n])
}
