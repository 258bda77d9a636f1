package policy

import (
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/images"
	"github.com/safe-run/safe-run/spec"
)

// busy is the processor time a function takes: the clock on the wall measures
// a busy machine.
func busy(t *testing.T, f func()) time.Duration {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	used := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	start := used()
	f()
	return used() - start
}

// FuzzParseSite: a policy of any bytes is an error that can be printed, or one
// that says the same when written out again, in bounded time; none gives what
// is never given, and none gives another image what it names one for.
func FuzzParseSite(f *testing.F) {
	for _, s := range []string{
		fullFile, "version: 1", "version: &a 1\nb: *a", "{", "- - -", "? a", "version: 1\ngrants: [{image: a}]", "a: |\n  b", "%YAML 1.2\n---\nversion: 1",
		"version: 1\ngrants:\n- {image: \"docker.io/library/*\", allow: [host-network], binds: [{source: /srv, readonly: true}]}\n",
		"version: 1\ngrants:\n- {image: example.com/a/*, capabilities: [SYS_ADMIN], devices: [{path: /dev/fuse, permissions: rw}]}\nregistries: [a.b]\n",
		"version: 1\nlimits: {default: {memory: 1g, cpus: 1.5}, max: {pids: 5}}\nrequire-digest: true\nnetworks: [a]\n", "version: 0x1", "version: 1.0", "version: 1e0", "!!int version: 1", "version: 1\nversion: 1",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var s Site
		var err error
		if took := busy(t, func() { s, err = ParseSite(data, "t") }); took > time.Second {
			t.Errorf("%d bytes took %v", len(data), took)
		}
		if err != nil {
			if strings.ContainsFunc(err.Error(), func(c rune) bool { return c < ' ' || c >= 0x7f && c < 0xa0 }) || len(err.Error()) > 1<<20 {
				t.Errorf("not fit to print: %q", err)
			}
			return
		}
		if s.Version != 1 || s.Limits().Memory < 6<<20 {
			t.Errorf("%+v", s)
		}
		if again, err := ParseSite(append([]byte("# c\n"), data...), "t"); err != nil || !reflect.DeepEqual(again, s) {
			t.Errorf("%+v, and below a comment %+v, %v", s, again, err)
		}
		s.path = "t"
		for _, with := range []func(*Request){work(func(w *spec.Workload) { w.Privileged = true }), capAdd("ALL"), bind("/", true), secOpt("systempaths=unconfined")} {
			r := request(with, func(r *Request) { r.Site = s })
			if _, refusals := Review(r); len(refusals) == 0 {
				t.Errorf("granted what is never granted: %q", data)
			}
		}
		named := false
		for _, g := range s.Grants {
			named = named || strings.HasPrefix("docker.io/library/busybox", strings.TrimSuffix(g.Image, "*")) || !strings.Contains(g.Image, ".")
		}
		r := request(capAdd("SYS_PTRACE"), func(r *Request) { r.Site = s })
		if given, refusals := Review(r); !named && (len(refusals) == 0 || len(given.Capabilities) > 0) {
			t.Errorf("granted to an image it does not name: %q", data)
		}
	})
}

// FuzzPattern: what a grant is for is one repository, or those below a place,
// of what would be pulled: by name, and at the borders between its parts.
func FuzzPattern(f *testing.F) {
	digest := "@sha256:" + strings.Repeat("a", 64)
	for _, p := range []string{"nginx", "docker.io/library/nginx", "docker.io/*", "example.com/*", "example.com:5000/a/*", "library/*", "a/*", "localhost/*", "nginx" + digest, "*", "/*", "a/b*"} {
		for _, i := range []string{"nginx", "nginx:1", "nginx" + digest, "example.com/a", "example.com:5000/a/b:c", "library/nginx", "index.docker.io/nginx", "localhost/a", "a/b/c", "examplexcom/a"} {
			f.Add(p, i)
		}
	}
	f.Fuzz(func(t *testing.T, text, image string) {
		p, err := parsePattern(text)
		if err != nil {
			if strings.ContainsFunc(err.Error(), func(c rune) bool { return c < ' ' || c >= 0x7f && c < 0xa0 }) || len(err.Error()) > 1000 {
				t.Errorf("not fit to print: %q", err)
			}
			return
		}
		name, err := images.Normalize(image)
		r := request(func(r *Request) { r.Workload.Image, r.Image.Name = image, name })
		if err != nil || !p.matches(&r) {
			return
		}
		repository, rest := name, ""
		if before, digest, ok := strings.Cut(name, "@"); ok {
			repository, rest = before, digest
		} else if i := strings.LastIndexByte(name, ':'); i >= 0 {
			repository = name[:i]
		}
		wanted, digest, _ := strings.Cut(strings.TrimSuffix(text, "/*"), "@")
		if _, full, ok := strings.Cut(repository, "docker.io/"); ok && !strings.HasPrefix(wanted, "docker.io") {
			repository = full // as it may be written in short
			wanted = strings.TrimPrefix(strings.TrimPrefix(wanted, "index."), "docker.io/")
		}
		below := strings.HasSuffix(text, "/*")
		ok := repository == wanted || repository == "library/"+wanted || "docker.io/"+repository == wanted
		if below {
			ok = strings.HasPrefix(repository, wanted+"/") || strings.HasPrefix(repository, "library/"+wanted+"/") || strings.HasPrefix("docker.io/"+repository, wanted+"/")
		}
		if !ok || digest != "" && rest != "" && digest != rest && digest != r.Image.Digest {
			t.Errorf("%q is for %q (%s)", text, image, name)
		}
	})
}
