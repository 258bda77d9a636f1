// Package registry is the pulling side of the OCI distribution API on a
// loopback port, for tests: images of imagekit, credentials, a store of blobs
// elsewhere, and whatever a bad registry answers.
package registry

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

// Registry answers to every repository name. Its settings and blobs are
// changed between requests only.
type Registry struct {
	*httptest.Server
	Blobs map[digest.Digest][]byte

	Auth     string // the scheme that is wanted: "", "basic" or "bearer"
	User     string
	Password string
	Redirect string // URL of the registry that has the blobs, if not here
	// Instead answers requests itself, and says so.
	Instead func(w http.ResponseWriter, q *http.Request) bool

	mu       sync.Mutex
	requests []*http.Request
	tags     map[string][]*imagekit.Built
	types    map[digest.Digest]string
}

// New starts a registry that ends with the test. With tls its certificate is
// one that nobody trusts.
func New(t testing.TB, tls bool) *Registry {
	r := &Registry{Blobs: map[digest.Digest][]byte{}, tags: map[string][]*imagekit.Built{}, types: map[digest.Digest]string{}}
	if tls {
		r.Server = httptest.NewTLSServer(r)
	} else {
		r.Server = httptest.NewServer(r)
	}
	t.Cleanup(func() {
		r.CloseClientConnections()
		r.Close()
	})
	return r
}

// Host is the registry's part of an image name.
func (r *Registry) Host() string { return strings.SplitN(r.URL, "://", 2)[1] }

// Push makes the images the answers to a tag, in turn; the last one stays.
func (r *Registry) Push(tag string, images ...*imagekit.Built) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tags[tag] = images
	for _, b := range images {
		for d, blob := range b.Blobs {
			r.Blobs[d] = blob
		}
		r.types[b.Root.Digest] = b.Root.MediaType
	}
}

// Log gives what was requested: METHOD PATH.
func (r *Registry) Log() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var l []string
	for _, q := range r.requests {
		l = append(l, q.Method+" "+q.URL.Path)
	}
	return l
}

// Headers gives the values of a header in all requests, "" left out.
func (r *Registry) Headers(name string) []string {
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

// ServeHTTP implements http.Handler.
func (r *Registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	r.requests = append(r.requests, q.Clone(q.Context()))
	r.mu.Unlock()
	if r.Instead != nil && r.Instead(w, q) {
		return
	}
	if !r.admits(w, q) {
		return
	}
	parts := strings.Split(q.URL.Path, "/")
	kind, ref := parts[max(0, len(parts)-2)], parts[len(parts)-1]
	d, mediaType := digest.Digest(ref), "application/octet-stream"
	switch {
	case kind == "manifests":
		d, mediaType = r.manifest(ref)
	case r.Redirect != "":
		http.Redirect(w, q, r.Redirect+q.URL.Path, http.StatusTemporaryRedirect)
		return
	}
	blob, ok := r.Blobs[d]
	if !ok {
		http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"\u001b[31mnot here"}]}`, http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
	if q.Method != http.MethodHead {
		_, _ = w.Write(blob) // a client may have seen enough
	}
}

// admits answers a request for a token, and one without the credentials.
func (r *Registry) admits(w http.ResponseWriter, q *http.Request) bool {
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(r.User+":"+r.Password))
	given := q.Header.Get("Authorization")
	switch {
	case q.URL.Path == "/token":
		ok := given == basic
		if q.Method == http.MethodPost && q.ParseForm() == nil {
			ok = q.PostForm.Get("username") == r.User && q.PostForm.Get("password") == r.Password
		}
		if !ok {
			w.WriteHeader(http.StatusUnauthorized)
			return false
		}
		fmt.Fprint(w, `{"token":"good","access_token":"good","expires_in":300}`)
		return false
	case r.Auth == "basic" && given != basic:
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
	case r.Auth == "bearer" && given != "Bearer good":
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test",scope="repository:x:pull"`, r.URL))
	default:
		return true
	}
	w.WriteHeader(http.StatusUnauthorized)
	return false
}

// manifest is what a tag or a digest stands for now.
func (r *Registry) manifest(ref string) (d digest.Digest, mediaType string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d = digest.Digest(ref)
	if all := r.tags[ref]; all != nil {
		d = all[0].Root.Digest
		if len(all) > 1 {
			r.tags[ref] = all[1:]
		}
	}
	if mediaType = r.types[d]; mediaType == "" {
		mediaType = ocispec.MediaTypeImageManifest
	}
	return d, mediaType
}
