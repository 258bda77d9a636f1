package composefile_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/safe-run/safe-run/compose"
	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/composefile"
	"github.com/safe-run/safe-run/convert/converttest"
	"github.com/safe-run/safe-run/convert/internal/formattest"
	"github.com/safe-run/safe-run/convert/internal/words"
	"github.com/safe-run/safe-run/internal/argv"
	"github.com/safe-run/safe-run/internal/argv/argvtest"
)

// strict loads a file as docker compose does, with its schema.
func strict(t *testing.T, data []byte) *types.Project {
	t.Helper()
	p, err := loader.LoadWithContext(context.Background(), types.ConfigDetails{
		WorkingDir: "/w", ConfigFiles: []types.ConfigFile{{Filename: "compose.yaml", Content: data}}, Environment: types.Mapping{},
	}, func(o *loader.Options) { o.SetProjectName("x", true) })
	if err != nil {
		t.Errorf("%v\n%s", err, data)
	}
	return p
}

// TestStrict: docker compose takes what is written, and means the image and
// words by it that were given.
func TestStrict(t *testing.T) {
	o := formattest.Options()
	var all []convert.Container
	for _, l := range argvtest.Lines() {
		args := strings.Split(l, " ")
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "~", " ")
		}
		if c, err := formattest.Line(args, o); err == nil {
			all = append(all, c)
		}
	}
	for _, h := range formattest.Hostile() {
		var args []string
		for _, flag := range []string{"--env=A=" + h, "--label=a=" + h, "--annotation=a=" + h, "--health-cmd=" + h, "--entrypoint=" + h, "--workdir=/" + h, "--hostname=" + h, "--log-opt=a" + h + "=" + h, "--label=com.docker.compose.x=" + h, "--tmpfs=/" + h, "--cgroup-parent=a" + h, "--egress=none", "--health-on-failure=kill", "--secret=a"} {
			if _, err := formattest.Line(append(slices.Clone(args), flag, "img"), o); err == nil {
				args = append(args, flag)
			}
		}
		c, err := formattest.Line(append(args, "img", "x", "a"+h), o)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	for _, c := range append(all, converttest.Workloads(t)...) {
		one := formattest.Project(c)
		files, _, err := convert.Export(composefile.Format(), one, o)
		if err != nil {
			continue // which other tests look at
		}
		p := strict(t, files[0].Data)
		if p == nil {
			continue
		}
		s := p.Services[c.Name]
		if s.Image != c.Workload.Image || !slices.Equal(s.Command, c.Workload.Args) {
			t.Errorf("%q %q is read as %q %q", c.Workload.Image, c.Workload.Args, s.Image, s.Command)
		}
		kept, _ := s.Extensions["x-safe-run"].(map[string]any)
		list, _ := kept["flags"].([]any)
		if len(list) != len(one.Containers[0].Kept) {
			t.Errorf("%q are kept as %q", one.Containers[0].Kept, list)
		}
		for i, flag := range list {
			if flag != one.Containers[0].Kept[i] {
				t.Errorf("%q is kept as %q", one.Containers[0].Kept[i], flag)
			}
		}
		want := map[string]*string{}
		for _, e := range c.Workload.Env {
			want[e.Name] = e.Value
		}
		for name, value := range want {
			if got := s.Environment[name]; value != nil && (got == nil || *got != *value) {
				t.Errorf("%s=%q is read otherwise", name, *value)
			}
		}
	}
}

// TestUp: what safe-run compose up makes of an exported file, with the flags that
// are kept, is the container that was exported.
func TestUp(t *testing.T) {
	o := converttest.Options()
	all := converttest.Workloads(t)
	p := formattest.Project(all...)
	p.Containers[1].DependsOn = []convert.Dependency{{Name: all[0].Name, Condition: "healthy"}}
	files, _, err := convert.Export(composefile.Format(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	loaded, err := compose.Load(context.Background(), compose.Options{Files: []string{filepath.Join(dir, files[0].Name)}, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if len(loaded.Services) != len(all) {
		t.Fatalf("%d services of %d", len(loaded.Services), len(all))
	}
	found, losses, err := composefile.Format().Read(files, o)
	if err != nil || len(losses) > 0 {
		t.Fatal(err, losses)
	}
	for _, c := range p.Containers {
		s := loaded.Services[slices.IndexFunc(loaded.Services, func(s compose.Service) bool { return s.Name == c.Name })]
		d := words.Draft{Name: c.Name, Image: s.Image, Args: s.Args}
		for _, f := range s.Flags {
			own := strings.HasPrefix(f.Word, "--label=com.docker.compose.") || f.Word == "--network-alias="+c.Name || f.Word == "--name="+s.ContainerName && c.Workload.Name == ""
			if !own {
				d.Said = append(d.Said, words.Parse(f.Word))
			}
		}
		i := slices.IndexFunc(found, func(f convert.Found) bool { return f.Name == c.Name })
		for _, flag := range p.Containers[i].Kept {
			d.Kept = append(d.Kept, words.Parse(flag))
		}
		up, _ := d.Found(files, o)
		var flags [2][]string
		for i, f := range []convert.Found{up, found[i]} {
			got, err := f.Container(o)
			if err != nil {
				t.Fatalf("%s: %v", c.Name, err)
			}
			w := convert.Normal(got.Workload, o.Limits)
			w.AppArmor, w.Seccomp, w.SecurityOpts = nil, nil, nil
			if flags[i], err = argv.Flags(w); err != nil {
				t.Fatalf("%s: %v", c.Name, err)
			}
		}
		if !slices.Equal(flags[0], flags[1]) {
			t.Errorf("%s: compose up runs\n%q\nand it was\n%q", c.Name, flags[0], flags[1])
		}
	}
}
