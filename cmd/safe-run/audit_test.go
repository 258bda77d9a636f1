package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/safe-run/safe-run/audit"
	"github.com/safe-run/safe-run/internal/fail"
)

const longID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// aReport has a finding of each severity, with a hostile string in it.
func aReport() audit.Report {
	return audit.Report{
		Subject: audit.Subject{Engine: "/run/c.sock", Namespace: "moby", ID: longID, Name: "web", Image: "nginx:1", PID: 42},
		Time:    time.Unix(1, 0), Kernel: "6.12", Facts: &audit.Facts{}, Score: 7,
		Findings: []audit.Finding{
			{ID: "user-namespace", Title: "User namespace", Severity: audit.Critical, Fact: "uid 0 is the host's", Fix: "run it with safe-run"},
			{ID: "mounts", Title: "Binds", Severity: audit.High, Fact: "a \x1b[31m[link](http://x)\n/etc", Fix: "leave /etc out"},
			{ID: "mounts", Title: "Binds", Severity: audit.Medium, Fact: "/home", Fix: "bind it read-only"},
			{ID: "limits", Title: "Memory", Severity: audit.Low, Fact: "no limit", Fix: "set --memory", Drift: true},
			{ID: "ports", Title: "Ports", Severity: audit.Info, Fact: "tcp 80 on all addresses"},
			{ID: "seccomp", Title: "System calls", Severity: audit.OK, Fact: "filtered"},
		},
	}
}

func TestAuditText(t *testing.T) {
	const want = `web  (nginx:1, namespace moby, 0123456789ab, process 42)
X critical  User namespace  uid 0 is the host's
                            -> run it with safe-run
x high      Binds           a �[31m[link](http://x)�/etc
                            -> leave /etc out
x medium    Binds           /home
                            -> bind it read-only
! low       Memory (drift)  no limit
                            -> set --memory
- info      Ports           tcp 80 on all addresses
-> web  7/100  worst: critical  4 findings  (1 note, 1 ok)
`
	if got := auditText([]audit.Report{aReport()}, style{}); got != want {
		t.Errorf("got\n%s\nwanted\n%s", got, want)
	}
	if got := auditText([]audit.Report{aReport()}, style{verbose: true}); !strings.Contains(got, "\n+ ok        System calls") {
		t.Errorf("with --verbose:\n%s", got)
	}
	good := aReport()
	good.Subject, good.Score, good.Findings = audit.Subject{Namespace: "k8s.io", ID: "x", PID: 1}, 100, nil
	got := auditText([]audit.Report{good, aReport()}, style{unicode: true})
	lines := strings.Split(got, "\n")
	if !strings.HasPrefix(lines[0], "CONTAINER") || !strings.HasPrefix(lines[1], "web ") || !strings.HasPrefix(lines[2], "x ") {
		t.Errorf("no summary with the worst first:\n%s", got)
	}
	if !strings.Contains(got, "→ x  100/100  worst: ok  0 findings  (0 notes, 0 ok)\n") {
		t.Errorf("nothing to object:\n%s", got)
	}
}

func TestAuditTextFitsTheTerminal(t *testing.T) {
	r := aReport()
	r.Findings[1].Fact = strings.Repeat("word ", 40) + strings.Repeat("x", 300)
	for _, w := range []int{1, 20, 60, 80, 200} {
		plain := auditText([]audit.Report{r}, style{width: w, unicode: true})
		for l := range strings.Lines(plain) {
			if n := len([]rune(strings.TrimSuffix(l, "\n"))); w >= 60 && n > w {
				t.Errorf("width %d: a line of %d: %q", w, n, l)
			}
		}
		if strings.Contains(plain, "\x1b") {
			t.Errorf("width %d: an escape character without colours", w)
		}
		coloured := auditText([]audit.Report{r}, style{width: w, unicode: true, colour: true})
		for _, set := range []string{"0", "1", "31", "33", "36", "1;31"} {
			coloured = strings.ReplaceAll(coloured, "\x1b["+set+"m", "")
		}
		if coloured != plain {
			t.Errorf("width %d: colours change the text:\n%q\n%q", w, coloured, plain)
		}
	}
}

func TestAuditStyle(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want bool
	}{
		{map[string]string{}, false},
		{map[string]string{"LANG": "de_DE.UTF-8"}, true},
		{map[string]string{"LANG": "C.utf8"}, true},
		{map[string]string{"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, false},
		{map[string]string{"LANG": "C", "LC_CTYPE": "C.UTF-8"}, true},
	} {
		if got := utf8Locale(func(k string) string { return c.env[k] }); got != c.want {
			t.Errorf("%v: %v", c.env, got)
		}
	}
	if s := terminalStyle(false); s.colour || s.width != 0 {
		t.Errorf("a test's output is no terminal: %+v", s)
	}
}

func TestAuditCommandLine(t *testing.T) {
	for _, c := range []struct {
		a    auditor
		args []string
		kind fail.Kind
	}{
		{auditor{asJSON: true, asSARIF: true}, nil, fail.Usage},
		{auditor{asJSON: true, format: "x"}, nil, fail.Usage},
		{auditor{all: true}, []string{"web"}, fail.Usage},
		{auditor{all: true, pids: []int{1}}, nil, fail.Usage},
		{auditor{minScore: 101}, nil, fail.Usage},
		{auditor{minScore: -1}, nil, fail.Usage},
		{auditor{failOn: "info"}, nil, fail.Usage},
		{auditor{failOn: "horrible"}, nil, fail.Usage},
		{auditor{format: "{{"}, nil, fail.NoStatus},
	} {
		err := c.a.check(c.args, c.a.format != "")
		if err == nil || fail.KindOf(err) != c.kind {
			t.Errorf("%+v: %v", c.a, err)
		}
	}
	a := auditor{failOn: "HIGH", minScore: 50, filter: filter{address: "unix:///run//c.sock"}}
	if err := a.check([]string{"web"}, false); err != nil || a.address != "/run/c.sock" {
		t.Errorf("%v, %q", err, a.address)
	}
}

func TestFailOn(t *testing.T) {
	r := aReport()
	r.Findings = r.Findings[1:] // the worst is high
	for _, c := range []struct {
		failOn string
		least  int
		want   bool
	}{
		{"", 0, false}, {"critical", 0, false}, {"high", 0, true}, {"low", 0, true}, {"", 7, false}, {"", 8, true}, {"critical", 8, true},
	} {
		a := auditor{failOn: c.failOn, minScore: c.least}
		if got := a.fails([]audit.Report{r}); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	r.Findings = r.Findings[3:] // a note and what is right
	if a := (auditor{failOn: "low"}); a.fails([]audit.Report{r}) || a.fails(nil) {
		t.Error("nothing was found")
	}
}

// sarifLog is what the schema of SARIF 2.1.0 and GitHub require.
type sarifLog struct {
	Version string
	Schema  string `json:"$schema"`
	Runs    []struct {
		Tool struct {
			Driver struct {
				Name  string
				Rules []struct {
					ID, Name               string
					ShortDescription, Help struct{ Text string }
					FullDescription        struct{ Text string }
					Properties             map[string]any
				}
			}
		}
		Results *[]struct {
			RuleID    string
			RuleIndex int
			Level     string
			Message   struct{ Text string }
			Locations []struct {
				PhysicalLocation struct {
					ArtifactLocation struct{ URI string }
				}
				LogicalLocations []struct{ FullyQualifiedName, Kind string }
			}
			PartialFingerprints map[string]string
		}
	}
}

func TestAuditSARIF(t *testing.T) {
	other := aReport()
	other.Subject.Name = "db"
	other.Findings[0].Severity = audit.Low
	var b bytes.Buffer
	if err := printSARIF(&b, []audit.Report{aReport(), other}, time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	if i := strings.IndexFunc(b.String(), func(r rune) bool { return r != '\n' && unicode.IsControl(r) }); i >= 0 {
		t.Errorf("a control character at %d", i)
	}
	var l sarifLog
	if err := json.Unmarshal(b.Bytes(), &l); err != nil {
		t.Fatal(err)
	}
	if l.Version != "2.1.0" || len(l.Runs) != 1 || l.Runs[0].Results == nil {
		t.Fatalf("%+v", l)
	}
	d := l.Runs[0].Tool.Driver
	if d.Name != "safe-run" || len(d.Rules) != 5 {
		t.Errorf("driver %+v", d)
	}
	if got := d.Rules[0].Properties["security-severity"]; got != "9.5" {
		t.Errorf("a rule is as serious as its worst finding: %v", got)
	}
	results := *l.Runs[0].Results
	if len(results) != 8 {
		t.Fatalf("%d results, wanted those that are low or worse", len(results))
	}
	prints := map[string]bool{}
	for _, r := range results {
		if d.Rules[r.RuleIndex].ID != r.RuleID {
			t.Errorf("index %d is not %s", r.RuleIndex, r.RuleID)
		}
		prints[r.PartialFingerprints["primaryLocationLineHash"]] = true
	}
	if len(prints) != len(results) {
		t.Errorf("%d fingerprints for %d results", len(prints), len(results))
	}
	var levels []string
	for _, r := range results[:4] {
		levels = append(levels, r.Level)
	}
	if want := []string{"error", "error", "warning", "note"}; !slices.Equal(levels, want) {
		t.Errorf("levels %v", levels)
	}
	if strings.Contains(results[1].Message.Text, "[link](") {
		t.Errorf("text of a container became a link: %q", results[1].Message.Text)
	}
	if at := results[0].Locations[0]; at.PhysicalLocation.ArtifactLocation.URI != "containers/moby/web" || at.LogicalLocations[0].FullyQualifiedName != "moby/web" {
		t.Errorf("location %+v", at)
	}
}

func TestNoneWhere(t *testing.T) {
	for want, a := range map[string]auditor{
		"":                               {},
		" in namespace zz":               {filter: filter{namespace: "zz"}},
		" in namespace a�[1m of /c.sock": {filter: filter{namespace: "a\x1b[1m", address: "/c.sock"}},
	} {
		if got := a.where(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
