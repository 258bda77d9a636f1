package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/safe-run/safe-run/tests/imagekit"
)

// probeFacts are what the probe's --json says of itself and of what it got.
type probeFacts struct {
	Facts struct {
		UID, GID     int
		Groups       []int
		Capabilities map[string]string
		NoNewPrivs   string
		Seccomp      string
		LSM          string
		UIDMap       [][3]uint64
		GIDMap       [][3]uint64
		Limits       map[string]string
	}
	Results []struct{ ID, Verdict, Errno string }
}

// sight is what two processes of one container must have in common.
type sight struct {
	facts    string
	verdicts map[string]string // by attempt: the verdict, and the reason
}

func sightOf(t *testing.T, about, text string) sight {
	t.Helper()
	// On a terminal there may be more before it.
	if i := strings.Index(text, "{"); i > 0 {
		text = text[i:]
	}
	var p probeFacts
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&p); err != nil {
		t.Fatalf("%s: no report of the probe: %v: %s", about, err, clip(text))
	}
	p.Facts.UIDMap, p.Facts.GIDMap = nil, nil // of another container
	facts, err := json.Marshal(p.Facts)
	if err != nil {
		t.Fatal(err)
	}
	s := sight{string(facts), map[string]string{}}
	for _, r := range p.Results {
		s.verdicts[r.ID] = r.Verdict + " " + r.Errno
	}
	if len(s.verdicts) < len(needed) {
		t.Fatalf("%s: %d attempts", about, len(s.verdicts))
	}
	return s
}

// more says where a process got further than another.
func (s sight) more(than sight) (how []string) {
	if s.facts != than.facts {
		how = append(how, fmt.Sprintf("it has\n%s\nand not\n%s", s.facts, than.facts))
	}
	for id, v := range s.verdicts {
		was := than.verdicts[id]
		if strings.HasPrefix(v, "OPEN") && !strings.HasPrefix(was, "OPEN") || strings.HasPrefix(was, "blocked") && !strings.HasPrefix(v, "blocked") {
			how = append(how, fmt.Sprintf("%s is %q, for the first process %q", id, v, was))
		}
	}
	return how
}

// noMore fails the test if what get looks at gets further than the first
// process did. Two probes at once may get into each other's way: it is looked
// at again then.
func noMore(t *testing.T, about string, than sight, get func() sight) {
	t.Helper()
	var how []string
	for range 3 {
		if how = get().more(than); len(how) == 0 {
			return
		}
	}
	t.Errorf("%s: %s", about, strings.Join(how, "\n"))
}

// toolbox is an image with a shell and the probe.
func toolbox(t *testing.T) string {
	t.Helper()
	img := busyboxImage(t, "e2e-toolbox:latest")
	body, err := os.ReadFile(here.probe)
	if err != nil {
		t.Fatal(err)
	}
	img.Layers = append(img.Layers, imagekit.Layer{Entries: []imagekit.Entry{{Path: "probe", Mode: 0o755, Body: body}}})
	if r := load(t, img, imagekit.WriteOCI); r.code != 0 {
		t.Fatal(r)
	}
	return "e2e-toolbox"
}

// TestExecGainsNothing: what runs in a container by any way has what the
// container's first process has, and gets no further: by exec, with other
// users and a terminal, as a health check, after a restart, and after the
// container was adopted.
func TestExecGainsNothing(t *testing.T) {
	image := toolbox(t)
	t.Run("", func(t *testing.T) {
		for what, flags := range map[string][]string{
			"plain":   nil,
			"user":    {"-u", "1000:1000"},
			"cap-add": {"--cap-add", "NET_BIND_SERVICE"},
			"groups":  {"-u", "1000", "--group-add", "2000"},
			"limits":  {"--memory", "128m", "--pids-limit", "50", "--ulimit", "nofile=512"},
			"init":    {"--init"},
			"tty":     {"-t"},
		} {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				ways(t, image, "e2e-gain-"+what, flags)
			})
		}
	})
}

func ways(t *testing.T, image, name string, flags []string) {
	t.Helper()
	// The first process leaves its report where others find it. The check says
	// with its exit code whether any attempt worked.
	const first = `/probe --json > /tmp/first.new; mv /tmp/first.new /tmp/first; trap "exit 0" TERM; while :; do sleep 0.05; done`
	const check = `/probe --json > /tmp/check.$$; mv /tmp/check.$$ /tmp/check`
	id := detach(t, append(append([]string{"--name", name, "--health-cmd", check, "--health-interval", "300ms"}, flags...), image, "sh", "-c", first)...)
	removed(t, name)
	read := func(file string) sight {
		t.Helper()
		eventually(t, 30*time.Second, "the report "+file, func() bool { return run("exec", name, "test", "-e", file).code == 0 })
		return sightOf(t, file, run("exec", name, "cat", file).stdout)
	}
	begin := read("/tmp/first")
	compare := func(when string) {
		t.Helper()
		for _, how := range [][]string{{"exec"}, {"exec", "-t"}} {
			about := when + ": " + strings.Join(how, " ")
			noMore(t, about, begin, func() sight {
				r := run(append(how, name, "/probe", "--json")...)
				if r.stdout == "" && len(how) > 1 {
					// What a terminal showed may be lost as its last process ends; what the
					// process may do is what is asked here.
					t.Logf("%s: once more, after: %s", about, r)
					r = run(append(how, name, "/probe", "--json")...)
				}
				if r.code == -1 || r.took > patient(10*time.Second) {
					t.Errorf("%s after %s: exit %d, %s", about, r.took, r.code, clip(r.stderr))
				}
				if r.stdout == "" {
					t.Errorf("%s: %s", about, r)
				}
				return sightOf(t, about, r.stdout)
			})
		}
		noMore(t, when+": health check", begin, func() sight {
			if r := run("exec", name, "rm", "-f", "/tmp/check"); r.code != 0 {
				t.Error(r)
			}
			return read("/tmp/check")
		})
		users(t, name)
	}
	compare("at first")
	if r := run("restart", name); r.code != 0 {
		t.Fatal(r)
	}
	noMore(t, "after a restart", begin, func() sight { return read("/tmp/first") })
	compare("after a restart")
	_ = syscall.Kill(supervisor(t, id), syscall.SIGKILL)
	if r := run("images", "-q"); r.code != 0 {
		t.Error(r)
	}
	compare("adopted")
	if r := run("exec", "--privileged", name, "true"); r.code == 0 {
		t.Error("exec --privileged was not refused")
	}
}

// users: another user of the same container has no capability that the first
// process lacks; an ordinary one has none in effect.
func users(t *testing.T, name string) {
	t.Helper()
	caps := func(args ...string) map[string]uint64 {
		t.Helper()
		r := run(append(append([]string{"exec"}, args...), name, "cat", "/proc/self/status")...)
		if r.code != 0 || r.took > patient(10*time.Second) {
			t.Fatal(r)
		}
		sets := map[string]uint64{}
		for _, l := range lines(r.stdout) {
			k, v, _ := strings.Cut(l, ":")
			v = strings.TrimSpace(v)
			switch {
			case strings.HasPrefix(k, "Cap"):
				n, err := strconv.ParseUint(v, 16, 64)
				if err != nil {
					t.Fatal(err)
				}
				sets[k] = n
			case k == "NoNewPrivs" && v != "1", k == "Seccomp" && v != "2":
				t.Errorf("exec %s: %s", strings.Join(args, " "), l)
			}
		}
		if len(sets) != 5 {
			t.Fatalf("sets %v", sets)
		}
		return sets
	}
	own := caps()
	for _, u := range []string{"0", "0:0", "1000", "1000:1000", "65534"} {
		for set, n := range caps("-u", u) {
			if extra := n &^ own["CapBnd"]; extra != 0 {
				t.Errorf("exec -u %s: %s has %x more than the container", u, set, extra)
			}
		}
	}
}
