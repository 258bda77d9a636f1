package threats

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/safe-run/safe-run/tests/imagekit"
)

// registry is the pulling side of the distribution API on a loopback port.
type registry struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string                     // paths, in their order
	tags  map[string][]*imagekit.Built // answers to a tag, in turn; the last one stays
	blobs map[digest.Digest][]byte
	types map[digest.Digest]string
	// instead answers requests itself, and says so.
	instead func(w http.ResponseWriter, q *http.Request) bool
}

func newRegistry(t *testing.T) *registry {
	r := &registry{tags: map[string][]*imagekit.Built{}, blobs: map[digest.Digest][]byte{}, types: map[digest.Digest]string{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(func() {
		r.CloseClientConnections()
		r.Close()
	})
	return r
}

// name is how safe-run calls an image of it.
func (r *registry) name(tag string) string { return strings.TrimPrefix(r.URL, "http://") + "/x:" + tag }

func (r *registry) push(tag string, images ...*imagekit.Built) {
	r.tags[tag] = images
	for _, b := range images {
		for d, blob := range b.Blobs {
			r.blobs[d] = blob
		}
		r.types[b.Root.Digest] = b.Root.MediaType
	}
}

func (r *registry) questions(part string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.asked {
		if strings.Contains(p, part) {
			n++
		}
	}
	return n
}

func (r *registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	r.asked = append(r.asked, q.URL.Path)
	r.mu.Unlock()
	if r.instead != nil && r.instead(w, q) {
		return
	}
	parts := strings.Split(q.URL.Path, "/")
	kind, ref := parts[max(0, len(parts)-2)], parts[len(parts)-1]
	d, mediaType := digest.Digest(ref), "application/octet-stream"
	if kind == "manifests" {
		r.mu.Lock()
		if all := r.tags[ref]; all != nil {
			d = all[0].Root.Digest
			if len(all) > 1 {
				r.tags[ref] = all[1:]
			}
		}
		r.mu.Unlock()
		if mediaType = r.types[d]; mediaType == "" {
			mediaType = "application/vnd.oci.image.manifest.v1+json"
		}
	}
	blob, ok := r.blobs[d]
	if !ok {
		http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"\u001b[31mnot here"}]}`, http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
	if q.Method != http.MethodHead {
		_, _ = w.Write(blob)
	}
}

// built is an image of the corpus, or a good one for "".
func built(t *testing.T, name string, edits ...func(*imagekit.Image)) *imagekit.Built {
	t.Helper()
	readyCorpus(t)
	img := tried.good
	img.Layers = append([]imagekit.Layer(nil), tried.good.Layers...)
	if name != "" {
		found := false
		for _, h := range tried.rows {
			if h.name == name && h.image != nil {
				h.image(&img)
				found = true
			}
		}
		if !found {
			t.Fatalf("no hostile image %q", name)
		}
	}
	allOf(edits...)(&img)
	b, err := imagekit.Build(img)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
