package learn

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
)

// Merge gives what several recordings of one application saw together: counts
// are added, peaks are the highest, and the time is from the first start to
// the last end. Exit is that of the last recording that has another than 0.
func Merge(recs ...Recording) Recording {
	var out Recording
	for i, r := range recs {
		if i == 0 || !r.Started.IsZero() && (out.Started.IsZero() || r.Started.Before(out.Started)) {
			out.Started = r.Started
		}
		if r.Ended.After(out.Ended) {
			out.Ended = r.Ended
		}
		out.Capabilities = append(out.Capabilities, r.Capabilities...)
		out.Syscalls = append(out.Syscalls, r.Syscalls...)
		out.Paths = append(out.Paths, r.Paths...)
		out.Sockets = append(out.Sockets, r.Sockets...)
		out.Refused = append(out.Refused, r.Refused...)
		out.Unlisted = append(out.Unlisted, r.Unlisted...)
		out.Written = append(out.Written, r.Written...)
		out.Peak.Memory = max(out.Peak.Memory, r.Peak.Memory)
		out.Peak.Pids = max(out.Peak.Pids, r.Peak.Pids)
		for at, bytes := range r.Peak.Tmpfs {
			if out.Peak.Tmpfs == nil {
				out.Peak.Tmpfs = map[string]int64{}
			}
			out.Peak.Tmpfs[at] = max(out.Peak.Tmpfs[at], bytes)
		}
		out.Limits.Memory = out.Limits.Memory || r.Limits.Memory
		out.Limits.Pids = out.Limits.Pids || r.Limits.Pids
		out.Limits.Tmpfs = append(out.Limits.Tmpfs, r.Limits.Tmpfs...)
		for from, to := range r.Links {
			if out.Links == nil {
				out.Links = map[string]string{}
			}
			out.Links[from] = to
		}
		out.Lost += r.Lost
		if r.Had.Image != "" || i == 0 {
			out.Had = r.Had
		}
		if r.Exit != 0 {
			out.Exit = r.Exit
		}
	}
	out.Capabilities = join(out.Capabilities, func(c *CapabilityUse) *uint64 { return &c.Count })
	out.Syscalls = join(out.Syscalls, func(s *SyscallUse) *uint64 { return &s.Count })
	out.Paths = join(out.Paths, func(p *PathUse) *uint64 { return &p.Count })
	out.Sockets = join(out.Sockets, func(s *SocketUse) *uint64 { return &s.Count })
	out.Refused = join(out.Refused, func(r *RefusedCall) *uint64 { return &r.Count })
	out.Written = joinWritten(out.Written)
	slices.Sort(out.Unlisted)
	out.Unlisted = slices.Compact(out.Unlisted)
	slices.Sort(out.Limits.Tmpfs)
	out.Limits.Tmpfs = slices.Compact(out.Limits.Tmpfs)
	return out
}

// join adds the counts of entries that are equal but for it. The order is that
// of the entries' text, so that it does not depend on that of the recordings.
func join[T any](entries []T, count func(*T) *uint64) []T {
	sums := map[string]T{}
	for _, e := range entries {
		n := *count(&e)
		*count(&e) = 0
		text, err := json.Marshal(e)
		if err != nil {
			panic("learn: an entry of a recording cannot be written as JSON: " + err.Error()) // plain data
		}
		key := string(text)
		if seen, ok := sums[key]; ok {
			n += *count(&seen)
		}
		*count(&e) = n
		sums[key] = e
	}
	var out []T
	for _, key := range slices.Sorted(maps.Keys(sums)) {
		out = append(out, sums[key])
	}
	return out
}

// joinWritten keeps one entry for each path: the largest, and New only if it
// was so each time.
func joinWritten(all []Written) []Written {
	place := map[string]int{}
	var out []Written
	for _, w := range all {
		i, seen := place[w.Path]
		if !seen {
			place[w.Path] = len(out)
			out = append(out, w)
			continue
		}
		o := &out[i]
		o.Bytes = max(o.Bytes, w.Bytes)
		o.New = o.New && w.New
		o.ParentHolds = o.ParentHolds || w.ParentHolds
	}
	slices.SortFunc(out, func(a, b Written) int { return cmp.Compare(a.Path, b.Path) })
	return out
}
