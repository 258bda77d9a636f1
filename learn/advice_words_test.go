package learn

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/profiles"
)

// Whoever pastes a line of advice into a shell gives what it says, and no more:
// names of the container are one word each.
func TestAdviceWords(t *testing.T) {
	for _, name := range []string{"/opt --privileged", "/srv;reboot", "/$(reboot)", "/`reboot`", "/a&b|c>d<e", "/x (once, to sh)", "/~", "/*", "/it's"} {
		rec := Recording{
			Paths: []PathUse{
				{Path: name + "/f", Errno: unix.EROFS, Syscall: "openat", Write: true, Process: name[1:], Count: 1},
				{Path: name + "/f", Syscall: "openat", Write: true, Process: name[1:], Count: 1},
			},
			Written: []Written{{Path: name + "/f", New: true, Bytes: 1, Parent: name, ParentMode: 0o755}},
			Limits:  Reached{Tmpfs: []string{name}},
		}
		lines := Explain(rec, Context{})
		lines = append(lines, Beyond(Candidate(rec, profiles.Profile{}, Options{}).Profile, profiles.Profile{})...)
		if len(lines) < 2 {
			t.Errorf("%q: only %q", name, lines)
		}
		for _, l := range lines {
			_, advice, found := strings.Cut(l, ": --tmpfs")
			if !found {
				continue
			}
			advice, _, _ = strings.Cut(advice, ", or -v")
			out, err := exec.Command("/bin/sh", "-c", `printf '%s\n' --tmpfs`+advice).Output()
			if err != nil {
				t.Errorf("%q: %v", l, err)
			}
			words := strings.Split(strings.TrimSuffix(strings.Replace(string(out), "--tmpfs=", "--tmpfs\n", 1), "\n"), "\n")
			target, _, _ := strings.Cut(words[len(words)-1], ":")
			if len(words) != 2 || !slices.Contains([]string{name, name + "/f"}, target) {
				t.Errorf("%q is %q to a shell", l, words)
			}
		}
	}
}
