package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/compose"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/policy"
)

func service(name, hash string, more ...string) compose.Service {
	s := compose.Service{Name: name, ContainerName: "shop-" + name + "-1", Image: "busybox", Hash: hash}
	for _, m := range more {
		if on, is := strings.CutPrefix(m, "on:"); is {
			on, restart := strings.CutSuffix(on, "!")
			s.DependsOn = append(s.DependsOn, compose.Dependency{Service: on, Condition: "service_started", Required: true, Restart: restart})
		} else {
			s.Flags = append(s.Flags, compose.Flag{Word: m})
		}
	}
	return s
}

func TestPlan(t *testing.T) {
	is := func(service, hash, state string) container {
		return container{ID: "id-" + service, Name: "shop-" + service + "-1", Service: service, Hash: hash, State: state}
	}
	for name, c := range map[string]struct {
		services []compose.Service
		have     []container
		flags    upFlags
		stale    string
		want     []action
	}{
		"nothing there":   {[]compose.Service{service("a", "1")}, nil, upFlags{}, "", []action{create}},
		"as it should be": {[]compose.Service{service("a", "1")}, []container{is("a", "1", "running")}, upFlags{}, "", []action{keep}},
		"restarting runs": {[]compose.Service{service("a", "1")}, []container{is("a", "1", "restarting")}, upFlags{}, "", []action{keep}},
		"stopped":         {[]compose.Service{service("a", "1")}, []container{is("a", "1", "exited")}, upFlags{}, "", []action{begin}},
		"dead":            {[]compose.Service{service("a", "1")}, []container{is("a", "1", "dead")}, upFlags{}, "", []action{begin}},
		"changed":         {[]compose.Service{service("a", "2")}, []container{is("a", "1", "running")}, upFlags{}, "", []action{recreate}},
		"changed, left":   {[]compose.Service{service("a", "2")}, []container{is("a", "1", "running")}, upFlags{noRecreate: true}, "", []action{keep}},
		"forced":          {[]compose.Service{service("a", "1")}, []container{is("a", "1", "running")}, upFlags{forceRecreate: true}, "", []action{recreate}},
		"another image":   {[]compose.Service{service("a", "1")}, []container{is("a", "1", "running")}, upFlags{}, "id-a", []action{recreate}},
		"others untouched": {
			[]compose.Service{service("a", "2"), service("b", "1", "on:a")},
			[]container{is("a", "1", "running"), is("b", "1", "running")},
			upFlags{},
			"",
			[]action{recreate, keep},
		},
		"restart: true": {
			[]compose.Service{service("a", "2"), service("b", "1", "on:a!")},
			[]container{is("a", "1", "running"), is("b", "1", "running")},
			upFlags{},
			"",
			[]action{recreate, bounce},
		},
		"shares its network": {
			[]compose.Service{service("a", "2"), service("b", "1", "--network=container:shop-a-1")},
			[]container{is("a", "1", "running"), is("b", "1", "running")},
			upFlags{},
			"",
			[]action{recreate, recreate},
		},
		"shares the network of one that is left": {
			[]compose.Service{service("a", "1"), service("b", "1", "--network=container:shop-a-1")},
			[]container{is("a", "1", "running"), is("b", "1", "running")},
			upFlags{},
			"",
			[]action{keep, keep},
		},
		"a name like another": {
			[]compose.Service{service("a", "2"), service("b", "1", "--network=container:shop-a-11")},
			[]container{is("a", "1", "running"), is("b", "1", "running")},
			upFlags{},
			"",
			[]action{recreate, keep},
		},
	} {
		t.Run(name, func(t *testing.T) {
			steps := plan(c.services, c.have, c.flags, func(h container) bool { return h.ID == c.stale })
			var got []action
			for _, st := range steps {
				got = append(got, st.do)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

func TestChosen(t *testing.T) {
	p := &compose.Project{Services: []compose.Service{service("a", ""), service("b", "", "on:a", "on:off"), service("c", "")}}
	for _, c := range []struct {
		names string
		deps  bool
		want  string
	}{{"", true, "a b c"}, {"b", true, "a b"}, {"b", false, "b"}, {"c b", true, "a b c"}} {
		got, err := chosen(p, strings.Fields(c.names), c.deps)
		var names []string
		for _, s := range got {
			names = append(names, s.Name)
		}
		if err != nil || strings.Join(names, " ") != c.want {
			t.Errorf("%q: %q, %v; want %q", c.names, names, err, c.want)
		}
	}
	if _, err := chosen(p, []string{"d"}, true); fail.KindOf(err) != fail.NotFound || !strings.Contains(hintOf(err), "a, b, c") {
		t.Errorf("an unknown one: %v", err)
	}
}

func TestReached(t *testing.T) {
	for _, c := range []struct {
		status, health string
		code           int
		restarts       int
		want           string
		done           bool
		err            string
	}{
		{"running", "healthy", 0, 0, healthy, true, ""},
		{"running", "starting", 0, 0, healthy, false, ""},
		{"running", "unhealthy", 0, 0, healthy, false, "is unhealthy"},
		{"running", "", 0, 0, healthy, false, "has no health check"},
		{"running", "none", 0, 0, healthy, false, "has no health check"},
		{"exited", "healthy", 0, 0, healthy, false, "has ended with exit code 0"},
		{"dead", "", 1, 0, settled, false, "has ended with exit code 1"},
		{"created", "", 0, 0, settled, false, ""},
		{"running", "", 0, 0, settled, true, ""},
		{"running", "starting", 0, 0, settled, false, ""},
		{"running", "unhealthy", 0, 0, settled, false, "is unhealthy"},
		{"restarting", "starting", 1, 1, healthy, false, ""},
		{"restarting", "starting", 1, crashes, healthy, false, "started again and again"},
		{"running", "", 0, 0, completed, false, ""},
		{"running", "unhealthy", 0, 0, completed, false, ""},
		{"restarting", "", 1, 2, completed, false, ""},
		{"exited", "", 0, 0, completed, true, ""},
		{"exited", "", 3, 0, completed, false, "has ended with exit code 3"},
	} {
		s := status{Status: c.status, ExitCode: c.code, Restarts: c.restarts}
		if c.health != "" {
			if err := json.Unmarshal([]byte(`{"Health":{"Status":"`+c.health+`"}}`), &s); err != nil {
				t.Fatal(err)
			}
		}
		done, err := reached(s, c.want)
		said := ""
		if err != nil {
			said = err.Error()
		}
		if done != c.done || (c.err == "") != (said == "") || !strings.Contains(said, c.err) {
			t.Errorf("%+v: %t %q", c, done, said)
		}
	}
	if done, err := reached(status{Status: "exited", Error: "no such file"}, completed); done || err == nil {
		t.Error("one that could not be started again has not completed")
	}
}

func TestLayers(t *testing.T) {
	all := []container{
		{Service: "web", Depends: "api:service_healthy:false,gone:service_started:false"},
		{Service: "api", Depends: "db:service_started:true"},
		{Service: "db"},
		{Service: "alone"},
		{Service: "x", Depends: "y:a:b"},
		{Service: "y", Depends: "x:a:b,y:a:b"},
	}
	var got []string
	for _, l := range layers(all) {
		var names []string
		for _, c := range l {
			names = append(names, c.Service)
		}
		got = append(got, strings.Join(names, " "))
	}
	if want := []string{"db alone", "api", "web", "x y"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestCarried(t *testing.T) {
	id := strings.Repeat("ab", 32)
	old := []mount{{"volume", id, "/data"}, {"volume", "named", "/named"}, {"bind", id, "/bind"}}
	for _, c := range []struct{ flags, want string }{
		{"", "--volume=" + id + ":/data"},
		{"--name=a", "--name=a --volume=" + id + ":/data"},
		{"--volume=/data", "--volume=" + id + ":/data"},
		{"--volume=/data:ro", "--volume=" + id + ":/data:ro"},
		{"--volume=new:/data:ro", "--volume=new:/data:ro"},
		{"--mount=type=tmpfs,dst=/data", "--mount=type=tmpfs,dst=/data"},
		{"--tmpfs=/data:size=1m", "--tmpfs=/data:size=1m"},
	} {
		var flags []compose.Flag
		for _, w := range strings.Fields(c.flags) {
			flags = append(flags, compose.Flag{Word: w})
		}
		var got []string
		for _, f := range carried(flags, old) {
			got = append(got, f.Word)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q: %q, want %q", c.flags, got, c.want)
		}
	}
}

func TestWords(t *testing.T) {
	s := service("web", "h", "--name=shop-web-1", "on:db!")
	s.Args = []string{"-x"}
	got := words(s, s.Flags, "--pull=never")
	want := []string{"--name=shop-web-1", "--label=" + labelDepends + "=db:service_started:true", "--label=" + labelHash + "=h", "--pull=never", "busybox", "-x"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	once := onceFlags{remove: true, env: []string{"A=b"}, user: "1"}
	s = service(
		"web", "h", "--name=shop-web-1", "--network=name=n,alias=web,ip=10.0.0.2", "--network-alias=web", "--publish=80:80", "--restart=always", "--env=X=y", "--entrypoint=a",
	)
	got = once.line("shop", s, false, []string{"sh"})
	for _, w := range []string{"--network=name=n", "--env=X=y", "--entrypoint=a", "--env=A=b", "--user=1", "--rm", "-i", "--label=" + labelOneOff + "=True"} {
		if !slices.Contains(got, w) {
			t.Errorf("no %q in %q", w, got)
		}
	}
	for _, w := range []string{"--name=shop-web-1", "--network-alias=web", "--publish=80:80", "--restart=always", "-d"} {
		if slices.Contains(got, w) {
			t.Errorf("%q in %q", w, got)
		}
	}
	if !slices.Equal(got[len(got)-2:], []string{"busybox", "sh"}) {
		t.Errorf("%q", got)
	}
}

func TestNetworks(t *testing.T) {
	n := compose.Network{Key: "back", Name: "shop_back", Internal: true, Subnets: []string{"10.9.0.0/24"}, Labels: map[string]string{labelProject: "other", "a": "b"}}
	got := networkWords(n, "shop")
	want := []string{"create", "--icc", "--internal", "--subnet=10.9.0.0/24", "--label=a=b", "--label=" + labelNetwork + "=back", "--label=" + labelProject + "=shop", "--", "shop_back"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for _, c := range []struct {
		is netState
		ok bool
	}{
		{netState{Internal: true, ICC: true, Subnets: []string{"10.9.0.0/24"}}, true},
		{netState{Internal: false, ICC: true, Subnets: []string{"10.9.0.0/24"}}, false},
		{netState{Internal: true, ICC: false, Subnets: []string{"10.9.0.0/24"}}, false},
		{netState{Internal: true, ICC: true, Subnets: []string{"10.8.0.0/24"}}, false},
	} {
		if err := same(n, c.is, "shop"); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.is, err)
		}
	}
}

// The grants named are ones the policy takes, and what it would be asked for.
func TestRefused(t *testing.T) {
	refusal := func(image, id, flag, grant string) compose.Refused {
		return compose.Refused{
			Service: "web", Place: compose.Place{File: "compose.yaml", Line: 7}, Key: "services.web.cap_add[1]",
			Refusal: policy.Refusal{ID: id, Flag: flag, GivesAway: "much", Safer: "less", Grant: grant, Image: image},
		}
	}
	all := []compose.Refused{
		refusal("docker.io/library/a", "capability", "--cap-add NET_ADMIN", "capabilities: [NET_ADMIN]"),
		refusal("docker.io/library/b", "capability", "--cap-add NET_ADMIN", "capabilities: [NET_ADMIN]"),
		refusal("docker.io/library/a", "capability", "--cap-add SYS_TIME", "capabilities: [SYS_TIME]"),
		refusal("docker.io/library/a", "userns-host", "--userns host", "allow: [userns-host]"),
		refusal("reg.example:5000/c", "bind", "-v \x1b[2J/etc/x", `binds: [{source: /etc/x, readonly: true}]`),
		refusal("docker.io/library/a", "limit-over-maximum", "--memory", "limits: {max: {memory: 9g}}"),
		refusal("docker.io/library/a", "privileged", "--privileged", ""),
	}
	var b bytes.Buffer
	if err := writeRefused(&b, all); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for _, w := range []string{"for 7 reasons", "compose.yaml:7: services.web.cap_add[1]: --cap-add NET_ADMIN   [capability]", "nothing was created", "none can be given", "It does not cover"} {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in %s", w, text)
		}
	}
	if strings.ContainsRune(text, 0x1b) {
		t.Error("it steers the terminal")
	}
	site, err := policy.ParseSite([]byte(stanza(all)), "policy.yaml")
	if err != nil {
		t.Fatalf("%v\n%s", err, stanza(all))
	}
	if len(site.Grants) != 3 || len(site.Grants[0].Capabilities) != 2 || len(site.Grants[0].Allow) != 1 || site.Grants[2].Image != "reg.example:5000/c" {
		t.Errorf("%+v", site.Grants)
	}
	if g := stanza(all[6:]); g != "" {
		t.Errorf("a grant for what is never granted: %s", g)
	}
}

// What a shell reads of a line are the words.
func TestQuote(t *testing.T) {
	for _, w := range []string{"", "a", "a b", "it's", "$HOME `id` \\", "a\nb", "\x1b[31m", "\xff\xfe'", "ü", "\u202eabc", "*", "~", "--env=A=b c", "-n"} {
		out, err := exec.Command("bash", "-c", "printf '%s' "+quote(w)).Output()
		if err != nil || string(out) != w {
			t.Errorf("%q: %q, %v", w, out, err)
		}
		if strings.ContainsAny(quote(w), "\x1b\n\u202e") {
			t.Errorf("%q is not plain", quote(w))
		}
	}
}

func TestCheckProject(t *testing.T) {
	for name, ok := range map[string]bool{"shop": true, "a-b_1": true, "": false, "Shop": false, "-a": false, "a/b": false, "a,b": false, "..": false, "a\n": false, strings.Repeat("a", 64): false} {
		if err := checkProject(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestAbsent(t *testing.T) {
	for word, want := range map[string]string{"build": "buildah", "cp": "safe-run cp", "nonsense": "--help", "--wat": "--help"} {
		if err := absent(word); !strings.Contains(hintOf(err), want) {
			t.Errorf("%s: %v (%s)", word, err, hintOf(err))
		}
	}
	for _, sub := range composeRoot(&app{}).Commands() {
		if _, lacked := lackedWords[sub.Name()]; lacked {
			t.Errorf("%s is there", sub.Name())
		}
	}
}

// The shell is offered verbs, flags and the services of the files.
func TestCompletions(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte("services: {web: {image: a}, worker: {image: a}, db: {image: a}}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for args, want := range map[string]string{"u": "up", "up w": "web worker", "-p x logs -f d": "db", "up web w": "worker", "up --force": "--force-recreate", "nothing x": ""} {
		got, _ := completions(t.Context(), "safe-run", strings.Split(args, " "))
		var words []string
		for _, g := range got {
			w, _, _ := strings.Cut(g, "\t")
			words = append(words, w)
		}
		if args == "u" {
			words = slices.DeleteFunc(words, func(w string) bool { return w == "unpause" })
		}
		slices.Sort(words)
		if strings.Join(words, " ") != want {
			t.Errorf("%q: %q, want %q", args, words, want)
		}
	}
}
