package packaging

import (
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/safe-run/safe-run/internal/idmap"
)

// subids is the packages' script with a directory in the place of /etc and of
// the state.
type subids struct{ etc, state, script string }

func newSubids(t *testing.T, files map[string]string) subids {
	t.Helper()
	s := subids{etc: t.TempDir()}
	s.state, s.script = filepath.Join(s.etc, "state"), filepath.Join(t.TempDir(), "script")
	text := ""
	for _, f := range []string{"scripts/lib.sh", "scripts/subids.sh"} {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		text += string(b)
	}
	// A lock is waited for as long as it takes: 3 tries are enough here.
	for old, now := range map[string]string{"\netc=/etc\n": "\netc=" + s.etc + "\n", "\nstate=/var/lib/safe-run\n": "\nstate=" + s.state + "\n", "seq 300": "seq ${tries:-300}"} {
		if strings.Count(text, old) != 1 {
			t.Fatalf("%q is there %d times", old, strings.Count(text, old))
		}
		text = strings.Replace(text, old, now, 1)
	}
	all := map[string]string{"passwd": "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/x\n", "group": "root:x:0:\n"}
	maps.Copy(all, files)
	for name, content := range all {
		if target, link := strings.CutPrefix(content, "-> "); link {
			if err := os.Symlink(target, filepath.Join(s.etc, name)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(filepath.Join(s.etc, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(s.script, []byte(text+"\n\"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s subids) read(name string) string {
	b, err := os.ReadFile(filepath.Join(s.etc, name))
	if err != nil {
		return "(missing)"
	}
	return string(b)
}

func TestSubids(t *testing.T) {
	const (
		own    = "safe-run:2000224256:67108864\n"
		alice  = "alice:100000:65536\n"
		ours   = "safe-run:900000:65536\n"
		behind = "safe-run:2067333120:67108864\n"
	)
	full := "a:524288:1878523904\nb:2000224256:147128320\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string // what is added to both, "" if nothing
		says  string
	}{
		{"empty files", map[string]string{"subuid": "", "subgid": ""}, own, ""},
		{"no files", nil, own, ""},
		{"others", map[string]string{"subuid": alice, "subgid": alice}, own, ""},
		{"no end of line", map[string]string{"subuid": "x:2000224256:3", "subgid": strings.TrimSpace(alice)}, "safe-run:2000289792:67108864\n", ""},
		{"it has one", map[string]string{"subuid": ours, "subgid": ours}, "", ""},
		{"it has one by number", map[string]string{"passwd": "safe-run:x:978:978::/:/x\n", "subuid": "978:900000:65536\n", "subgid": ours}, "", ""},
		{"a number of somebody else", map[string]string{"subuid": "978:900000:65536\n", "subgid": ""}, own, ""},
		{"one of the files", map[string]string{"subuid": ours, "subgid": alice}, "", "only one of"},
		{"the other", map[string]string{"subgid": ours}, "", "only one of"},
		{"a name that begins so", map[string]string{"subuid": "safe-runner:2000224256:67108864\n", "subgid": ""}, behind, ""},
		{"taken in the other file", map[string]string{"subuid": "", "subgid": "x:2000224256:1\ny:2067333119:1\n"}, behind, ""},
		{"a user in it", map[string]string{"passwd": "x:x:2000224264:7::/:/x\n"}, "safe-run:2000289792:67108864\n", ""},
		{"a group in it", map[string]string{"group": "x:x:2000224256:\n"}, "safe-run:2000289792:67108864\n", ""},
		{"an open end", map[string]string{"subuid": "x:1900000000:all\n"}, "safe-run:524288:67108864\n", ""},
		{"wrong lines", map[string]string{"subuid": "x\n:::\nx:-5:1\nx:99999999999:9\n\xff\x00:1:1\n# safe-run:1:1\n"}, own, ""},
		{"all taken", map[string]string{"subuid": full}, "", "no range of 67108864 ids is free"},
		{"the first is", map[string]string{"subuid": "b:2000224256:147128320\n"}, "safe-run:524288:67108864\n", ""},
		{"a link", map[string]string{"subuid": "-> elsewhere", "elsewhere": alice}, "", "is a link"},
		{"a lock of nobody", map[string]string{"subuid": alice, "subuid.lock": "4194305"}, own, ""},
		{"a lock of somebody", map[string]string{"subuid": alice, "subuid.lock": strconv.Itoa(os.Getpid()) + "\x00"}, "", "is locked by process"},
		{"the other locked", map[string]string{"subuid": alice, "subgid.lock": strconv.Itoa(os.Getpid())}, "", "is locked by process"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSubids(t, c.files)
			before := map[string]string{}
			for _, f := range []string{"subuid", "subgid", "elsewhere"} {
				before[f] = s.read(f)
			}
			lock := s.read("subuid.lock")
			said := call(t, []string{"tries=3"}, "sh", s.script, "subids_add")
			if c.says == "" && said != "" || !strings.Contains(said, c.says) {
				t.Errorf("says %q, want %q", said, c.says)
			}
			for _, f := range []string{"subuid", "subgid"} {
				want := before[f]
				if c.want != "" {
					if want == "(missing)" {
						want = ""
					} else if want != "" && !strings.HasSuffix(want, "\n") {
						want += "\n"
					}
					want += c.want
				}
				if got := s.read(f); got != want {
					t.Errorf("%s: %q, want %q", f, got, want)
				}
			}
			if s.read("elsewhere") != before["elsewhere"] {
				t.Error("the target of a link was changed")
			}
			if c.want != "" {
				// What reads the files takes it.
				n, own, err := idmap.Look(idmap.Files{SubUID: s.etc + "/subuid", SubGID: s.etc + "/subgid", Passwd: s.etc + "/passwd", Group: s.etc + "/group"})
				if err != nil || !own || n != 1024 {
					t.Errorf("%d blocks, its own: %v, %v", n, own, err)
				}
			}
			call(t, []string{"tries=3"}, "sh", s.script, "subids_add") // again
			call(t, []string{"tries=3"}, "sh", s.script, "subids_remove")
			for _, f := range []string{"subuid", "subgid"} {
				want := before[f]
				if c.want != "" && want != "" && want != "(missing)" && !strings.HasSuffix(want, "\n") {
					want += "\n"
				}
				if got := s.read(f); got != want {
					t.Errorf("%s afterwards: %q, want %q", f, got, want)
				}
			}
			// No lock and no file of its own stays.
			for name, want := range map[string]string{"subuid.lock": lock, "state/added-subids": "(missing)", "subuid.safe-run": "(missing)"} {
				if name == "subuid.lock" && lock == "4194305" {
					want = "(missing)"
				}
				if got := s.read(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if left, _ := filepath.Glob(s.etc + "/sub*.[0-9]*"); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// The range meets none that others hand ids out of by default, without writing
// them into a file that is read here.
func TestSubidsMeetNobody(t *testing.T) {
	others := []struct {
		name       string
		first, end int
	}{
		{"login.defs, SUB_UID_MIN and _MAX", 100000, 600100001},
		{"systemd-nspawn", 524288, 1879048192},
		{"sssd-ldap, ldap_idmap_range_min and _max", 200000, 2000200001},
		{"systemd, foreign ids", 2147352576, 2147418112},
		{"ids that are negative as 32 bits", 1 << 31, 1 << 32},
	}
	for _, taken := range []string{"", "x:2000224256:67108864\n"} {
		s := newSubids(t, map[string]string{"subuid": taken, "subgid": taken})
		call(t, nil, "sh", s.script, "subids_add")
		_, line, _ := strings.Cut(s.read("subuid"), "safe-run:")
		start, count, _ := strings.Cut(strings.TrimSpace(line), ":")
		first, err := strconv.Atoi(start)
		if err != nil || count != "67108864" || first%idmap.BlockSize != 0 {
			t.Fatalf("%v: %q", err, s.read("subuid"))
		}
		for _, o := range others {
			if first < o.end && first+67108864 > o.first {
				t.Errorf("%d is in the range of %s", first, o.name)
			}
		}
	}
}

// Of a range that the site has changed since, or of its own, nothing is taken.
func TestSubidsOfTheSiteStay(t *testing.T) {
	s := newSubids(t, map[string]string{"subuid": "", "subgid": ""})
	call(t, nil, "sh", s.script, "subids_add")
	const changed = "safe-run:2000224256:65536\n# safe-run:2000224256:67108864\n"
	if err := os.WriteFile(s.etc+"/subuid", []byte(changed), 0o640); err != nil {
		t.Fatal(err)
	}
	call(t, nil, "sh", s.script, "subids_remove")
	if got := s.read("subuid"); got != changed {
		t.Errorf("subuid: %q", got)
	}
	if got := s.read("subgid"); got != "" {
		t.Errorf("subgid: %q", got)
	}
}

// Modes and owners stay, and of many at once one adds.
func TestSubidsAtOnce(t *testing.T) {
	s := newSubids(t, map[string]string{"subuid": "alice:100000:65536\n", "subgid": ""})
	if err := os.Chmod(s.etc+"/subuid", 0o640); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if out, err := try(nil, "sh", s.script, "subids_add"); err != nil || out != "" {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	all.Wait()
	for _, f := range []string{"subuid", "subgid"} {
		if n := strings.Count(s.read(f), "safe-run:"); n != 1 {
			t.Errorf("%s has %d lines: %q", f, n, s.read(f))
		}
	}
	call(t, nil, "sh", s.script, "subids_remove")
	if st, err := os.Stat(s.etc + "/subuid"); err != nil || st.Mode().Perm() != 0o640 || s.read("subuid") != "alice:100000:65536\n" {
		t.Errorf("%v, %v: %q", st.Mode(), err, s.read("subuid"))
	}
}
