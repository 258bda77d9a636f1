package learn

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/profiles"
)

// HiddenDir is a directory of the image that a tmpfs every container has lies
// over. Programs that expect it there, as their packages have made it, fail.
type HiddenDir struct {
	Path string `json:"path"`
	Mode uint32 `json:"mode"`
	UID  uint32 `json:"uid"` // inside
	GID  uint32 `json:"gid"`
}

// maxHidden bounds how many are listed.
const maxHidden = 16

// Hidden finds the directories of an image that are directly in its /run, /tmp
// or /var/tmp. lower are its layers, the topmost first; links in them are not
// followed.
func Hidden(lower []string) (out []HiddenDir, err error) {
	s := &scan{upper: -1}
	defer s.close()
	for i, dir := range lower {
		fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_PATH, 0)
		if err != nil {
			return nil, err
		}
		s.lower, s.image = append(s.lower, fd), append(s.image, i)
	}
	for _, at := range []string{"run", "tmp", "var/tmp"} {
		layers := s.image
		for p := range pathsTo(at) {
			layers, _ = s.find(p, layers)
		}
		for _, name := range s.names(at, layers) {
			rel := path.Join(at, name)
			in, _ := s.find(rel, layers)
			var st unix.Stat_t
			if len(in) == 0 || !plainPath("/"+rel) || statBelow(s.lower[in[0]], rel, &st) != nil {
				continue
			}
			if len(out) == maxHidden {
				return out, nil
			}
			out = append(out, HiddenDir{Path: "/" + rel, Mode: st.Mode & 0o1777, UID: st.Uid, GID: st.Gid})
		}
	}
	return out, nil
}

// pathsTo gives a relative path and those above it, the shortest first.
func pathsTo(rel string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for i, c := range rel + "/" {
			if c == '/' && !yield(rel[:i]) {
				return
			}
		}
	}
}

// names are those in a directory of the layers, sorted.
func (s *scan) names(rel string, layers []int) (all []string) {
	for _, l := range layers {
		dir, err := openBelow(s.lower[l], rel)
		if err != nil {
			continue
		}
		names, _ := dir.Readdirnames(1024) // what could be read
		dir.Close()
		all = append(all, names...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Shown gives the tmpfs that show such directories as the image has them,
// without their content.
func Shown(hidden []HiddenDir) (out []profiles.Writable) {
	for _, h := range hidden {
		w := profiles.Writable{
			Path: h.Path, Mode: fmt.Sprintf("%04o", h.Mode),
			Why: "the image has this directory, which is not in the empty " + h.Path[:strings.LastIndexByte(h.Path, '/')] + " a container starts with",
		}
		if h.UID != 0 || h.GID != 0 {
			uid, gid := h.UID, h.GID
			w.UID, w.GID = &uid, &gid
		}
		out = append(out, w)
	}
	return out
}

// With adds directories to a candidate, to be proved like those it has found
// itself.
func (r *Result) With(more []profiles.Writable, rec Recording) {
	for _, w := range more {
		uses := slices.DeleteFunc(slices.Clone(rec.Paths), func(u PathUse) bool { return !inside(u.Path, w.Path) })
		if len(uses) > 0 {
			w.Evidence = evidence(uses)
		}
		r.Profile.Writable = append(r.Profile.Writable, w)
	}
}

// hiddenAdvice is for a program that has failed: whether it missed one of
// these directories, no event tells.
func hiddenAdvice(all advices, rec Recording, w Context) {
	if rec.Exit == 0 {
		return
	}
	for _, h := range rec.Had.Hidden {
		if m := mountAt(w.Mounts, h.Path); m == nil || m.Destination == h.Path {
			continue
		}
		flags := profiles.Profile{Writable: Shown([]HiddenDir{h})}.Flags()
		all.add("hidden "+h.Path, advice{
			rank: rankHidden, what: shown(h.Path), why: "the image has this directory, and the container an empty " + path.Dir(h.Path),
			next: "if it is missed: " + strings.Join(flags, " "),
		}, "")
	}
}
