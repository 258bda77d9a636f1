package engine

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestScope: only where systemd manages the host does it start the engine.
func TestScope(t *testing.T) {
	booted, run := t.TempDir(), filepath.Join(t.TempDir(), "systemd-run")
	missing := run + ".missing"
	if got := scope([]string{missing, run}, booted); got != nil {
		t.Errorf("without systemd-run: %q", got)
	}
	if err := os.WriteFile(run, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := scope([]string{run}, missing); got != nil {
		t.Errorf("not booted by systemd: %q", got)
	}
	got := scope([]string{missing, run}, booted)
	if len(got) < 3 || got[0] != run || got[len(got)-1] != "--" || !slices.Contains(got, "--scope") {
		t.Errorf("with systemd: %q", got)
	}
}
