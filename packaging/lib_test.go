package packaging

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// fakeProc makes files of a /proc in the place of the script's; a content that
// begins with "-> " is a link.
func (s subids) fakeProc(t *testing.T, files map[string]string) {
	t.Helper()
	proc := filepath.Join(s.etc, "proc")
	for name, content := range files {
		at := filepath.Join(proc, name)
		err := os.MkdirAll(filepath.Dir(at), 0o755)
		if err == nil {
			if target, link := strings.CutPrefix(content, "-> "); link {
				err = os.Symlink(target, at)
			} else {
				err = os.WriteFile(at, []byte(content), 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(s.script)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(b), "\nproc=/proc\n") != 1 {
		t.Fatal("no line proc=/proc")
	}
	if err := os.WriteFile(s.script, []byte(strings.Replace(string(b), "\nproc=/proc\n", "\nproc="+proc+"\n", 1)), 0o755); err != nil {
		t.Fatal(err)
	}
}

// Only root's processes of an installed engine hold up a purge.
func TestEngineProcesses(t *testing.T) {
	moved := t.TempDir() // a prefix that is a link
	prefix := filepath.Join(t.TempDir(), "prefix")
	if err := os.Mkdir(moved+"/lib", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(moved, prefix); err != nil {
		t.Fatal(err)
	}
	resolved, err := filepath.EvalSymlinks(moved)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, program, exe, uids string
		want                     bool
	}{
		{"the engine", "", "/usr/lib/safe-run/engine/containerd", "0\t0\t0\t0", true},
		{"one that was replaced", "", "/usr/lib/safe-run/engine/containerd (deleted)", "0\t0\t0\t0", true},
		{"of the archive", "", "/usr/local/lib/safe-run/engine/containerd-shim-runc-v2", "0\t0\t0\t0", true},
		{"of another prefix", prefix + "/bin/safe-run", resolved + "/lib/safe-run/engine/containerd", "0\t0\t0\t0", true},
		{"of a prefix that is gone", "/opt/nowhere/x/bin/safe-run", "/opt/nowhere/x/lib/safe-run/engine/runc", "0\t0\t0\t0", true},
		{"as the owner of a process with privileges", "", "/usr/lib/safe-run/engine/ctr", "1000\t0\t0\t0", true},
		{"a user's program in a place like it", "", "/home/eve/lib/safe-run/engine/sleep", "1000\t1000\t1000\t1000", false},
		{"the same of root", "", "/home/eve/usr/lib/safe-run/engine/sleep", "0\t0\t0\t0", false},
		{"the engine's program, by a user", "", "/usr/lib/safe-run/engine/tini", "1000\t1000\t1000\t1000", false},
		{"a user's mount on that place", "", "/usr/lib/safe-run/engine/sleep", "1000\t1000\t1000\t1000", false},
		{"beside it", "", "/usr/lib/safe-run/engineer/sleep", "0\t0\t0\t0", false},
		{"the program", "", "/usr/bin/safe-run", "0\t0\t0\t0", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSubids(t, nil)
			s.fakeProc(t, map[string]string{"4711/exe": "-> " + c.exe, "4711/status": "Name:\tx\nUid:\t" + c.uids + "\nGid:\t0\t0\t0\t0\n", "self/exe": "-> /usr/lib/safe-run/engine/ctr"})
			want := ""
			if c.want {
				want = "4711\n"
			}
			if got := call(t, []string{"program=" + c.program}, "sh", s.script, "engine_processes"); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

// A unit that a user named is not the system's of the same name.
func TestUnitOf(t *testing.T) {
	const leaf = "/safe-run-0123456789abcdef"
	for cgroup, want := range map[string]string{
		"0::/system.slice/web.service" + leaf:                                                  "web.service",
		"0::/system.slice/system-web.slice/web@1.service" + leaf:                               "web@1.service",
		"0::/shop.slice/shop-front.slice/web.service" + leaf:                                   "web.service",
		"0::/web.service" + leaf:                                                               "web.service", // Slice=-.slice
		"1:name=systemd:/\n0::/machine.slice/web.service" + leaf:                               "web.service",
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/ssh.service" + leaf:        "",
		"0::/user.slice/user-1000.slice/user@1000.service" + leaf:                              "",
		"0::/user.slice/ssh.service" + leaf:                                                    "",
		"0::/system.slice/user@1000.service/app.slice/ssh.service" + leaf:                      "",
		"0::/system.slice/alice.service/ssh.service" + leaf:                                    "",
		"0::/system.slice/alice.service/system.slice/ssh.service" + leaf:                       "",
		"0::/system.slice/alice.scope/ssh.service" + leaf:                                      "",
		"0::/x/system.slice/ssh.service" + leaf:                                                "",
		"0::/system.slice/web.service" + leaf + "/ssh.service":                                 "",
		"0::/safe-run/0123456789abcdef":                                                        "",
		"0::/system.slice/web.service/supervisor":                                              "",
		"1:name=systemd:/user.slice/x/ssh.service" + leaf + "\n0::/system.slice/ssh.service/x": "",
	} {
		s := newSubids(t, nil)
		s.fakeProc(t, map[string]string{"4711/cgroup": cgroup + "\n"})
		program := filepath.Join(t.TempDir(), "safe-run")
		if err := os.WriteFile(program, []byte("#!/bin/sh\necho 4711\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if want != "" {
			want += "\n"
		}
		if got := call(t, []string{"program=" + program}, "sh", s.script, "unit_of", "x"); got != want {
			t.Errorf("%s: %q, want %q", cgroup, got, want)
		}
	}
}

// A purge leaves no state, nor the secrets that are kept beside it; and all of
// it while something runs.
func TestPurgeDeletes(t *testing.T) {
	for runs, want := range map[bool]string{false: "(missing)", true: "x"} {
		s := newSubids(t, nil)
		kept := []string{"state/volumes/data/f", "state-compose/shop/token", "state-compose/.project/.env-1234", "safe-run/policy.yaml"}
		for _, f := range append(kept, "state-other/f") {
			at := filepath.Join(s.etc, f)
			if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(at, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		// What is this host's, and not in these directories, stays.
		b, err := os.ReadFile(s.script)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.TrimSuffix(string(b), "\n\"$@\"\n") + "\nforget_containerd() { :; }\nforget_unit() { :; }\nforget_state() { " + strconv.FormatBool(!runs) + "; }\npurge\n"
		if err := os.WriteFile(s.script, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		call(t, nil, "sh", s.script)
		for _, f := range kept {
			if got := s.read(f); got != want {
				t.Errorf("it runs: %v, %s: %q, want %q", runs, f, got, want)
			}
		}
		if _, err := os.Stat(s.etc + "/state-compose"); !runs && !os.IsNotExist(err) {
			t.Errorf("state-compose: %v", err)
		}
		if s.read("state-other/f") != "x" {
			t.Error("what is not safe-run's was deleted")
		}
	}
}
