package check

import (
	"path"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/internal/lazyre"
)

func shells() []string {
	return []string{"sh", "bash", "dash", "ash", "ksh", "zsh", "busybox"}
}

// stringRunners take a command as one of their words, or as their last ones.
func stringRunners() []string {
	return []string{"trap", "tmux", "screen", "parallel", "script", "at", "batch", "entr", "dtach", "env", "hyperfine"}
}

// talkers name commands without running them.
func talkers() []string {
	return []string{
		"echo", "printf", "cat", "grep", "egrep", "fgrep", "rg", "sed", "awk", "which", "type", "hash", "man", "test", "[", "whereis", "pgrep", "pkill",
		"logger", "log", "info", "warn", "warning", "error", "die", "fail", "usage", "note", "debug", "say", "msg", "fatal", "complete", "read", "set",
		"export", "unset", "git", "apt-get", "apt", "dnf", "yum", "zypper", "apk", "pacman", "systemctl", "return", "exit", "cd",
	}
}

// recipe takes the marks of make off the first word of a recipe's line
// (@docker run). No shell has a program of such a name.
func recipe(words []word) (rest []word, marks string) {
	if len(words) == 0 {
		return words, ""
	}
	head := words[0].head()
	n := len(head) - len(strings.TrimLeft(head, "@-+"))
	first := words[0].after(n)
	if n == 0 || len(first.parts) == 0 {
		return words, ""
	}
	first.raw = strings.TrimPrefix(words[0].raw, head[:n])
	first.many, first.may = words[0].many, words[0].may
	return append([]word{first}, words[1:]...), head[:n]
}

// nested finds a launch among the words of a program nobody knows, as
// find -exec, strace, or a function that tries again. It gives nothing if there
// is none.
func (s *script) nested(words []word, before []string) ([]word, []string) {
	name, _ := words[0].value()
	if slices.Contains(talkers(), strings.ToLower(path.Base(name))) {
		return nil, nil
	}
	for i := 1; i+1 < len(words); i++ {
		tool, is := isTool(words[i])
		starts := words[i+1].is("run") || words[i+1].is("container") || words[i+1].is("create") || strings.HasPrefix(words[i+1].head(), "-")
		if !is || !starts || tool == "safe-run" && !words[i+1].is("run") {
			continue
		}
		for _, w := range words[:i] {
			before = append(before, w.written(s.style))
		}
		return words[i:], before
	}
	return nil, nil
}

// prefix is a program that runs the program its further words name.
type prefix struct {
	takes   string   // letters of options with a value in the next word
	long    []string // long ones
	words   int      // of its own, before the program
	assigns bool     // NAME=VALUE before the program
	shell   bool     // one word alone is read as a script
}

func prefixes() map[string]prefix {
	return map[string]prefix{
		"sudo":      {takes: "ugpCcrtThDRU", long: []string{"--user", "--group", "--prompt", "--chdir", "--host", "--role", "--type", "--other-user", "--command-timeout"}, assigns: true},
		"doas":      {takes: "uC"},
		"env":       {takes: "uC", long: []string{"--unset", "--chdir"}, assigns: true},
		"nice":      {takes: "n", long: []string{"--adjustment"}},
		"ionice":    {takes: "cnpPu", long: []string{"--class", "--classdata"}},
		"chrt":      {takes: "TPD", words: 1},
		"taskset":   {words: 1},
		"nohup":     {},
		"setsid":    {},
		"time":      {takes: "fo", long: []string{"--format", "--output"}},
		"timeout":   {takes: "ks", long: []string{"--kill-after", "--signal"}, words: 1},
		"stdbuf":    {takes: "ioe", long: []string{"--input", "--output", "--error"}},
		"exec":      {takes: "a"},
		"command":   {},
		"builtin":   {},
		"then":      {},
		"unbuffer":  {},
		"lima":      {},
		"colima":    {},
		"tini":      {takes: "pe"},
		"dumb-init": {takes: "r"},
		"xargs": {takes: "IinLPsEad", long: []string{
			"--max-args", "--max-procs", "--replace", "--arg-file", "--delimiter", "--max-lines", "--max-chars",
		}},
		"flock":           {takes: "wE", long: []string{"--timeout", "--wait", "--conflict-exit-code"}, words: 1},
		"systemd-cat":     {takes: "tp", long: []string{"--identifier", "--priority"}},
		"systemd-inhibit": {},
		"systemd-run": {takes: "puMHEt", long: []string{
			"--unit", "--property", "--slice", "--description", "--uid", "--gid", "--setenv", "--working-directory", "--nice",
			"--on-calendar", "--on-boot", "--on-active", "--service-type", "--machine", "--host",
		}},
		"ssh":  {takes: "iploFJLRDEcmbBeIOQSWw", words: 1, shell: true},
		"eval": {}, "watch": {takes: "nq", long: []string{"--interval"}},
	}
}

var assignment = lazyre.New(`^[A-Za-z_][A-Za-z0-9_]*=`)

// skipOptions takes a prefix, its options and its own words off.
func skipOptions(words []word, p prefix) (skipped, rest []word) {
	i := 1
	for ; i < len(words) && strings.HasPrefix(words[i].head(), "-"); i++ {
		h := words[i].head()
		if h == "--" {
			i++
			break
		}
		name, _, joined := strings.Cut(h, "=")
		switch {
		case strings.HasPrefix(h, "--"):
			if !joined && slices.Contains(p.long, name) {
				i++
			}
		case len(h) > 1 && strings.ContainsAny(h[len(h)-1:], p.takes) && !strings.ContainsAny(h[1:len(h)-1], p.takes):
			i++
		}
	}
	for n := 0; n < p.words && i < len(words); n++ {
		i++
	}
	for p.assigns && i < len(words) && assignment().MatchString(words[i].head()) {
		i++
	}
	i = min(i, len(words))
	return words[:i], words[i:]
}
