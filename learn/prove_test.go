package learn

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/profiles"
)

// app is an application that needs some rights.
type app struct {
	needs   []string // "cap NAME", "while DIR|NAME", "write DIR", "call NAME", "memory N"
	unclear bool     // says nothing of what it was refused
	trials  []string
	broken  error
	flaky   int // the trial from which on it fails
}

func (a *app) Try(_ context.Context, t Trial) (Outcome, error) {
	a.trials = append(a.trials, t.What)
	if a.broken != nil {
		return Outcome{}, a.broken
	}
	rec := &Recording{}
	out := Outcome{Passed: true, Took: time.Second, Recording: rec}
	for _, need := range a.needs {
		kind, what, _ := strings.Cut(need, " ")
		has := false
		switch kind {
		case "cap":
			has = slices.ContainsFunc(t.Profile.Capabilities, func(c profiles.Capability) bool { return c.Name == what })
			rec.Capabilities = append(rec.Capabilities, CapabilityUse{Name: "CAP_" + what, Refused: !has, Syscall: "x", Count: 1})
		case "either":
			x, y, _ := strings.Cut(what, "|")
			has = slices.ContainsFunc(t.Profile.Capabilities, func(c profiles.Capability) bool { return c.Name == x || c.Name == y })
		case "while":
			x, y, _ := strings.Cut(what, "|")
			has = !slices.ContainsFunc(t.Profile.Writable, func(w profiles.Writable) bool { return w.Path == x }) ||
				slices.ContainsFunc(t.Profile.Capabilities, func(c profiles.Capability) bool { return c.Name == y })
		case "write":
			has = slices.ContainsFunc(t.Profile.Writable, func(w profiles.Writable) bool { return w.Path == what })
			if !has {
				rec.Paths = append(rec.Paths, PathUse{Path: what + "/f", Errno: unix.EROFS, Syscall: "openat", Write: true, Count: 1})
			}
		case "call":
			s := t.Profile.Seccomp
			if has = s == nil || slices.Contains(s.Allow, what); !has {
				rec.Refused = append(rec.Refused, RefusedCall{Name: what, Errno: unix.EPERM, Count: 1})
			}
		case "file": // not seen in the recording
			if has = t.Profile.AppArmor == nil || slices.ContainsFunc(t.Profile.AppArmor.Files, func(f profiles.AppArmorFile) bool { return f.Path == path.Dir(what)+"/*" }); !has {
				rec.Paths = append(rec.Paths, PathUse{Path: what, Errno: unix.EACCES, Syscall: "openat", Write: true, Count: 1})
			}
		case "memory":
			has = t.Profile.Limits.Memory == what || t.Profile.Limits.Memory == ""
			rec.Limits.Memory = rec.Limits.Memory || !has
		}
		if !has {
			out.Passed, out.Exit, out.Output = false, 7, "starting\nno "+need+"\x1b[2J\n"
		}
	}
	if a.flaky > 0 && len(a.trials) >= a.flaky {
		out.Passed = false
	}
	if a.unclear {
		out.Recording = &Recording{}
	}
	return out, nil
}

func candidate(caps ...string) Result {
	p := profiles.Profile{Version: 1, Seccomp: &profiles.SeccompUse{Allow: permittedCalls([]string{"read", "write", "mount"}, []string{"CAP_SYS_ADMIN"})}}
	for _, c := range caps {
		p.Capabilities = append(p.Capabilities, profiles.Capability{Name: c, Evidence: &profiles.Evidence{Count: 1}})
	}
	p.Writable = []profiles.Writable{{Path: "/a"}, {Path: "/b"}}
	p.Limits.Memory = "32m"
	return Result{Profile: p}
}

func confined() Result {
	r := candidate()
	r.Profile.AppArmor = &profiles.AppArmorUse{Files: AppArmorRules(Recording{})}
	return r
}

func TestProve(t *testing.T) {
	for _, c := range []struct {
		name    string
		r       Result
		app     app
		want    []string // rights left
		removed string
		added   string
		trials  int
		err     string
	}{
		{
			"all needed", candidate("CHOWN", "SETUID"),
			app{needs: []string{"cap CHOWN", "cap SETUID", "write /a", "write /b", "call read"}},
			[]string{"cap CHOWN", "cap SETUID", "write /a", "write /b"},
			"", "", 6, "",
		},
		{"nothing needed", candidate("CHOWN", "SETUID"), app{}, nil, "CAP_CHOWN CAP_SETUID /a /b", "", 6, ""},
		{"the wider of two goes", candidate("DAC_OVERRIDE", "FOWNER"), app{needs: []string{"either FOWNER|DAC_OVERRIDE"}}, []string{"cap FOWNER"}, "CAP_DAC_OVERRIDE /a /b", "", 7, ""},
		{"the granted goes before the free", candidate("CHOWN", "SYS_ADMIN"), app{needs: []string{"either CHOWN|SYS_ADMIN"}}, []string{"cap CHOWN"}, "CAP_SYS_ADMIN /a /b", "", 7, ""},
		{"what only a directory called for goes with it", candidate("CHOWN"), app{needs: []string{"while /a|CHOWN"}}, nil, "/a /b CAP_CHOWN", "", 6, ""},
		{
			"grows", candidate(),
			app{needs: []string{"cap CHOWN", "write /data", "call chown", "memory 64m"}},
			[]string{"cap CHOWN", "write /data"},
			"/a /b", "CHOWN, chown, writing to /data, memory 64m", 8, "",
		},
		{"other names", confined(), app{needs: []string{"file /data/7"}}, nil, "/a /b", "the AppArmor rule /data/* rwlk", 5, ""},
		{"rules nobody sees", confined(), app{needs: []string{"file /data/7"}, unclear: true}, nil, "the rules for AppArmor /a /b", "", 5, ""},
		{"what cannot be given", candidate(), app{needs: []string{"cap SYS_TIME"}}, nil, "", "", 4, "the check fails with the learned profile: exit 7: no cap SYS_TIME"},
		{
			"calls nobody sees", candidate(),
			app{needs: []string{"call chown"}, unclear: true},
			nil, "the list of system calls /a /b", "", 5, "",
		},
		{
			"limits nobody sees", candidate(),
			app{needs: []string{"memory 64m"}, unclear: true},
			nil, "the learned limits /a /b", "", 6, "",
		},
		{
			"both", candidate(),
			app{needs: []string{"memory 64m", "call chown"}, unclear: true},
			nil, "the list of system calls, and the learned limits /a /b", "", 7, "",
		},
		{"a check of chance", candidate("CHOWN"), app{needs: []string{"cap CHOWN"}, flaky: 5}, nil, "", "", 6, "with the finished profile, and passed with it before"},
		{"a runner that fails", candidate(), app{broken: errors.New("no engine")}, nil, "", "", 1, "proof 1: the candidate: no engine"},
	} {
		var told []string
		proof, err := Prove(t.Context(), c.r, &c.app, func(s string) { told = append(told, s) })
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "\x1b") || len(c.app.trials) != c.trials {
				t.Errorf("%s: error %v after %d trials, want %q", c.name, err, len(c.app.trials), c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var left, removed []string
		for _, line := range rights(proof.Profile) {
			left = append(left, strings.Join(strings.Fields(line)[:2], " "))
		}
		for _, r := range proof.Removed {
			removed = append(removed, r.Right)
		}
		if !slices.Equal(left, c.want) || strings.Join(removed, " ") != c.removed || strings.Join(proof.Added, " ") != c.added {
			t.Errorf("%s: left %q, removed %q, added %q", c.name, left, removed, proof.Added)
		}
		if len(c.app.trials) != c.trials || proof.Trials != c.trials || len(told) != c.trials {
			t.Errorf("%s: %d trials, %d told: %q", c.name, len(c.app.trials), len(told), told)
		}
		if last := told[len(told)-1]; last != fmt.Sprintf("proof %d/%d: the finished profile: the check passes", c.trials, c.trials) {
			t.Errorf("%s: %q", c.name, told)
		}
		for _, k := range proof.Profile.Capabilities {
			if k.Evidence == nil || !strings.HasPrefix(k.Evidence.Proof, "without it the check fails: exit 7: no ") || strings.Contains(k.Evidence.Proof, "\x1b") {
				t.Errorf("%s: evidence %+v", c.name, k.Evidence)
			}
		}
	}
}

// Each trial must add something, and there are not more than five.
func TestProveEnds(t *testing.T) {
	n := 0
	run := runner(func(Trial) (Outcome, error) {
		n++
		return Outcome{Exit: 1, Recording: &Recording{Paths: []PathUse{{Path: fmt.Sprintf("/d%d/f", n), Errno: unix.EROFS, Syscall: "openat", Count: 1}}}}, nil
	})
	_, err := Prove(t.Context(), Result{Profile: profiles.Profile{Version: 1}}, run, func(string) {})
	var e *fail.Error
	if !errors.As(err, &e) || e.Kind != fail.Conflict || n != 1+maxGrowth || !strings.Contains(e.Next, "/d6") {
		t.Errorf("after %d trials: %v", n, err)
	}
}

func TestProveInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	run := runner(func(Trial) (Outcome, error) { cancel(); return Outcome{Passed: true}, nil })
	if _, err := Prove(ctx, candidate("CHOWN"), run, func(string) {}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// What the user's own flags mount is not tried; a call that needs a capability
// goes with it; the candidate itself is not changed.
func TestProveKeeps(t *testing.T) {
	r := candidate("SYS_ADMIN")
	r.base.Writable = []profiles.Writable{{Path: "/a"}}
	a := &app{}
	proof, err := Prove(t.Context(), r, a, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if got := rights(proof.Profile); len(got) != 1 || !strings.HasPrefix(got[0], "write /a") || slices.Contains(proof.Profile.Seccomp.Allow, "mount") {
		t.Errorf("%q %q", got, proof.Profile.Seccomp.Allow)
	}
	if len(r.Profile.Capabilities) != 1 || len(r.Profile.Writable) != 2 || !slices.Contains(r.Profile.Seccomp.Allow, "mount") {
		t.Errorf("the candidate was changed: %+v", r.Profile)
	}
	if s := strings.Join(proof.Summary(), "\n"); !strings.Contains(s, "removed: CAP_SYS_ADMIN: the check passes without it") || !strings.Contains(s, "needed: writing to /a") || !strings.Contains(s, "proved in 4 runs") {
		t.Error(s)
	}
}

type runner func(Trial) (Outcome, error)

func (r runner) Try(_ context.Context, t Trial) (Outcome, error) { return r(t) }
