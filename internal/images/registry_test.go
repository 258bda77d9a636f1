package images

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/safe-run/safe-run/tests/imagekit"
)

// registry is the pulling side of the OCI distribution API on a loopback port.
type registry struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
	tags     map[string][]*imagekit.Built // answers to a tag, in turn; the last one stays
	blobs    map[digest.Digest][]byte
	types    map[digest.Digest]string

	auth     string // "", "basic" or "bearer"
	user     string
	password string
	redirect string // where blobs are, if not here
}

func newRegistry(t testing.TB, tls bool) *registry {
	r := &registry{
		tags: map[string][]*imagekit.Built{}, blobs: map[digest.Digest][]byte{}, types: map[digest.Digest]string{},
	}
	if tls {
		r.Server = httptest.NewTLSServer(r)
	} else {
		r.Server = httptest.NewServer(r)
	}
	t.Cleanup(r.Close)
	return r
}

// host is the registry's part of an image name.
func (r *registry) host() string { return strings.SplitN(r.URL, "://", 2)[1] }

func (r *registry) push(tag string, images ...*imagekit.Built) {
	r.tags[tag] = images
	for _, b := range images {
		for d, blob := range b.Blobs {
			r.blobs[d] = blob
		}
		r.types[b.Root.Digest] = b.Root.MediaType
	}
}

// log gives what was requested: METHOD PATH.
func (r *registry) log() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var l []string
	for _, q := range r.requests {
		l = append(l, q.Method+" "+q.URL.Path)
	}
	return l
}

// headers gives the values of a header in all requests, "" left out.
func (r *registry) headers(name string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var l []string
	for _, q := range r.requests {
		if v := q.Header.Get(name); v != "" {
			l = append(l, v)
		}
	}
	return l
}

func (r *registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	r.requests = append(r.requests, q.Clone(q.Context()))
	r.mu.Unlock()
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(r.user+":"+r.password))
	if q.URL.Path == "/token" {
		ok := q.Header.Get("Authorization") == basic
		if q.Method == http.MethodPost && q.ParseForm() == nil {
			ok = q.PostForm.Get("username") == r.user && q.PostForm.Get("password") == r.password
		}
		if !ok {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"token":"good","access_token":"good","expires_in":300}`)
		return
	}
	switch {
	case r.auth == "basic" && q.Header.Get("Authorization") != basic:
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	case r.auth == "bearer" && q.Header.Get("Authorization") != "Bearer good":
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test",scope="repository:x:pull"`, r.URL))
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	parts := strings.Split(q.URL.Path, "/")
	kind, ref := parts[len(parts)-2], parts[len(parts)-1]
	d := digest.Digest(ref)
	mediaType := "application/octet-stream"
	if kind == "manifests" {
		if r.tags[ref] != nil {
			r.mu.Lock()
			b := r.tags[ref][0]
			if len(r.tags[ref]) > 1 {
				r.tags[ref] = r.tags[ref][1:]
			}
			r.mu.Unlock()
			d = b.Root.Digest
		}
		mediaType = r.types[d]
		if mediaType == "" {
			mediaType = ocispec.MediaTypeImageManifest
		}
	} else if r.redirect != "" {
		http.Redirect(w, q, r.redirect+q.URL.Path, http.StatusTemporaryRedirect)
		return
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
		w.Write(blob)
	}
}
