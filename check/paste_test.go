package check

import (
	"strings"
	"testing"

	"mvdan.cc/sh/v3/syntax"
)

// TestPasted: what is text to compose and systemd is no command of the line that
// is printed: whoever pastes it starts one container, and nothing else.
func TestPasted(t *testing.T) {
	for _, value := range []string{
		"${A:-$(touch x)}", "${A:-`touch x`}", "`touch x`", "$$(touch x)", "$$`touch x`", "<(touch x)", "a; touch x", "a && touch x", "a\ntouch x",
		`${a"; touch x; echo "}`, `${a"; touch x; "`, "${a:-", "${a:-'", "$${a", "${1:-$(touch x)}", "${A@P}", "${A:=$(touch x)}", "$(touch x)",
		`"$(touch x)"`, `'`, `"`, `\`, "${A:-{}}}`touch x`", "~/$(touch x)", "> x", "*", "{a,b}",
	} {
		q := "'" + strings.ReplaceAll(value, "'", "''") + "'"
		text := "services:\n  s:\n    image: IMAGE\n    container_name: " + q + "\n    environment:\n      - " + q + "\n      - Y=" + q[1:len(q)-1] +
			"\n    entrypoint: " + q + "\n    command: " + q + "\n    volumes: [" + q + "]\n    healthcheck:\n      test: [CMD, " + q + "]\n"
		if strings.ContainsAny(value, "\n\\") || strings.ContainsAny(value, "`'\"") {
			text = strings.Replace(text, "      - Y="+q[1:len(q)-1]+"\n", "", 1)
		}
		for _, text := range []string{strings.Replace(text, "IMAGE", "busybox", 1), strings.Replace(text, "IMAGE", q, 1)} {
			r, err := Look("compose.yml", []byte(text), Options{})
			if err != nil {
				continue // not YAML any more
			}
			for _, l := range r.Launches {
				onlyRun(t, l.Rewritten)
			}
		}
	}
	for _, text := range []string{
		"[Service]\nExec; touch x; X=docker run busybox\n", "[Service]\nExec$(touch x)=docker run busybox\n",
	} {
		if r := look(t, Unit, text); len(r.Launches) != 0 {
			t.Errorf("%q: %+v", text, r.Launches)
		}
	}
	// systemd takes quotation marks off before it looks for variables.
	r := look(t, Unit, "[Service]\nExecStart=docker run -e \"A=${x\"} --privileged -e \"\" busybox\n")
	if len(r.Launches) != 1 || r.Launches[0].Verdict != Refused {
		t.Errorf("a flag behind a variable with a quotation mark: %+v", r.Launches)
	}
}

// onlyRun says of a line that it is one command, in which no other is.
func onlyRun(t *testing.T, line string) {
	t.Helper()
	file, err := syntax.NewParser().Parse(strings.NewReader(line), "")
	if err != nil {
		t.Errorf("no line of a shell: %s: %v", line, err)
		return
	}
	syntax.Walk(file, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.CmdSubst, *syntax.ProcSubst, *syntax.Redirect, *syntax.ArithmExp:
			t.Errorf("more than safe-run run: %s", line)
		case *syntax.CallExpr:
			if len(n.Args) < 2 || n.Args[0].Lit() != "safe-run" || len(n.Assigns) > 0 {
				t.Errorf("another command: %s", line)
			}
		}
		return true
	})
	if len(file.Stmts) != 1 {
		t.Errorf("not one command: %s", line)
	}
}
