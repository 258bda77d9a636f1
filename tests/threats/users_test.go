package threats

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/idmap"
	"github.com/safe-run/safe-run/tests/imagekit"
)

func TestU1(t *testing.T) {
	row(t, "U1")
	inModes(t, nil, "cat /proc/self/uid_map; echo --; cat /proc/self/gid_map", func(t *testing.T, _, out string) {
		uid, gid, _ := strings.Cut(strings.TrimRight(out, "\n"), "\n--\n")
		for _, m := range []string{uid, gid} {
			if r := idsIn(t, m); r.first < 65536 || r.n != 65536 {
				t.Errorf("map %q", m)
			}
		}
	})
	d := denOf(t, nil)
	own, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	pids := processesOf(t, idOf(t, d.name))
	if len(pids) == 0 {
		t.Fatalf("no process of %s is found", d.name)
	}
	for _, pid := range pids {
		theirs, err := os.Readlink("/proc/" + pid + "/ns/user")
		if err != nil {
			continue // ended
		}
		if theirs == own {
			t.Errorf("process %s is in the host's user namespace", pid)
		}
		for _, kind := range []string{"Uid", "Gid"} {
			for _, f := range strings.Fields(statusOf(pid, kind)) {
				if n, err := strconv.ParseUint(f, 10, 32); err != nil || n < 65536 {
					t.Errorf("process %s has %s %s on the host", pid, kind, f)
				}
			}
		}
	}
	s := planned(t, denImage, "true")
	if !slices.Contains(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace}) || len(s.Linux.UIDMappings) != 1 || len(s.Linux.GIDMappings) != 1 {
		t.Errorf("the specification: %v, %v, %v", s.Linux.Namespaces, s.Linux.UIDMappings, s.Linux.GIDMappings)
	}
	refused(t, "userns-host", []string{"--userns", "host"}, []string{"--userns=host"})
	refused(t, "userns-join", []string{"--userns", "container:" + d.name})
}

func TestU2(t *testing.T) {
	row(t, "U2")
	claims := func() []string {
		all, err := filepath.Glob(filepath.Join(here.Root, "ids", "[ug][0-9]*"))
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(all)
		return all
	}
	before := claims()
	all := map[string][]ids{}
	see := func(kind string, r ids) {
		t.Helper()
		for _, other := range all[kind] {
			if r.meets(other) {
				t.Errorf("%ss %v are also those of another container, %v", kind, r, other)
			}
		}
		all[kind] = append(all[kind], r)
	}
	for i := range 3 {
		name := fmt.Sprintf("u2-%d", i)
		detached(t, name, denImage, "sleep", "1000")
		pid := hostPID(t, name)
		see("uid", idsOf(t, pid, "uid"))
		see("gid", idsOf(t, pid, "gid"))
	}
	running := claims()
	if len(running) != len(before)+6 {
		t.Errorf("three containers have claimed %d ranges", len(running)-len(before))
	}
	// A launcher that dies between the claim and the start takes no range with
	// it, and the next container gets none that somebody has.
	for _, step := range []string{"ids", "start"} {
		if a := faulty(step+":kill", "--rm", denImage, "true"); a.Code == 0 {
			t.Errorf("not killed at %s: %s", step, a)
		}
		a := here.Run("run", "--rm", denImage, "sh", "-c", "head -n 1 /proc/self/uid_map; head -n 1 /proc/self/gid_map")
		if maps := lines(a.Stdout); len(maps) != 2 {
			t.Error(a)
		} else {
			for i, kind := range []string{"uid", "gid"} {
				for _, other := range all[kind] {
					if r := idsIn(t, maps[i]); r.meets(other) {
						t.Errorf("after a death at %s: %ss %v are also those of another container, %v", step, kind, r, other)
					}
				}
			}
		}
	}
	if left := claims(); !slices.Equal(left, running) {
		t.Errorf("claims after two deaths: %q, wanted %q", left, running)
	}
}

func TestU3(t *testing.T) {
	row(t, "U3")
	table := func(content string) string { return wrote(t, "table", content) }
	for name, f := range map[string]idmap.Files{
		"past the end":         {SubUID: table("safe-run:4294901760:65537\n")},
		"overflow":             {SubUID: table("safe-run:1:99999999999999999999\n")},
		"wraps 32 bits":        {SubUID: table("safe-run:4294967296:65536\n")},
		"-1":                   {SubUID: table("safe-run:4294967295:65536\n")},
		"negative start":       {SubUID: table("safe-run:-1:65536\n")},
		"negative count":       {SubUID: table("safe-run:1000000:-65536\n")},
		"root":                 {SubUID: table("safe-run:0:65536\n")},
		"hexadecimal":          {SubUID: table("safe-run:0x100000:65536\n")},
		"no count":             {SubUID: table("safe-run:1000000:\n")},
		"empty count":          {SubUID: table("safe-run:1000000\n")},
		"blanks":               {SubUID: table("safe-run: 1000000 :65536\n")},
		"too small":            {SubUID: table("safe-run:1000000:65535\n")},
		"one good, one bad":    {SubUID: table("safe-run:1000000:65536\nsafe-run:-5:65536\n")},
		"all of somebody else": {SubUID: table("safe-run:1000000:65536\nalice:1000000:65536\n")},
		"all of a bad line":    {SubUID: table("safe-run:1000000:65536\nalice:999999:4294967295\n")},
		"a user in each block": {SubUID: table("safe-run:1000000:65536\n"), Passwd: table("bob:x:1065535:100::/:/bin/sh\n")},
		"a link":               {SubUID: tableLink(t, table("safe-run:1000000:65536\n"))},
		"a FIFO":               {SubUID: tableFIFO(t)},
		"everybody's":          {SubUID: tableOfAll(t, table("safe-run:1000000:65536\n"))},
	} {
		f.SubGID = f.SubUID
		if p, err := idmap.Open(filepath.Join(t.TempDir(), "ids"), f); fail.KindOf(err) != fail.HostCannot {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	million := strings.Repeat("somebody:300000000:65536\n", 1_000_000)
	for name, c := range map[string]struct {
		sub, passwd string
		first       []uint32 // of each block
	}{
		"no newline at the end": {"safe-run:1000000:131072", "", []uint32{1000000, 1065536}},
		"comments, blank lines": {"# safe-run:1:65536\n\n  \nsafe-run:1000000:65536\n#x", "", []uint32{1000000}},
		"twice the same":        {"safe-run:1000000:65536\nsafe-run:1000000:65536\n", "", []uint32{1000000}},
		"half of it another's":  {"safe-run:1048576:131072\nalice:1114112:70000\n", "", []uint32{1048576}},
		"a user in the middle":  {"safe-run:1048576:196608\n", "bob:x:1114200:100::/:/bin/sh\n", []uint32{1048576, 1179648}},
		"his group":             {"safe-run:1048576:131072\n", "bob:x:7:1114200::/:/bin/sh\n", []uint32{1048576}},
		"the last there is":     {"safe-run:4294901758:65536\n", "", []uint32{4294901758}},
		"a million of others":   {million + "safe-run:1048576:65536\n", "", []uint32{1048576}},
	} {
		f := idmap.Files{SubUID: table(c.sub), Passwd: table(c.passwd)}
		f.SubGID = f.SubUID
		p, err := idmap.Open(filepath.Join(t.TempDir(), "ids"), f)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []uint32
		for i := range p.Len() + 1 {
			b, err := p.Take("owner" + strconv.Itoa(i))
			if i == p.Len() {
				if fail.KindOf(err) != fail.HostCannot {
					t.Errorf("%s: more than all were given: %v", name, err)
				}
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, b.HostUID)
		}
		slices.Sort(got)
		if !slices.Equal(got, c.first) {
			t.Errorf("%s: blocks from %d, wanted %d", name, got, c.first)
		}
	}
	hostTables(t)
}

// hostTables changes the host's own tables, in this mount namespace.
func hostTables(t *testing.T) {
	t.Helper()
	for content, want := range map[string]string{
		"safe-run:-1:65536\n":                           "",
		"alice:1048576:65536\nsafe-run:1048576:131072":  "0 1114112 65536",
		"safe-run:4294967294:1\nsafe-run:1048576:65536": "",
	} {
		file := wrote(t, "sub", content)
		for _, target := range []string{"/etc/subuid", "/etc/subgid"} {
			if _, err := os.Stat(target); err != nil {
				if err := os.WriteFile(target, nil, 0o644); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = os.Remove(target) })
			}
			if err := unix.Mount(file, target, "", unix.MS_BIND, ""); err != nil {
				t.Fatal(err)
			}
		}
		if want == "" {
			refused(t, "", nil)
		} else if a := here.Run("run", "--rm", denImage, "cat", "/proc/self/uid_map"); strings.Join(strings.Fields(a.Stdout), " ") != want {
			t.Errorf("%q: wanted %q, got %s", content, want, a)
		}
		for _, target := range []string{"/etc/subuid", "/etc/subgid"} {
			if err := unix.Unmount(target, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func tableLink(t *testing.T, file string) string {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	return link
}

func tableFIFO(t *testing.T) string {
	name := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func tableOfAll(t *testing.T, file string) string {
	if err := os.Chmod(file, 0o666); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestU4(t *testing.T) {
	row(t, "U4")
	// A directory whose file system cannot be idmapped.
	ram := t.TempDir()
	if err := unix.Mount("ram", ram, "ramfs", 0, "mode=755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(ram, unix.MNT_DETACH) })
	before := here.Inventory(t)
	if a := here.Run("run", "--rm", "-v", ram+":/src", denImage, "echo", "RAN"); a.Code != 125 || !strings.Contains(a.Stderr, "idmapped") {
		t.Errorf("a bind: %s", a)
	}
	settled(t, before)
	// The root of a container, on an engine whose store lies on such a one.
	dir, err := os.MkdirTemp(here.Dir, "u4-")
	if err != nil || os.Chmod(dir, 0o755) != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	const script = `set -e
mkdir "$1/lower" "$1/upper" "$1/work" "$1/over"
mount -t overlay -o "lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work" over "$1/over"
export SAFE_RUN_ROOT=$1/over/root SAFE_RUN_STATE=$1/state
"$2" load -q -i "$3" >/dev/null
code=0; "$2" run --rm --network none busybox echo RAN || code=$?
find "$1/over/root/containers" "$1/over/root/ids" -mindepth 1 ! -name next
"$2" engine stop
exit $code`
	cmd := exec.Command("unshare", "--mount", "sh", "-c", script, "sh", dir, here.Bin, filepath.Join(here.Repo, "build/images/busybox.tar"))
	var errs strings.Builder
	cmd.Stderr = &errs
	out, _ := cmd.Output()
	if cmd.ProcessState.ExitCode() != 125 || len(out) > 0 || !strings.Contains(errs.String(), "idmapped") {
		t.Errorf("a root: exit %d, %q, %s", cmd.ProcessState.ExitCode(), out, errs.String())
	}
}

func TestU5(t *testing.T) {
	row(t, "U5")
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	const accounts = "root:x:0:0::/:/bin/sh\nboss:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\nzero:x:00:0::/:/bin/sh\n"
	for user, want := range map[string]string{"": "0 0", "boss": "0 0", "1000:0": "1000 0", "00": ""} {
		img, err := imagekit.Busybox(busybox)
		if err != nil {
			t.Fatal(err)
		}
		img.Name, img.Config.User = "u5:latest", user
		img.Layers = append(img.Layers, imagekit.Layer{Entries: []imagekit.Entry{imagekit.File("etc/passwd", 0o644, accounts)}})
		if a, err := load(t.TempDir(), img); err != nil || a.Code != 0 {
			t.Fatalf("%q: %v, %s", user, err, a)
		}
		a := here.Run("run", "--rm", "--network", "none", "u5", "sh", "-c", "echo $(id -u) $(id -g); grep -c 'Cap.*0000000000000000$' /proc/self/status")
		if want != "" && a.Stdout != want+"\n5\n" || want == "" && (a.Code != 125 || a.Stdout != "") {
			t.Errorf("USER %q: wanted %q and no capability, got %s", user, want, a)
		}
	}
	// What is shown beforehand is numeric.
	for user, want := range map[string]string{
		"root": "0 0", "0": "0 0", "0:0": "0 0", "boss": "0 0", "zero": "0 0", "app": "1000 1000", "app:0": "1000 0", "7": "7 0",
		"00": "", ":0": "", "+0": "", "-0": "", "0x0": "", " 0": "", "0:00": "", "65536": "", "4294967296": "", "1000:4294967296": "",
	} {
		a := here.Run("run", "--dry-run", "--network", "none", "-u", user, "u5", "true")
		uid, gid, _ := strings.Cut(want, " ")
		shown := strings.Contains(strings.Join(strings.Fields(a.Stdout), ""), `"user":{"uid":`+uid+`,"gid":`+gid+`,`)
		if want != "" && (a.Code != 0 || !shown) || want == "" && a.Code != 125 {
			t.Errorf("-u %q: wanted %q, got exit %d: %.300s%s", user, want, a.Code, a.Stdout, a.Stderr)
		}
	}
	here.Run("rmi", "u5")
}

func TestU6(t *testing.T) {
	row(t, "U6")
	const script = "id -G; sed -n 's/^Groups:[[:space:]]*//p' /proc/self/status"
	// Groups of the host that the launcher has: adm, disk, shadow, and others.
	host := &syscall.SysProcAttr{Credential: &syscall.Credential{Groups: []uint32{4, 6, 42, 999, 65534}}}
	for _, c := range []struct {
		flags []string
		want  []string // all groups there may be
	}{
		{nil, []string{"0"}},
		{[]string{"-u", "1000"}, []string{"10", "1000"}}, // as the image's files have it,
		{[]string{"-u", "1000:1000"}, []string{"1000"}},
		{[]string{"-u", "1000:1000", "--group-add", "2000"}, []string{"1000", "2000"}},
	} {
		cmd := exec.Command(here.Bin, slices.Concat([]string{"run", "--rm"}, c.flags, []string{denImage, "sh", "-c", script})...)
		cmd.SysProcAttr = host
		out, err := cmd.Output()
		got := strings.Fields(string(out))
		slices.Sort(got)
		if got = slices.Compact(got); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q by a launcher with groups: %v, %q, wanted %q", c.flags, err, got, c.want)
		}
	}
	cmd := exec.Command(here.Bin, "exec", denOf(t, nil).name, "sh", "-c", script)
	cmd.SysProcAttr = host
	if out, err := cmd.Output(); err != nil || strings.Trim(string(out), "0 \n") != "" {
		t.Errorf("exec by a launcher with groups: %v, %q", err, out)
	}
	inModes(t, nil, script, func(t *testing.T, _, out string) {
		if strings.Trim(out, "0 \n") != "" || !strings.HasPrefix(out, "0\n") {
			t.Errorf("groups %q", out)
		}
	})
}
