// Package threats tries each way out of a container that is listed in
// tests/threats/catalogue: Test + ID is the test of a row. It needs root.
package threats

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/tests/harness"
	"github.com/safe-run/safe-run/tests/imagekit"
	"github.com/safe-run/safe-run/tests/threats/catalogue"
)

// here is set before the first test; underSudo puts another in its place for
// the rest of a test.
var here *harness.Ground

func TestMain(m *testing.M) {
	var failed error
	code := harness.Main(m, "../..", []string{"build", "build-faults", "engine", "images", "probe"}, []string{"busybox", "probe"},
		func(g *harness.Ground) {
			here = g
			failed = loadDen()
		}, closeDens)
	if failed != nil {
		fmt.Fprintln(os.Stderr, "threats: the image of the tests:", failed)
		code = 1
	}
	if err := results.write(); err != nil {
		fmt.Fprintln(os.Stderr, "threats: results:", err)
		code = 1
	}
	os.Exit(code)
}

// denImage is busybox with the probe, 64 bit and 32 bit, beside it.
const denImage = "den"

func loadDen() error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	img, err := imagekit.Busybox(busybox)
	if err != nil {
		return err
	}
	img.Name = denImage + ":latest"
	var layer imagekit.Layer
	for _, name := range []string{"probe", "probe32"} {
		b, err := os.ReadFile(filepath.Join(here.Repo, "build", name))
		if err != nil {
			return err
		}
		layer.Entries = append(layer.Entries, imagekit.File(name, 0o755, string(b)))
	}
	img.Layers = append(img.Layers, layer)
	a, err := load(here.Dir, img)
	if err == nil && a.Code != 0 {
		err = errors.New(a.String())
	}
	return err
}

// load builds an image and hands it to safe-run load.
func load(dir string, img imagekit.Image) (harness.Answer, error) {
	built, err := imagekit.Build(img)
	if err != nil {
		return harness.Answer{}, err
	}
	f, err := os.CreateTemp(dir, "image-*.tar")
	if err != nil {
		return harness.Answer{}, err
	}
	defer os.Remove(f.Name())
	if err := errors.Join(imagekit.WriteOCI(f, built), f.Close()); err != nil {
		return harness.Answer{}, err
	}
	return here.Run("load", "--quiet", "-i", f.Name()), nil
}

// row begins the test of a row; what comes of it is written down.
func row(t *testing.T, id string) {
	t.Helper()
	if r, ok := catalogue.Find(id); !ok || r.Untested != "" {
		t.Fatalf("the catalogue has no row %s with a test", id)
	}
	if t.Name() != "Test"+id {
		t.Fatalf("%s is not the test of row %s", t.Name(), id)
	}
	t.Cleanup(func() { results.add(id, !t.Failed()) })
}

// outcomes are the rows whose tests have ended.
type outcomes struct {
	mu   sync.Mutex
	held map[string]bool
}

var results outcomes

func (o *outcomes) add(id string, held bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.held == nil {
		o.held = map[string]bool{}
	}
	o.held[id] = held
}

// write puts them into the file KERNEL, such as 6.1, of the directory
// SAFE_RUN_THREATS_RESULTS; rows it has of earlier runs, and whose tests were
// not run now, stay.
func (o *outcomes) write() error {
	dir := os.Getenv("SAFE_RUN_THREATS_RESULTS")
	if dir == "" || len(o.held) == 0 {
		return nil
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return err
	}
	release := strings.SplitN(unix.ByteSliceToString(uts.Release[:]), ".", 3)
	file := filepath.Join(dir, strings.Join(release[:min(2, len(release))], "."))
	all := map[string]string{}
	if b, err := os.ReadFile(file); err == nil {
		for s := bufio.NewScanner(strings.NewReader(string(b))); s.Scan(); {
			if id, word, ok := strings.Cut(s.Text(), " "); ok {
				all[id] = word
			}
		}
	}
	for id, held := range o.held {
		all[id] = map[bool]string{true: "held", false: "NOT HELD"}[held]
	}
	var b strings.Builder
	for _, s := range catalogue.Sections() {
		for _, r := range s.Rows {
			if word := all[r.ID]; word != "" && r.Untested == "" {
				fmt.Fprintln(&b, r.ID, word)
			}
		}
	}
	return os.WriteFile(file, []byte(b.String()), 0o644)
}

// lines of s; none if it is empty.
func lines(s string) []string {
	s = strings.TrimRight(s, "\n")
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// someOf is all of the attempts; in short tests, those of emulated machines,
// where a launch takes seconds, every fourth.
func someOf[T any](attempts []T) []T {
	if !testing.Short() {
		return attempts
	}
	var some []T
	for i := 0; i < len(attempts); i += 4 {
		some = append(some, attempts[i])
	}
	return some
}

// refused tries command lines that must end with 125 and a reason before
// anything is made. id is that of a refusal of policy; "" for other errors.
func refused(t *testing.T, id string, flags ...[]string) {
	t.Helper()
	before := here.Inventory(t)
	for _, f := range someOf(flags) {
		args := append([]string{"--rm", "--refusals=json"}, f...)
		if !slices.Contains(f, "busybox") {
			args = append(args, "busybox", "sh", "-c", "echo RAN")
		}
		a := here.Run(args...)
		switch {
		case a.Code != 125:
			t.Errorf("%q: wanted exit 125, got %s", f, a)
		case a.Stdout != "" && strings.Contains(a.Stdout, "RAN"):
			t.Errorf("%q: ran: %s", f, a)
		case strings.TrimSpace(a.Stderr+a.Stdout) == "":
			t.Errorf("%q: refused without a word", f)
		case strings.ContainsAny(a.Stderr+a.Stdout, "\x1b\x00"):
			t.Errorf("%q: control characters: %q", f, a.Stderr)
		case id != "" && !strings.Contains(a.Stderr+a.Stdout, `"`+id+`"`):
			t.Errorf("%q: no refusal %q: %s", f, id, a)
		}
	}
	harness.Same(t, before, here.Inventory(t))
}
