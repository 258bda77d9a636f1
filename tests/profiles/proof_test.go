package profiles

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/safe-run/safe-run/profiles"
	"github.com/safe-run/safe-run/tests/harness"
)

// all is every embedded profile's case.
func all() []software {
	return slices.Concat(databases(), proxies(), webapps(), nginxRedis(), tools())
}

// software is what proves one profile.
type software struct {
	profile string   // the file's name below profiles/embedded, without .yaml
	image   string   // in build/images
	flags   []string // what the profile leaves to its user
	command []string // instead of the image's
	port    string   // the container's, published to the address that check finds
	// data is the directory of a volume that outlives the container: the
	// check has to pass a second time, in a new container with that volume.
	data string
	// check is called until it gives nil, or for too long.
	check func(*container) error
	// own is a proof of another form, instead of all above but image.
	own func(*testing.T, profiles.Profile)
}

// container is a started one.
type container struct {
	*harness.Service
	name    string
	address string // on the host, of the published port
	start   int    // 1, or 2 for the second container with the same data
}

// exec runs a command in the container.
func (c *container) exec(command ...string) harness.Answer {
	return harness.Call(10*time.Second, here.Bin, append([]string{"exec", c.name}, command...)...)
}

const embedded = "../../profiles/embedded"

// TestProfiles: each profile is enough, and none of its rights is too much.
func TestProfiles(t *testing.T) {
	for i, s := range all() {
		t.Run(s.profile, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(embedded, s.profile+".yaml")
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p, err := profiles.Parse(data, file)
			if err != nil {
				t.Fatal(err)
			}
			if s.own != nil {
				s.own(t, p)
				return
			}
			s.prove(t, p, 20000+100*i)
		})
	}
}

// prove runs the software with all rights, and then once without each.
// Published ports are counted from port on.
func (s software) prove(t *testing.T, p profiles.Profile, port int) {
	var took time.Duration
	t.Run("all", func(t *testing.T) {
		start := time.Now()
		if err := s.try(t, []string{"--profile", s.profile}, port, time.Minute); err != nil {
			t.Fatalf("with all rights: %v", err)
		}
		took = time.Since(start)
		t.Logf("took %v", took.Round(time.Millisecond))
	})
	if t.Failed() {
		return
	}
	for i, r := range rights(p) {
		t.Run("without "+r.name, func(t *testing.T) {
			err := s.try(t, r.rest.Flags(), port+1+i, max(3*took, 5*time.Second))
			switch {
			case err == nil:
				t.Errorf("the check passes without it")
			case errors.Is(err, errRefused):
				t.Errorf("this proves nothing: %v", err)
			default:
				t.Log(err)
			}
		})
	}
}

// errRefused: safe-run itself did not start the container.
var errRefused = errors.New("not started")

// try runs the software with the flags that stand for a profile, and gives
// what the check says when the time is over or the container has ended.
func (s software) try(t *testing.T, flags []string, port int, limit time.Duration) error {
	t.Helper()
	c := &container{name: fmt.Sprintf("%s-%d", s.profile, port), address: fmt.Sprintf("127.0.0.1:%d", port)}
	args := append([]string{"--rm", "--name", c.name}, flags...)
	args = append(args, s.flags...)
	if s.port != "" {
		args = append(args, "-p", c.address+":"+s.port)
	}
	starts := 1
	if s.data != "" {
		starts = 2
		args = append(args, "-v", c.name+":"+s.data)
		t.Cleanup(func() {
			if a := here.Run("volume", "rm", c.name); a.Code != 0 {
				t.Errorf("volume rm: %s", a)
			}
		})
	}
	args = append(append(args, s.image), s.command...)
	for c.start = 1; c.start <= starts; c.start++ {
		c.Service = here.Serve(t, args...)
		if err := s.passes(c, limit); err != nil {
			c.Stop(syscall.SIGKILL)
			return fmt.Errorf("start %d: %w", c.start, err)
		}
		if a := here.Run("stop", c.name); a.Code != 0 {
			return fmt.Errorf("%w: stop: %s", errRefused, a)
		}
		c.Stop(syscall.SIGTERM) // only waits
	}
	return nil
}

// passes waits for the check.
func (s software) passes(c *container, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for {
		err := s.check(c)
		if err == nil {
			return nil
		}
		select {
		case <-c.Ended():
			a := c.Stop(0)
			if a.Code == 125 {
				return fmt.Errorf("%w: %s", errRefused, a)
			}
			return fmt.Errorf("it ended: %s", a)
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after %v: %w", limit.Round(time.Millisecond), err)
		}
	}
}

// TestEveryProfileIsProved: no file without a case, no case without a file,
// and a case runs an image the profile would be named for.
func TestEveryProfileIsProved(t *testing.T) {
	files, err := filepath.Glob(embedded + "/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var there, proved []string
	for _, f := range files {
		there = append(there, strings.TrimSuffix(filepath.Base(f), ".yaml"))
	}
	for _, s := range all() {
		proved = append(proved, s.profile)
	}
	slices.Sort(proved)
	if !slices.Equal(there, proved) {
		t.Errorf("the profiles are %q, those with a case %q", there, proved)
	}
}
