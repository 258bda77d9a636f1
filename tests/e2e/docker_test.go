package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestDocker runs scripts written for docker: each file under testdata/docker
// is a transcript of one of its verbs, with docker's outputs and exit codes.
func TestDocker(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/docker",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			for _, name := range []string{"docker", "safe-run"} {
				if err := os.Symlink(here.bin, filepath.Join(e.WorkDir, name)); err != nil {
					return err
				}
			}
			if err := os.Chmod(e.WorkDir, 0o755); err != nil {
				return err
			}
			e.Setenv("PATH", e.WorkDir+":"+os.Getenv("PATH"))
			for _, k := range []string{"SAFE_RUN_ROOT", "SAFE_RUN_STATE"} {
				e.Setenv(k, os.Getenv(k))
			}
			e.Setenv("IMAGES", filepath.Join(here.repo, "build/images"))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits, "alone": alone,
		},
	})
}

// alone gives a script an engine of its own, with the image busybox: for verbs
// that take in all there is.
func alone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: alone")
	}
	dir, err := os.MkdirTemp(here.dir, "alone-")
	ts.Check(err)
	ts.Check(os.Chmod(dir, 0o755))
	ts.Setenv("SAFE_RUN_ROOT", filepath.Join(dir, "root"))
	ts.Setenv("SAFE_RUN_STATE", filepath.Join(dir, "state"))
	ts.Defer(func() {
		_ = ts.Exec("sh", "-c", "docker ps -aq | xargs -r docker rm -f; safe-run engine stop")
		os.RemoveAll(dir)
	})
	ts.Check(ts.Exec("docker", "load", "-q", "-i", filepath.Join(here.repo, "build/images/busybox.tar")))
}
