package policy

import (
	"strings"
	"testing"

	"github.com/safe-run/safe-run/spec"
)

// TestDeniedSources: of what the caller may not open nothing is said but that,
// and a grant lifts it without lifting the rest.
func TestDeniedSources(t *testing.T) {
	denied := func(p string) spec.Source {
		s := dirSource(p)
		s.Denied = true
		return s
	}
	missing := spec.Source{Asked: "/srv/closed/none", Err: "it does not exist", NotExist: true, Denied: true}
	socket := denied("/srv/app")
	socket.Sockets = []string{"/srv/app/docker.sock"}
	granted := func(path string, readonly bool) func(*Request) {
		return func(r *Request) {
			r.Site.Grants = []Grant{{Image: "docker.io/library/busybox", Binds: []BindGrant{{Source: path, ReadOnly: readonly}}}}
			r.Workload.Image = "busybox"
		}
	}
	linked := denied("/srv/closed/link")
	linked.Real = "/srv/other"
	none := func(*Request) {}
	for name, c := range map[string]struct {
		s        spec.Source
		readonly bool
		site     func(*Request)
		want     string
	}{
		"ordinary":                 {denied("/srv/closed"), false, none, "bind-caller"},
		"read-only":                {denied("/srv/closed"), true, none, "bind-caller"},
		"a secret":                 {denied("/root/.ssh"), true, none, "bind-caller"},
		"root":                     {denied("/"), true, none, "bind-caller"},
		"nothing there":            {missing, true, none, "bind-caller"},
		"a socket":                 {socket, true, none, "bind-caller"},
		"granted":                  {denied("/srv/closed"), false, granted("/srv", false), ""},
		"granted to be read":       {denied("/srv/closed"), false, granted("/srv", true), "bind-caller"},
		"granted, read":            {denied("/srv/closed"), true, granted("/srv", true), ""},
		"granted, a secret":        {denied("/root/.ssh"), true, granted("/root/.ssh", true), ""},
		"granted, nothing there":   {missing, true, granted("/srv", true), "bind-missing"},
		"granted, engine's socket": {socket, true, granted("/srv", true), "engine-socket"},
		"granted, another's name":  {linked, true, granted("/srv", true), "bind-caller"},
		"granted elsewhere":        {denied("/srv/closed"), true, granted("/srv/other", true), "bind-caller"},
	} {
		_, refusals := Review(request(func(r *Request) { r.Caller = 1000 }, bindOf(c.s, c.readonly), c.site))
		if got := strings.Join(ids(refusals), " "); got != c.want {
			t.Errorf("%s: %q, want %q: %+v", name, got, c.want, refusals)
		}
		for _, f := range refusals {
			if f.ID == "bind-caller" && (!strings.Contains(f.GivesAway, "uid 1000") || strings.Contains(f.GivesAway+f.Grant, "exist") || strings.Contains(f.Grant, "/srv/other\"")) {
				t.Errorf("%s: says %q", name, f.GivesAway)
			}
		}
	}
}

// TestLinksOfOthers: who owns a link on the way to a source.
func TestLinksOfOthers(t *testing.T) {
	for _, c := range []struct {
		source, link, caller uint32
		want                 string
	}{
		{0, 0, 0, ""},
		{0, 1000, 0, "bind-link"},
		{0, 1000, 1000, ""},
		{0, 1001, 1000, "bind-link"},
		{1001, 1001, 1000, ""},
		{1000, 1001, 1000, "bind-link"},
		{1001, 0, 1000, ""},
	} {
		s := dirSource("/srv/x")
		s.UID = c.source
		s.Links = []spec.SourceLink{{Path: "/srv/ours", UID: 0}, {Path: "/srv/l", UID: c.link}}
		_, refusals := Review(request(func(r *Request) { r.Caller = c.caller }, bindOf(s, true)))
		if got := strings.Join(ids(refusals), " "); got != c.want {
			t.Errorf("%+v: %q: %+v", c, got, refusals)
		}
	}
	// More serious things are said first.
	s := dirSource("/etc")
	s.Links = []spec.SourceLink{{Path: "/srv/l", UID: 7}}
	if _, refusals := Review(request(bindOf(s, false))); strings.Join(ids(refusals), " ") != "bind-system" {
		t.Errorf("%+v", refusals)
	}
}
