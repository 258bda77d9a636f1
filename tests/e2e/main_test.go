// Package e2e tests build/safe-run against a real containerd of its own: the
// one of build/engine, on directories that live as long as the test. It needs
// root.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/safe-run/safe-run/tests/harness"
)

// ground is what the tests stand on; set up once by TestMain.
type ground struct {
	repo   string       // root of the checkout
	bin    string       // build/safe-run
	faulty string       // build/safe-run-faults, the same with points of failure
	probe  string       // build/probe
	ctr    string       // build/engine/ctr
	dir    string       // of this run, removed at the end
	root   string       // SAFE_RUN_ROOT
	state  string       // SAFE_RUN_STATE
	socket string       // containerd's
	lan    *harness.Lan // the neighbour
}

// here is set by TestMain and only read by the tests, but for elsewhere.
var here ground

func TestMain(m *testing.M) {
	code, err := runAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func runAll(m *testing.M) (code int, err error) {
	if os.Geteuid() != 0 {
		return 1, errors.New("these tests run containers and need root")
	}
	if err := hideSystemContainerd(); err != nil {
		return 1, err
	}
	if err := ownNetNS(build); err != nil {
		return 1, err
	}
	if err := setUp(); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, tearDown()) }()
	if here.lan, err = harness.ConnectLan(); err != nil {
		return 1, err
	}
	defer here.lan.Close()
	return m.Run(), nil
}

// hideSystemContainerd runs the tests again in a mount namespace without the
// machine's own containerd, if there is one: it would be preferred.
func hideSystemContainerd() error {
	const dir = "/run/containerd"
	if _, err := os.Stat(dir + "/containerd.sock"); err != nil {
		return nil
	}
	const script = `mount -t tmpfs none ` + dir + ` && exec "$@"`
	args := append([]string{"unshare", "--mount", "sh", "-c", script, "sh"}, os.Args...)
	return syscall.Exec("/usr/bin/unshare", args, os.Environ())
}

// build makes what the tests run as the sources say now, where there are
// sources. Built already, this takes a second.
func build() error {
	if _, err := os.Stat("../../go.mod"); err != nil {
		return nil
	}
	c := exec.Command("make", "-C", "../..", "build", "build-faults", "engine", "images")
	c.Stdout, c.Stderr = os.Stderr, os.Stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("make: %w", err)
	}
	return nil
}

func setUp() error {
	repo, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "safe-run-e2e-")
	if err != nil {
		return err
	}
	here = ground{
		repo: repo, dir: dir,
		bin: filepath.Join(repo, "build/safe-run"), faulty: filepath.Join(repo, "build/safe-run-faults"),
		probe: filepath.Join(repo, "build/probe"), ctr: filepath.Join(repo, "build/engine/ctr"),
		root: filepath.Join(dir, "root"), state: filepath.Join(dir, "state"),
	}
	// Bind sources of the tests lie below; uid 1000 of a test must get there.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	for _, k := range []string{"CONTAINERD_ADDRESS", "CONTAINERD_NAMESPACE", "SAFE_RUN_FAULT", "SUDO_UID", "SUDO_GID", "DOCKER_CONFIG"} {
		os.Unsetenv(k)
	}
	os.Setenv("SAFE_RUN_ROOT", here.root)
	os.Setenv("SAFE_RUN_STATE", here.state)
	r := call(request{args: []string{"engine", "start"}})
	if r.code != 0 {
		return fmt.Errorf("engine start: %s", r)
	}
	here.socket = strings.TrimSpace(r.stdout)
	for _, image := range []string{"busybox", "probe"} {
		r := call(request{args: []string{"load", "--quiet", "-i", filepath.Join(repo, "build/images", image+".tar")}})
		if r.code != 0 {
			return fmt.Errorf("load %s: %s", image, r)
		}
	}
	return nil
}

func tearDown() error {
	var err error
	if r := call(request{args: []string{"engine", "stop"}}); r.code != 0 {
		err = fmt.Errorf("engine stop: %s", r)
	}
	return errors.Join(err, os.RemoveAll(here.dir))
}

// request is one run of the program under test.
type request struct {
	bin     string // "": build/safe-run
	args    []string
	stdin   string
	env     []string // beyond the environment of the tests
	dir     string
	timeout time.Duration // 0: 30 s
}

// answer is what came of a request.
type answer struct {
	code           int // -1: did not end in time, or was killed
	stdout, stderr string
	took           time.Duration
}

func (a answer) String() string {
	return fmt.Sprintf("exit %d\nstdout: %q\nstderr: %s", a.code, clip(a.stdout), clip(a.stderr))
}

func clip(s string) string {
	if len(s) > 2000 {
		return s[:2000] + "..."
	}
	return s
}

func call(r request) answer {
	if r.bin == "" {
		r.bin = here.bin
	}
	if r.timeout == 0 {
		r.timeout = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), patient(r.timeout))
	defer cancel()
	cmd := exec.CommandContext(ctx, r.bin, r.args...)
	cmd.Env = append(os.Environ(), r.env...)
	cmd.Dir = r.dir
	cmd.WaitDelay = patient(5 * time.Second)
	cmd.Stdin = strings.NewReader(r.stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	start := time.Now()
	err := cmd.Run()
	a := answer{code: cmd.ProcessState.ExitCode(), stdout: out.String(), stderr: errs.String(), took: time.Since(start)}
	if err != nil && a.code <= 0 {
		a.code = -1
		a.stderr += "\n[" + err.Error() + "]"
	}
	return a
}

// run calls safe-run with args and no stdin.
func run(args ...string) answer { return call(request{args: args}) }

// sh runs a shell script in a busybox container: flags, then the script.
func sh(script string, flags ...string) answer {
	return run(append(append([]string{"--rm"}, flags...), "busybox", "sh", "-c", patiently(script))...)
}

// tempDir is a directory a bind may come from, readable for every uid.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(here.dir, "t-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func writeFile(t *testing.T, path, content string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestScript runs the executable manual: each file under testdata/script
// shows one topic as a user types it.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			// The scripts write `exec safe-run`; root's own environment stays out.
			if err := os.Symlink(here.bin, filepath.Join(e.WorkDir, "safe-run")); err != nil {
				return err
			}
			if err := os.Chmod(e.WorkDir, 0o755); err != nil {
				return err
			}
			e.Setenv("PATH", e.WorkDir+":"+os.Getenv("PATH"))
			for _, k := range []string{"SAFE_RUN_ROOT", "SAFE_RUN_STATE"} {
				e.Setenv(k, os.Getenv(k))
			}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits,
		},
	})
}

// exits N COMMAND...: the command must end with exactly that code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARGS...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%s: %v", args[1], err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("ended with %d, wanted %s", code, args[0])
	}
}
