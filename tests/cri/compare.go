package cri

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// report is what the probe prints with --json.
type report struct {
	Facts   facts
	Results []result
}

type facts struct {
	UID, GID       int
	Groups         []int
	Capabilities   map[string]string // set -> hex mask
	NoNewPrivs     string
	Seccomp        string
	Filters        string
	UIDMap, GIDMap [][3]uint64
	Root           string // options of the root mount
	Limits         map[string]string
}

type result struct{ ID, Group, What, Verdict, Errno, Note string }

// loss is something a container of safe-run has and a Pod cannot.
type loss struct {
	why  string
	v1   bool     // only on a node with cgroup v1
	only []string // files that may be the cause, besides the volumes; nil: no file is
}

// perMount are the files and directories a kubelet and containerd put into
// every container, which no Pod has a word for.
var perMount = []string{"/dev", "/etc/hosts", "/dev/termination-log"}

// losses are the only attempts that may end otherwise in a Pod, by the
// probe's ids.
var losses = map[string]loss{
	"no-pids-limit": {why: "a Pod has no limit of processes: podPidsLimit is the kubelet's"},
	"core-dumps":    {why: "a Pod has no ulimits: they are those of the node's containerd"},
	"exec-written":  {why: "an emptyDir has no mount options: what is written can be executed", only: perMount},
	"wx-mounts":     {why: "an emptyDir has no mount options: what is written can be executed", only: perMount},
	"nosuid-nodev":  {why: "an emptyDir has no mount options: nosuid and nodev are missing", only: perMount},
	"masked-paths":  {why: "procMount: Default masks fewer", only: []string{"/proc/key-users", "/proc/kallsyms"}},
	"unsized-tmpfs": {why: "/sys/fs/cgroup belongs to root inside", v1: true, only: []string{"/sys/fs/cgroup"}},
	"cgroup-mkdir":  {why: "/sys/fs/cgroup belongs to root inside; nothing in it is a cgroup", v1: true},
}

// inKernel are the groups of attempts that system call filter and
// capabilities decide: there the same errno is wanted, too.
var inKernel = []string{"namespaces and processes", "system calls", "sockets", "mounts", "terminal", "the host's own affairs"}

// differences are all in which a Pod is not what safe-run's container is,
// losses excepted; empty if there are none. volumes are the directories the
// Pod mounts volumes on.
func differences(ours, pods report, v1 bool, volumes []string) []string {
	all := differentFacts(ours.Facts, pods.Facts)
	differ := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	byID := map[string]result{}
	for _, r := range pods.Results {
		byID[r.ID] = r
	}
	if len(byID) != len(ours.Results) || len(byID) == 0 {
		differ("%d attempts in the container, %d in the Pod", len(ours.Results), len(byID))
	}
	for _, a := range ours.Results {
		b, ok := byID[a.ID]
		l, lost := losses[a.ID]
		switch {
		case !ok:
			differ("%s was not tried in the Pod", a.ID)
		case a.Verdict == b.Verdict && (a.Errno == b.Errno || !slices.Contains(inKernel, a.Group)):
		case !lost || l.v1 && !v1:
			differ("%s (%s): %s, in the Pod %s", a.ID, a.What, said(a), said(b))
		case len(l.only) > 0:
			for w := range strings.FieldsSeq(b.Note) {
				if strings.HasPrefix(w, "/") && !slices.Contains(l.only, w) && !slices.Contains(volumes, w) {
					differ("%s (%s): by %s in the Pod", a.ID, a.What, w)
				}
			}
		}
	}
	return all
}

func said(r result) string {
	return strings.Join(strings.Fields(r.Verdict+" "+r.Errno+" "+r.Note), " ")
}

func differentFacts(a, b facts) []string {
	var all []string
	compare := func(what string, a, b any) {
		if x, y := fmt.Sprint(a), fmt.Sprint(b); x != y {
			all = append(all, fmt.Sprintf("%s: %s, in the Pod %s", what, x, y))
		}
	}
	compare("user", [2]int{a.UID, a.GID}, [2]int{b.UID, b.GID})
	compare("groups", a.Groups, b.Groups)
	sets := a.Capabilities
	if a.UID != 0 {
		// No container of Kubernetes has ambient capabilities, so that what is
		// added does not reach a process that is not root.
		sets = maps.Clone(sets)
		for _, s := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
			sets[s] = strings.Repeat("0", 16)
		}
	}
	for _, s := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		compare(s, sets[s], b.Capabilities[s])
	}
	compare("no_new_privs", a.NoNewPrivs, b.NoNewPrivs)
	compare("seccomp", a.Seccomp, b.Seccomp)
	compare("number of seccomp filters", a.Filters, b.Filters)
	compare("the root file system is read-only", readonly(a.Root), readonly(b.Root))
	for _, k := range []string{"memory", "memory+swap", "swap", "cpu"} {
		compare("limit of "+k, a.Limits[k], b.Limits[k])
	}
	for what, maps := range map[string][2][][3]uint64{"uid_map": {a.UIDMap, b.UIDMap}, "gid_map": {a.GIDMap, b.GIDMap}} {
		compare("shape of "+what, shape(maps[0]), shape(maps[1]))
	}
	return all
}

func readonly(options string) bool { return slices.Contains(strings.Split(options, ","), "ro") }

// shape is a map without the place of its ids on the host, but for whether
// people and services of the host may be among them.
func shape(m [][3]uint64) []string {
	var all []string
	for _, l := range m {
		of := "ids of its own"
		if l[1] < 65536 {
			of = "ids of the host"
		}
		all = append(all, fmt.Sprintf("%d+%d %s", l[0], l[2], of))
	}
	return all
}
