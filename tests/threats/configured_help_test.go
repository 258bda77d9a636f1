package threats

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/tests/harness"
)

// unfaithful is an engine whose runtime does not do all that it is told: before
// it creates a container it edits the specification, as a runtime that ignores
// a field, or a plugin that adds one, would.
type unfaithful struct {
	ground *harness.Ground
	edit   string // file of a sed script
}

// withUnfaithful runs a test on such an engine. The test's process has the
// directories of that engine in its environment meanwhile.
func withUnfaithful(t *testing.T) *unfaithful {
	t.Helper()
	dir, err := os.MkdirTemp(here.Dir, "unfaithful-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	engine := filepath.Join(dir, "engine")
	if err := os.Mkdir(engine, 0o755); err != nil {
		t.Fatal(err)
	}
	real, err := filepath.EvalSymlinks(filepath.Join(here.Repo, "build/engine"))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(real)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "runc" {
			continue
		}
		if err := os.Symlink(filepath.Join(real, e.Name()), filepath.Join(engine, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	u := &unfaithful{edit: filepath.Join(dir, "edit.sed")}
	script := fmt.Sprintf(`#!%[1]s sh
case " $* " in *" create "*)
	for a; do [ "$last" = --bundle ] && bundle=$a; last=$a; done
	%[1]s sed -i -f %[2]s "$bundle/config.json" || exit 1 ;;
esac
exec %[3]s "$@"
`, busybox, u.edit, filepath.Join(real, "runc"))
	if err := os.WriteFile(filepath.Join(engine, "runc"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(u.edit, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	// The program finds its engine beside itself.
	bin := filepath.Join(dir, "safe-run")
	if err := os.WriteFile(bin, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(here.Bin, bin, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	// Short, for the names of sockets.
	state, err := os.MkdirTemp("", "sr-c-")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SAFE_RUN_ROOT", filepath.Join(dir, "root"))
	t.Setenv("SAFE_RUN_STATE", state)
	u.ground = &harness.Ground{Repo: here.Repo, Bin: bin, Dir: dir, Root: filepath.Join(dir, "root"), State: state}
	t.Cleanup(func() {
		if a := u.ground.Run("engine", "stop"); a.Code != 0 {
			t.Error(a)
		}
		if err := unix.Unmount(bin, 0); err != nil {
			t.Error(err)
		}
		_ = os.RemoveAll(dir)
		_ = os.RemoveAll(state)
	})
	a := u.ground.Run("engine", "start")
	if a.Code != 0 {
		t.Fatal(a)
	}
	u.ground.Socket = strings.TrimSpace(a.Stdout)
	if a := u.ground.Run("load", "-q", "-i", filepath.Join(here.Repo, "build/images/busybox.tar")); a.Code != 0 {
		t.Fatal(a)
	}
	return u
}

// does sets what the runtime does to the next specifications.
func (u *unfaithful) does(t *testing.T, script string) {
	t.Helper()
	if err := os.WriteFile(u.edit, []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
}

// found wants a container with an edited specification to be killed before its
// program did anything, with words that say what is different, and nothing left.
func (u *unfaithful) found(t *testing.T, edit, what string, flags ...string) {
	t.Helper()
	u.does(t, edit)
	a := u.ground.Run(append(append([]string{"run", "--rm"}, flags...), "busybox", "sh", "-c", "echo RAN")...)
	switch {
	case a.Code != 125 || strings.Contains(a.Stdout, "RAN"):
		t.Errorf("%s: it ran: %s", edit, a)
	case !strings.Contains(a.Stderr, "the kernel has") || !strings.Contains(a.Stderr, what):
		t.Errorf("%s: not for %q: %s", edit, what, a)
	}
}

// stopped wants a container with an edited specification not to run, for
// whatever reason: some of these edits the runtime itself cannot follow.
func (u *unfaithful) stopped(t *testing.T, edit string, flags ...string) {
	t.Helper()
	u.does(t, edit)
	a := u.ground.Run(append(append([]string{"run", "--rm"}, flags...), "busybox", "echo", "RAN")...)
	if a.Code != 125 || strings.Contains(a.Stdout, "RAN") {
		t.Errorf("%s: it ran: %s", edit, a)
	}
}

// same is nil if there is what there was.
func (u *unfaithful) same(t *testing.T, before harness.Inventory) error {
	t.Helper()
	for kind, list := range u.ground.Inventory(t) {
		if len(list) > len(before[kind]) {
			return fmt.Errorf("left behind: %s %q, before %q", kind, list, before[kind])
		}
	}
	return nil
}
