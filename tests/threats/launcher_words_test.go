package threats

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/safe-run/safe-run/internal/cli"
)

func TestL8(t *testing.T) {
	row(t, "L8")
	all := attempts{}
	for _, s := range []string{"1.1.1.1\nsearch evil", "1.1.1.1 6.6.6.6", "1.1.1", "x", "::g", "1.1.1.1,2.2.2.2", "1.1.1.1#53", "01.1.1.1", "fe80::1%$(id)", ""} {
		all[""] = append(all[""], lineOf("--dns", s))
	}
	for _, s := range []string{"a\nnameserver 6.6.6.6", "a b", "../x", "a\tb", strings.Repeat("a", 300), "a;b", "аdmin", "a\x1b[0m", "a\r"} {
		all[""] = append(all[""], lineOf("--dns-search", s), lineOf("--dns-option", s))
	}
	refusedEach(t, all)
	out := runs(t, "--dns", "192.0.2.1", "--dns", "2001:db8::1", "--dns-search", "a.example", "--dns-option", "ndots:2", "busybox", "cat", "/etc/resolv.conf")
	for _, l := range lines(out) {
		if !slices.Contains([]string{"nameserver 192.0.2.1", "nameserver 2001:db8::1", "search a.example", "options ndots:2"}, l) && !strings.HasPrefix(l, "#") {
			t.Errorf("a line nobody asked for: %q", l)
		}
	}
	if strings.Count(out, "nameserver ") != 2 {
		t.Errorf("%q", out)
	}
}

func TestL9(t *testing.T) {
	row(t, "L9")
	all := attempts{}
	for _, s := range []string{"a\n6.6.6.6 bank", "a b", "a\tb", "-a", "a..b", "a;b", "аdmin", "a/b", ".", strings.Repeat("a", 64), strings.Repeat("a.", 200), "a\x00b"[:1] + "\x01", "a\r", "a#b", "[::1]"} {
		all[""] = append(all[""], lineOf("--hostname", s), lineOf("--domainname", s), lineOf("--add-host", s+":1.2.3.4"))
	}
	for _, s := range []string{"bank:x", "bank:1.2.3.4\n6.6.6.6 evil", "bank:", ":1.2.3.4", "bank", "bank:1.2.3", "bank:host-gateway2", "bank:HOST-GATEWAY ", "bank:1.2.3.4 6.6.6.6"} {
		all[""] = append(all[""], lineOf("--add-host", s))
	}
	// A network without other lines of its own.
	refusedEach(t, all)
	plain := lines(runs(t, "--network", "none", "--hostname", "l9", "busybox", "cat", "/etc/hosts"))
	with := lines(runs(t, "--network", "none", "--hostname", "l9", "--add-host", "bank:192.0.2.1", "--add-host", "b2=2001:db8::1", "busybox", "cat", "/etc/hosts"))
	if len(with) != len(plain)+2 || !slices.ContainsFunc(with, func(l string) bool { return strings.Join(strings.Fields(l), " ") == "192.0.2.1 bank" }) {
		t.Errorf("%q, without the two %q", with, plain)
	}
	if out := runs(t, "--hostname", "l9.example", "--domainname", "d.example", "busybox", "sh", "-c", "hostname; cat /etc/hostname /proc/sys/kernel/domainname"); out != "l9.example\nl9.example\nd.example\n" {
		t.Errorf("%q", out)
	}
}

// unitWords takes a command line of a unit apart, as systemd.syntax(7) and
// systemd.service(5) say.
func unitWords(t *testing.T, s string) (words []string) {
	t.Helper()
	var cur strings.Builder
	inside, quoted := false, false
	end := func() {
		if inside {
			words = append(words, strings.NewReplacer("%%", "%", "$$", "$").Replace(cur.String()))
		}
		inside = false
		cur.Reset()
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			inside = true
			if n := strings.IndexByte(`abfnrtv\"'s`, s[i]); n >= 0 {
				cur.WriteByte("\a\b\f\n\r\t\v\\\"' "[n])
			} else if s[i] == 'x' && i+2 < len(s) {
				v, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
				must(t, err)
				cur.WriteByte(byte(v))
				i += 2
			} else if s[i] != '\n' {
				t.Fatalf("an escape: %q", s[i-1:])
			} else {
				end()
			}
		case c == '"':
			inside, quoted = true, !quoted
		case (c == ' ' || c == '\t') && !quoted:
			end()
		case (c == '%' || c == '$') && !strings.HasPrefix(s[i:], string([]byte{c, c})):
			t.Fatalf("a specifier or variable: %q", s[i:])
		case c == '%' || c == '$':
			cur.WriteString(s[i : i+2])
			i++
			inside = true
		default:
			inside = true
			cur.WriteByte(c)
		}
	}
	end()
	return words
}

func TestL10(t *testing.T) {
	row(t, "L10")
	hostile := []string{
		"%n %h", "$HOME ${PATH}", "a\nExecStartPre=/bin/evil\n[Service]", `\`, `a\`, `"`, `'`, "; rm -rf /", "#", "\x1b[31m", "\t", "`id`", "$(id)", "&& x", "*", "~", "-x", "@x", "%%%", "$$$", "\\\n[Install]", "a b", "é",
	}
	var flags []string
	for i, h := range hostile {
		flags = append(flags, "-e", fmt.Sprintf("V%d=%s", i, h))
	}
	a := here.Run(slices.Concat([]string{"generate", "systemd", "--name", "l10-unit", "-e", "V=x"}, flags, []string{"busybox", "sh", "-c"}, hostile)...)
	if a.Code != 0 {
		t.Fatal(a)
	}
	if strings.ContainsAny(a.Stdout, "\x1b\x00\x07") {
		t.Errorf("control characters: %q", a.Stdout)
	}
	var section, start string
	known := []string{"Description", "Wants", "After", "Type", "NotifyAccess", "Delegate", "KillMode", "Environment", "ExecStart", "Restart", "RestartSec", "SuccessExitStatus", "TimeoutStartSec", "TimeoutStopSec", "WantedBy", "Requires"}
	for _, l := range lines(strings.ReplaceAll(a.Stdout, "\\\n", " ")) {
		key, value, ok := strings.Cut(l, "=")
		switch {
		case l == "" || strings.HasPrefix(l, "#"):
		case strings.HasPrefix(l, "["):
			section += l
		case !ok || !slices.Contains(known, key):
			t.Errorf("a line of its own: %q", l)
		case key == "ExecStart":
			start += value
		}
	}
	if section != "[Unit][Service][Install]" {
		t.Errorf("sections %s", section)
	}
	words := unitWords(t, start)
	for i, h := range hostile {
		if !slices.Contains(words, fmt.Sprintf("--env=V%d=%s", i, h)) {
			t.Errorf("the variable %q does not come back", h)
		}
	}
	if n := len(words) - len(hostile); n < 0 || !slices.Equal(words[n:], hostile) {
		t.Errorf("the arguments are %q", words[max(n, 0):])
	}
	fails(t, "generate", "systemd", "--name", "l10-unit\n[Service]", "busybox", "true")
	fails(t, "generate", "systemd", "--name", "l10-unit", "-e", "API_TOKEN=0123456789abcdef0123456789abcdef", "busybox", "true")
	// JSON: what a container is called and labelled comes back as it was.
	label := "l10=" + strings.Join(hostile, "|")
	d := here.Run("run", "-d", "--name", "l10-json", "--label", label, "busybox", "sleep", "600")
	defer here.Run("rm", "-f", "l10-json")
	if b := here.Run("inspect", "-f", `{{index .Config.Labels "l10"}}`, "l10-json"); d.Code != 0 || strings.ContainsAny(b.Stdout, "\x1b") {
		t.Errorf("%s %s", d, b)
	}
}

// docker's grammar, written down once more with the flag package docker uses.
func TestL11(t *testing.T) {
	row(t, "L11")
	bools := []string{"rm", "init", "read-only", "no-healthcheck", "quiet:q", "publish-all:P", "interactive:i"}
	values := map[string]string{
		"env:e": "A=1", "volume:v": "/data", "name": "l11", "workdir:w": "/", "user:u": "1", "hostname:h": "h", "memory:m": "64m", "label:l": "a=b", "publish:p": "80",
		"entrypoint": "sh", "network": "none", "pids-limit": "9", "stop-signal": "TERM", "cap-drop": "ALL",
	}
	list := map[string]bool{"env:e": true, "volume:v": true, "label:l": true, "publish:p": true, "cap-drop": true}
	docker := func(args []string) ([]string, error) {
		f := pflag.NewFlagSet("run", pflag.ContinueOnError)
		f.SetInterspersed(false)
		f.SetOutput(io.Discard)
		for _, b := range bools {
			long, short, _ := strings.Cut(b, ":")
			f.BoolP(long, short, false, "")
		}
		for v := range values {
			long, short, _ := strings.Cut(v, ":")
			if list[v] {
				f.StringArrayP(long, short, nil, "")
			} else {
				f.StringP(long, short, "", "")
			}
		}
		err := f.Parse(args)
		if err == nil && f.NArg() == 0 {
			err = fmt.Errorf("no image")
		}
		return f.Args(), err
	}
	var words []string
	for _, b := range bools {
		long, short, _ := strings.Cut(b, ":")
		words = append(words, "--"+long, "--"+long+"=true", "--"+long+"=false")
		if short != "" {
			words = append(words, "-"+short, "-"+short+"i")
		}
	}
	for v, value := range values {
		long, short, _ := strings.Cut(v, ":")
		words = append(words, "--"+long+"="+value, "--"+long)
		if short != "" {
			words = append(words, "-"+short+value, "-"+short, "-"+short+"="+value, "-i"+short+value)
		}
	}
	slices.Sort(words)
	words = append(words, "--", "--", "image", "image", "busybox:1", "sh", "-c", "--rm", "@file", "-", "--privileged", "-v/:/host", "--volume=/:/x", "A=1", "80", "64m")
	ctx := cli.Context{LookupEnv: func(string) (string, bool) { return "", false }, Cwd: "/", ReadFile: func(string, int64) ([]byte, error) { return nil, os.ErrNotExist }}
	random := rand.New(rand.NewPCG(11, 11))
	same, split := 0, 0
	for range 10000 {
		args := make([]string, 1+random.IntN(7))
		for i := range args {
			args[i] = words[random.IntN(len(words))]
		}
		want, wrong := docker(args)
		inv, err := cli.Parse(args, ctx)
		if err != nil {
			continue // a value that is not allowed; never a container
		}
		if slices.Contains(args, "--privileged") && wrong != nil {
			continue // not in the small table
		}
		w := inv.Workload
		got := append([]string{w.Image}, w.Args...)
		if wrong == nil && slices.Equal(got, want) {
			same++
			if len(want) > 1 {
				split++
			}
			continue
		}
		t.Errorf("%q: image and arguments %q, docker has %q %v", args, got, want, wrong)
	}
	if same < 1000 || split < 300 {
		t.Errorf("only %d lines were compared, %d with arguments", same, split)
	}
	// And what follows the image is the container's, whatever it looks like.
	for _, args := range [][]string{{"--privileged"}, {"-v", "/:/host"}, {"--", "--pid=host"}, {"--cap-add=ALL", "--rm"}} {
		s := planned(t, slices.Concat([]string{"busybox", "echo"}, args)...)
		if !slices.Equal(s.Process.Args, append([]string{"echo"}, args...)) {
			t.Errorf("%q became %q", args, s.Process.Args)
		}
	}
	turnedDown(t, "", "--", "--privileged", "busybox")
	turnedDown(t, "privileged", "--privileged", "--", "busybox")
	turnedDown(t, "bind-root", "-v/:/host busybox")
	file := put(t, filepath.Join(groundDir(t), "args"), "--privileged\n")
	turnedDown(t, "", "@"+file, "busybox")
}

func TestL20(t *testing.T) {
	row(t, "L20")
	file := filepath.Join(t.TempDir(), "id")
	here.Run("--rm", "busybox", "true") // the first of all tells that forwarding was turned on
	for _, c := range []struct {
		code  int
		says  string // on standard error; "": nothing of safe-run's
		flags []string
	}{
		{0, "", lineOf("busybox", "true")},
		{1, "", lineOf("busybox", "false")},
		{42, "", lineOf("busybox", "sh", "-c", "exit 42")},
		{125, "", lineOf("busybox", "sh", "-c", "exit 125")}, // the application's own
		{126, "", lineOf("busybox", "sh", "-c", "exit 126")},
		{255, "", lineOf("busybox", "sh", "-c", "exit 255")},
		{126, "cannot run", lineOf("busybox", "/etc/passwd")},
		{126, "cannot run", lineOf("--entrypoint", "/etc", "busybox")},
		{127, "cannot run", lineOf("busybox", "no-such-program")},
		{127, "cannot run", lineOf("busybox", "/no/such/program")},
		{137, "", lineOf("--init", "busybox", "sh", "-c", "kill -9 $$")},
		{143, "", lineOf("--init", "busybox", "sh", "-c", "kill -15 $$")},
		{125, `"refused"`, lineOf("--refusals=json", "--privileged", "busybox", "true")},
		{125, "safe-run: ", lineOf("--no-such-flag", "busybox")},
		{125, "safe-run: ", lineOf("--pull", "never", "no-such-image:1", "true")},
		{125, "safe-run: ", lineOf("-w", "relative", "busybox", "true")},
	} {
		_ = os.Remove(file)
		a := here.Run(slices.Concat([]string{"--rm", "--cidfile", file}, c.flags)...)
		if a.Code != c.code || c.says == "" && a.Stderr != "" || !strings.Contains(a.Stderr, c.says) {
			t.Errorf("%q: wanted %d %q: %s", c.flags, c.code, c.says, a)
		}
		// A script can tell 125 of the application from that of safe-run: only
		// the first has been a container.
		_, err := os.Stat(file)
		if ours := strings.Contains(a.Stderr, "safe-run: ") || c.says == `"refused"`; c.code == 125 && ours == (err == nil) {
			t.Errorf("%q: an id was written: %v", c.flags, err == nil)
		}
	}
}
