package policy

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/spec"
)

// TestSourcesInDetail: facts that decide by themselves.
func TestSourcesInDetail(t *testing.T) {
	with := func(change func(*spec.Source)) spec.Source {
		s := dirSource("/srv/x")
		change(&s)
		return s
	}
	sub := func(path, fsName string, aliases ...string) spec.Submount {
		return spec.Submount{Path: path, FS: fsName, Aliases: aliases, Mounted: true}
	}
	for _, c := range []struct {
		name   string
		s      spec.Source
		rw, ro string
		says   string
		grant  bool
	}{
		{"nothing known", spec.Source{Asked: "/srv/x"}, "bind-unreadable", "bind-unreadable", "cannot be told", false},
		{"known by its name alone", with(func(s *spec.Source) { s.Real, s.Aliases = "/etc", nil }), "bind-system", "bind-system", "it is /etc", true},
		{"known by other names alone", with(func(s *spec.Source) { s.Aliases = []string{"/etc"} }), "bind-system", "bind-system", "it is /etc", true},
		{"a system directory nobody can look at", with(func(s *spec.Source) { s.Real, s.Err = "/etc", "gone" }), "bind-system", "bind-system", "it is /etc", false},
		{"automount below", with(func(s *spec.Source) { s.Submounts = []spec.Submount{sub("/srv/x/a", "autofs", "/srv/x/a")} }), "", "", "", false},
		{"configuration below", with(func(s *spec.Source) { s.Submounts = []spec.Submount{sub("/srv/x/n", "ext4", "/etc/nginx")} }), "bind-system", "", "writable, in /etc, which comes along at /srv/x/n", true},
		{"data, then the system below", with(func(s *spec.Source) {
			s.Submounts = []spec.Submount{sub("/srv/x/d", "xfs", "/srv/x/d"), sub("/srv/x/e", "ext4", "/etc")}
		}), "bind-system", "bind-system", "which comes along at /srv/x/e", true},
		{"root below", with(func(s *spec.Source) { s.Submounts = []spec.Submount{sub("/srv/x/r", "ext4", "/")} }), "bind-root", "bind-root", "which is also at /srv/x/r", false},
		{"kernel below", with(func(s *spec.Source) { s.Submounts = []spec.Submount{sub("/srv/x/p", "proc", "/srv/x/p")} }), "bind-kernel", "bind-kernel", "mounted below it at /srv/x/p", true},
		{"engine's socket by another name", with(func(s *spec.Source) {
			s.Sockets, s.Aliases = []string{"/srv/x"}, []string{"/srv/x", "/run/docker.sock"}
		}), "engine-socket", "engine-socket", "the control socket /srv/x", false},
		{"root, with the engine's socket", with(func(s *spec.Source) { s.Aliases, s.Sockets = []string{"/"}, []string{"/run/docker.sock"} }), "bind-root", "bind-root", "the whole host", false},
		{"device", with(func(s *spec.Source) { s.Mode = fs.ModeDevice }), "bind-device", "bind-device", "past the list", false},
		{"automount", with(func(s *spec.Source) { s.FS = "autofs" }), "bind-unreadable", "bind-unreadable", "not mounted", false},
		{"magic link", with(func(s *spec.Source) { s.MagicLink = true }), "bind-magic-link", "bind-magic-link", "another process", false},
	} {
		for _, readonly := range []bool{false, true} {
			want := c.rw
			if readonly {
				want = c.ro
			}
			_, refusals := Review(request(bindOf(c.s, readonly)))
			if got := strings.Join(ids(refusals), " "); got != want {
				t.Errorf("%s, read-only %v: %q, want %q", c.name, readonly, got, want)
				continue
			}
			if want != "" && (!strings.Contains(refusals[0].GivesAway, c.says) && !(readonly && c.ro == "") || (refusals[0].Grant != "") != c.grant) {
				t.Errorf("%s: %+v", c.name, refusals[0])
			}
		}
	}
	// What the caller may not do with it, and the grant that would let it.
	for _, c := range []struct {
		real, asked string
		readonly    bool
		says, grant string
	}{
		{"/srv/x", "/srv/x", true, "may not read", "binds: [{source: /srv/x, readonly: true}]"},
		{"/srv/x", "/srv/x", false, "may not read and write", "binds: [{source: /srv/x}]"},
		{"", "/srv/../srv/y", true, "may not read", "binds: [{source: /srv/y, readonly: true}]"},
		{"/", "/", true, "may not read", ""},
		{"/srv/a\n", "/srv/a\n", true, "may not read", ""},
	} {
		s := with(func(s *spec.Source) { s.Denied, s.Real, s.Asked = true, c.real, c.asked })
		r := said(t, bindOf(s, c.readonly))
		if r.ID != "bind-caller" || !strings.HasSuffix(r.GivesAway, c.says) || r.Grant != c.grant {
			t.Errorf("%+v: %+v", c, r)
		}
	}
	if r := said(t, bind("/srv/x", true), func(r *Request) { r.Sources = nil }); !strings.Contains(r.GivesAway, "nobody looked at it") {
		t.Errorf("%+v", r)
	}
	fifo := with(func(s *spec.Source) { s.Mode = fs.ModeNamedPipe })
	if r := said(t, bindOf(fifo, true)); r.GivesAway != "a channel to the program at the other end" {
		t.Errorf("a note about nothing: %+v", r)
	}
	if got := refused(volume(func(*spec.Mount) {}), func(r *Request) { r.Sources = map[int]spec.Source{0: {Denied: true}} }); got != "" {
		t.Errorf("a volume is judged as a bind: %s", got)
	}
	// The state of this program, where it is elsewhere.
	elsewhere := func(r *Request) { r.Stores = []string{"/data/safe-run"} }
	if got := refused(elsewhere, bind("/data/safe-run/volumes", true)); got != "bind-container-store" {
		t.Errorf("the state of this program: %q", got)
	}
	if got := refused(elsewhere, bind("/data/mine", true)); got != "" {
		t.Errorf("beside the state of this program: %q", got)
	}
}
