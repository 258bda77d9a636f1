package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/dockerjson"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
)

// What templates written for docker give, and what of them fails.
func TestObjectTemplates(t *testing.T) {
	c := dockerjson.New(dockerjson.Source{Record: store.Record{
		ID: strings.Repeat("ab", 32), Name: "web", Phase: store.PhaseExited, ExitCode: 3, Labels: map[string]string{"a": "b", "evil": "x\x1b[2J\u009b2J"},
	}})
	for format, want := range map[string]string{
		"{{.State.Status}} {{.State.ExitCode}}": "exited 3\n",
		"{{.Id}} {{.Name}}":                     strings.Repeat("ab", 32) + " /web\n",
		"{{.ID}}":                               strings.Repeat("ab", 32) + "\n",
		"{{.Config.Labels.a}}":                  "b\n",
		`{{index .Config.Labels "a"}}{{index .Config.Labels "n"}}`: "b\n",
		"{{json .State.Running}}":                                  "false\n",
		"{{.HostConfig.RestartPolicy.Name | upper}}":               "NO\n",
		`{{join .HostConfig.CapDrop ","}}{{pad "x" 1 1}}|`:         "ALL x |\n",
		`{{range .Mounts}}{{end}}{{title "ab cd"}}`:                "Ab Cd\n",
		`{{truncate .Name 2}}{{println "x"}}`:                      "/wx\n\n",
		"{{.Config.Labels.evil}}":                                  "x�[2J�2J\n",
		"{{json .Config.Labels}}":                                  `{"a":"b","evil":"x\u001b[2J\u009b2J"}` + "\n",
		`{{(index .NetworkSettings.Ports "80/tcp")}}`:              "[]\n",
	} {
		var b bytes.Buffer
		if err := renderObjects(&b, format, []any{c}); err != nil || b.String() != want {
			t.Errorf("%s: %q (%v), want %q", format, b.String(), err, want)
		}
	}
	for _, format := range []string{"{{.State.Health.Status}}", "{{.Bogus}}", "{{.State.Bogus}}", "{{", "{{nofunc .}}"} {
		var b bytes.Buffer
		err := renderObjects(&b, format, []any{c})
		if fail.KindOf(err) != fail.NoStatus || !strings.HasPrefix(err.Error(), "template parsing error: template: :1") {
			t.Errorf("%s: %q, %v", format, b.String(), err)
		}
	}
	var b bytes.Buffer
	if err := renderObjects(&b, "", []any{}); err != nil || b.String() != "[]\n" {
		t.Errorf("nothing: %q, %v", b.String(), err)
	}
	b.Reset()
	if err := renderObjects(&b, "", []any{c}); err != nil || strings.ContainsAny(b.String(), "\x1b\u009b") || !strings.HasPrefix(b.String(), "[\n    {\n        \"Id\"") {
		t.Errorf("%.60q, %v", b.String(), err)
	}
}

func TestTables(t *testing.T) {
	type row struct{ ID, Name string }
	rows := []row{{"1", "first"}, {"2222222222222", "second"}}
	heads := headings{"ID": "SHORT ID", "Name": "NAME"}
	for format, want := range map[string]string{
		`table {{.ID}}\t{{upper .Name}}`: "SHORT ID        NAME\n1               FIRST\n2222222222222   SECOND\n",
		"{{.Name}}:{{.ID}}":              "first:1\nsecond:2222222222222\n",
		"json":                           `{"ID":"1","Name":"first"}` + "\n" + `{"ID":"2222222222222","Name":"second"}` + "\n",
	} {
		var b bytes.Buffer
		if err := renderTable(&b, format, heads, rows); err != nil || b.String() != want {
			t.Errorf("%s: %q (%v), want %q", format, b.String(), err, want)
		}
	}
}

// TestHidden: what steers a terminal, turns text round or is not seen is
// printed nowhere, and JSON gives it back as it was.
func TestHidden(t *testing.T) {
	plain := "a Z é 漢 🦊 …\u0301"
	for name, print := range map[string]func(string) string{"printable": printable, "oneLine": oneLine, "escapeHidden": escapeHidden} {
		if got := print(plain); got != plain {
			t.Errorf("%s: %q", name, got)
		}
		for _, c := range []rune{
			0x1b, 0x7f, 0x85, 0x9b, 0xad, 0x61c, 0x200b, 0x200d, 0x200e, 0x2028, 0x202e, 0x2060, 0x2066, 0x2069, 0xfeff, 0xfff9, 0xe000, 0xe0041, 0x10fffd,
		} {
			if got := print("a" + string(c) + "b"); strings.ContainsRune(got, c) {
				t.Errorf("%s lets %U through", name, c)
			}
		}
	}
	evil := map[string]string{"name\u202e": "\x1b[2J\u009b2J\u2066x\u2069\u200b\U000e0041\n\t"}
	for _, indented := range []bool{false, true} {
		var b bytes.Buffer
		var back map[string]string
		if err := printJSON(&b, evil, indented); err != nil || json.Unmarshal(b.Bytes(), &back) != nil || back["name\u202e"] != evil["name\u202e"] {
			t.Errorf("%v: %s became %q (%v)", indented, b.String(), back, err)
		}
		if got := b.String(); got != printable(got) {
			t.Errorf("%v: %q", indented, got)
		}
	}
}
