package engine

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// The files of a running engine can go: a build tree is removed, and another
// one is used. The engine of the other one takes over.
func TestStrandedEngineIsReplaced(t *testing.T) {
	old := t.TempDir()
	for _, b := range binaries {
		if err := os.Link(filepath.Join(binDir(t), b), filepath.Join(old, b)); err != nil {
			t.Fatal(err)
		}
	}
	e, dir := newEngine(t)
	first, err := New(old, dir+"/r", dir+"/s")
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if started, err := first.Start(ctx); err != nil || !started {
		t.Fatal(started, err)
	}
	before := e.Status(ctx).PID
	if started, err := e.Start(ctx); err != nil || started {
		t.Fatalf("an engine with its files was replaced: %v, %v", started, err)
	}
	if err := os.RemoveAll(old); err != nil {
		t.Fatal(err)
	}
	if started, err := e.Start(ctx); err != nil || !started {
		t.Fatalf("the stranded engine was kept: %v, %v", started, err)
	}
	if after := e.Status(ctx); after.PID == before || !after.Answers {
		t.Errorf("process %d before, %+v now", before, after)
	}
}
