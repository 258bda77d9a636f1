package profiles

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/profiles"
	"github.com/safe-run/safe-run/tests/harness"
)

func tools() []software {
	return []software{
		{profile: "tcpdump", image: "tcpdump", port: "9999/udp", check: seesPackets},
		{profile: "chrony", image: "chrony", own: proveChrony},
	}
}

const siteDir = "/etc/safe-run"

// sitePolicy grants what the profiles here need beyond the free list, to their
// images alone. busybox asks the kernel in chrony's place.
const sitePolicy = `version: 1
grants:
  - image: docker.io/library/tcpdump
    capabilities: [NET_ADMIN]
  - image: docker.io/library/chrony
    capabilities: [SYS_TIME]
    allow: [userns-host]
  - image: docker.io/library/busybox
    capabilities: [SYS_TIME]
    allow: [userns-host]
`

// setPolicy puts a policy in the place of the machine's, in the mount namespace
// of these tests.
func setPolicy() error {
	if err := os.MkdirAll(siteDir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("none", siteDir, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("a policy of the tests' own: %w", err)
	}
	return os.WriteFile(filepath.Join(siteDir, "policy.yaml"), []byte(sitePolicy), 0o644)
}

// seesPackets sends one to the container, where nothing waits for it.
func seesPackets(c *container) error {
	conn, err := net.Dial("udp", c.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	// What comes back if nobody has the port is of no matter.
	_, _ = conn.Write([]byte("hello"))
	if !strings.Contains(c.Stdout(), ".9999: UDP, length 5") {
		return fmt.Errorf("it prints %q", c.Stdout())
	}
	return nil
}

// proveChrony proves without ever changing the clock, which is this
// machine's. With SYS_TIME, chronyd runs with -x, by which it leaves the clock
// alone, and the kernel is asked for the right by a call that has none but
// wrong values: it looks at the capability first, and then refuses them (adjtimex(2),
// ADJ_TICK). chronyd as it is runs only where the kernel cannot let it.
func proveChrony(t *testing.T, p profiles.Profile) {
	if a := here.Run("load", "--quiet", "-i", filepath.Join(here.Repo, "build/images/busybox.tar")); a.Code != 0 {
		t.Fatal(a)
	}
	start := time.Now()
	if err := chronyAnswers(t, p, time.Minute); err != nil {
		t.Fatalf("with all rights: %v", err)
	}
	limit := max(3*time.Since(start), 5*time.Second)
	if said := adjusts(p); !strings.Contains(said, "Invalid argument") {
		t.Fatalf("with all rights the kernel says %q", said)
	}
	for _, r := range rights(p) {
		t.Run("without "+r.name, func(t *testing.T) {
			switch r.name {
			case "SYS_TIME":
				if said := adjusts(r.rest); !strings.Contains(said, "Operation not permitted") {
					t.Fatalf("the kernel says %q", said)
				}
				a := here.Run(append(append([]string{"--rm"}, r.rest.Flags()...), "chrony")...)
				if a.Code == 0 || a.Code == 125 || !strings.Contains(a.Stdout+a.Stderr, "Operation not permitted") {
					t.Error(a)
				}
			case "userns host": // SYS_TIME asks for it anyway, and the site grants both
				if said := adjusts(r.rest); !strings.Contains(said, "Invalid argument") {
					t.Errorf("the kernel says %q", said)
				}
			default:
				if err := chronyAnswers(t, r.rest, limit); err == nil {
					t.Error("the check passes without it")
				} else if errors.Is(err, errRefused) {
					t.Errorf("this proves nothing: %v", err)
				}
			}
		})
	}
}

// chronyAnswers runs a chronyd that leaves the clock alone, until chronyc has
// an answer from it.
func chronyAnswers(t *testing.T, p profiles.Profile, limit time.Duration) error {
	t.Helper()
	s := software{check: func(c *container) error {
		if a := c.exec("chronyc", "-n", "tracking"); a.Code != 0 || !strings.Contains(a.Stdout, "Leap status") {
			return fmt.Errorf("chronyc: %s", a)
		}
		return nil
	}}
	c := &container{name: fmt.Sprintf("chrony-%d", len(rights(p))), start: 1}
	args := append([]string{"--rm", "--name", c.name}, p.Flags()...)
	c.Service = here.Serve(t, append(args, "chrony", "chronyd", "-x", "-U", "-d", "-f", "/etc/chrony/chrony.conf")...)
	defer c.Stop(syscall.SIGKILL)
	return s.passes(c, limit)
}

// adjusts gives the kernel's answer to a wrong length of the clock's tick.
func adjusts(p profiles.Profile) string {
	a := here.Run(append(append([]string{"--rm"}, p.Flags()...), "busybox", "adjtimex", "-t", "0")...)
	return a.Stdout + a.Stderr
}

// TestGrants: without the site's grant the profiles that need one are refused,
// with the policy's words, and nothing is created.
func TestGrants(t *testing.T) {
	for name, words := range map[string][]string{
		"tcpdump": {"--cap-add NET_ADMIN", "[capability]"},
		"chrony":  {"--cap-add SYS_TIME", "[cap-host-only]", "--userns", "[userns-host]"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(embedded, name+".yaml")
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p, err := profiles.Parse(data, file)
			if err != nil {
				t.Fatal(err)
			}
			container := name + "-ungranted"
			// chronyd must not run as it is, even if this test fails.
			command := []string{"--mount", "sh", "-c", `mount -t tmpfs none ` + siteDir + ` && exec "$0" "$@"`, here.Bin, "--rm", "--name", container}
			a := harness.Call(time.Minute, "unshare", append(append(command, p.Flags()...), name, "/nothing")...)
			refused(t, a, container, words...)
		})
	}
}

// refused: the policy said so in these words, and there is no container.
func refused(t *testing.T, a harness.Answer, container string, words ...string) {
	t.Helper()
	for _, w := range append(words, "nothing was created") {
		if !strings.Contains(a.Stderr, w) {
			t.Errorf("no %q", w)
		}
	}
	if a.Code != 125 || t.Failed() {
		t.Error(a)
	}
	if a := here.Run("inspect", container); a.Code == 0 {
		t.Errorf("it exists: %s", a.Stdout)
	}
}
