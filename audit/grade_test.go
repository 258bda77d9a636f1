package audit

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Each check speaks, of whatever there is, in one line.
func TestEveryCheckSpeaks(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range checks() {
		if seen[c.id] || c.title == "" || c.weight < 0 {
			t.Errorf("%+v", c)
		}
		seen[c.id] = true
	}
	hostile := printable("\x1b[2J\n\u202e")
	worst := &Facts{
		Namespaces: map[string]string{"user": "host", "network": "host", "pid": "host"},
		Seccomp:    Seccomp{Mode: "filter", Unknown: hostile},
		LSM:        LSM{Module: "apparmor", Mode: "complain", Label: hostile},
		Processes:  Processes{Wider: []WiderProcess{{PID: 5, Command: hostile, Lacks: []string{"seccomp"}}}},
		Root:       Root{HostPath: "/"},
		Mounts: Mounts{
			WritableExecutable: []string{hostile}, Shared: []string{hostile}, WritableKernel: []string{"/sys"}, Unmasked: []string{"/proc/kcore"},
			Host: []HostMount{{Target: hostile, Source: "/", Writable: true, Concern: "bind-root"}, {Target: hostile, Concern: "engine-socket"}, {Target: hostile, Concern: "socket"}},
		},
		Devices:     Devices{Nodes: []Device{{Path: hostile, Type: "block"}}, Rules: "all"},
		OOMScoreAdj: -1000, Unread: []string{hostile},
	}
	for name, f := range map[string]*Facts{"nothing": {}, "everything": worst} {
		findings, score := Grade(f, nil, nil)
		there := map[string]bool{}
		for i, x := range findings {
			there[x.ID] = true
			if x.Title == "" || x.Fact == "" || strings.ContainsFunc(x.Fact+x.Fix+x.Title, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("%s: %+v", name, x)
			}
			if x.Severity >= Low && (x.Fix == "" || len(x.Fix) > 200) || x.Severity == OK && x.Fix != "" {
				t.Errorf("%s: the fix of %+v", name, x)
			}
			if i > 0 && x.Severity > findings[i-1].Severity {
				t.Errorf("%s: %s comes too late", name, x.ID)
			}
		}
		for id := range seen {
			if !there[id] {
				t.Errorf("%s: %s says nothing", name, id)
			}
		}
		if name == "everything" && score != 0 {
			t.Errorf("score %d", score)
		}
	}
}

// docs/audit.md has the same table.
func TestDocumented(t *testing.T) {
	b, err := os.ReadFile("../docs/audit.md")
	must(t, err)
	text := string(b)
	rows := len(regexp.MustCompile("(?m)^\\| `[a-z-]+` \\| [^|]+ \\| [0-9]+ \\| ").FindAllString(text, -1))
	for _, c := range checks() {
		if row := fmt.Sprintf("| `%s` | %s | %d | ", c.id, c.title, c.weight); !strings.Contains(text, row) {
			t.Errorf("no row %q", row)
		}
	}
	if rows != len(checks()) {
		t.Errorf("%d rows for %d checks", rows, len(checks()))
	}
}

func TestSeverityWords(t *testing.T) {
	b, err := json.Marshal(Finding{ID: "x", Severity: High})
	if err != nil || !strings.Contains(string(b), `"severity":"high"`) {
		t.Errorf("%s, %v", b, err)
	}
	var f Finding
	if must(t, json.Unmarshal(b, &f)); f.Severity != High {
		t.Errorf("%+v", f)
	}
	if json.Unmarshal([]byte(`{"severity":"awful"}`), &f) == nil {
		t.Error("awful is no severity")
	}
	if s := Severity(9).String(); s != "severity 9" {
		t.Error(s)
	}
}

func TestWeigh(t *testing.T) {
	for _, tc := range []struct {
		names []string
		apart bool
		want  Severity
		worst string
	}{
		{[]string{"CAP_CHOWN", "CAP_NET_BIND_SERVICE"}, true, Info, "CAP_CHOWN"},
		{[]string{"CAP_SYS_MODULE"}, true, Info, "CAP_SYS_MODULE"}, // without effect there
		{[]string{"CAP_CHOWN", "CAP_SYS_ADMIN"}, true, Medium, "CAP_SYS_ADMIN"},
		{[]string{"CAP_SYS_PTRACE"}, true, Low, "CAP_SYS_PTRACE"},
		{[]string{"CAP_NET_BIND_SERVICE"}, false, Low, "CAP_NET_BIND_SERVICE"},
		{[]string{"CAP_NET_BIND_SERVICE", "CAP_MKNOD"}, false, Medium, "CAP_MKNOD"},
		{[]string{"CAP_NET_ADMIN", "CAP_CHOWN"}, false, High, "CAP_NET_ADMIN"},
		{[]string{"CAP_SYS_MODULE", "CAP_NET_ADMIN"}, false, Critical, "CAP_SYS_MODULE"},
		{[]string{"CAP_63"}, false, Medium, "CAP_63"},
	} {
		if s, worst := weigh(tc.names, tc.apart); s != tc.want || worst[0] != tc.worst {
			t.Errorf("%v, %v: %s %v", tc.names, tc.apart, s, worst)
		}
	}
}

func TestOverlap(t *testing.T) {
	own := []IDRange{{0, 100000, 65536}}
	for _, tc := range []struct {
		name  string
		host  bool
		mine  []IDRange
		other Neighbour
		want  Severity
	}{
		{"apart", false, own, Neighbour{PID: 2, UIDMap: []IDRange{{0, 165536, 65536}}}, OK},
		{"the last id", false, own, Neighbour{PID: 2, UIDMap: []IDRange{{0, 165535, 1}}}, Medium},
		{"inside", false, own, Neighbour{PID: 2, UIDMap: []IDRange{{0, 1, 10}, {10, 120000, 1}}}, Medium},
		{"itself", false, own, Neighbour{PID: 1, UIDMap: own}, OK},
		{"one namespace", false, own, Neighbour{PID: 2, UIDMap: own, UserNS: "user:[1]"}, Low},
		{"both the host's", true, []IDRange{{0, 0, 1 << 32}}, Neighbour{PID: 2, UIDMap: []IDRange{{0, 0, 1 << 32}}}, Low},
		{"the other the host's", false, own, Neighbour{PID: 2, UIDMap: []IDRange{{0, 0, 1 << 32}}}, OK},
		{"not known", false, own, Neighbour{PID: 2}, Info},
	} {
		f := &Facts{PID: 1, Namespaces: map[string]string{"user": "own"}, User: User{UIDMap: tc.mine, RootIsHostRoot: tc.host}, userNS: "user:[1]"}
		if tc.host {
			f.Namespaces["user"] = "host"
		}
		if got := (&grader{f: f, others: []Neighbour{tc.other}}).overlap(); got[0].Severity != tc.want {
			t.Errorf("%s: %+v", tc.name, got)
		}
	}
}

func TestLimits(t *testing.T) {
	for _, tc := range []struct {
		f    Facts
		id   string
		want Severity
	}{
		{Facts{OOMScoreAdj: -950}, "oom-score", Medium},
		{Facts{OOMScoreAdj: -1}, "oom-score", Low},
		{Facts{OOMScoreAdj: 5}, "oom-score", OK},
		{Facts{Limits: Limits{OpenFiles: ref(int64(1 << 30))}}, "open-files", Low},
		{Facts{Limits: Limits{OpenFiles: ref(int64(1 << 20))}}, "open-files", OK},
		{Facts{Limits: Limits{Unknown: []string{"pids"}}}, "pids-limit", Info},
		{Facts{LSM: LSM{Module: "apparmor", Mode: "enforce"}}, "lsm", OK},
		{Facts{LSM: LSM{Module: "selinux", Mode: "permissive"}}, "lsm", Medium},
		{Facts{LSM: LSM{Module: "apparmor", Mode: "unconfined"}}, "lsm", Medium},
		{Facts{AbstractSockets: []string{"@/containerd-shim/x"}}, "abstract-sockets", High},
		{Facts{Devices: Devices{Rules: "listed", Allowed: []string{"b 8:* rwm"}}}, "device-rules", High},
		{Facts{Devices: Devices{Rules: "listed", Allowed: []string{"c 10:229 rwm"}}}, "device-rules", Low},
	} {
		findings, _ := Grade(&tc.f, nil, nil)
		if i := slices.IndexFunc(findings, func(x Finding) bool { return x.ID == tc.id }); findings[i].Severity != tc.want {
			t.Errorf("%+v", findings[i])
		}
	}
}

// plain is a container as engines make them by default.
func plain(bind string) *specs.Spec {
	s := strict(bind, "/bin/busybox", "sleep", "100")
	hostUsers(s)
	s.Linux.UIDMappings, s.Root.Readonly = nil, false
	all := []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
		"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
	caps(all...)(s)
	s.Process.NoNewPrivileges = false
	s.Process.OOMScoreAdj, s.Process.User.AdditionalGids = nil, nil
	s.Process.Rlimits = nil
	s.Linux.Resources = &specs.LinuxResources{Devices: s.Linux.Resources.Devices}
	return s
}

func TestScores(t *testing.T) {
	for _, tc := range []struct {
		name     string
		change   func(*specs.Spec)
		from, to int
	}{
		{"plain, with a filter", func(*specs.Spec) {}, 40, 60},
		{"plain, without a filter", func(s *specs.Spec) { s.Linux.Seccomp = nil }, 20, 50},
		{"privileged", func(s *specs.Spec) {
			caps(capNames(ownBounding(t))...)(s)
			s.Linux.Seccomp, s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil, nil
			s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/sda", Type: "b", Major: 8}}
			without(specs.PIDNamespace)(s)
		}, 0, 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, bind := bundle(t)
			s := plain(bind)
			tc.change(s)
			c := running(t, dir, s)
			findings, score := Grade(looked(t, c.pid), s, nil)
			if score < tc.from || score > tc.to {
				t.Errorf("score %d", score)
				for _, x := range findings {
					t.Logf("%s %s: %s", x.Severity, x.ID, x.Fact)
				}
			}
			for _, x := range findings {
				if x.Drift {
					t.Errorf("drift: %s", x.Fact)
				}
			}
		})
	}
}

// ownBounding is what can be given away here.
func ownBounding(t *testing.T) uint64 {
	b, err := os.ReadFile("/proc/self/status")
	must(t, err)
	s, err := parseStatus(b)
	must(t, err)
	return s.caps.bnd
}

// The kernel does less than the specification says: the container is made of
// a weaker one than it is compared with.
func TestDrift(t *testing.T) {
	dir, bind := bundle(t)
	asked := strict(bind, "/bin/busybox", "sleep", "100")
	bindOf(bind, "/data", "ro", "nosuid", "nodev", "noexec")(asked)
	weak := copyOf(t, asked)
	hostUsers(weak)
	caps("CAP_SYS_CHROOT")(weak)
	without(specs.UTSNamespace)(weak)
	weak.Linux.Seccomp, weak.Process.NoNewPrivileges, weak.Root.Readonly = nil, false, false
	weak.Linux.MaskedPaths, weak.Linux.ReadonlyPaths = nil, nil
	weak.Linux.Resources.Devices[0].Allow = true
	weak.Linux.Resources.Memory.Limit, weak.Linux.Resources.Memory.Swap = ref(int64(128<<20)), ref(int64(256<<20))
	weak.Linux.Resources.Pids.Limit = ref(int64(60))
	weak.Process.Rlimits[0].Hard = 300
	weak.Mounts[len(weak.Mounts)-1].Options = []string{"rbind", "rprivate", "rw"}
	c := running(t, dir, weak)
	f := looked(t, c.pid)
	for _, x := range driftOf(f, weak) {
		t.Errorf("with its own specification: %s", x.Fact)
	}
	found := driftOf(f, asked)
	wants := []string{
		"namespace user", "namespace uts", "Seccomp", "NoNewPrivs", "mount /:", `mount "/data": wanted "ro"`, `mount "/data": wanted "noexec"`,
		`masked "/proc/`, `read-only "/proc/sys"`, "memory limit", "swap limit", "pids limit", "RLIMIT_NOFILE",
	}
	if f.Devices.Rules == "all" {
		wants = append(wants, "device rules")
	}
	for _, want := range wants {
		if !slices.ContainsFunc(found, func(x Finding) bool { return strings.HasPrefix(x.Fact, want) && x.Severity >= Low }) {
			t.Errorf("%s is not noticed", want)
		}
	}
	// In one user namespace with the specification capabilities can be compared.
	same := copyOf(t, asked)
	hostUsers(same)
	if found := driftOf(f, same); !slices.ContainsFunc(found, func(x Finding) bool { return strings.HasPrefix(x.Fact, "capabilities") }) {
		t.Errorf("capabilities: %+v", found)
	}
	for _, change := range []struct {
		what string
		do   func(*specs.Spec)
	}{
		{"AppArmor profile", func(s *specs.Spec) { s.Process.ApparmorProfile = "docker-default" }},
		{"SELinux label", func(s *specs.Spec) { s.Process.SelinuxLabel = "system_u:system_r:container_t:s0" }},
	} {
		s := copyOf(t, weak)
		change.do(s)
		if found := driftOf(f, s); len(found) != 1 || !strings.HasPrefix(found[0].Fact, change.what) {
			t.Errorf("%s: %+v", change.what, found)
		}
	}
}

// Id maps are compared exactly; what a program does to itself, and what its
// host's administrator tightens, is no drift.
func TestNoDrift(t *testing.T) {
	dir, bind := bundle(t)
	s := strict(bind, "/bin/busybox", "sleep", "100")
	caps("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")(s)
	c := running(t, dir, s)
	must(t, os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", c.pid), []byte("500"), 0))
	must(t, unix.Prlimit(c.pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 10, Max: 20}, nil))
	f := looked(t, c.pid)
	for _, x := range driftOf(f, s) {
		t.Error(x.Fact)
	}
	limitless := copyOf(t, s)
	limitless.Linux.Resources.Memory = &specs.LinuxMemory{Limit: ref(int64(math.MaxInt64)), Swap: ref(int64(math.MaxInt64))}
	for _, x := range driftOf(f, limitless) {
		t.Error(x.Fact)
	}
	tighter := copyOf(t, s)
	tighter.Linux.Resources.Memory = &specs.LinuxMemory{Limit: ref(int64(65 << 20)), Swap: ref(int64(65 << 20))}
	tighter.Linux.Resources.CPU = &specs.LinuxCPU{Shares: ref(uint64(77)), Quota: ref(int64(12345))}
	tighter.Mounts = append(tighter.Mounts, specs.Mount{Destination: "/nowhere", Type: "tmpfs", Options: []string{"ro"}})
	for _, x := range driftOf(f, tighter) {
		t.Error(x.Fact)
	}
	other := copyOf(t, s)
	other.Linux.UIDMappings[0].HostID++
	if found := driftOf(f, other); len(found) != 1 || !strings.HasPrefix(found[0].Fact, "uid_map") {
		t.Errorf("%+v", found)
	}
	for _, part := range []*specs.Spec{nil, {}, {Process: &specs.Process{}, Linux: &specs.Linux{}}} {
		_, _ = Grade(f, part, nil)
	}
	// Facts that were kept as JSON can be judged, with less to compare.
	b, err := json.Marshal(f)
	must(t, err)
	var back Facts
	must(t, json.Unmarshal(b, &back))
	_, score := Grade(f, s, nil)
	if _, again := Grade(&back, s, nil); again != score {
		t.Errorf("score %d, then %d", score, again)
	}
}

func driftOf(f *Facts, s *specs.Spec) []Finding {
	all, _ := Grade(f, s, nil)
	return slices.DeleteFunc(all, func(x Finding) bool { return !x.Drift })
}
