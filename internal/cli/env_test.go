package cli

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

func TestEnv(t *testing.T) {
	got := mustParse(t, "-e", "A=1", "--env-file", "env", "-e", "HOME", "-e", "EMPTY", "-e", "GONE", "-e", "B=x=y\nz", "-e", "C=", "img").Workload.Env
	want := []spec.EnvVar{
		{Name: "A", Value: strPtr("file")},
		{Name: "HOME", Value: strPtr("/home/me")},
		{Name: "A", Value: strPtr("1")},
		{Name: "HOME", Value: strPtr("/home/me")},
		{Name: "EMPTY", Value: strPtr("")},
		{Name: "GONE"},
		{Name: "B", Value: strPtr("x=y\nz")},
		{Name: "C", Value: strPtr("")},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestLabels(t *testing.T) {
	inv := mustParse(t, "--label", "a=flag", "--label-file", "labels", "-l", "bare", "-l", "c=1", "-l", "c=2=3", "img")
	if want := map[string]string{"a": "flag", "b": "file", "bare": "", "c": "2=3"}; !reflect.DeepEqual(inv.Workload.Labels, want) || inv.Notices != nil {
		t.Errorf("%+v %q", inv.Workload.Labels, inv.Notices)
	}
	inv = mustParse(t, "--label-file", "bare", "img")
	if want := map[string]string{"a": "file"}; !reflect.DeepEqual(inv.Workload.Labels, want) || len(inv.Notices) != 1 {
		t.Errorf("%+v %q", inv.Workload.Labels, inv.Notices)
	}
}

func TestParseKV(t *testing.T) {
	got, err := parseKV([]byte("\xef\xbb\xbfA=1\r\n  # no comment? it is\n\n\t B= x 'y' # z \nC\nD==\n#E=1\nF=$A\n"))
	want := []kvLine{{1, "A", "1", true}, {4, "B", " x 'y' # z ", true}, {5, "C", "", false}, {6, "D", "=", true}, {8, "F", "$A", true}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v", got, err)
	}
	for in, text := range map[string]string{
		"A=1\n=x":                           "line 2 has no name",
		"A b=1":                             "line 1: the name contains a blank",
		"A ":                                "line 1: the name contains a blank",
		"A=1\nB=\xff":                       "line 2 is not valid UTF-8",
		"A\x1b=1":                           "control character",
		"A=\x00":                            "NUL",
		"A=" + strings.Repeat("x", 64<<10):  "line 1 is longer than 64 KiB",
		"\nA=" + strings.Repeat("x", 1<<20): "line 2 is longer than 64 KiB",
		"root:$6$hash:1:2 x=y":              "blank",
	} {
		_, err := parseKV([]byte(in))
		if err == nil || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "$6$") {
			t.Errorf("%.40q: %v, want %q", in, err, text)
		}
	}
	if lines, err := parseKV([]byte("A=" + strings.Repeat("x", 64<<10-3))); err != nil || len(lines) != 1 {
		t.Errorf("the longest line: %v", err)
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(file("plain"), []byte("A=1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("plain", file("link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(file("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	var self *Caller
	for _, name := range []string{"plain", "link"} {
		if data, err := self.ReadFile(file(name), 3); err != nil || string(data) != "A=1" {
			t.Errorf("%s: %q %v", name, data, err)
		}
	}
	start := time.Now()
	for path, text := range map[string]string{
		file("fifo"): "not a regular file", dir: "not a regular file", "/dev/zero": "not a regular file", "/dev/tty": "",
		file("missing\x1b"): "no such file", file("plain") + "/x": "not a directory",
	} {
		if _, err := self.ReadFile(path, 3); err == nil || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%q: %v", path, err)
		}
	}
	if d := time.Since(start); d > time.Second {
		t.Errorf("took %v", d)
	}
	if data, err := self.ReadFile(file("plain"), 2); err == nil || data != nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("over the limit: %q %v", data, err)
	}
	if _, err := self.ReadFile(file("missing"), 3); fail.KindOf(err) != fail.NotFound {
		t.Errorf("missing: %v", err)
	}
}

// TestReadFileAsCaller: under sudo the caller's rights count, and the rest of
// the process keeps its own.
func TestReadFileAsCaller(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root")
	}
	dir := t.TempDir()
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	type f struct {
		name     string
		uid, gid int
		mode     os.FileMode
		readable bool
	}
	for range 50 { // often enough to meet the main thread
		if err := (&Caller{UID: 61234, GID: 61235}).Do(func() error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	caller := &Caller{UID: 61234, GID: 61235, Groups: []uint32{61235, 61236}}
	for _, c := range []f{
		{"root", 0, 0, 0o600, false},
		{"root-group", 0, 0, 0o640, false},
		{"own", 61234, 0, 0o600, true},
		{"group", 0, 61235, 0o640, true},
		{"further-group", 0, 61236, 0o640, true},
		{"all", 0, 0, 0o644, true},
	} {
		path := filepath.Join(dir, c.name)
		if err := os.WriteFile(path, []byte("secret"), c.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, c.uid, c.gid); err != nil {
			t.Fatal(err)
		}
		data, err := caller.ReadFile(path, 100)
		if (err == nil) != c.readable || (err != nil && strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %q %v", c.name, data, err)
		}
		if _, err := (*Caller)(nil).ReadFile(path, 100); err != nil {
			t.Errorf("%s as root: %v", c.name, err)
		}
	}
	// The kernel asks for another identity there than for other files.
	if err := caller.Do(func() error {
		f, err := os.OpenFile("/proc/sys/kernel/hostname", os.O_WRONLY, 0)
		if err == nil {
			f.Close()
		}
		return err
	}); !errors.Is(err, os.ErrPermission) {
		t.Errorf("a setting of the kernel: %v", err)
	}
	// No thread of the process keeps the caller's identity.
	time.Sleep(50 * time.Millisecond)
	tasks, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(tasks) == 0 {
		t.Fatal(err)
	}
	for _, task := range tasks {
		status, err := os.ReadFile(task)
		if err == nil && strings.Contains(string(status), "61234") && !strings.Contains(string(status), "(zombie)") {
			t.Errorf("%s still is the caller:\n%s", task, status)
		}
	}
	if out, err := exec.Command("id", "-u").Output(); err != nil || strings.TrimSpace(string(out)) != "0" {
		t.Errorf("a child is %q %v", out, err)
	}
}

func TestCallerOf(t *testing.T) {
	env := func(uid, gid string) func(string) (string, bool) {
		return func(name string) (string, bool) {
			v := map[string]string{"SUDO_UID": uid, "SUDO_GID": gid}[name]
			return v, v != ""
		}
	}
	if c, err := CallerOf(0, env("61234", "61235")); err != nil || c == nil || c.UID != 61234 || c.GID != 61235 {
		t.Errorf("%+v %v", c, err)
	}
	for _, c := range []struct {
		euid     int
		uid, gid string
		bad      bool
	}{
		{0, "", "", false},
		{1000, "61234", "61235", false},
		{0, "0", "0", false},
		{0, "x", "1", true},
		{0, "1", "", true},
		{0, "4294967295", "1", true},
		{0, "-1", "1", true},
	} {
		if got, err := CallerOf(c.euid, env(c.uid, c.gid)); got != nil || (err != nil) != c.bad {
			t.Errorf("%+v: %+v %v", c, got, err)
		}
	}
}
