package unit

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/argv/argvtest"

	sdunit "github.com/coreos/go-systemd/v22/unit"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

var hostile = []string{
	"", " ", "a b", "%n", "%%", "$HOME", "${HOME}", "$$", "$", "%", `\`, `a\`, `\n`, "a\nb", "\n[Service]\nExecStart=/bin/sh", "\t", "\r",
	`"`, `'`, `"a'b"`, ";", "a;b", "; rm", "#", "#x", "\x1b[31m", "\x7f", "\u0085", "\u2028", "\u202e", "\ufeff", "\xff", "\xc3", "é", "日本",
	"@x", "-x", ":x", "+x", "!x", "|x", `\x20`, "a=b", "*", "~", "&&", "`id`", "$(id)", "%%%", "$%", "\\\n", "a\\\nb", strings.Repeat("x", 5000),
}

func TestWord(t *testing.T) {
	for _, s := range hostile {
		checkWord(t, s)
	}
	if _, err := Word("a\x00b"); fail.KindOf(err) != fail.Usage {
		t.Errorf("NUL: %v", err)
	}
	for s, want := range map[string]string{"--rm": "--rm", "a b": `"a b"`, "100%": `"100%%"`, "$A": `"$$A"`, "\x1b\"\\": `"\x1b\"\\"`, "": `""`} {
		if got, _ := Word(s); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}

// checkWord: a word between others comes back as it was, and neither the file
// nor a terminal sees anything but text.
func checkWord(t *testing.T, s string) {
	t.Helper()
	line, err := execStart("/usr/bin/safe-run", []string{s, "img", s, "end"}, 1)
	if strings.Contains(s, "\x00") {
		if err == nil {
			t.Fatalf("%q has a NUL", s)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if strings.ContainsFunc(line, func(r rune) bool { return r < 0x20 && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 }) {
		t.Fatalf("%q: control characters in %q", s, line)
	}
	text := "[Service]\nExecStart=" + line + "\n"
	lines, err := systemdLines(text)
	if err != nil || len(lines) != 1 || lines[0][0] != "Service.ExecStart" {
		t.Fatalf("%q: %v %q", s, err, lines)
	}
	got, err := systemdWords(lines[0][1])
	if want := []string{"/usr/bin/safe-run", "run", s, "img", s, "end"}; err != nil || !slices.Equal(got, want) {
		t.Fatalf("%q: %q, %v\n%s", s, got, err, line)
	}
	if len(text) > 1500 {
		return // go-systemd's own limit for a line
	}
	// go-systemd keeps the backslashes of continued lines.
	options, err := sdunit.DeserializeOptions(strings.NewReader(text))
	if err != nil || len(options) != 1 || options[0].Name != "ExecStart" {
		t.Fatalf("%q: %v %v", s, options, err)
	}
	got, err = systemdWords(strings.ReplaceAll(options[0].Value, "\\\n\t", " "))
	if err != nil || !slices.Contains(got, s) || len(got) != 6 {
		t.Fatalf("%q: %q, %v", s, got, err)
	}
}

func FuzzWord(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(checkWord)
}

func service(t *testing.T, args []string, o Options) (string, map[string]string, []string) {
	t.Helper()
	w, given, err := FromFlags(args, argvtest.Context())
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	given.Program, given.Restart, given.Image = "/usr/local/bin/safe-run", o.Restart, o.Image
	text, err := Service(w, given)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	lines, err := systemdLines(text)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{}
	for _, l := range lines {
		_, key, _ := strings.Cut(l[0], ".")
		keys[key] = l[1]
	}
	words, err := systemdWords(keys["ExecStart"])
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return text, keys, words
}

func TestService(t *testing.T) {
	text, _, _ := service(t, strings.Fields("-d --name web --restart unless-stopped --cidfile /x -p 80:80 -v ./data:/data:ro -e A=1 --env-file env --health-cmd true --secret tls nginx:1.29 nginx -g"), Options{})
	const want = `[Unit]
Description=Container web
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
NotifyAccess=main
Delegate=yes
KillMode=mixed
# the file is read by systemd as root and given to nobody else
LoadCredential=tls:/etc/credstore/tls
ExecStart=/usr/local/bin/safe-run run \
	--env-file=/home/me/env \
	--rm \
	--name=web \
	--env=A=1 \
	--volume=/home/me/data:/data:ro \
	--publish=80:80/tcp \
	--health-cmd=true \
	--sdnotify=healthy \
	--secret=id=tls \
	nginx:1.29 nginx -g
Restart=always
RestartSec=5
# a stop by the stop signal is no failure
SuccessExitStatus=143
# the image may have to be fetched
TimeoutStartSec=15min
TimeoutStopSec=25

[Install]
WantedBy=multi-user.target
`
	if text != want {
		t.Errorf("%s", text)
	}
}

func TestServiceKeys(t *testing.T) {
	for _, tc := range []struct {
		args string
		o    Options
		key  string
		want string
	}{
		{"img", Options{}, "Restart", "on-failure"},
		{"--restart=no img", Options{}, "Restart", "no"},
		{"--restart=no img", Options{}, "RestartSec", ""},
		{"--restart=always img", Options{}, "Restart", "always"},
		{"--restart=always img", Options{Restart: "on-abnormal"}, "Restart", "on-abnormal"},
		{"--restart=on-failure:3 img", Options{}, "StartLimitBurst", "4"},
		{"--restart=on-failure:3 img", Options{Restart: "always"}, "StartLimitBurst", ""},
		{"--stop-timeout=60 img", Options{}, "TimeoutStopSec", "75"},
		{"--stop-timeout=-1 img", Options{}, "TimeoutStopSec", "infinity"},
		{"--stop-signal=QUIT img", Options{}, "SuccessExitStatus", "143 131"},
		{"--stop-signal=SIGTERM img", Options{}, "SuccessExitStatus", "143"},
		{"--stop-signal=KILL img", Options{}, "SuccessExitStatus", "143"},
		{"img", Options{Image: spec.Image{StopSignal: "SIGQUIT"}}, "SuccessExitStatus", "143 131"},
		{"--sdnotify=ignore img", Options{}, "Type", "exec"},
		{"--sdnotify=container img", Options{}, "Type", "notify"},
		{"registry.example:5000/team/web:1@sha256:" + strings.Repeat("a", 64), Options{}, "Description", "Container web"},
	} {
		if _, keys, _ := service(t, strings.Fields(tc.args), tc.o); keys[tc.key] != tc.want {
			t.Errorf("%s: %s=%s, want %s", tc.args, tc.key, keys[tc.key], tc.want)
		}
	}
	health := Options{Image: spec.Image{Health: spec.Healthcheck{Test: []string{"CMD", "x"}}}}
	for args, want := range map[string]bool{"img": true, "--sdnotify=started img": false, "--no-healthcheck img": false} {
		if _, _, words := service(t, strings.Fields(args), health); slices.Contains(words, "--sdnotify=healthy") != want {
			t.Errorf("%s: %q", args, words)
		}
	}
	_, _, words := service(t, strings.Fields("-e API_TOKEN --label-file labels --label b=c --security-opt seccomp=p.json --address /run/x.sock --namespace other img"), Options{})
	for _, want := range []string{"--env=API_TOKEN", "--label-file=/home/me/labels", "--label=b=c", "--security-opt=seccomp=/home/me/p.json", "--address=/run/x.sock", "--namespace=other"} {
		if !slices.Contains(words, want) {
			t.Errorf("no %s in %q", want, words)
		}
	}
	if strings.Contains(strings.Join(words, " "), "s3cret") || slices.Contains(words, "--label=a=file") {
		t.Errorf("%q", words)
	}
}

func TestServiceErrors(t *testing.T) {
	for _, tc := range []struct{ args, text string }{
		{"-e DB_PASSWORD=x img", "DB_PASSWORD"},
		{"-e URL=postgres://u:p@db/x img", "URL"},
		{"i/x", "not a name"},
		{"--cgroup-parent=x img", "Slice="},
		{"--dry-run img", "--dry-run"},
		{"--nope img", "nope"},
		{"--rm", "IMAGE"},
		{"-e A=b --env-file missing img", "env-file"},
	} {
		w, o, err := FromFlags(strings.Fields(tc.args), argvtest.Context())
		if err == nil {
			o.Program = "/safe-run"
			_, err = Service(w, o)
		}
		var fe *fail.Error
		if !errors.As(err, &fe) || !strings.Contains(fe.Error()+fe.Next, tc.text) {
			t.Errorf("%s: %v", tc.args, err)
		}
	}
	w := argvtest.Parse(t, "--name=web", "img")
	for _, o := range []Options{{}, {Program: "safe-run"}, {Program: "/a$b"}, {Program: "/a", Restart: "x\ny"}, {Program: "/a", Environ: []string{"A=b c"}}} {
		if _, err := Service(w, o); fail.KindOf(err) != fail.Usage {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestSecretLooking(t *testing.T) {
	for e, want := range map[string]bool{
		"DB_PASSWORD=x": true, "password=x": true, "AWS_SECRET_ACCESS_KEY=x": true, "GITHUB_TOKEN=x": true, "MYSQL_PWD=x": true, "SSH_KEY=x": true, "REDIS_URL=redis://:pw@h": true,
		"DB_PASSWORD=": false, "DB_PASSWORD_FILE=/run/secrets/x": false, "PWD=/": false, "KEYBOARD=us": false, "PATH=/bin": false, "URL=http://h/x@y": false, "AWS_ACCESS_KEY_ID=x": false,
	} {
		name, value, _ := strings.Cut(e, "=")
		if got := SecretLooking(spec.EnvVar{Name: name, Value: &value}); got != want {
			t.Errorf("%s: %v", e, got)
		}
	}
	if SecretLooking(spec.EnvVar{Name: "TOKEN"}) {
		t.Error("a name alone is no secret")
	}
}

// systemd itself finds nothing to say about a unit with every hostile word,
// and reads the words that were meant.
func TestSystemdReadsIt(t *testing.T) {
	args := []string{"--name", "web", "--secret", "tls", "--entrypoint", "/bin/sh", "img"}
	short := slices.DeleteFunc(slices.Clone(hostile), func(s string) bool { return len(s) > 100 }) // it prints 2 KiB
	w := argvtest.Parse(t, append(args, short...)...)
	text, err := Service(w, Options{Program: "/bin/true", Environ: []string{"SAFE_RUN_ROOT=/x"}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "web.service")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("systemd-analyze", "verify", "--man=no", file)
	cmd.Env = append(os.Environ(), "SYSTEMD_LOG_LEVEL=debug", "SYSTEMD_LOG_COLOR=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("systemd-analyze, which the package systemd has: %v\n%.2000s", err, out)
	}
	for l := range strings.SplitSeq(string(out), "\n") {
		if strings.Contains(l, "web.service:") && (strings.Contains(l, "gnoring") || strings.Contains(l, "nvalid") || strings.Contains(l, "nknown")) {
			t.Error(l)
		}
		line, found := strings.CutPrefix(strings.TrimSpace(l), "Command Line: /bin/true run ")
		if !found {
			continue
		}
		// Variables are put in at the start only, so each $ is still double.
		words, err := execWords(text)
		if err != nil {
			t.Fatal(err)
		}
		got := dumpedWords(t, line)
		for i, want := range words[2:] {
			if want = strings.ReplaceAll(want, "$", "$$"); i >= len(got) || got[i] != want {
				t.Fatalf("word %d of %q is not %q", i, got, want)
			}
		}
		if w := got[len(got)-len(short)]; w != "" || len(got) != len(words)-2 {
			t.Errorf("%d words, %q", len(got), w)
		}
		return
	}
	t.Errorf("no command line in\n%.4000s", out)
}

// The unit that is installed as an example is one safe-run can run.
func TestExample(t *testing.T) {
	text, err := os.ReadFile("../../packaging/examples/web.service")
	if err != nil {
		t.Fatal(err)
	}
	words, err := execWords(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if w := argvtest.Parse(t, words[2:]...); w.Name != "web" || len(w.Health.Test) != 2 || w.SDNotify != spec.NotifyHealthy {
		t.Errorf("%+v", w)
	}
}

// execWords gives the words of a unit's ExecStart=.
func execWords(text string) (words []string, err error) {
	lines, err := systemdLines(text)
	if err != nil {
		return nil, err
	}
	for _, l := range lines {
		if l[0] == "Service.ExecStart" {
			return systemdWords(l[1])
		}
	}
	return nil, errors.New("no ExecStart")
}

// dumpedWords reads the words systemd prints: in double quotes with C escapes
// and the shell's.
func dumpedWords(t *testing.T, line string) (words []string) {
	t.Helper()
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimLeft(line, " ") {
		if line[0] != '"' {
			w, rest, _ := strings.Cut(line, " ")
			words, line = append(words, w), rest
			continue
		}
		var b []byte
		i := 1
		for ; i < len(line) && line[i] != '"'; i++ {
			if line[i] != '\\' {
				b = append(b, line[i])
				continue
			}
			i++
			if strings.IndexByte("$`", line[i]) >= 0 {
				b = append(b, line[i])
				continue
			}
			n, out, err := escape(line[i:])
			if err != nil {
				t.Fatalf("%v: %.20q", err, line[i:])
			}
			b, i = append(b, out...), i+n-1
		}
		words, line = append(words, string(b)), line[i+1:]
	}
	return words
}
