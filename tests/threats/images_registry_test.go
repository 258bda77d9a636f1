package threats

import (
	"io"
	"net/http"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/safe-run/safe-run/tests/harness"
	"github.com/safe-run/safe-run/tests/imagekit"
	"github.com/safe-run/safe-run/tests/imagekit/registry"
)

func TestI8(t *testing.T) {
	row(t, "I8")
	hostileImages(t, "document:", "index:")
	// The same by a registry, which a client believes more of.
	r := registry.New(t, false)
	before, kept := here.Inventory(t), contents(t)
	pull := func(what string) {
		t.Helper()
		if err := forget(); err != nil {
			t.Fatal(err)
		}
		a, peak := launched(nil, "pull", "-q", r.Host()+"/x:latest")
		if a.Code == 0 || peak > peakLimit || unclear(a.Stderr) != "" || strings.ContainsAny(a.Stdout+a.Stderr, "\x1b") {
			t.Errorf("pull, %s: %d MiB, %s", what, peak>>20, a)
		}
	}
	for _, name := range []string{
		"document: five thousand layers", "document: 16 MiB", "document: config, half a million values", "document: a larger size", "document: a smaller size",
		"document: a layer that is not there", "document: a layer from a URL", "document: a config of gigabytes", "document: a manifest and an index in one",
		"document: a manifest that says it is an index", `document: layer type "application/vnd.erofs.layer.v1"`, "document: a layer with another content than the config says",
	} {
		r.Push("latest", built(t, name))
		pull(name)
	}
	r.Push("latest", built(t, "", withLayer(fresh("by pull"))))
	answers := map[string]func(w http.ResponseWriter, q *http.Request) bool{
		"a manifest without end": func(w http.ResponseWriter, q *http.Request) bool {
			if !strings.Contains(q.URL.Path, "/manifests/") {
				return false
			}
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			if q.Method != http.MethodHead {
				_, _ = io.CopyN(w, endless{}, 1<<30)
			}
			return true
		},
		"blobs without end": func(w http.ResponseWriter, q *http.Request) bool {
			if !strings.Contains(q.URL.Path, "/blobs/") {
				return false
			}
			_, _ = io.CopyN(w, endless{}, 1<<30)
			return true
		},
		"other bytes": func(w http.ResponseWriter, q *http.Request) bool {
			if strings.Contains(q.URL.Path, "/blobs/") {
				_, _ = w.Write([]byte(`{"architecture":"amd64","os":"linux"}`))
				return true
			}
			return false
		},
		"a digest of its own": func(w http.ResponseWriter, q *http.Request) bool {
			if strings.Contains(q.URL.Path, "/manifests/") {
				w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
				w.Header().Set("Docker-Content-Digest", "sha256:../../../etc/passwd")
				_, _ = w.Write([]byte("{}"))
				return true
			}
			return false
		},
		"redirects without end": func(w http.ResponseWriter, q *http.Request) bool {
			http.Redirect(w, q, r.URL+q.URL.Path, http.StatusTemporaryRedirect)
			return true
		},
		"a redirect to a file": func(w http.ResponseWriter, q *http.Request) bool {
			http.Redirect(w, q, "file:///etc/passwd", http.StatusTemporaryRedirect)
			return true
		},
		"a redirect to the metadata of a cloud": func(w http.ResponseWriter, q *http.Request) bool {
			http.Redirect(w, q, "http://169.254.169.254/latest/", http.StatusTemporaryRedirect)
			return true
		},
		"escape codes": func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusTeapot)
			_, _ = w.Write([]byte(`{"errors":[{"code":"\u001b[2J","message":"\u001b]0;x\u0007","detail":"` + strings.Repeat("x", 1<<20) + `"}]}`))
			return true
		},
	}
	for what, answer := range answers {
		r.Instead = answer
		pull(what)
	}
	// And a registry that does as it should is believed.
	r.Instead = nil
	if a := here.Run("pull", "-q", r.Host()+"/x:latest"); a.Code != 0 {
		t.Errorf("a good registry: %s", a)
	}
	here.Run("rmi", r.Host()+"/x:latest")
	harness.Same(t, before, here.Inventory(t))
	noMoreContent(t, kept)
}

type endless struct{}

func TestI10(t *testing.T) {
	row(t, "I10")
	r := registry.New(t, false)
	say := func(word string) *imagekit.Built {
		return built(t, "", withLayer(fresh(word)), configured(func(c *imagekit.Config) { c.Entrypoint = []string{"/bin/echo", word} }))
	}
	first, second := say("first"), say("second")
	r.Push("latest", first, second)
	name := r.Host() + "/x:latest"
	// The container, its record and the image of that name are all of the first answer.
	a := here.Run("run", "--name", "i10-container", name, "x")
	defer here.Run("rm", "-f", "i10-container")
	defer here.Run("rmi", "-f", name)
	if a.Code != 0 || a.Stdout != "first x\n" {
		t.Fatalf("%s", a)
	}
	if n := strings.Count(strings.Join(r.Log(), "\n"), "/manifests/latest"); n != 1 {
		t.Errorf("the tag was asked for %d times", n)
	}
	if n := here.Ctr(t, "images", "ls", "name=="+name); !strings.Contains(n, first.Root.Digest.String()) {
		t.Errorf("the name points to %s, not to %s", n, first.Root.Digest)
	}
	// Started again it is what was checked, whatever the tag says meanwhile.
	if a := here.Run("pull", "-q", name); a.Code != 0 {
		t.Fatal(a)
	}
	if n := here.Ctr(t, "images", "ls", "name=="+name); !strings.Contains(n, second.Root.Digest.String()) {
		t.Errorf("the second answer was not taken: %s", n)
	}
	if a := here.Run("start", "-a", "i10-container"); a.Stdout != "first x\n" {
		t.Errorf("started again: %s", a)
	}
	if a := here.Run("run", "--rm", "--pull", "never", name, "x"); a.Stdout != "second x\n" {
		t.Errorf("a new one: %s", a)
	}
}

func TestI11(t *testing.T) {
	row(t, "I11")
	say := func(word string) func(*imagekit.Image) {
		return configured(func(c *imagekit.Config) { c.Entrypoint = []string{"/bin/echo", word} })
	}
	keep(t, "i11-image", say("good"))
	id := ""
	for _, l := range lines(here.Ctr(t, "images", "ls", "name==docker.io/library/i11-image:latest")) {
		if i := strings.Index(l, "sha256:"); i >= 0 {
			id = l[i : i+71]
		}
	}
	if id == "" {
		t.Fatal("no digest")
	}
	pinned := "i11-image@" + id
	if a := here.Run("run", "--rm", "--pull", "never", id, "x"); a.Stdout != "good x\n" {
		t.Fatalf("by digest: %s", a)
	}
	// Another archive takes the name, and names that read like the digest.
	keep(t, "i11-image", say("EVIL"))
	for _, bad := range []string{pinned, id, strings.TrimPrefix(id, "sha256:"), "sha256:" + strings.Repeat("1b", 32)} {
		img := tried.good
		img.Name = bad
		say("EVIL")(&img)
		a, err := load(here.Dir, img)
		if err != nil {
			t.Fatal(err)
		}
		if a.Code == 0 {
			t.Errorf("an archive names %q: %s", bad, a)
		}
	}
	for _, ref := range []string{pinned, id, id[7:], id[7:19]} {
		if a := here.Run("run", "--rm", "--pull", "never", ref, "x"); strings.Contains(a.Stdout, "EVIL") {
			t.Errorf("%s runs the other image: %s", ref, a)
		}
	}
	// Behind safe-run's back.
	here.Ctr(t, "images", "tag", "--force", "docker.io/library/i11-image:latest", "docker.io/library/"+pinned)
	defer here.Ctr(t, "images", "rm", "docker.io/library/"+pinned)
	if a := here.Run("run", "--rm", "--pull", "never", pinned, "x"); strings.Contains(a.Stdout, "EVIL") {
		t.Errorf("%s runs the other image: %s", pinned, a)
	}
	inForce(t, "require-digest: true\n")
	refused(t, "require-digest", []string{"i11-image", "x"}, []string{"i11-image:latest", "x"}, []string{"busybox", "true"})
}
