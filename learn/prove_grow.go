package learn

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/profiles"
	"github.com/safe-run/safe-run/spec"
)

// grow adds what a trial was refused and can be given; it says what.
func (p *prover) grow(rec Recording) (added []string) {
	q := &p.Profile
	held := capabilityNames(*q)
	uses := map[string][]CapabilityUse{}
	for _, c := range rec.Capabilities {
		if name, err := spec.Capability(c.Name); err == nil && p.r.missing(c) && !slices.Contains(held, name) {
			uses[name] = append(uses[name], c)
		}
	}
	dropReadSearch(uses)
	for _, name := range slices.Sorted(maps.Keys(uses)) {
		q.Capabilities = append(q.Capabilities, profiles.Capability{Name: plainName(name), Evidence: capabilityEvidence(rec, name, uses[name])})
		added = append(added, plainName(name))
	}
	added = append(added, p.growCalls(rec)...)
	added = append(added, p.growWritable(rec)...)
	return append(added, p.growLimits(rec)...)
}

func (p *prover) growCalls(rec Recording) (added []string) {
	s := p.Profile.Seccomp
	if s == nil || len(s.Allow) == 0 || p.r.base.Seccomp != nil {
		return nil
	}
	var names []string
	for _, r := range rec.Refused {
		if !slices.Contains(s.Allow, r.Name) {
			names = append(names, r.Name)
		}
	}
	added = PermittedCalls(names, capabilityNames(p.Profile))
	s.Allow = append(s.Allow, added...)
	slices.Sort(s.Allow)
	return added
}

// growWritable adds the directories in which something was refused because
// the file system is read-only. What the image has there is not known here: a
// volume keeps it, where a tmpfs would hide it.
func (p *prover) growWritable(rec Recording) (added []string) {
	q := &p.Profile
	at := map[string][]PathUse{}
	for _, u := range rec.Paths {
		if u.Errno != unix.EROFS || probing(u.Syscall) || !plainPath(u.Path) {
			continue
		}
		dir := path.Dir(u.Path)
		if strings.HasPrefix(u.Syscall, "mkdir") {
			dir = u.Path
		}
		at[dir] = append(at[dir], u)
	}
	for _, dir := range slices.Sorted(maps.Keys(at)) {
		isNew := strings.HasPrefix(at[dir][0].Syscall, "mkdir")
		if unfit(dir, !isNew) != "" || len(q.Writable) >= maxWritable ||
			slices.ContainsFunc(q.Writable, func(w profiles.Writable) bool { return inside(dir, w.Path) }) {
			continue
		}
		w := profiles.Writable{Path: dir, Volume: "anonymous", Why: "the application writes there; it was refused in a trial", Evidence: evidence(at[dir])}
		if isNew {
			w.Volume, w.Mode = "", "1777"
		}
		q.Writable = append(q.Writable, w)
		added = append(added, "writing to "+dir)
	}
	return added
}

// growLimits doubles the limits that were reached.
func (p *prover) growLimits(rec Recording) (added []string) {
	l := &p.Profile.Limits
	if rec.Limits.Memory {
		n, err := units.RAMInBytes(l.Memory)
		if err != nil {
			n = defaultMemory
		}
		l.Memory = mebibytes(2 * n)
		added = append(added, "memory "+l.Memory)
	}
	if rec.Limits.Pids {
		if l.Pids == 0 {
			l.Pids = defaultPids
		}
		l.Pids *= 2
		added = append(added, fmt.Sprintf("%d processes", l.Pids))
	}
	for i := range p.Profile.Writable {
		w := &p.Profile.Writable[i]
		if w.Volume != "" || !slices.Contains(rec.Limits.Tmpfs, w.Path) {
			continue
		}
		n, err := units.RAMInBytes(w.Size)
		if err != nil {
			n = defaultTmpfs
		}
		w.Size = mebibytes(2 * n)
		added = append(added, w.Path+" of "+w.Size)
	}
	return added
}
