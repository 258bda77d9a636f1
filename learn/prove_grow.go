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
	added = append(added, p.growFiles(rec)...)
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
	added = permittedCalls(names, capabilityNames(p.Profile))
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

// growFiles adds rules for AppArmor on what was refused although no capability
// would have helped. A name the recording has not shown may be another one in
// each run: any name in its directory can be written.
func (p *prover) growFiles(rec Recording) (added []string) {
	a := p.Profile.AppArmor
	if a == nil || len(a.Files) == 0 || p.r.base.AppArmor != nil {
		return nil
	}
	var done Recording // as if it had not been refused
	for _, u := range rec.Paths {
		if u.Errno != unix.EACCES || len(u.Capabilities) > 0 || probing(u.Syscall) || !plainPath(u.Path) {
			continue
		}
		if dir := path.Dir(u.Path); u.Write && foldable(strings.TrimSuffix(dir, "/")) {
			u.Path = dir + "/*"
		}
		u.Errno = 0
		done.Paths = append(done.Paths, u)
	}
	for _, s := range rec.Sockets {
		if s.Proto == "unix" && s.Errno == unix.EACCES {
			s.Errno = 0
			done.Sockets = append(done.Sockets, s)
		}
	}
	use := *a
	use.Files = slices.Clone(a.Files)
	for _, f := range AppArmorRules(done) {
		if len(use.Files) < profiles.MaxAppArmorFiles && !slices.Contains(use.Files, f) {
			use.Files = append(use.Files, f)
			added = append(added, "the AppArmor rule "+f.Path+" "+f.Access)
		}
	}
	p.Profile.AppArmor = &use
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
