package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// check is one thing that is looked at in every container.
type check struct {
	id     string
	title  string
	weight int // what it takes off the score at its worst, of 100
	judge  func(*grader) []Finding
}

// checks is the table of all that is looked at. docs/audit.md has the same
// table, and says what each means. The weights add up to more than 100: a
// container with some of the worst weaknesses has nothing left to lose.
func checks() []check {
	return []check{
		{"user-namespace", "User namespace", 20, (*grader).userNamespace},
		{"user", "User on the host", 8, (*grader).user},
		{"capabilities", "Capabilities", 24, (*grader).capabilities},
		{"other-processes", "Processes with more rights", 12, (*grader).processes},
		{"no-new-privileges", "No new privileges", 8, (*grader).noNewPrivileges},
		{"seccomp", "System call filter", 16, (*grader).seccomp},
		{"seccomp-calls", "Calls the filter blocks", 8, (*grader).seccompCalls},
		{"lsm", "Security module", 8, (*grader).lsm},
		{"namespace-pid", "Processes of the host", 12, namespaceOf("pid", High, "the host's processes can be seen, and signalled by their users", "leave --pid host out: run it with safe-run")},
		{"namespace-network", "Network of the host", 12, namespaceOf("network", High, "the host's interfaces, its loopback services and abstract sockets can be reached", "leave --network host out: publish ports with -p")},
		{"namespace-ipc", "IPC of the host", 6, namespaceOf("ipc", Medium, "shared memory of the host's programs can be reached", "leave --ipc host out: run it with safe-run")},
		{"namespace-uts", "Host name", 3, namespaceOf("uts", Low, "the host's name is its own", "leave --uts host out: run it with safe-run")},
		{"namespace-mount", "Mounts of the host", 30, namespaceOf("mount", Critical, "all files of the host are there", "run it with safe-run: its container has its own root")},
		{"namespace-cgroup", "View of cgroups", 3, namespaceOf("cgroup", Low, "the host's tree of cgroups can be seen", "run it with safe-run, or docker's --cgroupns private")},
		{"root-filesystem", "Root file system", 6, ifRead((*grader).rootFS)},
		{"write-execute", "Writable and executable mounts", 4, ifRead((*grader).writeExecute)},
		{"host-files", "Files of the host", 24, ifRead((*grader).hostFiles)},
		{"control-sockets", "Control sockets", 30, ifRead((*grader).controlSockets)},
		{"abstract-sockets", "Abstract sockets of the host", 6, (*grader).abstractSockets},
		{"mount-propagation", "Mount propagation", 5, ifRead((*grader).propagation)},
		{"kernel-files", "Writable files of the kernel", 16, ifRead((*grader).kernelFiles)},
		{"kernel-masks", "Readable files of the kernel", 5, ifRead((*grader).kernelMasks)},
		{"devices", "Devices", 20, ifRead((*grader).devices)},
		{"device-rules", "Device rules", 15, (*grader).deviceRules},
		{"memory-limit", "Memory limit", 5, (*grader).memory},
		{"swap-limit", "Swap limit", 2, (*grader).swap},
		{"pids-limit", "Process limit", 5, (*grader).pidsLimit},
		{"cpu-limit", "CPU limit", 0, (*grader).cpu},
		{"open-files", "Open files limit", 1, (*grader).openFiles},
		{"core-dumps", "Core dumps", 0, (*grader).core},
		{"oom-score", "Who is killed first", 3, (*grader).oomScore},
		{"ports", "Listening ports", 3, (*grader).ports},
		{"id-overlap", "Ids of other containers", 5, (*grader).overlap},
		{"drift", "Specification and kernel", 20, (*grader).drift},
		{"unread", "What could not be read", 20, (*grader).unread},
	}
}

// quarters of its weight a check takes off, by the worst of its findings.
func (s Severity) quarters() int { return max(0, int(s)-int(Info)) }

// grader is one judgement.
type grader struct {
	f      *Facts
	spec   *specs.Spec
	others []Neighbour
}

// Grade judges facts by a table of checks. Each gives at least one finding, so
// that a reader sees what was looked at; the worst come first. A check takes
// its whole weight off the score if its worst finding is Critical, three
// quarters if it is High, half for Medium, a quarter for Low, and nothing for
// Info and OK. With a Critical finding the score is 20 at most.
//
// s is the container's specification: what it asks for and the kernel does not
// do is a finding with Drift. It may be nil. others are the other containers of
// the host, by LookNeighbour or Facts.Neighbour.
func Grade(f *Facts, s *specs.Spec, others []Neighbour) (findings []Finding, score int) {
	g := &grader{f, s, others}
	lost, all := 0, OK
	weight := map[string]int{}
	for _, c := range checks() {
		weight[c.id] = c.weight
		worst := OK
		for _, found := range c.judge(g) {
			found.ID, found.Title = c.id, c.title
			if found.Severity == OK {
				found.Fix = ""
			}
			worst = max(worst, found.Severity)
			findings = append(findings, found)
		}
		lost += c.weight * worst.quarters()
		all = max(all, worst)
	}
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(weight[b.ID], weight[a.ID]))
	})
	score = max(0, 100-(lost+3)/4)
	if all == Critical {
		score = min(score, mostCritical)
	}
	return findings, score
}

// mostCritical is the best score there is with a critical finding: one is
// enough, however well the rest is done.
const mostCritical = 20

// finding and ok make the answer of a check.
func finding(s Severity, fix, format string, args ...any) []Finding {
	return []Finding{{Severity: s, Fix: fix, Fact: oneLine(fmt.Sprintf(format, args...))}}
}

func ok(format string, args ...any) []Finding { return finding(OK, "", format, args...) }

// oneLine bounds a fact. What comes from inside was made printable before;
// this is for what a specification says.
func oneLine(s string) string {
	const most = 600
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

// some names the first few of a list.
func some(all []string) string {
	const most = 6
	if len(all) <= most {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
}

// apart says whether the container's ids are none of the host's root's: what
// belongs to root outside is then out of its reach.
func (g *grader) apart() bool {
	return g.f.Namespaces["user"] == "own" && !g.f.User.RootIsHostRoot &&
		!slices.ContainsFunc(g.f.Processes.Wider, func(w WiderProcess) bool { return slices.Contains(w.Lacks, "user_namespace") })
}

// ifRead makes the check of something that depends on the mounts: of those that
// were not all read, what is not found is not known.
func ifRead(judge func(*grader) []Finding) func(*grader) []Finding {
	return func(g *grader) []Finding {
		out := judge(g)
		if g.f.MountsUnread && len(out) == 1 && out[0].Severity == OK {
			return finding(Info, "", "not known, as not all of its mounts could be read")
		}
		return out
	}
}

// lower is a step less, for what a user namespace stands before.
func lower(s Severity) Severity {
	if s > Low {
		return s - 1
	}
	return s
}

// namespaceOf makes the check of a namespace.
func namespaceOf(kind string, s Severity, means, fix string) func(*grader) []Finding {
	return func(g *grader) []Finding {
		switch g.f.Namespaces[kind] {
		case "own":
			return ok("its own")
		case "host":
			return finding(s, fix, "the host's: %s", means)
		}
		return finding(Info, "", "not known")
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
