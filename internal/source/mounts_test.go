package source

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/spec"
)

func TestSpellingsOfRoot(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	chain := filepath.Join(dir, "chain")
	if err := os.Symlink("/", link); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("link", chain); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"/", "//", "/.", "/../", "/etc/..", link, chain, link + "/etc/.."} {
		s := gather(t, known(), p)[0]
		if s.Err != "" || s.Real != "/" || !slices.Contains(s.Above, "/") || s.MagicLink {
			t.Errorf("%s: %+v", p, s)
		}
	}
	magic := []string{"/proc/self/root", fmt.Sprintf("/proc/%d/root", os.Getpid()), "/proc/thread-self/root"}
	if _, err := os.Readlink("/proc/1/root"); err == nil { // not in every sandbox
		magic = append(magic, "/proc/1/root")
	} else if s := gather(t, known(), "/proc/1/root")[0]; s.Err == "" {
		t.Errorf("/proc/1/root: %+v", s)
	}
	viaLink := filepath.Join(dir, "magic")
	if err := os.Symlink("/proc/self/root", viaLink); err != nil {
		t.Fatal(err)
	}
	for _, p := range append(magic, viaLink) {
		s := gather(t, known(), p)[0]
		if s.Err == "" || !s.MagicLink || s.Runtime != "" || s.Real != "/" || !slices.Contains(s.Above, "/") {
			t.Errorf("%s: %+v", p, s)
		}
	}
	if s := gather(t, known(), "/proc/self/root/etc")[0]; !s.MagicLink || s.Real != "/etc" || s.Runtime != "" {
		t.Errorf("below a magic link: %+v", s)
	}
	f, err := os.Open("/etc")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if s := gather(t, known(), fmt.Sprintf("/proc/self/fd/%d", f.Fd()))[0]; !s.MagicLink || s.Real != "/etc" {
		t.Errorf("descriptor: %+v", s)
	}
}

func TestNamesThroughMounts(t *testing.T) {
	if !inMountNamespace(t) {
		return
	}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	mount(t, "/", at("root"), "", unix.MS_BIND)
	mount(t, "/etc", at("etc"), "", unix.MS_BIND)
	mount(t, "/", at("all"), "", unix.MS_BIND|unix.MS_REC)
	mount(t, "none", at("holder"), "tmpfs", 0)
	mount(t, "/etc", at("holder/sub"), "", unix.MS_BIND)
	mount(t, "none", at("holder/proc"), "proc", 0)

	for _, c := range []struct {
		source string
		alias  string
		above  string
	}{
		{at("root"), "/", "/"},
		{at("all"), "/", "/"},
		{at("root/etc"), "/etc", "/etc"},
		{at("etc"), "/etc", "/etc/passwd"},
		{at("etc/passwd"), "/etc/passwd", "/etc/passwd"},
		{at("all/etc/passwd"), "/etc/passwd", "/etc/passwd"},
	} {
		s := gather(t, known(), c.source)[0]
		if s.Err != "" || !slices.Contains(s.Aliases, c.alias) || !slices.Contains(s.Above, c.above) {
			t.Errorf("%s: err %q aliases %q above %q", c.source, s.Err, s.Aliases, s.Above)
		}
	}

	s := gather(t, known(), at("holder"))[0]
	var names, types []string
	for _, sub := range s.Submounts {
		if !sub.Mounted {
			t.Errorf("%+v is a mount", sub)
		}
		names, types = append(names, sub.Aliases...), append(types, sub.FS)
	}
	if !slices.Contains(names, "/etc") || !slices.Contains(types, "proc") || !slices.Contains(s.Above, "/etc") {
		t.Errorf("submounts %+v above %q", s.Submounts, s.Above)
	}

	// The other way round: what is bound elsewhere is a part of this.
	project := t.TempDir()
	if err := os.Mkdir(filepath.Join(project, "part"), 0o755); err != nil {
		t.Fatal(err)
	}
	mount(t, filepath.Join(project, "part"), at("elsewhere"), "", unix.MS_BIND)
	s = gather(t, known(), project)[0]
	if !slices.ContainsFunc(s.Submounts, func(m spec.Submount) bool {
		return !m.Mounted && m.Path == filepath.Join(project, "part") && slices.Contains(m.Aliases, at("elsewhere"))
	}) {
		t.Errorf("parts: %+v", s.Submounts)
	}
}

func TestOverlayLayers(t *testing.T) {
	if !inMountNamespace(t) {
		return
	}
	dir := t.TempDir()
	mount(t, "none", dir, "tmpfs", 0)
	for _, d := range []string{"lower", "store/upper/etc", "store/work", "merged", "apart"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	opts := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/store/upper,workdir=%[1]s/store/work", dir)
	if err := unix.Mount("overlay", filepath.Join(dir, "merged"), "overlay", 0, opts); err != nil {
		t.Fatalf("no overlay here: %v", err)
	}
	defer unix.Unmount(filepath.Join(dir, "merged"), unix.MNT_DETACH)
	for p, want := range map[string]bool{"store/upper": true, "store/upper/etc": true, "store": true, "apart": false, "lower": false} {
		s := gather(t, known(), filepath.Join(dir, p))[0]
		if got := s.Overlay == filepath.Join(dir, "merged"); got != want {
			t.Errorf("%s: overlay %q", p, s.Overlay)
		}
	}
	// What is shown in another place is judged by the names it has there.
	if err := os.MkdirAll(filepath.Join(dir, "apart/sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	mount(t, filepath.Join(dir, "merged"), filepath.Join(dir, "apart/sub"), "", unix.MS_BIND)
	s := gather(t, known(), filepath.Join(dir, "merged/etc"))[0]
	for _, layer := range []string{"lower/etc", "store/upper/etc"} {
		if !slices.Contains(s.Aliases, filepath.Join(dir, layer)) {
			t.Errorf("%s is no alias: %q", layer, s.Aliases)
		}
	}
	s = gather(t, known(), filepath.Join(dir, "apart"))[0]
	if !slices.ContainsFunc(s.Submounts, func(m spec.Submount) bool { return slices.Contains(m.Aliases, filepath.Join(dir, "lower")) }) {
		t.Errorf("submounts: %+v", s.Submounts)
	}
}
