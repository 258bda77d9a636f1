package check

import (
	"slices"
	"strings"
	"testing"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"
)

// TestComposeCommand: a command's string becomes the words compose makes of it,
// in a line that can be pasted, or it is said what is left out.
func TestComposeCommand(t *testing.T) {
	const unreadable, stops = "cannot be split", "as compose does: all from "
	for text, want := range map[string]struct {
		words  []string
		remark string
	}{
		`sh -c "echo $$(date)"`:          {[]string{"sh", "-c", "echo $(date)"}, ""},
		`echo $$(touch x y) z`:           {[]string{"echo", "$(touch x y)", "z"}, ""},
		"echo `touch x y`":               {[]string{"echo", "`touch x y`"}, ""},
		`echo $$HOME '$$(x)' "$${a}"`:    {[]string{"echo", "$HOME", "$(x)", "${a}"}, ""},
		`echo a\ b '' "" 'a\b' "a\"b"`:   {[]string{"echo", "a b", "", "", `a\b`, `a"b`}, ""},
		`echo a'b "c'"d 'e"`:             {[]string{"echo", `ab "cd 'e`}, ""},
		`echo * ~ {a,b} !x #y`:           {[]string{"echo", "*", "~", "{a,b}", "!x", "#y"}, ""},
		`printf "a\nb" c\td`:             {[]string{"printf", "a\nb", "c\td"}, ""},
		"  a   b  ":                      {[]string{"a", "b"}, ""},
		"":                               {nil, ""},
		`a; touch x`:                     {[]string{"a"}, stops + ";"},
		`a && b`:                         {[]string{"a"}, stops + "&"},
		`a 2>x`:                          {[]string{"a"}, stops + ">"},
		`a "b && c" ';' \;`:              {[]string{"a", "b && c", ";", ";"}, ""},
		`a (b)`:                          {nil, unreadable},
		`a "b`:                           {nil, unreadable},
		`a $$(b`:                         {nil, unreadable},
		`a $$((1))`:                      {nil, unreadable},
		`a \`:                            {nil, unreadable},
		strings.Repeat("a ", maxWords+1): {slices.Repeat([]string{"a"}, maxWords), "what comes after"},
	} {
		r := look(t, Compose, "services:\n  s:\n    image: busybox\n    command: '"+strings.ReplaceAll(text, "'", "''")+"'\n")
		line := r.Launches[0].Rewritten
		onlyRun(t, line)
		got := pasted(t, line)
		if len(got) < 3 || !slices.Equal(got[3:], want.words) {
			t.Errorf("%s\n got: %q\nwant: %q", text, got, want.words)
		}
		said := ""
		for _, m := range r.Remarks {
			said += m.Flag + ": " + m.Why
		}
		if (said == "") != (want.remark == "") || !strings.Contains(said, want.remark) || said != "" && !strings.HasPrefix(said, "s: command: left out of the line") {
			t.Errorf("%s: %q", text, said)
		}
	}
	for text, want := range map[string]string{
		"command: a $X b${Y}c \"d ${Z}\"": `safe-run run busybox a $X b${Y}c 'd '"${Z}"`,
		"entrypoint: a $$(b) c":           "safe-run run --entrypoint a busybox '$(b)' c",
		"command: [a, '$$(b)', '(']":      "safe-run run busybox a '$(b)' '('",
	} {
		if r := look(t, Compose, "services: \n  s:\n    image: busybox\n    "+text+"\n"); r.Launches[0].Rewritten != want {
			t.Errorf("%s\n got: %s\nwant: %s", text, r.Launches[0].Rewritten, want)
		}
	}
	for text, want := range map[string]string{
		"command: {a: b}":                 "a word of it is not text",
		"entrypoint: [a, {b: c}]":         "a word of it is not text",
		"stop_grace_period: some seconds": "not a time that can be read",
	} {
		r := look(t, Compose, "services:\n  s:\n    image: busybox\n    "+text+"\n")
		if said := append(r.Remarks, r.Launches[0].NotHonoured...); len(said) != 1 || !strings.Contains(said[0].Why, want) {
			t.Errorf("%s: %+v", text, said)
		}
	}
}

// pasted gives the words a shell makes of a line.
func pasted(t *testing.T, line string) []string {
	t.Helper()
	file, err := syntax.NewParser().Parse(strings.NewReader(line), "")
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	words, err := expand.Fields(&expand.Config{}, file.Stmts[0].Cmd.(*syntax.CallExpr).Args...)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return words
}
