package learn

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHidden(t *testing.T) {
	top, bottom := t.TempDir(), t.TempDir()
	for _, d := range []string{"run/app", "run/gone", "run/lock", "tmp", "var"} {
		if err := os.MkdirAll(filepath.Join(bottom, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"run/app", "tmp/x"} {
		if err := os.MkdirAll(filepath.Join(top, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// A removed one, a file, a link to a directory, and a link in the way.
	if err := unix.Mknod(filepath.Join(top, "run/gone"), unix.S_IFCHR, 0); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.WriteFile(filepath.Join(top, "run/file"), nil, 0o644), os.Symlink("/etc", filepath.Join(top, "run/link")),
		os.Symlink("/etc", filepath.Join(top, "var")), os.Chown(filepath.Join(top, "run/app"), 27, 28), os.Chmod(filepath.Join(top, "run/app"), 0o750),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got, err := Hidden([]string{top, bottom})
	want := []HiddenDir{{"/run/app", 0o750, 27, 28}, {"/run/lock", 0o755, 0, 0}, {"/tmp/x", 0o755, 0, 0}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v; wanted %v", got, err, want)
	}
	w := Shown(got)
	if len(w) != 3 || w[0].Mode != "0750" || *w[0].UID != 27 || w[1].UID != nil {
		t.Errorf("%+v", w)
	}
}
