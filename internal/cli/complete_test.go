package cli

import (
	"strings"
	"testing"
)

func TestComplete(t *testing.T) {
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
	} {
		words := strings.Split(c.line, " ")
		got, files := Complete(words[:len(words)-1], words[len(words)-1])
		var first string
		if len(got) > 0 {
			first, _, _ = strings.Cut(got[0], "\t")
		}
		if first != c.first || files != c.files {
			t.Errorf("%q: %q %v, want %q %v", c.line, got, files, c.first, c.files)
		}
	}
}
