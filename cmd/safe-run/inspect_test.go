package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/spec"
)

// Containers are described from the state on disk alone: no containerd is
// there, and a file may be missing.
func TestInspectFromDisk(t *testing.T) {
	st := kept(t, three(time.Now())...)
	if err := st.SaveHealth(numbered(1), store.Health{Status: store.HealthUnhealthy, FailingStreak: 3}); err != nil {
		t.Fatal(err)
	}
	if err := st.SaveAsked(numbered(1), store.Asked{Workload: spec.Workload{Image: "nginx:1", Args: []string{"nginx", "-v"}}}); err != nil {
		t.Fatal(err)
	}
	in := inspector{kind: containerObject, store: st}
	for _, c := range []struct{ ref, format, want string }{
		{"web", "{{.State.Health.Status}} {{.State.Health.FailingStreak}}", "unhealthy 3\n"},
		{"web", "{{.Path}} {{json .Args}} {{.Config.Image}}", "nginx [\"-v\"] nginx:1\n"},
		{"old", "{{.Name}} {{.State.Status}} {{.State.ExitCode}}", "/old exited 137\n"},
		{numbered(2)[:12], "{{.Name}} {{.State.Paused}}", "/" + numbered(2)[:12] + " true\n"},
	} {
		o, err := in.object(context.Background(), c.ref)
		if err != nil {
			t.Errorf("%s: %v", c.ref, err)
			continue
		}
		var b bytes.Buffer
		if err := renderObjects(&b, c.format, []any{o}); err != nil || b.String() != c.want {
			t.Errorf("%s %s: %q (%v)", c.ref, c.format, b.String(), err)
		}
	}
	if _, err := in.object(context.Background(), "missing"); fail.KindOf(err) != fail.NotFound {
		t.Errorf("missing: %v", err)
	}
	if err := os.WriteFile(filepath.Join(st.Dir(numbered(1)), "asked.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := in.object(context.Background(), "web"); fail.KindOf(err) != fail.Internal {
		t.Errorf("damaged: %v", err)
	}
}
