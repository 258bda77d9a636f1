package volumes

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func volumesIn(t *testing.T) Volumes {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "volumes"), 0o700); err != nil {
		t.Fatal(err)
	}
	return In(root)
}

// Whoever wants a volume that is being filled gets all of it, and it is filled
// once.
func TestEnsureAtTheSameTime(t *testing.T) {
	v := volumesIn(t)
	var fills atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			err := v.Ensure(context.Background(), "data", func(dir string) error {
				fills.Add(1)
				time.Sleep(20 * time.Millisecond)
				return os.WriteFile(filepath.Join(dir, "last"), nil, 0o600)
			})
			if err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(v.Path("data"), "last")); err != nil {
				t.Errorf("half filled: %v", err)
			}
		}()
	}
	wg.Wait()
	if n := fills.Load(); n != 1 {
		t.Errorf("filled %d times", n)
	}
}

// A volume made by hand is filled when a container has it first, and never
// again; what somebody has put into it stays.
func TestEnsureFillsWhatWasCreated(t *testing.T) {
	v, ctx := volumesIn(t), context.Background()
	fills := 0
	fill := func(dir string) error {
		fills++
		return os.WriteFile(filepath.Join(dir, "of the image"), nil, 0o600)
	}
	for _, name := range []string{"data", "used"} {
		if _, err := v.Create(ctx, name, map[string]string{"a": "b"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(v.Path("used"), "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	if err := v.Ensure(ctx, "data", func(string) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	for range 2 {
		if err := errors.Join(v.Ensure(ctx, "data", fill), v.Ensure(ctx, "used", fill)); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(v.Path("data"), "of the image")); err != nil {
			t.Fatal(err)
		}
	}
	vol, err := v.Load("data")
	if err != nil || fills != 1 || vol.Labels["a"] != "b" {
		t.Errorf("filled %d times, %+v, %v", fills, vol, err)
	}
	if _, err := os.Lstat(filepath.Join(v.Path("used"), "of the image")); err == nil {
		t.Error("filled although there was something in it")
	}
}

// What a crash left is no volume.
func TestEnsureAfterACrash(t *testing.T) {
	v := volumesIn(t)
	if err := os.MkdirAll(v.Path("data")+".new/half", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := v.Ensure(context.Background(), "data", func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "whole"), nil, 0o600)
	}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadDir(v.Path("data"))
	if err != nil || len(got) != 1 || got[0].Name() != "whole" {
		t.Errorf("the volume holds %v, %v", got, err)
	}
}

// An error leaves nothing, and those who waited try themselves.
func TestEnsureAfterAnError(t *testing.T) {
	v := volumesIn(t)
	bad := errors.New("no space")
	entered, second := make(chan struct{}), make(chan error)
	go func() {
		<-entered
		second <- v.Ensure(context.Background(), "data", func(string) error { return nil })
	}()
	err := v.Ensure(context.Background(), "data", func(string) error {
		close(entered)
		time.Sleep(30 * time.Millisecond)
		return bad
	})
	if !errors.Is(err, bad) {
		t.Errorf("the error became %v", err)
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(v.Path("data")); err != nil {
		t.Error(err)
	}
	if err := v.Ensure(context.Background(), "other", func(string) error { return bad }); !errors.Is(err, bad) {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Dir(v.Path("other"))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

// Ctrl-C ends the wait for somebody else's copy.
func TestEnsureInterrupted(t *testing.T) {
	v := volumesIn(t)
	unlock, err := lock(context.Background(), v.dir("data"), unix.LOCK_EX, true)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := v.Ensure(ctx, "data", func(string) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waited for %v", err)
	}
}

func copied(t *testing.T, ctx context.Context, src string) (string, error) {
	t.Helper()
	fd, err := unix.Open(src, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	image := os.NewFile(uintptr(fd), src)
	defer image.Close()
	dst := t.TempDir()
	return dst, CopyUp(ctx, image, dst)
}

// One large file with many names is one large file in the volume too.
func TestCopyUpKeepsHardLinksAndTimes(t *testing.T) {
	src := t.TempDir()
	old := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	first := filepath.Join(src, "a")
	if err := os.WriteFile(first, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(first, filepath.Join(src, "b")); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{first, src} {
		if err := os.Chtimes(p, old, old); err != nil {
			t.Fatal(err)
		}
	}
	dst, err := copied(t, context.Background(), src)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"a", "b", "."} {
		fi, err := os.Stat(filepath.Join(dst, p))
		if err != nil {
			t.Fatal(err)
		}
		if !fi.ModTime().Equal(old) {
			t.Errorf("%s is of %v", p, fi.ModTime())
		}
		if n := fi.Sys().(*syscall.Stat_t).Nlink; p != "." && n != 2 {
			t.Errorf("%s has %d names", p, n)
		}
	}
}

func TestCopyUpInterrupted(t *testing.T) {
	src := t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "a"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := copied(t, ctx, src); !errors.Is(err, context.Canceled) {
		t.Errorf("copied on: %v", err)
	}
}
