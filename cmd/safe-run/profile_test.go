package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/profiles"
)

// Every flag of the embedded profiles, and of the manual's example, is one the
// command line takes.
func TestProfilesAreCommandLines(t *testing.T) {
	manual, err := os.ReadFile("../../docs/profiles.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(manual), "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	file := filepath.Join(t.TempDir(), "example.yaml")
	if err := os.WriteFile(file, []byte(example), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, err := cliContext()
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range append(profiles.Embedded(), file) {
		inv, err := cli.Parse([]string{"--profile=" + ref, "image"}, ctx)
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		if w := inv.Workload; ref == file && (len(w.CapAdd) != 2 || len(w.Mounts) != 5 || len(w.Devices) != 1 || len(w.Publish) != 1 ||
			len(w.Expose) != 1 || len(w.Egress.Allow) != 1 || w.User != "33:33" || w.Seccomp == nil || w.AppArmor == nil || w.Profile != "") {
			t.Errorf("%+v", w)
		}
	}
}

func TestCheckProfile(t *testing.T) {
	write := func(text string) string {
		file := filepath.Join(t.TempDir(), "p.yaml")
		if err := os.WriteFile(file, []byte("version: 1\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for _, c := range []struct {
		text string
		want []string // ids of the refusals
	}{
		{"capabilities: [CHOWN]\nwritable: [/run]", nil},
		{"image: registry.example/x\nuser: '1:1'", nil},
		{"binds: [{source: /boot, target: /h}]", []string{"bind-system"}},
		{"userns: host\ncapabilities: [SYS_MODULE]", []string{"cap-host-only", "userns-host"}},
	} {
		refusals, err := checkProfile(write(c.text), "")
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
		}
		var got []string
		for _, r := range refusals {
			got = append(got, r.ID)
		}
		if slices.Sort(got); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.text, got, c.want)
		}
		var b strings.Builder
		if err := printChecked(&b, "FILE", refusals); err != nil || len(refusals) > 0 && !strings.Contains(b.String(), "["+c.want[0]+"]") {
			t.Errorf("%v %s", err, b.String())
		}
	}
	// What the light check of a profile lets through, the command line refuses.
	for text, kind := range map[string]fail.Kind{
		"capabilities: [ALL]": fail.Refused, "ports: ['99999']": fail.Usage, "egress: ['localhost:80']": fail.Usage,
	} {
		if _, err := checkProfile(write(text), ""); fail.KindOf(err) != kind {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := checkProfile("no-such-profile", ""); fail.KindOf(err) != fail.NotFound {
		t.Errorf("%v", err)
	}
}

func TestProfileRow(t *testing.T) {
	for _, c := range []struct {
		l    profiles.Loaded
		want profileRow
	}{
		{profiles.Loaded{Name: "a"}, profileRow{"a", "embedded", "none", ""}},
		{profiles.Loaded{Name: "a", Path: "/etc/a.yaml"}, profileRow{"a", "site", "none", ""}},
		{profiles.Loaded{
			Path: "x/a.yaml", Profile: profiles.Profile{
				Name: "b", Capabilities: []profiles.Capability{{Name: "CHOWN"}}, Writable: make([]profiles.Writable, 2), Binds: make([]profiles.Bind, 1), UserNS: "host",
			},
		}, profileRow{"b", "x/a.yaml", "CHOWN, 2 writable directories, 1 bind, userns=host", ""}},
	} {
		if got := rowOf(c.l); got != c.want {
			t.Errorf("%+v, want %+v", got, c.want)
		}
	}
	for word, want := range map[string]string{"--tmpfs=/a:size=1m": "--tmpfs=/a:size=1m", "--x=a b'c": `'--x=a b'\''c'`, "--x=$(y)": "'--x=$(y)'"} {
		if got := shellWord(word); got != want {
			t.Errorf("%s: %s", word, got)
		}
	}
}
