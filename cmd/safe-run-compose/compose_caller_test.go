package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/compose"
	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
)

// What the process that loads for a caller says is not trusted: it is theirs.
func TestSettleStaysInside(t *testing.T) {
	t.Setenv("SAFE_RUN_ROOT", filepath.Join(t.TempDir(), "root"))
	before := contentDir("")
	for path, ok := range map[string]bool{
		before + "/web/config": true, before: false, before + "/../x": false, "/etc/passwd": false, before + "/a/../../x": false, "relative": false, before + "x/a": false,
	} {
		p := &compose.Project{Name: "shop", Services: []compose.Service{{Contents: []compose.Content{{Path: path}}}}}
		if err := settle(p); (err == nil) != ok {
			t.Errorf("%q: %v", path, err)
		}
	}
	p := &compose.Project{Name: "shop", Services: []compose.Service{{
		Flags:    []compose.Flag{{Word: "--secret=id=a,src=" + before + "/a"}},
		Contents: []compose.Content{{Path: before + "/a", Data: []byte("s"), Secret: true}, {Path: before + "/d/b", Data: []byte("c")}},
	}}}
	if err := settle(p); err != nil || p.Services[0].Flags[0].Word != "--secret=id=a,src="+contentDir("shop")+"/a" {
		t.Fatalf("%v %+v", err, p.Services[0])
	}
	for range 2 {
		if err := writeContents("shop", p.Services); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]os.FileMode{"a": 0o600, "d/b": 0o644} {
		if st, err := os.Stat(filepath.Join(contentDir("shop"), name)); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", name, st, err)
		}
	}
	// A link in the place of a directory leads nowhere.
	out := t.TempDir()
	if err := errors.Join(os.RemoveAll(filepath.Join(contentDir("shop"), "d")), os.Symlink(out, filepath.Join(contentDir("shop"), "d"))); err != nil {
		t.Fatal(err)
	}
	if err := writeContents("shop", p.Services); err == nil {
		t.Error("it wrote through a link")
	}
	if err := removeContents("shop"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(contentDir("shop")); !os.IsNotExist(err) {
		t.Error("it is still there")
	}
}

func TestOwnedVolumes(t *testing.T) {
	t.Setenv("SAFE_RUN_ROOT", filepath.Join(t.TempDir(), "root"))
	if err := errors.Join(ownVolumes("shop", []string{"b"}), ownVolumes("shop", []string{"a", "b"}), ownVolumes("shop", nil)); err != nil {
		t.Fatal(err)
	}
	got, err := ownedVolumes("shop")
	if err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%q %v", got, err)
	}
	if err := errors.Join(disownVolumes("shop"), disownVolumes("shop")); err != nil {
		t.Error(err)
	}
	if got, err = ownedVolumes("shop"); err != nil || len(got) > 0 {
		t.Errorf("%q %v", got, err)
	}
}

// A project comes through the process of a caller as it is, and so do errors.
func TestLoadForCaller(t *testing.T) {
	dir := t.TempDir()
	load := func(text string) (*compose.Project, error) {
		file := filepath.Join(dir, "compose.yaml")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		o := compose.Options{Dir: dir, Files: []string{file}, ProjectName: "shop"}
		in, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		out, errs := &bounded{max: loadMax}, &bounded{max: 1024}
		if code := loadForCaller(bytes.NewReader(in), out, errs); code != 0 {
			t.Fatal(code, errs.String())
		}
		got, err := read(context.Background(), nil, out, errs)
		direct, derr := compose.Load(context.Background(), o)
		if (err == nil) != (derr == nil) || err != nil && (err.Error() != derr.Error() || fail.KindOf(each(err)[0]) != fail.KindOf(derr)) {
			t.Errorf("%v, and without the process %v", err, derr)
		}
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(direct)
		if !bytes.Equal(a, b) {
			t.Errorf("%s\n%s", a, b)
		}
		return got, err
	}
	if p, err := load("services:\n  web:\n    image: busybox\n    environment: {A: \"\\e[31m\"}\n"); err != nil || len(p.Services) != 1 {
		t.Errorf("%v %v", p, err)
	}
	if _, err := load("services:\n  web:\n    image: busybox\n    nonsense: 1\n"); err == nil || !strings.Contains(err.Error(), "compose.yaml:4") {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"", "null", "{}", "[1]", `{"Project":{"Services":1}}`, "garbage"} {
		out := &bounded{max: loadMax}
		_, _ = out.Write([]byte(bad))
		if p, err := read(context.Background(), nil, out, &bounded{}); err == nil {
			t.Errorf("%q gives %v", bad, p)
		}
	}
	over := &bounded{max: 1}
	_, _ = over.Write([]byte("{}"))
	if _, err := read(context.Background(), nil, over, &bounded{}); err == nil {
		t.Error("one that is too large is taken")
	}
}

// variables are what a command line of run gives a program.
func variables(t *testing.T, words ...string) map[string]string {
	t.Helper()
	inv, err := cli.Parse(append(words, "busybox"), cli.Context{
		LookupEnv: func(string) (string, bool) { return "", false }, Cwd: "/", ReadFile: (*cli.Caller)(nil).ReadFile,
	})
	if err != nil {
		return nil
	}
	of := map[string]string{}
	for _, v := range inv.Workload.Env {
		if v.Value != nil {
			of[v.Name] = *v.Value
		}
	}
	return of
}

// FuzzUnseen: variables are the same by the file and by flags, and none that the
// file has can be seen in the words.
func FuzzUnseen(f *testing.F) {
	for _, v := range []string{"secret", "", "a b", " a", "a ", "#a", "a=b", "a\nB=c", "\ufeffa", "'a'", "\"a\"", "$A", "\x85", "\u0085a", "a\\", "\xff"} {
		f.Add("NAME", v)
	}
	f.Add("#NAME", "x")
	f.Add("export NAME", "x")
	f.Add("", "x")
	f.Fuzz(func(t *testing.T, name, value string) {
		t.Setenv("SAFE_RUN_ROOT", filepath.Join(t.TempDir(), "root"))
		word := "--env=" + name + "=" + value
		rest, text := unseen([]compose.Flag{{Word: "--env=OTHER=1"}, {Word: word}, {Word: "--init"}})
		want := variables(t, "--env=OTHER=1", word)
		if want == nil { // run refuses it either way
			return
		}
		file, remove, err := envFile(text)
		if err != nil {
			t.Fatal(err)
		}
		defer remove()
		words := []string{"--env-file=" + file}
		for _, r := range rest {
			words = append(words, r.Word)
		}
		got := variables(t, words...)
		a, _ := json.Marshal(want)
		b, _ := json.Marshal(got)
		if !bytes.Equal(a, b) {
			t.Errorf("%s, by flags %s", b, a)
		}
		if name == "NAME" && value == "secret" && len(rest) != 1 {
			t.Errorf("%q", rest)
		}
	})
}
