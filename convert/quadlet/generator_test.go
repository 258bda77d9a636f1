package quadlet_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/converttest"
	"github.com/safe-run/safe-run/convert/internal/formattest"
	"github.com/safe-run/safe-run/convert/quadlet"
	"github.com/safe-run/safe-run/internal/argv/argvtest"
	"github.com/safe-run/safe-run/internal/unit"
)

// generator builds podman's own generator, which tools/go.mod pins.
func generator(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "quadlet")
	build := exec.Command("go", "build", "-o", program, "github.com/containers/podman/v5/cmd/quadlet")
	build.Dir = "../../tools"
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building podman's generator: %v\n%s", err, out)
	}
	return program
}

// generated gives the units podman's generator makes of files, by their names.
func generated(t *testing.T, program string, files []convert.File) map[string]string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := exec.Command(program, "-dryrun", "-no-kmsg-log")
	run.Env = []string{"QUADLET_UNIT_DIRS=" + dir, "PATH=/usr/bin:/bin"}
	var errs strings.Builder
	run.Stderr = &errs
	out, err := run.Output()
	if err != nil || strings.Contains(errs.String(), "rror") || strings.Contains(errs.String(), "nsupported") {
		t.Fatalf("%v: %s\n%s", err, errs.String(), files[0].Data)
	}
	units := map[string]string{}
	for part := range strings.SplitSeq("\n"+string(out), "\n---") {
		name, text, ok := strings.Cut(part, "---\n")
		if ok {
			units[strings.TrimSuffix(name, ".service")] = text
		}
	}
	return units
}

// command is what a generated unit runs, once systemd has read it.
func command(t *testing.T, text string) []string {
	t.Helper()
	settings, err := unit.Settings(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, s := range settings {
		if s.Section+"."+s.Key != "Service.ExecStart" {
			continue
		}
		// The name podman gives where none is asked for has a specifier.
		all, err := unit.Commands(strings.Replace(s.Value, "--name systemd-%N ", "", 1), nil)
		if err != nil || len(all) != 1 {
			t.Fatalf("%v: %q", err, s.Value)
		}
		return all[0]
	}
	t.Fatalf("no ExecStart in\n%s", text)
	return nil
}

// TestGenerator: what podman's generator makes of the files is one podman run
// with the words the container has, and with what closes podman's own defaults.
func TestGenerator(t *testing.T) {
	program := generator(t)
	o := converttest.Options()
	all := converttest.Workloads(t)
	p := formattest.Project(all...)
	p.Containers[1].DependsOn = []convert.Dependency{{Name: all[0].Name, Condition: "started"}}
	files, _, err := convert.Export(quadlet.Format(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	units := generated(t, program, files)
	for _, c := range all {
		text, ok := units[c.Name]
		if !ok {
			t.Errorf("no unit %s of %d", c.Name, len(units))
			continue
		}
		words := command(t, text)
		image := slices.Index(words, c.Workload.Image)
		if image < 0 || !slices.Equal(words[image+1:], c.Workload.Args) && len(c.Workload.Args) > 0 {
			t.Errorf("%s runs %q, want the words %q", c.Name, words, c.Workload.Args)
			continue
		}
		userns := "auto"
		if c.Workload.UserNSMode != "" {
			userns = c.Workload.UserNSMode
		}
		for _, want := range [][]string{
			{"--cap-drop", "all"},
			{"--security-opt=no-new-privileges"},
			{"--userns", userns},
			{"--read-only"},
			{"--memory-swap"},
			{"--pids-limit"},
			{"--ulimit", "core=0:0"},
			{"--security-opt", "seccomp=/etc/containers/systemd/" + c.Name + ".seccomp.json"},
		} {
			i := slices.IndexFunc(words, func(w string) bool { return w == want[0] || strings.HasPrefix(w, want[0]+"=") })
			for i >= 0 && len(want) > 1 && (words[i] != want[0] || words[i+1] != want[1]) {
				next := slices.Index(words[i+1:], want[0])
				if i += 1 + next; next < 0 {
					i = -1
				}
			}
			if i < 0 || i > image {
				t.Errorf("%s: no %q in %q", c.Name, want, words)
			}
		}
	}
}

// TestGeneratorHostile: values that break out of a quoting do not get out of
// their word.
func TestGeneratorHostile(t *testing.T) {
	program := generator(t)
	o := formattest.Options()
	for _, h := range append(formattest.Hostile(), argvtest.Lines()...) {
		var args []string
		for _, flag := range []string{"--env=A=" + h, "--label=a=" + h, "--annotation=a=" + h, "--health-cmd=" + h, "--entrypoint=" + h, "--workdir=/" + h, "--hostname=" + h, "--user=" + h, "--log-opt=a=" + h} {
			if _, err := formattest.Line(append(slices.Clone(args), flag, "img"), o); err == nil {
				args = append(args, flag)
			}
		}
		args = append(args, "img", "x", "a"+h)
		c, err := formattest.Line(args, o)
		if err != nil {
			continue
		}
		files, losses, err := convert.Export(quadlet.Format(), formattest.Project(c), o)
		if err != nil {
			t.Errorf("%q: %v", args, err)
			continue
		}
		words := command(t, generated(t, program, files)["img"])
		n := len(words)
		if n < 3 || words[n-3] != "img" || words[n-1] != "a"+h {
			t.Errorf("%q ends in %q", args, words[max(0, n-3):])
		}
		for _, want := range []string{"A=" + h, "a=" + h, h, "/" + h} {
			kept := slices.ContainsFunc(losses, func(l convert.Loss) bool { return strings.HasSuffix(l.What, want) })
			if !kept && !slices.ContainsFunc(words, func(w string) bool { return strings.HasSuffix(w, want) }) && strings.HasPrefix(want, "A=") {
				t.Errorf("%q: no %q in %q", args, want, words)
			}
		}
	}
}
