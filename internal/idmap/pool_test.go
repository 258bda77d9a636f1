package idmap

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// TestMain lets the test binary be one of many takers: other processes than
// the test's, as launches are.
func TestMain(m *testing.M) {
	if dir := os.Getenv("IDMAP_TAKER_DIR"); dir != "" {
		os.Exit(taker(dir, os.Getenv("IDMAP_TAKER_NAME")))
	}
	os.Exit(m.Run())
}

func taker(dir, name string) int {
	p, err := Open(dir, Files{})
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	for i := range 20 {
		b, err := p.Take(fmt.Sprintf("%s.%d", name, i))
		if err != nil {
			fmt.Println("error", err)
			return 1
		}
		fmt.Println(b.HostUID, b.HostGID)
		if i%4 == 3 {
			if err := p.Release(b, fmt.Sprintf("%s.%d", name, i)); err != nil {
				fmt.Println("error", err)
				return 1
			}
			fmt.Println("-", b.HostUID)
		}
	}
	return 0
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "table")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, f Files) *Pool {
	t.Helper()
	p, err := Open(t.TempDir(), f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func take(t *testing.T, p *Pool, owner string) spec.IDBlock {
	t.Helper()
	b, err := p.Take(owner)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDefaultRange(t *testing.T) {
	p := open(t, Files{})
	if p.Len() != 28664 {
		t.Errorf("systemd's container range holds %d blocks, want 28664", p.Len())
	}
	if first, last := p.block(0), p.block(p.Len()-1); first.HostUID != 524288 || last.HostUID != 1879048191-65535 || last.HostGID != last.HostUID {
		t.Errorf("blocks from %v to %v", first, last)
	}
	a, b := take(t, p, "a"), take(t, p, "b")
	if a == b || a.Size != 65536 {
		t.Errorf("two containers got %v and %v", a, b)
	}
}

func TestOwnEntry(t *testing.T) {
	uid := write(t, "alice:100000:65536\nsafe-run:1000000:131072\n")
	gid := write(t, "alice:100000:65536\nsafe-run:3000000:196608\n")
	p := open(t, Files{SubUID: uid, SubGID: gid})
	if p.Len() != 2 {
		t.Fatalf("%d blocks, want 2", p.Len())
	}
	got := []spec.IDBlock{take(t, p, "a"), take(t, p, "b")}
	want := []spec.IDBlock{{HostUID: 1000000, HostGID: 3000000, Size: 65536}, {HostUID: 1065536, HostGID: 3065536, Size: 65536}}
	if got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %v, want %v", got, want)
	}
	_, err := p.Take("c")
	if fail.KindOf(err) != fail.HostCannot {
		t.Fatalf("a full pool gives %v", err)
	}
	if err := p.Release(got[0], "a"); err != nil {
		t.Fatal(err)
	}
	if b := take(t, p, "c"); b != want[0] {
		t.Errorf("after a release got %v, want %v", b, want[0])
	}
}

func TestOwnerByNumber(t *testing.T) {
	p := open(t, Files{
		SubUID: write(t, "977:1000000:65536\n"), SubGID: write(t, "977:1000000:65536\n"),
		Passwd: write(t, "safe-run:x:977:977::/:/bin/false\n"),
	})
	if b := take(t, p, "a"); b.HostUID != 1000000 {
		t.Errorf("got %v", b)
	}
}

func TestSkipsWhatOthersOwn(t *testing.T) {
	p := open(t, Files{
		SubUID: write(t, "bob:524288:65536\n"),
		SubGID: write(t, "bob:589824:1\n"),
		Passwd: write(t, "ldap:x:655999:5::/:/bin/sh\nx:x:7:720896::/:\n"),
		Group:  write(t, "big:x:786432:\n"),
	})
	for i := range 50 {
		b := take(t, p, fmt.Sprint("c", i))
		for _, bad := range []struct {
			id  uint32
			gid bool
		}{{524288, false}, {589823, false}, {655999, false}, {589824, true}, {786432, true}, {720896, true}} {
			start := b.HostUID
			if bad.gid {
				start = b.HostGID
			}
			if bad.id >= start && bad.id-start < b.Size {
				t.Errorf("block %v holds %d, which is somebody else's", b, bad.id)
			}
		}
	}
}

func TestHostileTables(t *testing.T) {
	good := "safe-run:1000000:65536\n"
	for name, tc := range map[string]struct {
		table string
		want  string // substring of the error, "" if it must be accepted
	}{
		"good":                  {good, ""},
		"comments":              {"# safe-run:0:65536\n\n" + good, ""},
		"no newline":            {strings.TrimSpace(good), ""},
		"crlf":                  {"safe-run:1000000:65536\r\n", ""},
		"overflow of the end":   {"safe-run:4294901759:65536\n", "line 1"},
		"overflow of 32 bits":   {"safe-run:4294967296:65536\n", "line 1"},
		"minus one":             {"safe-run:4294967295:1\n", "line 1"},
		"huge":                  {"safe-run:99999999999999999999:65536\n", "line 1"},
		"count overflow":        {"safe-run:1000000:18446744073709551615\n", "line 1"},
		"negative":              {"safe-run:-1:65536\n", "line 1"},
		"negative count":        {"safe-run:1000000:-65536\n", "line 1"},
		"plus":                  {"safe-run:+1000000:65536\n", "line 1"},
		"hex":                   {"safe-run:0x100000:65536\n", "line 1"},
		"empty start":           {"safe-run::65536\n", "line 1"},
		"word":                  {"\nsafe-run:abc:65536\n", "line 2"},
		"extra field":           {"safe-run:1000000:65536:1\n", "line 1"},
		"missing count":         {"safe-run:1000000\n", "line 1"},
		"zero count":            {"safe-run:1000000:0\n", "line 1"},
		"the host's root":       {"safe-run:0:65536\n", "host's root"},
		"control characters":    {"safe-run:1\x1b[2J:65536\n", `\x1b`},
		"duplicate":             {good + good, ""},
		"same as another's":     {good + "eve:1000000:65536\n", "no block"},
		"inside another's":      {good + "eve:900000:4294967295\n", "no block"},
		"too small":             {"safe-run:1000000:65535\n", "no block"},
		"other's broken line":   {good + "eve:abc:65536\neve:-5:3\n", ""},
		"other's broken count":  {good + "eve:1000:99999999999999999999\n", "no block"},
		"other's broken, above": {good + "eve:2000000:-1\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, tc.table)
			p, err := Open(t.TempDir(), Files{SubUID: path, SubGID: path})
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.want == "":
				if n := p.Len(); n != 1 {
					t.Errorf("%d blocks, want 1", n)
				}
				if b := take(t, p, "a"); b.HostUID != 1000000 {
					t.Errorf("got %v", b)
				}
			case err == nil:
				t.Error("accepted")
			case fail.KindOf(err) != fail.HostCannot || !strings.Contains(err.Error(), tc.want):
				t.Errorf("error %q, want one that holds %q", err, tc.want)
			case strings.ContainsRune(err.Error(), 0x1b):
				t.Errorf("raw control character in %q", err)
			}
		})
	}
}

func TestHostileFiles(t *testing.T) {
	dir := t.TempDir()
	good := write(t, "safe-run:1000000:65536\n")
	link := filepath.Join(dir, "link")
	if err := os.Symlink(good, link); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := exec.Command("mkfifo", fifo).Run(); err != nil {
		t.Fatal(err)
	}
	open := write(t, "safe-run:1000000:65536\n")
	if err := os.Chmod(open, 0o666); err != nil {
		t.Fatal(err)
	}
	sparse := write(t, "")
	if err := os.Truncate(sparse, 10<<30); err != nil {
		t.Fatal(err)
	}
	lines := write(t, strings.Repeat("\n", maxLines+1))
	for name, path := range map[string]string{"symlink": link, "fifo": fifo, "world-writable": open, "sparse": sparse, "lines": lines, "directory": dir} {
		if _, err := Open(t.TempDir(), Files{SubUID: path, SubGID: good}); fail.KindOf(err) != fail.HostCannot {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(t.TempDir(), Files{SubUID: good}); err == nil || !strings.Contains(err.Error(), "both kinds") {
		t.Errorf("an entry in only one of the files: %v", err)
	}
}

func TestReclaim(t *testing.T) {
	p := open(t, Files{})
	dead := *p
	dead.self = "4194300-1"
	for _, o := range []string{"kept", "lost", "gone"} {
		take(t, &dead, o)
	}
	launching := take(t, p, "launching")
	half := dead.block(100) // a crash between the two links
	if err := os.Symlink(text(Claim{half, "half", dead.self}), filepath.Join(p.dir, uname(half))); err != nil {
		t.Fatal(err)
	}
	n, err := p.Reclaim(func(o string) bool { return o == "kept" })
	if err != nil || n != 3 {
		t.Fatalf("reclaimed %d, %v; want 3", n, err)
	}
	all, err := p.List()
	if err != nil || len(all) != 2 || all[0].Owner != "kept" || all[1].Owner != "launching" || all[1].Block != launching {
		t.Errorf("left: %v, %v", all, err)
	}
	if names, _ := p.names(); len(names) != 4 {
		t.Errorf("links left: %v", names)
	}
}

func TestReleaseIsForTheOwner(t *testing.T) {
	p := open(t, Files{})
	b := take(t, p, "a")
	for _, o := range []string{"b", ""} {
		if err := p.Release(b, o); err != nil {
			t.Fatal(err)
		}
	}
	if all, _ := p.List(); len(all) != 1 {
		t.Fatal("another owner released the block")
	}
	for range 2 {
		if err := p.Release(b, "a"); err != nil {
			t.Fatal(err)
		}
	}
	if all, _ := p.List(); len(all) != 0 {
		t.Fatalf("left: %v", all)
	}
	for _, bad := range []string{"", "a b", "../x", "a\n", strings.Repeat("a", 129)} {
		if _, err := p.Take(bad); err == nil {
			t.Errorf("owner %q was accepted", bad)
		}
	}
}

func TestHold(t *testing.T) {
	p := open(t, Files{})
	b := take(t, p, "a")
	for _, tc := range []struct {
		owner string
		block spec.IDBlock
		want  bool
	}{
		{"a", b, true},
		{"b", b, false},
		{"b", spec.IDBlock{HostUID: b.HostUID + 65536, HostGID: b.HostGID, Size: b.Size}, false}, // half of it is a's
		{"c", p.block(7), true},
		{"d", spec.IDBlock{HostUID: 0, HostGID: 0, Size: 65536}, false},
		{"d", spec.IDBlock{HostUID: b.HostUID + 1, HostGID: b.HostGID + 1, Size: 65536}, false},
	} {
		got, err := p.Hold(tc.block, tc.owner)
		if err != nil || got != tc.want {
			t.Errorf("Hold(%v, %q) = %v, %v; want %v", tc.block, tc.owner, got, err, tc.want)
		}
	}
	if all, _ := p.List(); len(all) != 2 {
		t.Errorf("claims: %v", all)
	}
}

func TestCorruptClaim(t *testing.T) {
	p := open(t, Files{})
	for name, target := range map[string]string{"u524288": "x", "u589824": "../../etc 1 2 3", "g655360": "a 524288 524288 1-1"} {
		if err := os.Symlink(target, filepath.Join(p.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if b := take(t, p, "a"); b.HostUID == 524288 || b.HostUID == 589824 || b.HostGID == 655360 {
		t.Errorf("took %v, which a broken claim may stand for", b)
	}
	if n, err := p.Reclaim(func(string) bool { return false }); n != 0 || err == nil {
		t.Errorf("broken claims were reclaimed: %d, %v", n, err)
	}
	if err := os.WriteFile(filepath.Join(p.dir, hintFile), []byte("-3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	take(t, p, "b")
}

func TestNspawn(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "524288"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if b := take(t, open(t, Files{Nspawn: dir}), "a"); b.HostUID != 589824 {
		t.Errorf("took %v although systemd-nspawn has the first block", b)
	}
}

func TestManyProcesses(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	var mu sync.Mutex
	held := map[string]string{}
	taken := 0
	for i := range 32 {
		wg.Go(func() {
			name := fmt.Sprintf("taker%d", i)
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "IDMAP_TAKER_DIR="+dir, "IDMAP_TAKER_NAME="+name)
			out, err := cmd.Output()
			if err != nil {
				t.Errorf("%s: %v\n%s", name, err, out)
				return
			}
			mine := map[string]bool{}
			s := bufio.NewScanner(strings.NewReader(string(out)))
			for s.Scan() {
				f := strings.Fields(s.Text())
				if f[0] == "-" {
					delete(mine, f[1])
				} else {
					mine[f[0]] = true
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for b := range mine {
				if other := held[b]; other != "" {
					t.Errorf("block %s was given to %s and %s", b, other, name)
				}
				held[b] = name
				taken++
			}
		})
	}
	wg.Wait()
	if taken != 32*15 {
		t.Errorf("%d blocks taken, want %d", taken, 32*15)
	}
	p, err := Open(dir, Files{})
	if err != nil {
		t.Fatal(err)
	}
	if all, err := p.List(); err != nil || len(all) != 32*15 {
		t.Errorf("%d claims listed, %v", len(all), err)
	}
	if n, err := p.Reclaim(func(string) bool { return false }); err != nil || n != 32*15 {
		t.Errorf("reclaimed %d, %v", n, err)
	}
}

func FuzzSubIDs(f *testing.F) {
	f.Add([]byte("safe-run:1000000:65536\nalice:100000:65536"))
	f.Add([]byte("safe-run:4294967294:1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		mine, others, err := parseSubIDs("x", data, func(s string) bool { return s == Owner })
		if err != nil {
			return
		}
		b := cut(mine, append([]span(nil), others...))
		for i := range min(b.total, 100) {
			id := uint64(b.at(i))
			if id == 0 || id+BlockSize > idEnd || !b.has(uint32(id)) {
				t.Fatalf("block at %d", id)
			}
			for _, o := range others {
				if id < o.end && o.start < id+BlockSize {
					t.Fatalf("block at %d touches %v", id, o)
				}
			}
		}
	})
}

func BenchmarkTake(b *testing.B) {
	owner := strings.Repeat("0123456789abcdef", 4)
	for _, held := range []int{0, 1000} {
		dir := b.TempDir()
		p, err := Open(dir, DefaultFiles())
		if err != nil {
			b.Fatal(err)
		}
		for i := range held {
			if _, err := p.Take(fmt.Sprint("held", i)); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(fmt.Sprint("open/", held), func(b *testing.B) {
			for b.Loop() {
				if _, err := Open(dir, DefaultFiles()); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprint("take+release/", held), func(b *testing.B) {
			for b.Loop() {
				blk, err := p.Take(owner)
				if err != nil {
					b.Fatal(err)
				}
				if err := p.Release(blk, owner); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
