package compose

import (
	"slices"
	"strings"
	"testing"
)

// What compose has no key for stands in x-safe-run, and takes the place of the
// nearest key.
func TestOwnFlags(t *testing.T) {
	p, err := load(t, dir(t, map[string]string{"compose.yaml": strings.TrimPrefix(`
services:
  web:
    image: img
    tmpfs: [/scratch, /other]
    x-safe-run:
      profile: nginx
      flags: ["--egress=example.com:443", "--tmpfs=/scratch:size=8m,exec", "--label=a=$$b"]
`, "\n")}))
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, f := range p.Services[0].Flags {
		words = append(words, f.Word)
		if strings.HasPrefix(f.Word, "--egress") && (f.Place.Line != 7 || f.Key != "services.web.x-safe-run.flags[0]") {
			t.Errorf("%+v", f)
		}
	}
	for _, want := range []string{"--profile=nginx", "--egress=example.com:443", "--tmpfs=/scratch:size=8m,exec", "--tmpfs=/other", "--label=a=$b"} {
		if !slices.Contains(words, want) {
			t.Errorf("%s is not in %q", want, words)
		}
	}
	if slices.Contains(words, "--tmpfs=/scratch") {
		t.Errorf("both: %q", words)
	}
	for text, want := range map[string]string{
		"flags: [egress]":     "--NAME=VALUE",
		"flags: [--name=x]":   "--name",
		"flags: --egress=x":   "list",
		"other: 1":            "no such key",
		"profile: [a]":        "name or the file",
		"flags: [--detach]":   "--detach",
		"flags: [[--a], {}]":  "--NAME=VALUE",
		"flags: ['--label=']": "",
	} {
		_, err := load(t, dir(t, map[string]string{"compose.yaml": "services:\n  web:\n    image: img\n    x-safe-run:\n      " + text + "\n"}))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "compose.yaml:")) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
