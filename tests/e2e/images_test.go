package e2e

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/tests/imagekit"
)

// load gives an image to safe-run; it goes when the test ends.
func load(t *testing.T, img imagekit.Image, write func(io.Writer, ...*imagekit.Built) error) answer {
	t.Helper()
	built, err := imagekit.Build(img)
	if err != nil {
		t.Fatal(err)
	}
	var tar bytes.Buffer
	if err := write(&tar, built); err != nil {
		t.Fatal(err)
	}
	r := run("load", "--quiet", "-i", writeFile(t, filepath.Join(tempDir(t), "image.tar"), tar.String(), 0o644))
	if r.code == 0 {
		t.Cleanup(func() { run("rmi", img.Name) })
	}
	return r
}

func busyboxImage(t *testing.T, name string) imagekit.Image {
	t.Helper()
	img, err := imagekit.Busybox("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	img.Name = name
	return img
}

// TestImageSubpath: a subpath of an image mount stays in that image, wherever
// its links lead.
func TestImageSubpath(t *testing.T) {
	img := busyboxImage(t, "e2e-links:latest")
	files(imagekit.Dir("d", 0o755), imagekit.Symlink("d/up", "../../../../../../../etc"),
		imagekit.Symlink("link", "/etc"), imagekit.Symlink("magic", "/proc/1/root"))(&img)
	if r := load(t, img, imagekit.WriteOCI); r.code != 0 {
		t.Fatal(r)
	}
	before := take(t)
	mount := func(subpath string) answer {
		return sh("echo RAN; ls /x", "--mount", "type=image,source=e2e-links,target=/x,image-subpath="+subpath)
	}
	if r := mount("home"); r.code != 0 || r.stdout != "RAN\nuser\n" {
		t.Errorf("a subpath without links: %s", r)
	}
	for _, subpath := range []string{"link", "magic", "magic/etc", "d/up", "..", "../..", "d/../../..", "/proc/1/root"} {
		if r := mount(subpath); r.code != 125 || r.stdout != "" {
			t.Errorf("image-subpath=%s: %s", subpath, r)
		}
	}
	same(t, before, take(t))
}

// TestImageMountOfOneLayer: there is no overlay to mount for it, yet its files
// belong to root and cannot be changed.
func TestImageMountOfOneLayer(t *testing.T) {
	before := take(t)
	r := sh(`stat -c '%u:%g %a' /x/probe /x/etc/passwd
		for c in 'touch /x/new' 'chmod 777 /x/probe' 'chown 1 /x/probe' 'rm /x/probe' 'ln -s a /x/new' 'mkdir /x/etc/new'; do $c 2>/dev/null && echo "$c"; done
		echo x 2>/dev/null >/x/etc/passwd && echo written; true`,
		"--cap-add", "CHOWN", "--mount", "type=image,source=safe-run-probe,target=/x")
	if r.code != 0 || r.stdout != "0:0 755\n0:0 644\n" {
		t.Errorf("owners, or what could be changed: %s", r)
	}
	same(t, before, take(t))
}

// TestTagLikeID: no archive may bring an image whose name reads as the id of
// another one.
func TestTagLikeID(t *testing.T) {
	digest := regexp.MustCompile(`sha256:[0-9a-f]{64}`).FindString(ctr(t, "images", "ls", "name==docker.io/library/busybox:latest"))
	if digest == "" {
		t.Fatal("busybox has no digest")
	}
	if r := run("--rm", "--pull", "never", digest, "echo", "good"); r.stdout != "good\n" {
		t.Fatalf("run by id: %s", r)
	}
	before := take(t)
	for _, id := range []string{digest, "sha256:" + strings.Repeat("1b", 32)} {
		for format, write := range map[string]func(io.Writer, ...*imagekit.Built) error{
			"docker": imagekit.WriteDocker, "oci": imagekit.WriteOCI,
		} {
			t.Run(fmt.Sprint(format, " ", id[:14]), func(t *testing.T) {
				img := busyboxImage(t, id)
				img.Config.Entrypoint = []string{"/bin/echo", "EVIL"}
				loaded := load(t, img, write)
				hex := strings.TrimPrefix(id, "sha256:")
				for _, ref := range []string{id, hex, hex[:12]} {
					r := run("--rm", "--pull", "never", ref, "echo", "good")
					if strings.Contains(r.stdout, "EVIL") || id == digest && ref == id && r.stdout != "good\n" {
						t.Errorf("%s after the load (%s): %s", ref, loaded, r)
					}
				}
			})
		}
	}
	if r := run("--rm", "--pull", "never", digest, "echo", "good"); r.stdout != "good\n" {
		t.Errorf("run by id, after all: %s", r)
	}
	same(t, before, take(t))
}
