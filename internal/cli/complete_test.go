package cli

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestComplete(t *testing.T) {
	values := func(flag string) []string {
		if flag == "profile" {
			return []string{"nginx", "node"}
		}
		return nil
	}
	verb := []*pflag.Flag{{Name: "check"}, {Name: "keep", Shorthand: "k"}, {Name: "all", NoOptDefVal: "true"}}
	for _, c := range []struct {
		line  string // the last word is the one to complete
		first string // word
		files bool
	}{
		{"--pri", "--privileged", false},
		{"--rm --mem", "--memory", false},
		{"-it --env A=1 --dry-run --cap-a", "--cap-add", false},
		{"-v=/a:/b --ro", "", false},
		{"--deta", "--detach-keys", false},
		{"--env-file ", "", true},
		{"-itv ", "", true},
		{"-ea --cap-a", "--cap-add", false},
		{"--rm ", "", false},
		{"--rm busybox --pri", "", true},
		{"-e A busybox ", "", true},
		{"-- --pri", "", true},
		{"--profile ", "nginx", true},
		{"--rm --profile no", "node", true},
		{"--profile=no", "node", true},
		{"--profile ./n", "", true},
		{"--rm=n", "", false},
		{"--check curl --cap-a", "--cap-add", false},
		{"--check=curl -k file --cap-a", "--cap-add", false},
		{"-k ", "", true},
		{"--all --cap-a", "--cap-add", false},
	} {
		words := strings.Split(c.line, " ")
		got, files := Complete(words[:len(words)-1], words[len(words)-1], values, verb...)
		var first string
		if len(got) > 0 {
			first, _, _ = strings.Cut(got[0], "\t")
		}
		if first != c.first || files != c.files {
			t.Errorf("%q: %q %v, want %q %v", c.line, got, files, c.first, c.files)
		}
	}
}
