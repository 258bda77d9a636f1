package threats

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/safe-run/safe-run/tests/harness"
)

// The ways by which a program gets into a container. Most gaps of the field
// were in the last three.
const (
	initProcess = "init"
	execed      = "exec"
	checked     = "health check"
	restarted   = "restart"
)

// den is a container that waits for scripts. Its health check, and its first
// process once it was restarted, run what they find in /tmp. It ends after half
// an hour: a test that is killed does not end it.
type den struct{ name string }

var dens = struct {
	sync.Mutex
	of   map[string]*den // by their flags
	made int
}{of: map[string]*den{}}

// waiting runs /tmp/WORD.sh once it is there, and waits for it a minute at most.
func waiting(word string) string {
	return fmt.Sprintf("n=0; while [ ! -e /tmp/%[1]s.sh ] && [ $n -lt 600 ]; do sleep 0.1; n=$((n+1)); done; if [ -e /tmp/%[1]s.sh ]; then mv /tmp/%[1]s.sh /tmp/%[1]s.run; sh -c \"$(cat /tmp/%[1]s.run)\" >/tmp/%[1]s.new 2>&1 </dev/null; mv /tmp/%[1]s.new /tmp/%[1]s.out; fi", word)
}

// denOf gives the container of these flags, which is made at the first time.
// One with flags ends with the test, since each takes some time of the processor.
func denOf(t *testing.T, flags []string) *den {
	t.Helper()
	dens.Lock()
	defer dens.Unlock()
	key := strings.Join(flags, "\x00")
	if d := dens.of[key]; d != nil {
		return d
	}
	d := &den{name: fmt.Sprintf("den-%d", dens.made)}
	dens.made++
	args := slices.Concat([]string{
		"run", "-d", "--name", d.name,
		"--health-interval", "100ms", "--health-timeout", "120s", "--health-cmd", waiting("health"),
	}, flags, []string{denImage, "sh", "-c", "end=$(($(date +%s) + 1800)); while [ $(date +%s) -lt $end ]; do " + waiting("restart") + "; done"})
	for _, c := range [][]string{args, {"restart", "-t", "0", d.name}} {
		if a := here.Run(c...); a.Code != 0 {
			t.Fatalf("%s: %s", strings.Join(c, " "), a)
		}
	}
	dens.of[key] = d
	if len(flags) > 0 {
		t.Cleanup(func() {
			dens.Lock()
			defer dens.Unlock()
			delete(dens.of, key)
			if a := here.Run("rm", "-f", "-v", d.name); a.Code != 0 {
				t.Errorf("rm %s: %s", d.name, a)
			}
		})
	}
	return d
}

func closeDens() error {
	dens.Lock()
	defer dens.Unlock()
	for _, d := range dens.of {
		if a := here.Run("rm", "-f", "-v", d.name); a.Code != 0 {
			return fmt.Errorf("rm %s: %s", d.name, a)
		}
	}
	return nil
}

// through leaves the script for the health check or the first process, and
// waits for what it printed.
func (d *den) through(t *testing.T, word, script string) string {
	t.Helper()
	put := fmt.Sprintf(`rm -f /tmp/%[1]s.out; printf '%%s\n' "$1" >/tmp/%[1]s.part && mv /tmp/%[1]s.part /tmp/%[1]s.sh
i=0; while [ ! -e /tmp/%[1]s.out ] && [ $i -lt 600 ]; do sleep 0.05; i=$((i+1)); done; cat /tmp/%[1]s.out; rm -f /tmp/%[1]s.out`, word)
	a := here.Run("exec", d.name, "sh", "-c", put, "sh", script)
	if a.Code != 0 {
		t.Errorf("a script for the %s of %s: %s", word, d.name, a)
	}
	return a.Stdout
}

// inModes runs a script of busybox's shell in a container with these flags
// (none: a plain one): as its init process, by exec, as its health check, and
// in one that was restarted. check gets the mode and what the script printed,
// to stdout and stderr. The flags must leave /tmp writable. Short tests, those
// of emulated machines, try only the first two.
func inModes(t *testing.T, flags []string, script string, check func(t *testing.T, mode, out string)) {
	t.Helper()
	script = "{ " + script + "\n} 2>&1"
	a := here.Run(slices.Concat([]string{"run", "--rm"}, flags, []string{denImage, "sh", "-c", script})...)
	judge := func(mode, out string) {
		t.Run(mode, func(t *testing.T) { check(t, mode, out) })
	}
	if a.Code < 0 || a.Code == 125 {
		t.Fatalf("%v: %s", flags, a)
	}
	judge(initProcess, a.Stdout)
	d := denOf(t, flags)
	judge(execed, here.Run("exec", d.name, "sh", "-c", script).Stdout)
	if testing.Short() {
		return
	}
	judge(checked, d.through(t, "health", script))
	judge(restarted, d.through(t, "restart", script))
}

// prints is a check that wants exactly this output.
func prints(want string) func(t *testing.T, mode, out string) {
	return func(t *testing.T, _, out string) {
		t.Helper()
		if out != want {
			t.Errorf("printed %q, wanted %q", out, want)
		}
	}
}

// attempt is one line of the probe's report.
type attempt struct{ ID, What, Verdict, Errno, Note string }

var probes = struct {
	sync.Mutex
	of map[string]map[string]attempt // by mode and program, then by ID
}{of: map[string]map[string]attempt{}}

// probed wants the attempts of tests/probe with these names to be blocked, by
// any of the ways into a plain container. The probe runs once for all tests.
func probed(t *testing.T, ids ...string) { probedWith(t, "/probe", ids...) }

// probed32 wants the same of the 32 bit probe: that it is killed at its first
// call counts as blocked.
func probedWith(t *testing.T, program string, ids ...string) {
	t.Helper()
	probes.Lock()
	defer probes.Unlock()
	if probes.of[initProcess+program] == nil {
		inModes(t, nil, program+" --json", func(t *testing.T, mode, out string) {
			var r struct{ Results []attempt }
			if err := json.Unmarshal([]byte(out), &r); err != nil {
				t.Fatalf("no report of the probe: %v: %.300q", err, out)
			}
			probes.of[mode+program] = map[string]attempt{}
			for _, x := range r.Results {
				probes.of[mode+program][x.ID] = x
			}
		})
	}
	for _, mode := range []string{initProcess, execed, checked, restarted} {
		report := probes.of[mode+program]
		if report == nil && mode != initProcess {
			continue
		}
		for _, id := range ids {
			if x, ok := report[id]; !ok || x.Verdict != "blocked" {
				t.Errorf("%s: %s is %q: %s %s", mode, id, x.Verdict, x.Errno, x.Note)
			}
		}
	}
}

// patient waits until ready gives nil, at most 20 s on a usual machine.
func patient(t *testing.T, ready func() error) {
	t.Helper()
	deadline := time.Now().Add(harness.Patient(20 * time.Second))
	for {
		err := ready()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
