package learn

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/profiles"
)

// Whatever a container did, a candidate of it is a profile file.
func TestCandidateHostile(t *testing.T) {
	name := "\x1b[2J\u202e\xff\n\u0085" + strings.Repeat("\xfe", 5000)
	rec := Recording{Peak: Peak{Memory: 1, Pids: 1 << 40, Tmpfs: map[string]int64{name: 1 << 62, "/tmp": 1 << 61}}, Limits: Reached{Tmpfs: []string{name}}}
	rec.Capabilities = []CapabilityUse{{Name: "CAP_CHOWN", Syscall: name, Process: name, Count: 1 << 63}}
	rec.Syscalls = []SyscallUse{{Name: name}, {Name: "read"}}
	for i := range 500 {
		for _, p := range []string{fmt.Sprintf("/d%d/x", i), fmt.Sprintf("/%d%s/x", i, name), fmt.Sprintf("/srv/%d,size=1/x", i), "/"} {
			parent, _, _ := strings.Cut(strings.TrimPrefix(p, "/"), "/")
			rec.Written = append(rec.Written, Written{Path: p, New: true, Bytes: 1 << 60, Parent: "/" + parent, ParentMode: 0o7777, ParentUID: 1<<32 - 1})
			rec.Paths = append(rec.Paths, PathUse{Path: p, Syscall: name, Write: true, UID: uint32(i), Process: name, Count: 1})
		}
		rec.Sockets = append(rec.Sockets, SocketUse{Bind: true, Proto: "tcp", Address: name, Port: uint16(i + 1), Process: name})
		rec.Sockets = append(rec.Sockets, SocketUse{Proto: "udp", Address: name, Port: uint16(i + 1), Process: name})
	}
	r := Candidate(rec, profiles.Profile{}, Options{})
	text, err := r.Profile.YAML()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := profiles.Parse(text, "candidate"); err != nil {
		t.Errorf("%v\n%.2000s", err, text)
	}
	if len(r.Unmet) > 1000 || len(r.Seen) > maxSeen+1 {
		t.Errorf("%d unmet, %d seen", len(r.Unmet), len(r.Seen))
	}
	for _, line := range append(r.Seen, fmt.Sprint(r.Unmet)) {
		if strings.ContainsAny(line, "\x1b\n\u202e\u0085") || !utf8.ValidString(line) {
			t.Errorf("%.200q", line)
		}
	}
	failed := runner(func(Trial) (Outcome, error) {
		return Outcome{Exit: 1, Output: name, Recording: &Recording{Paths: []PathUse{{Path: name, Errno: unix.EROFS, Syscall: name}}}}, nil
	})
	if _, err := Prove(t.Context(), r, failed, func(string) {}); err == nil || strings.ContainsAny(err.Error(), "\x1b\u202e") {
		t.Errorf("%q", err)
	}
}
