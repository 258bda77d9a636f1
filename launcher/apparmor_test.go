package launcher

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/profiles"
	"github.com/safe-run/safe-run/spec"
)

func narrowed(t *testing.T, path string, scope string) profiles.Narrowed {
	t.Helper()
	w := spec.Workload{CapAdd: []string{"chown"}, AppArmor: &spec.AppArmorRules{Files: []spec.AppArmorFile{{Path: path, Access: "r"}}}}
	n, err := NarrowAppArmor(w, spec.Grants{}, scope)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(n.Text, "capability chown,") {
		t.Error(n.Text)
	}
	return n
}

func held(t *testing.T, l *Launcher) (list []string) {
	t.Helper()
	all, err := filepath.Glob(l.apparmorDir() + "/*/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		list = append(list, strings.TrimPrefix(p, l.apparmorDir()+"/"))
	}
	return list
}

// hold is HoldAppArmor, also where the kernel has none.
func hold(t *testing.T, l *Launcher, id string, n profiles.Narrowed) {
	t.Helper()
	if err := l.HoldAppArmor(t.Context(), id, n); err != nil && fail.KindOf(err) != fail.HostCannot {
		t.Error(err)
	}
}

func TestHoldAppArmor(t *testing.T) {
	l := &Launcher{Store: &store.Store{Run: t.TempDir()}}
	if err := l.dropAppArmor("one"); err != nil { // no profile was ever made
		t.Fatal(err)
	}
	a, b := narrowed(t, "/a", l.Store.Run), narrowed(t, "/b", l.Store.Run)
	hold(t, l, "one", a)
	hold(t, l, "one", a)
	hold(t, l, "two", a)
	want := func(list ...string) {
		t.Helper()
		if got := held(t, l); fmt.Sprint(got) != fmt.Sprint(list) {
			t.Errorf("%v, not %v", got, list)
		}
	}
	want(a.Name+"/one", a.Name+"/two")
	if err := l.dropAppArmor("one"); err != nil {
		t.Error(err)
	}
	want(a.Name + "/two")
	hold(t, l, "two", b) // started again with other rules
	want(b.Name + "/two")
	if _, err := os.Stat(filepath.Join(l.apparmorDir(), a.Name)); err == nil {
		t.Error("a profile nobody has is still noted")
	}
	for range 2 {
		if err := l.dropAppArmor("two"); err != nil {
			t.Error(err)
		}
	}
	want()
	if left, err := os.ReadDir(l.apparmorDir()); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
	// What is not a container's profile is never unloaded.
	if err := os.Mkdir(filepath.Join(l.apparmorDir(), "docker-default"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.dropAppArmor("two"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(l.apparmorDir(), "docker-default")); err != nil {
		t.Error(err)
	}
}

// Launches and ends of the same profile at once never lose a note of it.
func TestHoldAppArmorAtOnce(t *testing.T) {
	l := &Launcher{Store: &store.Store{Run: t.TempDir()}}
	n := narrowed(t, "/a", l.Store.Run)
	hold(t, l, "stays", n)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			id := fmt.Sprint("box", i)
			for range 10 {
				hold(t, l, id, n)
				if _, err := os.Stat(filepath.Join(l.apparmorDir(), n.Name, id)); err != nil {
					t.Error(err)
				}
				if err := l.dropAppArmor(id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := held(t, l); len(got) != 1 {
		t.Error(got)
	}
}
