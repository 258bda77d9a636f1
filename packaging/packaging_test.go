// Package packaging tests what is installed: by make install, by the archive,
// by the packages. It needs root and what `make build engine` makes.
package packaging

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/safe-run/safe-run/profiles"
)

// built is where what is packaged was built; the scripts go by it too.
func built() string {
	if b := os.Getenv("BUILD"); b != "" {
		return b
	}
	return "../build"
}

// call runs a command that has to succeed, and gives what it says.
func call(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	out, err := try(env, name, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

func try(env []string, name string, args ...string) (string, error) {
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), env...)
	c.WaitDelay = time.Minute
	out, err := c.CombinedOutput()
	return string(out), err
}

// TestMain looks at all that is tested here, so that go test runs again when
// some of it has changed.
func TestMain(m *testing.M) {
	for _, dir := range []string{".", built() + "/safe-run", built() + "/engine"} {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				_, err = os.Stat(path)
			}
			return err
		})
	}
	os.Exit(m.Run())
}

// tree lists what is below a directory, with modes; of links and files also
// the content.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		what := info.Mode().String()
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what += fmt.Sprintf(" %x", sha256.Sum256(b))
		}
		all[strings.TrimPrefix(path, dir)] = what
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var installed = []string{
	"/usr/bin/safe-run",
	"/usr/lib/safe-run/engine/containerd", "/usr/lib/safe-run/engine/containerd-shim-runc-v2", "/usr/lib/safe-run/engine/ctr",
	"/usr/lib/safe-run/engine/runc", "/usr/lib/safe-run/engine/tini",
	"/usr/lib/safe-run/engine/safe-run-activate", "/usr/lib/safe-run/engine/safe-run-compose",
	"/usr/lib/systemd/system/safe-run-restore.service",
	"/usr/share/bash-completion/completions/safe-run", "/usr/share/fish/vendor_completions.d/safe-run.fish",
	"/etc/apparmor.d/abstractions/safe-run", "/etc/safe-run",
	"/usr/share/doc/safe-run/README.md", "/usr/share/doc/safe-run/LICENSE", "/usr/share/doc/safe-run/install.md",
	"/usr/share/doc/safe-run/purge.sh", "/usr/share/doc/safe-run/examples/web.service",
}

func TestInstallAndUninstall(t *testing.T) {
	build := []string{"BUILD=" + smallBuild(t)}
	for _, c := range []struct{ prefix, unit, exec string }{
		{"/usr/local", "/usr/local/lib/systemd/system", "/usr/local/bin/safe-run"},
		{"/usr", "/usr/lib/systemd/system", "/usr/bin/safe-run"},
		{"/opt/safe run/", "", ""},
		{"/opt/../x", "", ""},
		{"//opt/x/", "/etc/systemd/system", "/opt/x/bin/safe-run"},
	} {
		t.Run(c.prefix, func(t *testing.T) {
			t.Parallel()
			dest := t.TempDir()
			// What was there before stays, and a file of others beside those of safe-run keeps its directory.
			if err := os.MkdirAll(dest+"/usr/local/bin", 0o755); err != nil {
				t.Fatal(err)
			}
			before := tree(t, dest)
			if out, err := try(build, "./install.sh", dest, c.prefix); (err != nil) != (c.unit == "") {
				t.Fatalf("%v: %s", err, out)
			}
			if c.unit == "" {
				if after := tree(t, dest); !maps.Equal(before, after) {
					t.Errorf("something was installed: %v", after)
				}
				return
			}
			unit, err := os.ReadFile(dest + c.unit + "/safe-run-restore.service")
			if err != nil || !strings.Contains(string(unit), "\nExecStart="+c.exec+" start --restore\n") {
				t.Errorf("%v: %s", err, unit)
			}
			if got := call(t, nil, dest+c.exec, "version"); !strings.Contains(got, "safe-run") {
				t.Errorf("version: %q", got)
			}
			first := tree(t, dest)
			for _, f := range installed {
				if c.prefix == "/usr" && first[f] == "" {
					t.Errorf("%s is missing", f)
				}
			}
			call(t, build, "./install.sh", dest, c.prefix) // over it
			if again := tree(t, dest); !maps.Equal(first, again) {
				t.Errorf("the second time it was something else: %v, %v", first, again)
			}
			call(t, nil, "./install.sh", "--uninstall", dest, c.prefix)
			if after := tree(t, dest); !maps.Equal(before, after) {
				t.Errorf("left: %v", after)
			}
			if out, err := try(nil, "./install.sh", "--uninstall", dest, c.prefix); err == nil {
				t.Errorf("uninstalled twice: %s", out)
			}
		})
	}
}

// TestUninstallIsBounded: a list of what was installed is not followed out of
// its place, and directories with other things in them stay.
func TestUninstallIsBounded(t *testing.T) {
	dest := t.TempDir()
	for f, text := range map[string]string{
		"usr/local/lib/safe-run/installed": "f /usr/local/bin/safe-run\nf /../victim\n",
		"usr/local/bin/safe-run":           "", "victim": "",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dest, f)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dest, f), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := try(nil, "./install.sh", "--uninstall", dest); err == nil {
		t.Errorf("no error: %s", out)
	}
	if _, err := os.Stat(dest + "/victim"); err != nil {
		t.Error(err)
	}
}

// smallBuild is what was built, with a few bytes in the place of each program:
// the real ones take minutes to copy and compress.
func smallBuild(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	program, err := filepath.Abs(built() + "/safe-run")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/safe-run", []byte("#!/bin/sh\nexec "+program+" \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/engine", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range installed {
		if in, name := filepath.Split(f); strings.HasSuffix(in, "/engine/") {
			if err := os.WriteFile(dir+"/engine/"+name, []byte("#!/bin/sh\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// TestManualPages: each verb that is shown has one, others have none, and the
// same sources give the same.
func TestManualPages(t *testing.T) {
	program, err := filepath.Abs(built() + "/safe-run")
	if err != nil {
		t.Fatal(err)
	}
	one, two := t.TempDir(), t.TempDir()
	call(t, []string{"SOURCE_DATE_EPOCH=1700000000", "TZ=Asia/Tokyo"}, program, "__man", one)
	call(t, []string{"SOURCE_DATE_EPOCH=1700000000", "TZ=America/Lima"}, program, "__man", two)
	pages := tree(t, one)
	if !maps.Equal(pages, tree(t, two)) {
		t.Error("not the same twice")
	}
	_, verbs, _ := strings.Cut(call(t, nil, program, "help"), "\nOther commands")
	want := []string{"/safe-run.1"}
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z]+) +[A-Z]`).FindAllStringSubmatch(verbs, -1) {
		want = append(want, "/safe-run-"+m[1]+".1")
	}
	got := slices.DeleteFunc(slices.Sorted(maps.Keys(pages)), func(p string) bool { return p == "/safe-run-completion.1" })
	slices.Sort(want)
	if len(want) < 40 || !slices.Equal(got, want) {
		t.Errorf("pages %v\nverbs %v", got, want)
	}
	for page, text := range map[string]string{
		"safe-run.1": `"2023-11-14"`, "safe-run-ps.1": `\fB\-a, \-\-all\fR`, "safe-run-image.1": `\fBsafe\-run image prune\fR`,
		"safe-run-run.1": ".so man1/safe-run.1\n", "safe-run-export.1": "kubernetes", "safe-run-doctor.1": `safe\-run\-doctor \- say what`,
	} {
		if b, err := os.ReadFile(filepath.Join(one, page)); err != nil || !bytes.Contains(b, []byte(text)) {
			t.Errorf("%s lacks %q (%v):\n%.500s", page, text, err, b)
		}
	}
}

// TestAppArmorAbstraction: it says what the built-in profile does, and compiles.
func TestAppArmorAbstraction(t *testing.T) {
	b, err := os.ReadFile("apparmor/safe-run")
	if err != nil {
		t.Fatal(err)
	}
	rules := func(text string) (all []string) {
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if strings.HasSuffix(line, ",") && line[0] != '#' && !strings.HasPrefix(line, "abi ") {
				all = append(all, line)
			}
		}
		slices.Sort(all)
		return all
	}
	narrow, err := profiles.NarrowAppArmor(profiles.AppArmorUse{Files: []profiles.AppArmorFile{{Path: "/only-here", Access: "r"}}}, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	want := rules(strings.ReplaceAll(narrow.Text, narrow.Name, "@{profile_name}"))
	want = slices.DeleteFunc(want, func(r string) bool { return strings.Contains(r, "/only-here") })
	if got := rules(string(b)); len(want) < 20 || !slices.Equal(got, want) {
		t.Errorf("the abstraction has\n%s\nand the built-in profile\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	dir := t.TempDir()
	if err := os.Mkdir(dir+"/abstractions", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/abstractions/safe-run", b, 0o644); err != nil {
		t.Fatal(err)
	}
	// The example in it.
	example := ""
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "#   "); ok && !strings.HasPrefix(rest, "--") {
			example += rest
		}
	}
	if !strings.Contains(example, "include <abstractions/safe-run>") {
		t.Fatalf("no example: %s", example)
	}
	if err := os.WriteFile(dir+"/profile", []byte(example), 0o644); err != nil {
		t.Fatal(err)
	}
	call(t, nil, "apparmor_parser", "-QK", "-I", dir, dir+"/profile")
	broken := strings.Replace(string(b), "deny mount,", "deny mountain,", 1)
	if err := os.WriteFile(dir+"/abstractions/safe-run", []byte(broken), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := try(nil, "apparmor_parser", "-QK", "-I", dir, dir+"/profile"); err == nil {
		t.Errorf("what is wrong compiles too: %s", out)
	}
}
