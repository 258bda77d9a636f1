// Package formattest has what the tests of all text formats do.
package formattest

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/converttest"
	"github.com/safe-run/safe-run/convert/internal/words"
	"github.com/safe-run/safe-run/internal/argv"
	"github.com/safe-run/safe-run/internal/argv/argvtest"
	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
)

// Hostile are values that break out of a quoting that is not whole.
func Hostile() []string {
	return []string{
		"a b", "'; touch /pwned; '", "\"; id; \"", "$(id)", "`id`", "${HOME}", "$HOME", "%n %h %%", "\\", "a\\", "\\\\n", "x\nExecStart=/bin/sh", "x\n[Service]\nExecStart=/bin/sh",
		"\n---\nservices:\n", "a: b # c", "- x", "{{.}}", "*", "&anchor", "!!binary x", "\x1b[31mred\x1b[0m", "\u202egnp.exe", "\u2028", "\u0085", "tab\there", "\r\n", " lead", "trail ",
		";", "#", "~", "~root", "!x", "=", "--", "-x", "ok", "true", "null", "0777", "1e3", "@", "%", "|", ">", "\"", "'", "a,b", "a\"b,c=d", "[x]", "\ufeffbom", "\U000e0041",
	}
}

// Project is one of containers with names of their own.
func Project(all ...convert.Container) convert.Project { return convert.Project{Containers: all} }

// Export writes a project and checks that nothing in it can do harm to who reads
// it, and that what is read back is written just the same again.
func Export(t testing.TB, f convert.Format, p convert.Project, o convert.Options) ([]convert.File, []convert.Loss, error) {
	t.Helper()
	files, losses, err := convert.Export(f, p, o)
	if err != nil {
		if fail.KindOf(err) == fail.Internal {
			t.Fatalf("%s: %s: %v", f.Name(), asked(p), err)
		}
		Printable(t, err.Error())
		return nil, nil, err
	}
	for _, file := range files {
		Printable(t, string(file.Data))
		if strings.ContainsAny(file.Name, "/\x00\n") || file.Name == "" || file.Name[0] == '.' {
			t.Fatalf("%s: file %q", f.Name(), file.Name)
		}
	}
	again := Import(t, f, files, o)
	again.Name, again.Networks = p.Name, p.Networks
	second, _, err := convert.Export(f, again, o)
	if err != nil {
		t.Fatalf("%s: what was written cannot be written again: %v\n%s", f.Name(), err, files[0].Data)
	}
	if !slices.EqualFunc(files, second, func(a, b convert.File) bool {
		return a.Name == b.Name && a.Also == b.Also && bytes.Equal(a.Data, b.Data)
	}) {
		t.Fatalf("%s: written again it is another document:\n%s", f.Name(), Diff(files, second))
	}
	for i := range p.Containers {
		want, got := p.Containers[i], again.Containers[i]
		if want.Name != got.Name || !slices.Equal(want.DependsOn, got.DependsOn) || want.Workload.Image != got.Workload.Image || !slices.Equal(want.Workload.Args, got.Workload.Args) {
			t.Fatalf("%s: %s %s %q is read as %s %s %q\n%s", f.Name(), want.Name, want.Workload.Image, want.Workload.Args, got.Name, got.Workload.Image, got.Workload.Args, files[0].Data)
		}
		a, b := convert.Normal(want.Workload, o.Limits), convert.Normal(got.Workload, o.Limits)
		a.AppArmor, a.Seccomp, b.Seccomp, a.SecurityOpts, b.SecurityOpts = nil, nil, nil, nil, nil
		if a, b := argv.Said(a), argv.Said(b); !reflect.DeepEqual(a, b) {
			t.Fatalf("%s:\n%+v is read as\n%+v\n%s", f.Name(), a, b, files[0].Data)
		}
	}
	return files, losses, nil
}

// asked is what containers were made of.
func asked(p convert.Project) string {
	var all []string
	for _, c := range p.Containers {
		list, err := argv.Flags(c.Workload)
		all = append(all, fmt.Sprintf("%s: %q %v", c.Name, list, err))
	}
	text := strings.Join(all, "\n")
	return text[:min(len(text), 2000)]
}

// Import reads files that have to be right.
func Import(t testing.TB, f convert.Format, files []convert.File, o convert.Options) (p convert.Project) {
	t.Helper()
	found, losses, err := f.Read(files, o)
	if err != nil || len(losses) > 0 {
		t.Fatalf("%s: %v %+v", f.Name(), err, losses)
	}
	for _, one := range found {
		c, err := one.Container(o)
		if err != nil {
			t.Fatalf("%s: %+v: %v", f.Name(), one, err)
		}
		p.Containers = append(p.Containers, c)
	}
	return p
}

// Diff is the first line in which files differ.
func Diff(a, b []convert.File) string {
	for i := range a {
		if i >= len(b) || a[i].Name != b[i].Name {
			return "other files"
		}
		x, y := strings.Split(string(a[i].Data), "\n"), strings.Split(string(b[i].Data), "\n")
		for n := range x {
			if n >= len(y) || x[n] != y[n] {
				return fmt.Sprintf("%s, line %d:\n%q\n%q", a[i].Name, n+1, x[n], append(y, "")[min(n, len(y))])
			}
		}
	}
	return "no line"
}

// Printable fails for text with characters that do not show as themselves.
func Printable(t testing.TB, text string) {
	t.Helper()
	for i, r := range text {
		if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
			t.Fatalf("%q, at byte %d of\n%q", r, i, text)
		}
	}
}

// Options are those of argvtest's directory.
func Options() convert.Options {
	o := converttest.Options()
	o.Context = argvtest.Context()
	o.Context.Profile = nil
	o.Context.LookupEnv = func(string) (string, bool) { return "", false }
	return o
}

// Line is a command line as a container, or what is wrong with it.
func Line(args []string, o convert.Options) (convert.Container, error) {
	inv, err := cli.Parse(args, o.Context)
	if err != nil {
		return convert.Container{}, err
	}
	c := convert.Container{Name: words.Name(inv.Workload.Name), Workload: inv.Workload}
	if inv.Workload.Name == "" {
		c.Name = words.ImageName(inv.Workload.Image)
	}
	return c, nil
}

// Everything runs the tests every format has: the workloads of converttest, all
// command lines of argvtest, and hostile values in every place. refused are
// texts of errors that are right.
func Everything(t *testing.T, f convert.Format, refused ...string) {
	t.Helper()
	may := func(t *testing.T, err error) {
		t.Helper()
		if err != nil && !slices.ContainsFunc(refused, func(s string) bool { return strings.Contains(err.Error(), s) }) {
			t.Errorf("%s: %v", f.Name(), err)
		}
	}
	t.Run("workloads", func(t *testing.T) {
		all := converttest.Workloads(t)
		if len(all) < 30 {
			t.Fatalf("%d workloads", len(all))
		}
		for _, files := range []bool{true, false} {
			o := converttest.Options()
			o.Files = files
			for _, c := range all {
				if _, _, err := Export(t, f, Project(c), o); err != nil {
					t.Errorf("%s: %v", c.Name, err)
				}
			}
		}
		p := Project(all...)
		p.Name = "all"
		for i := range p.Containers {
			if i > 0 {
				p.Containers[i].DependsOn = []convert.Dependency{{Name: p.Containers[i-1].Name, Condition: []string{"started", "healthy", "completed"}[i%3]}}
			}
		}
		if _, _, err := Export(t, f, p, converttest.Options()); err != nil {
			t.Error(err)
		}
	})
	t.Run("lines", func(t *testing.T) {
		written := 0
		for _, l := range argvtest.Lines() {
			args := strings.Split(l, " ")
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "~", " ")
			}
			c, err := Line(args, Options())
			if err != nil {
				continue // names profiles or files that are not there
			}
			_, _, err = Export(t, f, Project(c), Options())
			may(t, err)
			if err == nil {
				written++
			}
		}
		if written < len(argvtest.Lines())*2/3 {
			t.Errorf("%d of %d lines were written", written, len(argvtest.Lines()))
		}
	})
	t.Run("hostile", func(t *testing.T) {
		alone := map[string]bool{} // flags that were refused once
		for _, h := range Hostile() {
			// All at once, and one by one only where that is refused.
			var whole []string
			for _, args := range hostileLines(h) {
				flags := slices.Concat(whole, args[:len(args)-1])
				if _, err := Line(append(flags, "img"), Options()); err == nil && strings.HasPrefix(args[0], "--") && !alone[strings.TrimSuffix(args[0], h)] {
					whole = flags
				} else if c, err := Line(args, Options()); err == nil {
					_, _, err = Export(t, f, Project(c), Options())
					may(t, err)
				}
			}
			c, err := Line(append(whole, "img"), Options())
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err = Export(t, f, Project(c), Options()); err == nil {
				continue
			}
			for _, flag := range whole {
				if c, err = Line([]string{flag, "img"}, Options()); err == nil {
					_, _, err = Export(t, f, Project(c), Options())
					alone[strings.TrimSuffix(flag, h)] = err != nil
					may(t, err)
				}
			}
		}
	})
}

// hostileLines put a hostile value in each place that takes one.
func hostileLines(h string) (out [][]string) {
	for _, l := range []string{
		"--env=A=", "--label=a=", "--label=", "--annotation=a=", "--health-cmd=", "--entrypoint=", "--workdir=/", "--tmpfs=/", "--volume=/x:/y", "--hostname=", "--user=",
		"--sysctl=net.x=", "--log-opt=a=", "--device=/dev/", "--cgroup-parent=", "--runtime=", "--security-opt=apparmor=", "--security-opt=label=", "--volumes-from=", "--pid=container:",
		"--env=", "--env=B ", "--group-add=", "--stop-signal=", "--name=", "--secret=a=/", "--gpus=", "--cap-add=", "--device=", "--egress=",
	} {
		out = append(out, []string{l + h, "img"})
	}
	return append(out, []string{"--mount=" + words.CSV("type=bind", "source=/"+h, "target=/t/"+h), "img"}, []string{"--mount=" + words.CSV("type=volume", "source=vv", "target=/u/"+h, "volume-label=k="+h), "img"},
		[]string{"img" + h, "x"}, []string{"img", h}, []string{"img", "sh", "-c", h, h}, []string{"--health-exec=" + jsonWords(h), "img"})
}

func jsonWords(h string) string {
	s, err := words.JSON([]string{"x", h})
	if err != nil {
		return `["x"]`
	}
	return s
}

// Reads reads any data: it must not fail in another way than by an error, and
// all that is told has to be fit to be shown.
func Reads(t *testing.T, f convert.Format, name string, data []byte) {
	t.Helper()
	found, losses, err := f.Read([]convert.File{{Name: name, Data: data}}, Options())
	if err != nil {
		Printable(t, err.Error())
		return
	}
	for _, l := range losses {
		if strings.Contains(l.What, "\n") {
			t.Fatalf("%q", l)
		}
		Printable(t, l.What)
	}
	seen := map[string]bool{}
	for _, c := range found {
		if !words.IsName(c.Name) || seen[c.Name] || c.Image == "" {
			t.Fatalf("%+v", c)
		}
		seen[c.Name] = true
		for _, flag := range c.Flags {
			if !strings.HasPrefix(flag, "--") || len(flag) < 4 || strings.Contains(flag, words.Mark) {
				t.Fatalf("%q", flag)
			}
		}
		if _, err := c.Container(Options()); err != nil {
			Printable(t, err.Error())
		}
	}
}

// Comes writes a command line, given as words separated by NUL, and has it come
// back.
func Comes(t *testing.T, f convert.Format, text string, refused ...string) {
	t.Helper()
	c, err := Line(strings.Split(text, "\x00"), Options())
	if err != nil || !words.IsName(c.Name) {
		return
	}
	if _, _, err := Export(t, f, Project(c), Options()); err != nil && !slices.ContainsFunc(refused, func(s string) bool { return strings.Contains(err.Error(), s) }) {
		t.Fatalf("%s: %q: %v", f.Name(), text, err)
	}
}
