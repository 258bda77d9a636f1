package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/audit"
	"github.com/safe-run/safe-run/internal/fail"
)

// matching is what a user who types ref may mean: a name or a whole id before
// the start of an id.
func (c *census) matching(ref string, f filter) []candidate {
	in := func(test func(candidate) bool) (out []candidate) {
		for _, o := range c.all {
			if f.has(o) && test(o) {
				out = append(out, o)
			}
		}
		return out
	}
	if out := in(func(o candidate) bool { return o.ID == ref || slices.Contains(o.names, ref) }); len(out) > 0 || ref == "" {
		return out
	}
	return in(func(o candidate) bool { return strings.HasPrefix(o.ID, ref) })
}

// filter is what --address and --namespace leave.
type filter struct{ address, namespace string }

func (f filter) has(c candidate) bool {
	return (f.address == "" || f.address == c.Engine) && (f.namespace == "" || f.namespace == c.Namespace)
}

// find gives the one live container of that name.
func (c *census) find(ref string, f filter) (candidate, error) {
	all := c.matching(ref, f)
	live := slices.DeleteFunc(slices.Clone(all), func(o candidate) bool { return !o.live })
	switch {
	case len(live) == 1:
		return live[0], nil
	case len(live) > 1:
		const most = 8
		var words []string
		for _, o := range live[:min(most, len(live))] {
			words = append(words, fmt.Sprintf("%.64s (namespace %.64s of %.100s)", o.ID, o.Namespace, o.Engine))
		}
		if len(live) > most {
			words = append(words, "...")
		}
		return candidate{}, fail.New(fail.Conflict, "%.128q may be any of %d containers: %s", ref, len(live), strings.Join(words, ", ")).
			Hint("give more of the id, or --namespace or --address")
	case len(all) > 0:
		return candidate{}, fail.New(fail.Conflict, "container %.128s is not running", ref).Hint("only what runs can be audited: the kernel says nothing of the others")
	}
	e := fail.New(fail.NotFound, "No such container: %.128s", ref)
	if len(c.unasked) > 0 {
		return candidate{}, e.Hint("not all engines of this host answered")
	}
	return candidate{}, e.Hint("safe-run audit without a name lists all; one without a containerd is named by its process: --pid")
}

// live are all that run, in a stable order.
func (c *census) live(f filter) (out []candidate) {
	for _, o := range c.all {
		if o.live && f.has(o) {
			out = append(out, o)
		}
	}
	slices.SortStableFunc(out, func(a, b candidate) int {
		return strings.Compare(a.Namespace+"\x00"+a.title()+"\x00"+a.ID, b.Namespace+"\x00"+b.title()+"\x00"+b.ID)
	})
	return out
}

// maxNeighbours bounds what is read for the comparison of containers.
const maxNeighbours = 10000

// meet reads what Grade must know of each live container to compare others
// with it.
func (c *census) meet() {
	met := 0
	for i := range c.all {
		o := &c.all[i]
		if !o.live || met == maxNeighbours {
			continue
		}
		met++
		if n, err := audit.LookNeighbour(o.ID, o.PID); err == nil { // else it has ended
			o.met = &n
		}
	}
}

// neighbours are the live containers but this one and those it is in a pod
// with.
func (c *census) neighbours(of candidate) (out []audit.Neighbour) {
	for i := range c.all {
		o := &c.all[i]
		self := o.PID == of.PID || o.Engine == of.Engine && o.Namespace == of.Namespace && o.ID == of.ID
		mate := of.group != "" && o.group == of.group
		if o.met != nil && !self && !mate {
			out = append(out, *o.met)
		}
	}
	return out
}

// title is what a container is called when there is room for one word.
func (c candidate) title() string { return titleOf(c.Subject) }

func titleOf(s audit.Subject) string {
	switch {
	case s.Name != "":
		return s.Name
	case s.ID == "":
		return fmt.Sprintf("process %d", s.PID)
	case len(s.ID) == 64:
		return s.ID[:12]
	}
	return s.ID
}

// byPID is the container a process is the first one of, or is in; else one of
// which only that process is known.
func (c *census) byPID(pid int) (candidate, error) {
	if pid <= 0 {
		return candidate{}, fail.New(fail.Usage, "--pid %d is not the number of a process", pid)
	}
	cgroup, err := procFile(pid, "cgroup")
	if err != nil {
		return candidate{}, fail.New(fail.NotFound, "there is no process %d", pid)
	}
	for _, o := range c.all {
		if o.live && o.PID == pid {
			return o, nil
		}
	}
	for _, o := range c.all {
		if !o.live {
			continue
		}
		if same, err := procFile(o.PID, "cgroup"); err == nil && same == cgroup && !rootCgroup(cgroup) {
			o.PID, o.asked = pid, 0
			o.raw = nil // it describes the first process
			return o, nil
		}
	}
	s := audit.Subject{PID: pid, ID: cgroupID(cgroup)}
	return candidate{Subject: s, live: true}, nil
}

// rootCgroup says that a process is in no cgroup of its own.
func rootCgroup(cgroup string) bool {
	for line := range strings.Lines(cgroup) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 && f[2] != "/" {
			return false
		}
	}
	return true
}

// cgroupID is the id that podman, CRI-O and others put into the name of a
// container's cgroup: 64 hexadecimal digits; "" if there are none.
func cgroupID(cgroup string) string {
	found := map[string]bool{}
	for line := range strings.Lines(cgroup) {
		for _, word := range strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune("/:-.\n", r) }) {
			if len(word) == 64 && strings.Trim(word, "0123456789abcdef") == "" {
				found[word] = true
			}
		}
	}
	if len(found) != 1 {
		return ""
	}
	for id := range maps.Keys(found) {
		return id
	}
	return ""
}
