package check

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/safe-run/safe-run/internal/fail"
)

// TestBadFiles: each is an error with its place, of kind Usage.
func TestBadFiles(t *testing.T) {
	for _, c := range []struct {
		name, text string
		t          Type
		want       string
	}{
		{"quote not closed", "echo\ndocker run 'x\n", Shell, "file:2: "},
		{"no fi", "if true; then\ndocker run x\n", Shell, "file:1: "},
		{"word after a subshell", "(echo) x\n", Shell, "file:1: "},
		{"binary", "docker run \x00", Shell, "not text"},
		{"not UTF-8", "docker run \xff", Shell, "not text"},
		{"too large", strings.Repeat("#", MaxFile+1), Shell, "larger than 256 KiB"},
		{"brackets", strings.Repeat("(", 100000), Shell, "nested too deeply"},
		{"pipes", strings.Repeat("a|", 100000) + "a", Shell, "nested too deeply"},
		{"functions", strings.Repeat("a() ", 60000), Shell, "nested too deeply"},
		{"ifs", strings.Repeat("if ", 80000), Shell, "nested too deeply"},
		{"expansions", strings.Repeat("${a:-", 40000), Shell, "nested too deeply"},
		{"negations", "[[ " + strings.Repeat("! ", 100000), Shell, "nested too deeply"},
		{"arithmetic", "((" + strings.Repeat("- ", 100000), Shell, "nested too deeply"},
		{"many launches", strings.Repeat("docker run x\n", maxLaunches+1), Shell, "more than 1000 launches"},
		{"many flags", "docker run " + strings.Repeat("-i ", maxWords+1) + "x", Shell, "too many flags"},
		{"array of arrays", "a=(-i -i -i -i -i -i -i -i)\n" + doubled(20) + "docker run ${z20[@]} x", Shell, "too many flags"},
		{"unit without =", "[Service]\nExecStart\n", Unit, "file:2: "},
		{"section not closed", "[Service\n", Unit, "file:1: "},
		{"YAML", "services:\n  a:\n   image: [\n", Compose, "file:"},
		{"YAML with tabs", "services:\n\ta: 1\n", Compose, "file:2: "},
		{"nested lists", "services: " + strings.Repeat("[", 5000), Compose, "nested too deeply"},
		{"nested entries", strings.Repeat("- ", 4000), Compose, "nested too deeply"},
		{"long line", "a: " + strings.Repeat("x", maxLine), Compose, "bytes"},
		{"many lines", strings.Repeat("a\n", maxLines+1), Compose, "lines"},
		{"unknown type", "x", "perl", "there is no type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := time.Now()
			_, err := Look("file", []byte(c.text), Options{Type: c.t})
			if err == nil || fail.KindOf(err) != fail.Usage || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// doubled are arrays each of which is the one before, twice.
func doubled(n int) string {
	var b strings.Builder
	last := "a"
	for i := 1; i <= n; i++ {
		name := "z" + itoa(i)
		b.WriteString(name + "=(\"${" + last + "[@]}\" \"${" + last + "[@]}\")\n")
		last = name
	}
	return b.String()
}

// TestBombs: small files that would become large.
func TestBombs(t *testing.T) {
	var vars, yaml strings.Builder
	vars.WriteString("v0='--rm --rm'\n")
	yaml.WriteString("x0: &x0 {image: busybox, privileged: true}\n")
	for i := 1; i <= 40; i++ {
		vars.WriteString("v" + itoa(i) + "=\"$v" + itoa(i-1) + " $v" + itoa(i-1) + "\"\n")
		yaml.WriteString("x" + itoa(i) + ": &x" + itoa(i) + " {<<: [*x" + itoa(i-1) + ", *x" + itoa(i-1) + "]}\n")
	}
	if r := look(t, Shell, vars.String()+"docker run $v40 busybox\na=$b\nb=$a\ndocker run $a x\n"); len(r.Launches) != 2 {
		t.Errorf("%+v", r.Launches)
	}
	for _, text := range []string{
		yaml.String() + "services:\n  a: *x40\n",
		"services: &a\n  b: *a\n",
		"services:\n  a: &a\n    <<: *a\n    image: busybox\n",
		"services:\n  a: &a\n    image: busybox\n    command: *a\n    volumes: [*a, *a]\n",
	} {
		// Either is right, as long as it ends.
		if r, err := Look("file", []byte(text), Options{Type: Compose}); err == nil {
			for _, l := range r.Launches {
				checkAgain(t, l)
			}
		}
	}
}

func TestGuess(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       Type
	}{
		{"run.sh", "", Shell},
		{"x.service", "", Unit},
		{"/etc/systemd/system/x.service.d/a.conf", "", Unit},
		{"web.container", "", Quadlet},
		{"docker-compose.yml", "", Compose},
		{"stdin", "#!/bin/sh\nservices:\n", Shell},
		{"stdin", "[Unit]\n[Service]\nExecStart=x", Unit},
		{"stdin", "[Unit]\n[Container]\n", Quadlet},
		{"stdin", "version: '3'\nservices:\n  a:\n", Compose},
		{"stdin", "docker run x", Shell},
	} {
		if got := guess(c.name, []byte(c.text)); got != c.want {
			t.Errorf("%s, %q: %s, want %s", c.name, c.text, got, c.want)
		}
	}
}

// printed is all a report prints, which must be fit for a terminal.
func printed(t testing.TB, r *Report) {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	j, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{b.String(), string(j)} {
		if i := strings.IndexFunc(text, func(c rune) bool { return c != '\n' && !unicode.IsPrint(c) }); i >= 0 {
			t.Errorf("not fit to print: %.100q", text[max(0, i-20):])
		}
	}
}

func TestPrinted(t *testing.T) {
	for _, s := range samples(t) {
		printed(t, look(t, s.t, s.text))
	}
	r := look(t, Compose, "services:\n  \"a\\e[2J\\u202e\\nb\":\n    image: \"x\\e]0;\"\n    privileged: true\n    \"\\e[m\": 1\n    cap_add: [\"\\e[1m\"]\n")
	printed(t, r)
	if len(r.Launches) != 1 || r.Launches[0].Verdict != Refused {
		t.Errorf("%+v", r)
	}
}

func fuzzed(f *testing.F, kind Type) {
	for _, s := range samples(f) {
		if s.t == kind {
			f.Add([]byte(s.text))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 4<<10 {
			return
		}
		start := time.Now()
		r, err := Look("file", text, Options{Type: kind})
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("it took %s", took)
		}
		if err != nil {
			if strings.ContainsFunc(err.Error(), func(c rune) bool { return !unicode.IsPrint(c) }) {
				t.Errorf("not fit to print: %q", err)
			}
			return
		}
		printed(t, r)
		for _, l := range r.Launches {
			if len(l.Unknown) == 0 { // what is unknown can be read in two ways
				checkAgain(t, l)
			}
		}
	})
}

func FuzzShell(f *testing.F)   { fuzzed(f, Shell) }
func FuzzUnit(f *testing.F)    { fuzzed(f, Unit) }
func FuzzCompose(f *testing.F) { fuzzed(f, Compose) }
func FuzzQuadlet(f *testing.F) { fuzzed(f, Quadlet) }
