package images

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/fail"
)

// TestSave: what is written is read back as the same images under the same
// names, from both kinds of archive.
func TestSave(t *testing.T) {
	s, ctx := newStore(t)
	a, b := build(t, small("docker.io/library/saved:a", "one")), build(t, small("docker.io/library/saved:b", "two"))
	for _, archive := range [][]byte{ociTar(t, a), dockerTar(t, b)} {
		_, err := s.Load(ctx, bytes.NewReader(archive), "", nil)
		check(t, err)
	}
	check(t, s.Tag(ctx, "saved:a", "other"))
	before := inventory(t, s)
	var out bytes.Buffer
	check(t, s.Save(ctx, &out, "", "saved:a", "saved:b", "other"))
	for _, name := range []string{"saved:a", "saved:b", "other"} {
		_, err := s.Remove(ctx, false, name)
		check(t, err)
	}
	if left := inventory(t, s); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
	lines, err := s.Load(ctx, &out, "", nil)
	check(t, err)
	if want := []string{"Loaded image: saved:a", "Loaded image: saved:b", "Loaded image: other:latest"}; !slices.Equal(lines, want) {
		t.Errorf("loaded %q", lines)
	}
	if after := inventory(t, s); !slices.Equal(before, after) {
		t.Errorf("before %q\nafter %q", before, after)
	}
	for _, bad := range []string{"nope", "saved:c"} {
		out.Reset()
		if err := s.Save(ctx, &out, "", "saved:a", bad); fail.KindOf(err) != fail.NotFound || out.Len() > 0 {
			t.Errorf("%s: %v, %d bytes", bad, err, out.Len())
		}
	}
	if err := s.Save(ctx, failing{}, "", "saved:a"); err == nil {
		t.Error("an error of the writer is lost")
	}
	stopped, stop := context.WithCancel(ctx)
	stop()
	if err := s.Save(stopped, io.Discard, "", "saved:a"); err == nil {
		t.Error("an interrupted archive counts as whole")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

// TestTagAndRemovable: names come and go, and what a container was made from
// keeps its last one.
func TestTagAndRemovable(t *testing.T) {
	s, ctx := newStore(t)
	built := build(t, small("", "one"))
	_, err := s.Load(ctx, bytes.NewReader(ociTar(t, built)), "", nil)
	check(t, err)
	list, err := s.List(ctx)
	check(t, err)
	if len(list) != 1 || !list[0].Dangling() || list[0].Labels["k"] != "v" {
		t.Fatalf("%+v", list)
	}
	check(t, s.Tag(ctx, list[0].ID, "app:v1"))
	if list, err = s.List(ctx); err != nil || len(list) != 1 || list[0].Dangling() || list[0].Repository != "app" {
		t.Fatalf("the image has a name now: %+v, %v", list, err)
	}
	check(t, s.Tag(ctx, "app:v1", "app:v2"))
	for src, dst := range map[string]string{"app:v1": "Bad", "app:v2": "x@" + list[0].ID, "nope": "x"} {
		if err := s.Tag(ctx, src, dst); err == nil {
			t.Errorf("%s became %s", src, dst)
		}
	}
	use := Use{Container: strings.Repeat("c", 64), Image: list[0].Name, Digest: list[0].Digest}
	if err := s.Removable(ctx, false, []Use{use}, "app:v1"); err != nil {
		t.Errorf("another name is left: %v", err)
	}
	_, err = s.Remove(ctx, true, "app:v1")
	check(t, err)
	for _, c := range []struct{ force, running, conflict bool }{{false, false, true}, {true, false, false}, {false, true, true}, {true, true, true}} {
		use.Running = c.running
		err := s.Removable(ctx, c.force, []Use{use}, "app:v2")
		if (fail.KindOf(err) == fail.Conflict && err != nil) != c.conflict {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if err := s.Removable(ctx, false, nil, "app:v2"); err != nil {
		t.Error(err)
	}
	if _, unpacked, err := s.Disk(ctx); err != nil || unpacked == 0 {
		t.Errorf("%d bytes unpacked, %v", unpacked, err)
	}
	lines, err := s.Untag(ctx, "docker.io/library/app:v2")
	if err != nil || len(lines) != 2 {
		t.Errorf("%q, %v", lines, err)
	}
	if lines, err := s.Untag(ctx, "docker.io/library/app:v2"); err != nil || len(lines) != 0 {
		t.Errorf("again: %q, %v", lines, err)
	}
	if left := inventory(t, s); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}
