package profiles

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/tests/harness"
)

// TestAdvice: each flag that --explain names makes the command work, and
// nothing is refused any more.
func TestAdvice(t *testing.T) {
	for _, c := range []struct {
		script, advice string
		flags          []string // the advice as a user follows it
	}{
		{"dd if=/dev/zero of=/tmp/x bs=1M count=70", "--tmpfs /tmp:size=128m", []string{"--tmpfs", "/tmp:size=128m"}},
		{"dd if=/dev/zero of=/dev/shm/x bs=1M count=70", "--shm-size 128m", []string{"--shm-size", "128m"}},
		{"chroot / true", "--cap-add SYS_CHROOT", []string{"--cap-add", "SYS_CHROOT"}},
		{"echo 1 > /proc/sys/net/ipv4/ip_forward", "--sysctl net.ipv4.ip_forward=VALUE", nil},
		{"hostname x", "--hostname NAME", nil},
		{"ulimit -l unlimited", "--ulimit NAME=NUMBER", nil},
		{"cp /bin/busybox /tmp/true; /tmp/true", "--tmpfs /tmp:exec", []string{"--tmpfs", "/tmp:exec"}},
		{"mount -t tmpfs none /mnt", "mount: refused by the system call filter", nil},
		{"ip link add d0 type dummy", "--cap-add NET_ADMIN, which the site's policy must grant", nil},
		{"date -s 2020-01-01", "only --userns host has it", nil},
	} {
		t.Run(strings.Fields(c.script)[0], func(t *testing.T) {
			t.Parallel()
			run := func(flags ...string) harness.Answer {
				args := append([]string{"run", "--rm", "--explain", "--network", "none"}, flags...)
				return here.Run(append(args, "busybox", "sh", "-c", c.script)...)
			}
			if a := run(); !strings.Contains(a.Stderr, c.advice) {
				t.Errorf("no %q: %s", c.advice, a)
			}
			if c.flags == nil {
				return
			}
			if a := run(c.flags...); a.Code != 0 || !strings.Contains(a.Stderr, "nothing was refused") {
				t.Errorf("with %q: %s", c.flags, a)
			}
		})
	}
}

// TestUnlisted: a name that is not on the list of connections is told.
func TestUnlisted(t *testing.T) {
	a := here.Run("run", "--rm", "--explain", "--dns", "192.0.2.53", "--egress", "192.0.2.1:80", "busybox", "sh", "-c", "nslookup example.com; nc -w1 192.0.2.2 80")
	for _, want := range []string{"--egress example.com:PORT", "--egress 192.0.2.2:80"} {
		if !strings.Contains(a.Stderr, want) {
			t.Errorf("no %q: %s", want, a)
		}
	}
}

// TestLessonsThatProveNothing: what cannot be a proof is said, and leaves no
// empty profile.
func TestLessonsThatProveNothing(t *testing.T) {
	for _, c := range []struct {
		name  string
		flags []string
		args  []string
		code  int
		text  string
	}{
		{"check of something else", []string{"--check", "true"}, []string{"sleep", "100"}, 1, "the check succeeds although the application does not run"},
		{"check that never succeeds", []string{"--check", "false", "--for", "500ms"}, []string{"true"}, 1, "safe-run --complain --network=none busybox true"},
		{"check that is no command", []string{"--check", "nosuchcommand", "--for", "500ms"}, []string{"true"}, 1, "the check may be mistyped: exit 127"},
		{"program that fails", nil, []string{"sh", "-c", "mknod /tmp/n c 1 3; exit 3"}, 0, "with exit code 3: the profile may lack what it did not come to"},
		{"no check", nil, []string{"true"}, 0, "there is no --check: what is proved is that it ends with exit code 0"},
		{"another list of system calls", []string{"--security-opt", "seccomp=unconfined"}, []string{"true"}, 1, "learn makes a list of system calls"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "p.yaml")
			a := here.Run(append(append(append([]string{"learn", "-o", file}, c.flags...), "--network", "none", "busybox"), c.args...)...)
			if a.Code != c.code || !strings.Contains(a.Stderr, c.text) {
				t.Errorf("want %d and %q: %s", c.code, c.text, a)
			}
			if st, err := os.Stat(file); (err == nil) != (c.code == 0) || err == nil && st.Size() == 0 {
				t.Errorf("the profile: %v", err)
			}
		})
	}
}

// TestLessonsEndedByHand: what somebody has exercised and ended is not run
// again, whatever its exit code is and the image has in /run. The profile is for
// the image, also if that was named by its id.
func TestLessonsEndedByHand(t *testing.T) {
	a := here.Run("images", "--quiet", "mariadb")
	id := strings.TrimSpace(a.Stdout)
	if a.Code != 0 || id == "" {
		t.Fatal(a)
	}
	a = here.Run("learn", "--for", "500ms", "--network", "none", "--entrypoint", "sh", id, "-c", "trap 'exit 3' TERM; while :; do :; done")
	if a.Code != 0 || !strings.Contains(a.Stderr, "recorded, not proved") || strings.Contains(a.Stderr, "again") || !strings.Contains(a.Stdout, "\nname: mariadb\n") {
		t.Error(a)
	}
}
