package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/spec"
)

// kept makes a store with containers that look as if they were started.
func kept(t testing.TB, recs ...store.Record) *store.Store {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(filepath.Join(dir, "root"), filepath.Join(dir, "run"))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SAFE_RUN_ROOT", st.Root)
	t.Setenv("SAFE_RUN_STATE", st.Run)
	for _, r := range recs {
		e, err := st.Begin(r.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.Save(r); err != nil {
			t.Fatal(err)
		}
		if r.Name != "" {
			if _, err := e.TakeName(r.Name); err != nil {
				t.Fatal(err)
			}
		}
		if r.Phase == store.PhaseExited {
			if err := e.End(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		t.Cleanup(e.Release)
	}
	return st
}

func numbered(n int) string { return fmt.Sprintf("%012x%052x", n+1, 0) }

func three(now time.Time) []store.Record {
	return []store.Record{
		{
			ID: numbered(0), Name: "old", Image: "docker.io/library/busybox:latest", Digest: "sha256:aaaa11", Phase: store.PhaseExited, ExitCode: 137,
			Created: now.Add(-3 * time.Hour), Started: now.Add(-3 * time.Hour), Finished: now.Add(-2 * time.Hour), Command: "sleep 1000000000000000000",
		},
		{
			ID: numbered(1), Name: "web", Image: "docker.io/library/nginx:1", Digest: "sha256:bbbb22", Phase: store.PhaseRunning, Checked: true,
			Created: now.Add(-2 * time.Hour), Started: now.Add(-5 * time.Minute), Labels: map[string]string{"app": "shop", "x": "a\nb\x1b[2J"}, Command: "nginx",
		},
		{ID: numbered(2), Image: "docker.io/library/busybox:latest", Digest: "sha256:aaaa11", Phase: store.PhaseRunning, Paused: true, Created: now.Add(-time.Minute), Started: now.Add(-time.Minute)},
	}
}

func TestPsFilters(t *testing.T) {
	st := kept(t, three(time.Now())...)
	if err := st.SaveHealth(numbered(1), store.Health{Status: store.HealthHealthy}); err != nil {
		t.Fatal(err)
	}
	err := st.SaveAsked(numbered(1), store.Asked{
		Workload: spec.Workload{
			Image: "nginx:1", Networks: []spec.NetworkUse{{Name: "lan"}},
			Mounts: []spec.Mount{{Type: spec.MountVolume, Source: "data", Target: "/var/data"}, {Type: spec.MountBind, Source: "/srv", Target: "/srv2"}},
		},
		Image: spec.Image{Exposed: []spec.PortRange{{First: 80, Last: 80, Proto: "tcp"}}, Target: "sha256:cccc33"},
	})
	if err != nil {
		t.Fatal(err)
	}
	none := numbered(2)[:12]
	for _, c := range []struct {
		all     bool
		last    int
		filters []string
		want    string
	}{
		{false, -1, nil, none + " web"},
		{true, -1, nil, none + " web old"},
		{false, 1, nil, none},
		{false, 5, nil, none + " web old"},
		{false, 1, []string{"name=old"}, "old"},
		{true, -1, []string{"name=^ol"}, "old"},
		{true, -1, []string{"name=^/web$", "name=old"}, "web old"},
		{true, -1, []string{"id=" + numbered(1)[:12]}, "web"},
		{false, -1, []string{"status=exited"}, "old"},
		{false, -1, []string{"status=paused", "status=exited"}, none + " old"},
		{true, -1, []string{"exited=137"}, "old"},
		{true, -1, []string{"exited=0"}, ""},
		{true, -1, []string{"label=app"}, "web"},
		{true, -1, []string{"label=app=shop"}, "web"},
		{true, -1, []string{"label=app=x"}, ""},
		{true, -1, []string{"health=healthy"}, "web"},
		{true, -1, []string{"health=none"}, none + " old"},
		{true, -1, []string{"ancestor=busybox"}, none + " old"},
		{true, -1, []string{"ancestor=nginx:1"}, "web"},
		{true, -1, []string{"ancestor=sha256:bbbb22"}, "web"},
		{true, -1, []string{"ancestor=cccc33"}, "web"},
		{true, -1, []string{"network=lan"}, "web"},
		{true, -1, []string{"volume=data"}, "web"},
		{true, -1, []string{"volume=/var/data"}, "web"},
		{true, -1, []string{"expose=70-90"}, "web"},
		{true, -1, []string{"expose=80/udp"}, ""},
		{true, -1, []string{"publish=80"}, ""},
		{true, -1, []string{"before=web"}, "old"},
		{true, -1, []string{"since=web"}, none},
		{true, -1, []string{"is-task=false", "name=web"}, "web"},
		{true, -1, []string{"is-task=true"}, ""},
	} {
		f, err := filtersOf(c.filters, psFilters()...)
		if err != nil {
			t.Fatal(err)
		}
		rows, err := list(st, psOptions{all: c.all, last: c.last, filters: f})
		var names []string
		for _, r := range rows {
			names = append(names, r.Names())
		}
		if got := strings.Join(names, " "); got != c.want || err != nil {
			t.Errorf("%+v: %q (%v)", c, got, err)
		}
	}
	for _, bad := range []string{"status=up", "health=good", "exited=x", "before=missing", "expose=x", "name=[", "is-task=x"} {
		f, err := filtersOf([]string{bad}, psFilters()...)
		if err == nil {
			_, err = list(st, psOptions{filters: f})
		}
		if err == nil {
			t.Errorf("%s is no error", bad)
		}
	}
}

// No byte of an image, a label or a command reaches the terminal, and none
// makes a line.
func TestPsIsSafe(t *testing.T) {
	evil := "a\x1b[2J\n\tb\u009b\u202e\r"
	now := time.Now()
	r := store.Record{ID: numbered(0), Image: evil, Phase: store.PhaseRunning, Created: now, Labels: map[string]string{evil: evil}, Command: evil}
	st := kept(t, r)
	err := st.SaveAsked(r.ID, store.Asked{Workload: spec.Workload{
		Image: evil, Mounts: []spec.Mount{{Source: evil}}, Networks: []spec.NetworkUse{{Name: evil}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := list(st, psOptions{noTrunc: true})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	format := "table {{.ID}}|{{.Image}}|{{.Command}}|{{.Labels}}|{{.Mounts}}|{{.Networks}}|" + `{{.Label "` + `x"}}`
	if err := renderTable(&b, format, headings{}, rows); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\r\u009b\u202e") || strings.Count(b.String(), "\n") != 2 {
		t.Errorf("%q", b.String())
	}
	b.Reset()
	if err := renderTable(&b, "json", nil, rows); err != nil || strings.Count(b.String(), "\n") != 1 {
		t.Errorf("%q, %v", b.String(), err)
	}
	var fields map[string]string
	if err := json.Unmarshal(b.Bytes(), &fields); err != nil || fields["State"] != "running" || len(fields) != 14 {
		t.Errorf("%v, %v", fields, err)
	}
}

func TestEllipsis(t *testing.T) {
	for in, want := range map[string]string{"": "", "abc": "abc", "abcd": "abcd", "abcde": "abc…", "äöüß": "äöüß", "äöüßx": "äöü…", strings.Repeat("€", 99): "€€€…"} {
		if got := ellipsis(in, 4); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestPort(t *testing.T) {
	st := kept(t, three(time.Now())...)
	network := `{"id":"x","ports":[{"host":"::","host_port":8080,"port":80,"proto":"tcp"},{"host":"0.0.0.0","host_port":8080,"port":80,"proto":"tcp"},` +
		`{"host":"127.0.0.1","host_port":53,"port":53,"proto":"udp"}],"egress":{"Mode":"","Allow":null}}`
	if err := os.WriteFile(filepath.Join(st.Dir(numbered(1)), "network.json"), []byte(network), 0o600); err != nil {
		t.Fatal(err)
	}
	rows, err := list(st, psOptions{})
	if err != nil || len(rows) != 2 {
		t.Fatal(rows, err)
	}
	web := rows[1]
	if got := web.Ports(); got != "127.0.0.1:53->53/udp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp" {
		t.Errorf("ps: %s", got)
	}
	for _, c := range []struct {
		args []string
		want []string
		err  string
	}{
		{[]string{"web"}, []string{"53/udp -> 127.0.0.1:53", "80/tcp -> 0.0.0.0:8080", "80/tcp -> [::]:8080"}, ""},
		{[]string{"web", "80"}, []string{"0.0.0.0:8080", "[::]:8080"}, ""},
		{[]string{"web", "53/udp"}, []string{"127.0.0.1:53"}, ""},
		{[]string{"web", "81"}, nil, "No public port '81/tcp' published for web"},
		{[]string{"web", "x"}, nil, `invalid port: "x"`},
	} {
		lines, err := portLines(published(web.settings()), c.args)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if !slices.Equal(lines, c.want) || text != c.err || err != nil && fail.KindOf(err) != fail.NoStatus {
			t.Errorf("%v: %q, %q", c.args, lines, text)
		}
	}
}

// Two hundred containers are listed in a fraction of the time
// a person notices.
func BenchmarkPs200(b *testing.B) {
	now := time.Now()
	var recs []store.Record
	for i := range 200 {
		r := three(now)[1]
		r.ID, r.Name = numbered(i), fmt.Sprintf("web%d", i)
		recs = append(recs, r)
	}
	st := kept(b, recs...)
	for _, r := range recs {
		a := store.Asked{Workload: spec.Workload{Image: "nginx:1"}}
		for i := range 60 {
			a.Image.Env = append(a.Image.Env, fmt.Sprintf("VARIABLE_%d=a value as they are", i))
		}
		if err := st.SaveAsked(r.ID, a); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		rows, err := list(st, psOptions{})
		if err != nil || len(rows) != 200 {
			b.Fatal(len(rows), err)
		}
		var out bytes.Buffer
		if err := renderTable(&out, "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}", nil, rows); err != nil {
			b.Fatal(err)
		}
	}
}
