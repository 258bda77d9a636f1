package systemd

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tree makes files below a directory; one that ends in "/" is a directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		p := filepath.Join(root, name)
		if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(p, 0o755))
			continue
		}
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.WriteFile(p, []byte(text), 0o644))
	}
	return root
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func env(kv ...string) func(string) string {
	return func(k string) string {
		for _, e := range kv {
			if name, v, _ := strings.Cut(e, "="); name == k {
				return v
			}
		}
		return ""
	}
}

const all = "cpuset cpu io memory hugetlb pids\n"

func TestDetect(t *testing.T) {
	type want struct {
		name, cgroup    string
		delegated, main bool
	}
	const v2 = "sys/fs/cgroup/cgroup.controllers"
	for _, c := range []struct {
		name     string
		cgroup   string // of this process
		parent   string // of its parent, 42; "": the parent is 1
		files    map[string]string
		delegate string // value of the mark, "" for none
		env      []string
		want     want
	}{
		{
			"unit", "0::/system.slice/web.service\n", "",
			map[string]string{v2: all, "sys/fs/cgroup/system.slice/web.service/cgroup.controllers": all},
			"1",
			[]string{"INVOCATION_ID=x"},
			want{"web.service", "/system.slice/web.service", true, true},
		},
		{
			"not delegated", "0::/system.slice/web.service\n", "",
			map[string]string{v2: all, "sys/fs/cgroup/system.slice/web.service/cgroup.controllers": all},
			"",
			[]string{"INVOCATION_ID=x"},
			want{"web.service", "/system.slice/web.service", false, true},
		},
		{
			"marked as not delegated", "0::/system.slice/web.service\n", "",
			map[string]string{v2: all, "sys/fs/cgroup/system.slice/web.service/cgroup.controllers": all},
			"0",
			[]string{"INVOCATION_ID=x"},
			want{"web.service", "/system.slice/web.service", false, true},
		},
		{
			"without a controller", "0::/system.slice/web.service\n", "",
			map[string]string{v2: all, "sys/fs/cgroup/system.slice/web.service/cgroup.controllers": "memory pids"},
			"1",
			[]string{"INVOCATION_ID=x"},
			want{"web.service", "/system.slice/web.service", false, true},
		},
		{
			"in the leaf", "0::/system.slice/web.service/supervisor\n", "",
			map[string]string{v2: all, "sys/fs/cgroup/system.slice/web.service/cgroup.controllers": all},
			"1",
			[]string{"INVOCATION_ID=x", "SYSTEMD_EXEC_PID=7"},
			want{"web.service", "/system.slice/web.service", true, true},
		},
		{
			"control process", "0::/system.slice/web.service/.control\n", "",
			map[string]string{v2: all, "sys/fs/cgroup/system.slice/web.service/cgroup.controllers": all},
			"1",
			[]string{"INVOCATION_ID=x", "MAINPID=3"},
			want{"web.service", "/system.slice/web.service", true, false},
		},
		{
			"escaped", "0::/system.slice/_cpu.service\n", "",
			map[string]string{v2: all},
			"",
			[]string{"INVOCATION_ID=x"},
			want{"cpu.service", "/system.slice/_cpu.service", false, true},
		},
		{
			"of a user", "0::/user.slice/user-0.slice/user@0.service/app.slice/a.service\n", "0::/user.slice/user-0.slice/user@0.service/init.scope\n",
			map[string]string{v2: all},
			"",
			[]string{"INVOCATION_ID=x"},
			want{"a.service", "/user.slice/user-0.slice/user@0.service/app.slice/a.service", false, true},
		},
		{"v1", "9:name=systemd:/system.slice/web.service\n4:memory:/\n0::/\n", "", nil, "", []string{"INVOCATION_ID=x"}, want{"web.service", "/system.slice/web.service", false, true}},
		{"hybrid", "9:name=systemd:/system.slice/web.service\n0::/system.slice/web.service\n", "", nil, "", []string{"INVOCATION_ID=x"}, want{"web.service", "/system.slice/web.service", false, true}},
		{"no invocation", "0::/system.slice/web.service\n", "", map[string]string{v2: all}, "", nil, want{}},
		{"session", "0::/user.slice/user-0.slice/session-3.scope\n", "", map[string]string{v2: all}, "", []string{"INVOCATION_ID=x"}, want{}},
		{"scope of a user", "0::/user.slice/user-0.slice/user@0.service/app.slice/term.scope\n", "", map[string]string{v2: all}, "", []string{"INVOCATION_ID=x"}, want{}},
		{"a script's command", "0::/system.slice/web.service\n", "0::/system.slice/web.service\n", map[string]string{v2: all}, "", []string{"INVOCATION_ID=x"}, want{}},
		{"an orphan of a script", "0::/system.slice/web.service\n", "", map[string]string{v2: all}, "", []string{"INVOCATION_ID=x", "SYSTEMD_EXEC_PID=6"}, want{}},
		{"outside of the namespace", "0::/../web.service\n", "", map[string]string{v2: all}, "", []string{"INVOCATION_ID=x"}, want{}},
		{"no such file", "", "", map[string]string{v2: all}, "", []string{"INVOCATION_ID=x"}, want{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := map[string]string{"run/systemd/system/": "", "proc/self/cgroup": c.cgroup}
			for k, v := range c.files {
				files[k] = v
			}
			ppid := 1
			if c.parent != "" {
				ppid, files["proc/42/cgroup"] = 42, c.parent
			}
			root := tree(t, files)
			if c.delegate != "" {
				must(t, unix.Setxattr(filepath.Join(root, "sys/fs/cgroup/system.slice/web.service"), "trusted.delegate", []byte(c.delegate), 0))
			}
			u, err := detect(self{root: root, pid: 7, ppid: ppid, getenv: env(c.env...)})
			must(t, err)
			var got want
			if u != nil {
				got = want{u.Name, u.Cgroup, u.Delegated, u.Main}
			}
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestDetectWhatIsPassed(t *testing.T) {
	root := tree(t, map[string]string{"run/systemd/system/": "", "proc/self/cgroup": "0::/a.service\n", "sys/fs/cgroup/cgroup.controllers": all})
	var st unix.Stat_t
	must(t, unix.Fstat(2, &st))
	u, err := detect(self{root: root, pid: 7, ppid: 1, getenv: env(
		"INVOCATION_ID=x", "NOTIFY_SOCKET=@n", "WATCHDOG_USEC=3000000", "WATCHDOG_PID=7",
		fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev, st.Ino+1), "CREDENTIALS_DIRECTORY=/run/credentials/a.service")})
	must(t, err)
	if u.NotifySocket != "@n" || u.WatchdogInterval != 3*time.Second || u.Journal != [2]bool{} || u.Credentials != "/run/credentials/a.service" || u.Listen != nil {
		t.Errorf("got %+v", u)
	}
	if !isStream(fmt.Sprintf("%d:%d", st.Dev, st.Ino), 2) {
		t.Error("stderr is not found to be the stream it is")
	}
	for _, bad := range []string{"", ":", "1", "x:y", fmt.Sprintf("%d:", st.Dev)} {
		if isStream(bad, 2) {
			t.Errorf("%q is a stream", bad)
		}
	}
	for _, bad := range []string{"-1", "99999999999999999999", "x", "18446744073709551615", "9223372036854775807"} {
		if d := watchdog(self{pid: 7, getenv: env("WATCHDOG_USEC=" + bad)}); d != 0 {
			t.Errorf("watchdog %s: %v", bad, d)
		}
	}
	if d := watchdog(self{pid: 7, getenv: env("WATCHDOG_USEC=5", "WATCHDOG_PID=8")}); d != 0 {
		t.Error("another process's watchdog")
	}
	_, err = detect(self{root: root, pid: 7, ppid: 1, getenv: env("INVOCATION_ID=x", "LISTEN_PID=7", "LISTEN_FDS=1000")})
	if err == nil {
		t.Error("a thousand descriptors were taken")
	}
}

func TestClean(t *testing.T) {
	got := Clean([]string{"PATH=/bin", "NOTIFY_SOCKET=/x", "LISTEN_FDS=1", "INVOCATION_ID=1", "NOTIFY_SOCKETS=1", "CREDENTIALS_DIRECTORY=/c", "odd"})
	if !slices.Equal(got, []string{"PATH=/bin", "NOTIFY_SOCKETS=1", "odd"}) {
		t.Errorf("left: %q", got)
	}
}

// The kernel's part of this is tested with real cgroups, in a machine that has
// cgroup v2; here it is which files are written.
func TestEnterFiles(t *testing.T) {
	root := tree(t, map[string]string{
		"sys/fs/cgroup/a.service/cgroup.procs":            "11\n12\n",
		"sys/fs/cgroup/a.service/cgroup.subtree_control":  "",
		"sys/fs/cgroup/a.service/supervisor/cgroup.procs": "",
	})
	u := &Unit{Name: "a.service", Cgroup: "/a.service", Delegated: true, Controllers: strings.Fields(all), root: root}
	for range 2 {
		must(t, u.Enter())
	}
	if got := readLine(u.file("cgroup.subtree_control")); got != "+memory +pids +cpu +cpuset +io" {
		t.Errorf("controllers: %q", got)
	}
	if got := readLine(u.file("supervisor/cgroup.procs")); got != "12" {
		t.Errorf("processes: %q", got)
	}
	must(t, os.WriteFile(u.file("cgroup.procs"), []byte("0\n"), 0o644))
	if err := u.Enter(); err == nil || !strings.Contains(err.Error(), "cannot be moved") {
		t.Errorf("a process that has no number here: %v", err)
	}
	if err := (&Unit{Name: "b.service", root: root}).Enter(); err == nil {
		t.Error("a cgroup that is not delegated was entered")
	}
}

func TestMoveOutFiles(t *testing.T) {
	for _, c := range []struct {
		name, cgroup, procs string // procs: where the process is then
		files               map[string]string
	}{
		{"v2", "0::/system.slice/a.service\n", "sys/fs/cgroup/" + Away, map[string]string{"sys/fs/cgroup/cgroup.controllers": all}},
		{"v1", "3:name=systemd:/user.slice/user-0.slice/session-1.scope\n", "sys/fs/cgroup/systemd/" + Away, nil},
		{"hybrid", "3:name=systemd:/a.service\n0::/a.service\n", "sys/fs/cgroup/unified/" + Away, map[string]string{"sys/fs/cgroup/systemd/" + Away + "/cgroup.procs": ""}},
		{"elsewhere", "0::/docker/x\n", "", map[string]string{"sys/fs/cgroup/cgroup.controllers": all}},
		{"no systemd", "3:name=systemd:/\n0::/\n", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := map[string]string{"proc/77/cgroup": c.cgroup}
			for k, v := range c.files {
				files[k] = v
			}
			if c.procs != "" {
				files[c.procs+"/cgroup.procs"] = ""
			}
			root := tree(t, files)
			must(t, moveOut(root, 77))
			if c.procs != "" && readLine(filepath.Join(root, c.procs, "cgroup.procs")) != strconv.Itoa(77) {
				t.Error("the process was not moved")
			}
		})
	}
}

func FuzzGroups(f *testing.F) {
	f.Add("0::/system.slice/web.service\n")
	f.Add("9:name=systemd:/x.scope\n0::/../a.service\n")
	f.Add("0::/a.service/../../b.service\n0::/.service\n1:name=systemd:/_.service/x\n")
	f.Fuzz(func(t *testing.T, text string) {
		g, err := parseGroups(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, p := range []string{g.v2, g.named} {
			cgroup, name, _ := unitOf(p)
			if strings.Contains(name, "/") || !strings.HasPrefix(p, cgroup) || strings.Contains(p+"/", "/../") {
				t.Errorf("%q: %q in %q", text, name, cgroup)
			}
		}
	})
}
