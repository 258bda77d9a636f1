package volumes

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/spec"
)

func storeIn(t *testing.T) (*store.Store, Volumes) {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(filepath.Join(dir, "root"), filepath.Join(dir, "run"))
	if err != nil {
		t.Fatal(err)
	}
	return st, In(st.Root)
}

// container notes what a container was made from, as a launch does before it
// makes volumes.
func container(t *testing.T, st *store.Store, digit string, mounts ...spec.Mount) string {
	t.Helper()
	id := strings.Repeat(digit, 64)
	if err := os.MkdirAll(st.Dir(id), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := st.SaveAsked(id, store.Asked{Workload: spec.Workload{Mounts: mounts}}); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestUsers(t *testing.T) {
	st, vs := storeIn(t)
	anonymous := Anonymous()
	one := container(t, st, "1", spec.Mount{Type: spec.MountVolume, Source: "data", Target: "/x"})
	container(t, st, "2", spec.Mount{Type: spec.MountBind, Source: "/data", Target: "/data"}, spec.Mount{Type: spec.MountVolume, Source: "database", Target: "/x"})
	three := container(t, st, "3")
	if err := st.Save(store.Record{ID: three, Anonymous: []string{anonymous}}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"data": one, anonymous: three, "other": ""} {
		if _, err := vs.Create(context.Background(), name, nil); err != nil {
			t.Fatal(err)
		}
		users, err := Users(st, name)
		if err != nil || strings.Join(users, " ") != want {
			t.Errorf("%s is used by %v, %v", name, users, err)
		}
		err = vs.DropUnused(context.Background(), st, name)
		if used := fail.KindOf(err) == fail.Conflict && err != nil; used != (want != "") {
			t.Errorf("removing %s: %v", name, err)
		}
		if _, err := os.Stat(vs.Path(name)); (err == nil) != (want != "") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := vs.DropUnused(context.Background(), st, anonymous, three); err != nil {
		t.Errorf("with its own container: %v", err)
	}
	// What cannot be read may name the volume.
	if err := os.WriteFile(filepath.Join(st.Dir(one), "asked.json"), []byte(`{"data`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := vs.DropUnused(context.Background(), st, "data"); err == nil {
		t.Error("removed although the state of a container is damaged")
	}
}

// A volume that is taken and removed at the same time is there afterwards, or
// its removal came first and it is new: never half of each.
func TestDropWhileTaken(t *testing.T) {
	st, vs := storeIn(t)
	ctx := context.Background()
	old, fresh := 0, 0
	for i := range 200 {
		if _, err := vs.Create(ctx, "data", nil); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(vs.Path("data"), "old"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		dropped := make(chan error, 1)
		go func() {
			time.Sleep(time.Duration(i%20) * 10 * time.Microsecond)
			dropped <- vs.DropUnused(ctx, st, "data")
		}()
		id := container(t, st, "a", spec.Mount{Type: spec.MountVolume, Source: "data", Target: "/x"})
		err := vs.Ensure(ctx, "data", func(string) error { return nil })
		gone := <-dropped
		if err != nil || gone != nil && fail.KindOf(gone) != fail.Conflict {
			t.Fatalf("taken: %v, removed: %v", err, gone)
		}
		_, err = os.Stat(filepath.Join(vs.Path("data"), "old"))
		if kept := gone != nil; kept != (err == nil) {
			t.Fatalf("removal: %v, but the old content: %v", gone, err)
		}
		if _, err := os.Stat(vs.Path("data")); err != nil {
			t.Fatalf("the container's volume is gone: %v", err)
		}
		if gone != nil {
			old++
		} else {
			fresh++
		}
		if err := os.RemoveAll(st.Dir(id)); err != nil {
			t.Fatal(err)
		}
		if err := vs.Remove("data"); err != nil {
			t.Fatal(err)
		}
	}
	if old == 0 || fresh == 0 {
		t.Logf("only one order was seen: %d old, %d new", old, fresh)
	}
}

func TestCreate(t *testing.T) {
	_, vs := storeIn(t)
	ctx := context.Background()
	made, err := vs.Create(ctx, "data", map[string]string{"a": "b"})
	if err != nil || made.Labels["a"] != "b" || made.Anonymous || time.Since(made.Created) > time.Minute {
		t.Fatalf("%+v, %v", made, err)
	}
	again, err := vs.Create(ctx, "data", map[string]string{"a": "c"})
	if err != nil || again.Labels["a"] != "b" {
		t.Errorf("made again: %+v, %v", again, err)
	}
	nameless, err := vs.Create(ctx, "", nil)
	if err != nil || len(nameless.Name) != 64 || !nameless.Anonymous {
		t.Errorf("%+v, %v", nameless, err)
	}
	demanded := Anonymous()
	if err := vs.Ensure(ctx, demanded, func(string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if v, err := vs.Load(demanded); err != nil || !v.Anonymous || time.Since(v.Created) > time.Minute {
		t.Errorf("%+v, %v", v, err)
	}
	all, err := vs.List()
	if err != nil || len(all) != 3 {
		t.Errorf("%v, %v", all, err)
	}
	for _, bad := range []string{"..", ".", "a", "../x", "/abs", "a b", "a\nb", "é1", strings.Repeat("a", 129), "-x"} {
		if _, err := vs.Create(ctx, bad, nil); fail.KindOf(err) != fail.Usage {
			t.Errorf("name %q: %v", bad, err)
		}
		if _, err := vs.Load(bad); fail.KindOf(err) != fail.NotFound {
			t.Errorf("looking for %q: %v", bad, err)
		}
	}
	if _, err := vs.Create(ctx, "labelled", map[string]string{"": "x"}); fail.KindOf(err) != fail.Usage {
		t.Errorf("a label without a name: %v", err)
	}
}

// What a crash left in the middle of a removal is no volume, and goes.
func TestTidy(t *testing.T) {
	_, vs := storeIn(t)
	if _, err := vs.Create(context.Background(), "kept", nil); err != nil {
		t.Fatal(err)
	}
	for _, left := range []string{"_data.old/x/y", "_data.new"} {
		if err := os.MkdirAll(filepath.Join(vs.dir("left"), left), 0o700); err != nil {
			t.Fatal(err)
		}
		if all, err := vs.List(); err != nil || len(all) != 1 {
			t.Errorf("%s counts as a volume: %v, %v", left, all, err)
		}
		if err := vs.Tidy(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(vs.dir("left")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", left, err)
		}
	}
	if _, err := vs.Load("kept"); err != nil {
		t.Error(err)
	}
}

// A container can make a tree deeper than descriptors and paths reach, and
// links to places outside.
func TestRemoveHostileTree(t *testing.T) {
	_, vs := storeIn(t)
	if _, err := vs.Create(context.Background(), "deep", nil); err != nil {
		t.Fatal(err)
	}
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(vs.Path("deep"), "link")); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(vs.Path("deep"), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("n", 200)
	for range 5000 {
		if err := errors.Join(unix.Mkdirat(fd, name, 0o700), unix.Mkdirat(fd, ".deep-1", 0o700)); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		unix.Close(fd)
		if err != nil {
			t.Fatal(err)
		}
		fd = next
	}
	unix.Close(fd)
	if _, err := vs.Size("deep"); err != nil {
		t.Error(err)
	}
	if err := vs.Remove("deep"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(vs.dir("deep")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(outside, "precious")); err != nil {
		t.Error(err)
	}
}

func TestSizeCountsOnce(t *testing.T) {
	_, vs := storeIn(t)
	if _, err := vs.Create(context.Background(), "data", nil); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(vs.Path("data"), "a")
	if err := os.WriteFile(file, make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(file, file+"b"); err != nil {
		t.Fatal(err)
	}
	if n, err := vs.Size("data"); err != nil || n != 1000 {
		t.Errorf("%d bytes, %v", n, err)
	}
}
