package kubernetes

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/converttest"
	"github.com/safe-run/safe-run/internal/argv/argvtest"
	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// lineOptions are those of a host with the files of argvtest.
func lineOptions() convert.Options {
	o := converttest.Options()
	o.Context = argvtest.Context()
	return o
}

// words splits a line of argvtest.
func words(line string) []string {
	out := strings.Fields(line)
	for i := range out {
		out[i] = strings.ReplaceAll(out[i], "~", " ")
	}
	return out
}

// lines gives command lines as containers.
func lines(t testing.TB) (out []convert.Container) {
	for _, l := range argvtest.Lines() {
		out = append(out, convert.Container{Name: "web", Workload: argvtest.Parse(t, words(l)...)})
	}
	return out
}

// again exports, reads, and exports what was read.
func again(t testing.TB, f convert.Format, p convert.Project, o convert.Options) (first, second []convert.File) {
	t.Helper()
	first, _, err := convert.Export(f, p, o)
	if err != nil {
		t.Fatal(err)
	}
	found, left, err := f.Read(first, o)
	if err != nil || len(left) > 0 {
		t.Fatalf("%v, %v of\n%s", err, left, first[0].Data)
	}
	back := convert.Project{Name: p.Name, Networks: p.Networks}
	for i, c := range found {
		one, err := c.Container(o)
		if err != nil {
			t.Fatalf("%v of\n%s", err, first[0].Data)
		}
		one.DependsOn = p.Containers[i].DependsOn // Pods have none
		back.Containers = append(back.Containers, one)
	}
	second, _, err = convert.Export(f, back, o)
	if err != nil {
		t.Fatalf("%v of\n%s", err, first[0].Data)
	}
	return first, second
}

func sameFiles(a, b []convert.File) bool {
	return slices.EqualFunc(a, b, func(x, y convert.File) bool { return x.Name == y.Name && bytes.Equal(x.Data, y.Data) })
}

// Every command line is exported so that it is the same when it is read, or it is
// a clear error.
func TestLines(t *testing.T) {
	refused := []string{ // by the parser of seccomp filters, which would let nothing run
		"--security-opt=seccomp=/etc/p.json img", "--profile=web --cap-add=CHOWN img",
	}
	for _, l := range argvtest.Lines() {
		for i, kind := range []string{"", "deployment", "Job", "pod"} {
			if kind != "" && !strings.Contains(l, "--restart") && !strings.Contains(l, "--health") {
				continue
			}
			for _, byRuntime := range []bool{false, true} {
				if !byRuntime && i > 0 {
					continue
				}
				o := lineOptions()
				o.RuntimeDefaultSeccomp = byRuntime
				inv, err := cli.Parse(words(l), o.Context)
				if err != nil {
					t.Fatal(err)
				}
				p := convert.Project{Containers: []convert.Container{{Name: "web", Workload: inv.Workload}}}
				if _, _, err := convert.Export(Format(kind), p, o); err != nil {
					if fail.KindOf(err) != fail.Usage || !slices.Contains(refused, l) {
						t.Errorf("%s as %q: %v", l, kind, err)
					}
					continue
				}
				first, second := again(t, Format(kind), p, o)
				if !sameFiles(first, second) {
					t.Errorf("%s as %q:\n%s\n%s", l, kind, first[0].Data, second[0].Data)
				}
			}
		}
	}
}

func parse(args []string, o convert.Options) (spec.Workload, error) {
	inv, err := cli.Parse(args, o.Context)
	return inv.Workload, err
}

func cliFlags() (out []string) {
	for _, f := range append(cli.Own(), cli.Table()...) {
		out = append(out, f.Long)
	}
	return out
}
