package policy

import (
	"bytes"
	"strings"
	"testing"
)

// TestWording: what people read, whole.
func TestWording(t *testing.T) {
	flag := Refusal{ID: "capability", Flag: "--cap-add X", GivesAway: "power", Safer: "leave it out", Grant: "capabilities: [X]", Image: "docker.io/library/busybox"}
	never := Refusal{ID: "privileged", Flag: "--privileged", GivesAway: "all", Safer: "leave it out"}
	limit := Refusal{ID: "ulimit", Flag: "--ulimit nofile=9", GivesAway: "files", Safer: "less", Grant: "limits: {max: {nofile: 9}}"}
	entry := func(flag, id, gives, safer, grant string) string {
		return "\n  " + flag + "   [" + id + "]\n    gives away: " + gives + "\n    instead:    " + safer + "\n    grant:      " + grant + "\n"
	}
	const below = "the site's policy can allow it (below)"
	smallest := "\nThe smallest grant, for the administrator, in " + DefaultFile + ":\n\n  version: 1\n"
	one := entry("--cap-add X", "capability", "power", "leave it out", below)
	for _, c := range []struct {
		name     string
		refusals []Refusal
		want     string
	}{
		{"none", nil, ""},
		{"one", []Refusal{flag}, "safe-run: refused; nothing was created.\n" + one + smallest + "  grants:\n    - image: docker.io/library/busybox\n      capabilities: [X]\n"},
		{"never", []Refusal{never}, "safe-run: refused; nothing was created.\n" + entry("--privileged", "privileged", "all", "leave it out", "none can be given")},
		{"limit", []Refusal{limit}, "safe-run: refused; nothing was created.\n" + entry("--ulimit nofile=9", "ulimit", "files", "less", below) + smallest + "  limits:\n    max: {nofile: 9}\n"},
		{
			"all",
			[]Refusal{flag, limit, never},
			"safe-run: refused, for 3 reasons; nothing was created.\n" + one + entry("--ulimit nofile=9", "ulimit", "files", "less", below) +
				entry("--privileged", "privileged", "all", "leave it out", "none can be given") + smallest +
				"  limits:\n    max: {nofile: 9}\n  grants:\n    - image: docker.io/library/busybox\n      capabilities: [X]\n" +
				"\nIt does not cover what no grant can be given for.\n",
		},
	} {
		var b bytes.Buffer
		if err := WriteText(&b, c.refusals); err != nil || b.String() != c.want {
			t.Errorf("%s: %v\n%s\nwant:\n%s", c.name, err, b.String(), c.want)
		}
	}
	// One grant for what is needed twice, and a name for an image without one.
	flag.Image = ""
	if got := Stanza([]Refusal{flag, flag}); strings.Count(got, "X") != 1 || !strings.Contains(got, `"REPOSITORY"`) {
		t.Errorf("%s", got)
	}
	var b bytes.Buffer
	if err := WriteJSON(&b, []Refusal{{ID: "a<b", Flag: "&"}}); err != nil || !strings.Contains(b.String(), "a<b") {
		t.Errorf("%v %s", err, b.String())
	}
}

// TestQuoteYAML: plain where YAML reads the same word.
func TestQuoteYAML(t *testing.T) {
	for s, want := range map[string]string{
		"/etc/app": "/etc/app", "a/b": "a/b", "com.example.note": "com.example.note", "pid-host": "pid-host", "a_b": "a_b",
		"": `""`, "busybox": `"busybox"`, "true": `"true"`, "1.5": `"1.5"`, "-x": `"-x"`, ".x": `".x"`, "/a b": `"/a b"`, "a:b/c": `"a:b/c"`, "a/b\n": `"a/b\n"`, "0x1-": `"0x1-"`,
	} {
		if got := quoteYAML(s); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}
