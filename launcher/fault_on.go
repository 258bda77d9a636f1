//go:build faults

package launcher

import (
	"os"
	"strings"
	"syscall"

	"github.com/safe-run/safe-run/internal/fail"
)

// Steps lists the points of fault injection in the order a launch meets them.
func Steps() []string {
	return []string{
		"begin", "ids", "name", "prepare", "network", "facts", "files", "container", "cidfile", "mounts",
		"fifos", "task", "wire", "attest", "wait", "start", "running", "exited", "between", "again",
		"task-deleted", "network-removed", "snapshot-removed", "container-deleted",
	}
}

// fault fails ("STEP:error") or kills ("STEP:kill") the launcher if the
// environment names this step in SAFE_RUN_FAULT; with "STEP:error:FILE" only
// while that file exists.
func fault(step string) error {
	want, how, _ := strings.Cut(os.Getenv("SAFE_RUN_FAULT"), ":")
	if want != step {
		return nil
	}
	how, armed, _ := strings.Cut(how, ":")
	if armed != "" && !exists(armed) {
		return nil
	}
	if how == "kill" {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	return fail.New(fail.Internal, "injected fault after %q", step)
}
