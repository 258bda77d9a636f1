package launcher

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// chmod gives files and directories a mode.
func chmod(t *testing.T, mode os.FileMode, paths ...string) {
	t.Helper()
	for _, p := range paths {
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCommand(t *testing.T) {
	root := tree(t, "bin/", "bin/sh", "bin/text", "shut/", "shut/in", "p/", "run.sh")
	src := t.TempDir()
	for _, name := range []string{"tool", "doc"} {
		if err := os.WriteFile(filepath.Join(src, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	chmod(t, 0o755, root.Name()+"/bin/sh", root.Name()+"/shut/in")
	chmod(t, 0o644, src+"/doc")
	chmod(t, 0o700, root.Name()+"/shut")
	s := sight{root: root, mounts: []specs.Mount{
		{Destination: "/proc", Type: "proc"},
		{Destination: "/tmp", Type: "tmpfs", Options: []string{"noexec"}},
		{Destination: "/p", Type: "bind", Source: src, Options: []string{"noexec"}},
		{Destination: "/p/x", Type: "bind", Source: src},
		{Destination: "/one", Type: "bind", Source: src + "/tool", Options: []string{"noexec"}},
	}}
	for _, c := range []struct {
		arg  string
		kind fail.Kind // Internal: another failure
		text string
	}{
		{"", fail.CmdNotFound, "empty"},
		{"/", fail.CmdNotExec, "is a directory"},
		{"/bin", fail.CmdNotExec, "is a directory"},
		{"/bin/sh", fail.Internal, ""},
		{"sh", fail.Internal, ""},
		{"sh/", fail.CmdNotFound, "no such file"},
		{"/bin/text", fail.CmdNotExec, "not executable"},
		{"text", fail.CmdNotFound, "not executable"},
		{"nosuch", fail.CmdNotFound, "not found in $PATH"},
		{"/bin/sh/x", fail.CmdNotFound, "no such file"},
		{"./nosuch", fail.CmdNotFound, "no such file"},
		{"/shut/in", fail.CmdNotExec, `"/shut" is closed to uid 1000`},
		{"/tmp", fail.CmdNotExec, "is a directory"},
		{"/tmp/x", fail.CmdNotFound, "no such file"},
		{"/proc/x", fail.Internal, ""},
		{"/p/tool", fail.CmdNotExec, `do not run from the mount at "/p"`},
		{"./tool", fail.CmdNotExec, "do not run"},
		{"tool", fail.CmdNotFound, "do not run"},
		{"/p/doc", fail.CmdNotExec, "not executable"},
		{"/p/nosuch", fail.CmdNotFound, "no such file"},
		{"/p/x/tool", fail.Internal, ""},
		{"/one", fail.CmdNotExec, "do not run"},
	} {
		err := s.command(&specs.Process{
			Args: []string{c.arg}, Cwd: "/p", Env: []string{"PATH=/bin:relative:/p"}, User: specs.User{UID: 1000, GID: 1000},
		})
		if fail.KindOf(err) != c.kind || (err != nil && !strings.Contains(err.Error(), c.text)) || (err == nil) != (c.kind == fail.Internal) {
			t.Errorf("%q: kind %d %v, want kind %d %q", c.arg, fail.KindOf(err), err, c.kind, c.text)
		}
	}
}

func TestWorkdir(t *testing.T) {
	src := t.TempDir()
	if err := os.WriteFile(src+"/file", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s := sight{root: tree(t, "etc/", "etc/passwd"), mounts: []specs.Mount{
		{Destination: "/ro", Type: "bind", Source: src, Options: []string{"rro"}},
		{Destination: "/rw", Type: "bind", Source: src},
	}}
	for dir, text := range map[string]string{
		"/": "", "/etc": "", "/new/dir": "", "/ro": "", "/rw/new": "",
		"/etc/passwd": `"/etc/passwd" is not a directory`, "/etc/passwd/x": `"/etc/passwd" is not a directory`,
		"/rw/file": "not a directory", "/ro/new/dir": `"/ro" is mounted read-only`,
	} {
		err := s.workdir(dir)
		if (err == nil) != (text == "") || (err != nil && (!strings.Contains(err.Error(), text) || fail.KindOf(err) != fail.Usage)) {
			t.Errorf("%s: %v, want %q", dir, err, text)
		}
	}
}

func TestTargets(t *testing.T) {
	root := tree(t, "etc/", "etc/passwd")
	file, dir := spec.Source{Mode: 0o644}, spec.Source{Mode: fs.ModeDir | 0o755}
	for _, c := range []struct {
		target string
		src    spec.Source
		ok     bool
	}{
		{"/etc", dir, true},
		{"/etc/passwd", file, true},
		{"/new", file, true},
		{"/new", dir, true},
		{"/etc", file, false},
		{"/etc/passwd", dir, false},
	} {
		m := spec.Mount{Origin: "-v", Type: spec.MountBind, Source: "/src", Target: c.target}
		err := targets(root, []spec.Mount{m}, map[int]spec.Source{0: c.src})
		if (err == nil) != c.ok || (err != nil && fail.KindOf(err) != fail.Usage) {
			t.Errorf("%s of mode %s: %v", c.target, c.src.Mode, err)
		}
	}
}
