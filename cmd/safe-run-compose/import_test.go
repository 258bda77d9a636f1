package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// imported runs import as it is typed.
func imported(args ...string) (out, told string, err error) {
	var o, e bytes.Buffer
	c := importVerb("/usr/bin/safe-run")
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetArgs(args)
	c.SetOut(&o)
	c.SetErr(&e)
	err = c.Execute()
	return o.String(), e.String(), err
}

func document(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestImportFiles: the files of variables that a document names are named, and
// not shown, with and without a profile.
func TestImportFiles(t *testing.T) {
	secret := document(t, "secret", "TOKEN=hidden\n")
	for _, c := range []struct{ name, text string }{
		{"a.sh", "docker run --read-only=false --env-file " + secret + " --env-file rel --label-file " + secret + " img x"},
		{"a.service", "[Service]\nExecStart=docker run --read-only=false --env-file " + secret + " --env-file=rel --label-file " + secret + " img x\n"},
		{"a.container", "[Container]\nImage=img\nExec=x\nReadOnly=false\nEnvironmentFile=" + secret + "\nEnvironmentFile=rel\nPodmanArgs=--label-file=" + secret + "\n"},
		{"b.container", "[Container]\nImage=img\nExec=x\nReadOnly=false\n[X-Safe-Run]\nContainer=a\nFlags=[\"--env-file=" + secret + "\",\"--env-file=rel\",\"--label-file=" + secret + "\"]\n"},
	} {
		path := document(t, c.name, c.text)
		dir := filepath.Dir(path)
		want := " --env-file " + secret + " --env-file " + dir + "/rel --label-file " + secret + " img x\n"
		for _, flag := range []string{"--no-profile", "--force"} {
			out, told, err := imported("-o", dir, "--strict", flag, path)
			if err != nil || !strings.HasSuffix(out, want) {
				t.Errorf("%s %s: %v %s%s, want the end %s", c.name, flag, err, told, out, want)
			}
			profile, _ := os.ReadFile(filepath.Join(dir, "a.yaml"))
			if strings.Contains(out+told+string(profile), "hidden") {
				t.Errorf("%s %s: %s%s%s", c.name, flag, out, told, profile)
			}
		}
	}
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	out, _, err := imported("--no-profile", "docker", "run", "--env-file", "rel", "img")
	if want := "safe-run run --env-file " + cwd + "/rel img\n"; err != nil || out != want {
		t.Errorf("%v %s, want %s", err, out, want)
	}
}

// TestImportService: what is left out of another container is not told, and
// all else is.
func TestImportService(t *testing.T) {
	script := document(t, "a.sh", "docker run --name web a\ndocker run --name web --foo=1 b\ndocker run --name db --bar=1 c\nxargs docker run d\n")
	units := document(t, "-", "# a.service\n[Service]\nUser=u\nExecStart=docker run --name web a ; docker run --name db b\n")
	for _, c := range []struct {
		path, kind, service string
		told                []string
	}{
		{script, "docker", "web", []string{"xargs"}},
		{script, "docker", "web-2", []string{"--foo=1", "xargs"}},
		{units, "systemd", "web", []string{"User=u"}},
	} {
		out, told, err := imported("--no-profile", "--type", c.kind, "--service", c.service, c.path)
		if err != nil || strings.Count(out, "\n") != 1 || strings.Count(told, "\n") != len(c.told) {
			t.Errorf("%s: %v %s%s", c.service, err, told, out)
		}
		for _, want := range c.told {
			if !strings.Contains(told, want) {
				t.Errorf("%s: no %s in %s", c.service, want, told)
			}
		}
		if _, _, err := imported("--strict", "--no-profile", "--type", c.kind, "--service", c.service, c.path); err == nil {
			t.Errorf("%s: --strict says nothing", c.service)
		}
	}
}
