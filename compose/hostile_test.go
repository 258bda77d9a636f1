package compose

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/policy"
)

// TestErrorsHaveLines: everything that is wrong is told at once, in order.
func TestErrorsHaveLines(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown keys", "services:\n  a:\n    image: x\n    prots: [a]\n    umask: 022\nnetwroks: {}\n", `compose.yaml:4: services.a.prots: there is no such key (did you mean ports?)
compose.yaml:5: services.a.umask: it is not supported (the umask is the program's own; set it in its command)
compose.yaml:6: netwroks: there is no such key (did you mean networks?)`},
		{"several", "services:\n  a:\n    build: .\n    scale: 2\n    env_file: none\n    volumes:\n      - ./none:/x\n  b:\n    image: x\n    networks: [gone]\n    provider: {type: x}\n", `compose.yaml:3: services.a.build: images are not built here (build it elsewhere, load it with safe-run load -i FILE, and name it with image)
compose.yaml:4: services.a.scale: there is one container of a service, and not 2 (write another service that extends this one; profiles put a service off)
compose.yaml:5: services.a.env_file: there is no file "D/none"
compose.yaml:7: services.a.volumes[0]: there is no "D/none" (make it first: a source that is missing is never created here, whatever create_host_path says)
compose.yaml:10: services.b.networks[0]: there is no network "gone" (declare it at the top: networks: {gone: {}})
compose.yaml:11: services.b.provider: it is not supported (a program of another kind makes it; run it yourself, and name what it serves in environment)`},
		{"replicas", "services:\n  a:\n    image: x\n    deploy:\n      replicas: 3\n", "compose.yaml:5: services.a.deploy.replicas: there is one container of a service, and not 3 (write another service that extends this one; profiles put a service off)"},
		{"schema", "services:\n  a:\n    image: x\n    ports: 80\n", "compose.yaml:4: services.a.ports: must be a array"},
		{"bool", "services:\n  a:\n    image: x\n    privileged: maybe\n", "compose.yaml:4: services.a.privileged: invalid boolean: maybe"},
		{"syntax", "services:\n  a:\n    image: x\n   b: 1\n", "compose.yaml:4: did not find expected key"},
		{"quotes", "services:\n  a:\n    image: [x\nb: c\n", "compose.yaml:4: did not find expected ',' or ']'"},
		{"twice", "services:\n  a:\n    image: x\n    image: y\n", "compose.yaml:4: image: it is given twice in one place"},
		{"required", "services:\n  a:\n    image: ${X:?say X}\n", "compose.yaml:3: services.a.image: required variable X is missing a value: say X"},
		{"circle", "services:\n  a:\n    image: x\n    depends_on: [a]\n", "compose.yaml:4: services.a.depends_on: dependency cycle detected: a -> a"},
		{"two lives", "services:\n  a: {image: x, container_name: same}\n  b:\n    image: x\n    container_name: same\n", `compose.yaml:5: services.b.container_name: the name "same" is that of service a as well (leave container_name out)`},
		{"no variable for a secret", "services: {a: {image: x, secrets: [s]}}\nsecrets:\n  s:\n    environment: NOT_SET\n", `compose.yaml:4: secrets.s.environment: the variable "NOT_SET" is not set`},
		{"a secret elsewhere", "services:\n  a:\n    image: x\n    secrets:\n      - {source: s, target: /etc/s, mode: 0400}\nsecrets: {s: {file: compose.yaml}}\n", "compose.yaml:5: services.a.secrets[0]: a secret with an owner or mode of its own, or from a variable, is a file below /run/secrets (leave target out, and read /run/secrets/s)"},
		{"remote", "include:\n  - https://example.com/x.yaml\nservices:\n  a:\n    extends: {file: 'git@example.com:a/b', service: c}\n", `compose.yaml:2: include: "https://example.com/x.yaml" is not a file of this host (fetch it first, look at it, and include the file)
compose.yaml:5: services.a.extends: "git@example.com:a/b" is not a file of this host (fetch it first, look at it, and name the file)`},
		{"itself", "include: [compose.yaml]\nservices: {a: {image: x}}\n", `compose.yaml:1: the file includes itself: D/compose.yaml, D/compose.yaml`},
		{"names", "services:\n  a: {image: '--privileged', networks: [n], volumes: ['vol:/x']}\nnetworks: {n: {name: 'container:victim'}}\nvolumes: {vol: {name: /etc}}\n", `compose.yaml:2: services.a.image: "--privileged" is not the name of an image
compose.yaml:3: networks.n.name: "container:victim" cannot be the name of a network (letters, digits, _, . and -, the first a letter or digit)
compose.yaml:4: volumes.vol.name: "/etc" cannot be the name of a volume (at most 64 letters, digits, _, . and -, the first a letter or digit)`},
		{"labels of compose", "services:\n  a:\n    image: x\n    labels:\n      com.docker.compose.project: other\n", "compose.yaml:5: services.a.labels.com.docker.compose.project: labels that begin with com.docker.compose. are compose's own (call it otherwise)"},
		{"a driver", "services: {a: {image: x, networks: [n]}}\nnetworks:\n  n:\n    driver: overlay\n", `compose.yaml:4: networks.n.driver: there is no network driver "overlay" (network drivers are not supported; a CNI network of the site can be used with external: true)`},
		{"control characters", "services:\n  \"a\\x1b[31m\":\n    image: x\n", `compose.yaml: services additional properties 'a\x1b[31m' not allowed`},
		{"off", "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, profiles: [p], umask: 5}\n", `compose.yaml:2: services.a.depends_on[0]: it depends on "b", which is not on (put its profile on: --profile p)`},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := dir(t, map[string]string{"compose.yaml": c.text})
			_, err := load(t, d)
			if err == nil {
				t.Fatal("no error")
			}
			if got := strings.ReplaceAll(err.Error(), d, "D"); got != c.want || fail.KindOf(err) != fail.Usage {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestHostile: large, deep and endless files are refused, soon.
func TestHostile(t *testing.T) {
	bomb := "x-a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += fmt.Sprintf("x-%c: &%c [%s*%c]\n", c, c, strings.Repeat(fmt.Sprintf("*%c,", c-1), 9), c-1)
	}
	var many strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&many, "  s%d: {image: x}\n", i)
	}
	var variables strings.Builder
	for i := range 30000 {
		fmt.Fprintf(&variables, "      V%d: ${X}\n", i)
	}
	for name, text := range map[string]string{
		"a bomb of aliases":   bomb + "services: {a: {image: x, command: *j, cap_add: *j}}\n",
		"a bomb of merges":    "x-a: &a {b: 1}\n" + strings.Repeat("x-c: &a {<<: [*a, *a, *a, *a]}\n", 1000) + "services: {a: {<<: *a, image: x, b: 1}}\n",
		"itself":              "services: &a {a: *a}\n",
		"deep":                "services: " + strings.Repeat("[", 200000),
		"deep in blocks":      "services:\n" + deep(2000),
		"large":               "services: {a: {image: x}}\n#" + strings.Repeat("x", maxFile),
		"many services":       "services:\n" + many.String(),
		"many variables":      "services:\n  a:\n    image: x\n    environment:\n" + variables.String(),
		"many documents":      strings.Repeat("---\nservices: {a: {image: x}}\n", 5000),
		"a huge range":        "services: {a: {image: x, ports: ['1-65535:1-65535']}}\n",
		"numbers":             "services: {a: {image: x, ulimits: {nofile: 99999999999999999999}}}\n",
		"nothing":             "",
		"a list":              "- a\n",
		"services of nothing": "services:\n",
		"a service of text":   "services: {a: text}\n",
		"extends of a list":   "services: {a: {extends: [b]}}\n",
		"include of numbers":  "include: 5\nservices: {a: {image: x}}\n",
		"volume of text":      "services: {a: {image: x}}\nvolumes: {v: text}\n",
		"external of text":    "services: {a: {image: x}}\nvolumes: {v: {external: text, driver: d}}\n",
		"bytes":               "services: {a: {image: \xff\xfe}}\n",
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			_, err := load(t, dir(t, map[string]string{"compose.yaml": text}))
			if err == nil {
				t.Error("no error")
			} else if bad := unprintable(err.Error()); bad != "" || len(err.Error()) > 200000 {
				t.Errorf("%q of %d bytes: %q", bad, len(err.Error()), err.Error())
			}
			if took := time.Since(begin); took > 30*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func deep(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i%400) + "a:\n")
	}
	return b.String()
}

// unprintable gives the first character that a terminal would take for more
// than text.
func unprintable(s string) string {
	for _, r := range s {
		if r != '\n' && !unicode.IsPrint(r) {
			return string(r)
		}
	}
	return ""
}

// TestFilesOfOtherKinds: what is no regular file is not read, nor waited for.
func TestFilesOfOtherKinds(t *testing.T) {
	for _, text := range []string{
		"services: {a: {image: x, env_file: pipe}}\n",
		"services: {a: {image: x, label_file: pipe}}\n",
		"services: {a: {image: x, env_file: /dev/zero}}\n",
		"services: {a: {extends: {file: pipe, service: a}}}\n",
		"include: [pipe]\nservices: {a: {image: x}}\n",
		"include: [{path: other.yaml, env_file: pipe}]\nservices: {a: {image: x}}\n",
		"include: [.]\nservices: {a: {image: x}}\n",
	} {
		d := dir(t, map[string]string{"compose.yaml": text, "other.yaml": "services: {b: {image: x}}\n"})
		if err := unix.Mkfifo(filepath.Join(d, "pipe"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := load(t, d); err == nil || !strings.Contains(err.Error(), "regular file") && !strings.Contains(err.Error(), "directory") {
			t.Errorf("%s: %v", text, err)
		}
	}
	d := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(d, "compose.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := load(t, d); err == nil {
		t.Error("a pipe was read")
	}
}

func TestOptions(t *testing.T) {
	d := dir(t, map[string]string{
		"a.yaml": "services: {a: {image: 'x:$TAG', hostname: '$UNSET'}}\n", "b.yaml": "services: {a: {user: '5'}}\n",
		"my.env": "TAG=mine\n", ".env": "TAG=beside\nCOMPOSE_PROJECT_NAME=named\n", "profiles/a.yaml": "", "sub/compose.yaml": "services: {a: {image: 'x:$TAG'}}\n", "sub/.env": "TAG=sub\n",
	})
	first := func(o Options) (*Project, Service) {
		t.Helper()
		o.Dir = d
		p, err := Load(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return p, p.Services[0]
	}
	p, s := first(Options{Files: []string{"a.yaml", "b.yaml"}, ProfileDir: "profiles"})
	if p.Name != "named" || s.Image != "x:beside" || s.Flags[0].Word != "--profile="+filepath.Join(d, "profiles/a.yaml") || len(p.Files) != 2 {
		t.Errorf("%s %s %q", p.Name, s.Image, s.Flags[0].Word)
	}
	if want := []Note{{Place{"a.yaml", 1}, "the variable UNSET is not set; it is taken as empty"}}; !reflect.DeepEqual(p.Notes, want) {
		t.Errorf("%+v", p.Notes)
	}
	if _, s = first(Options{Files: []string{"a.yaml"}, EnvFiles: []string{"my.env"}}); s.Image != "x:mine" {
		t.Error(s.Image)
	}
	if _, s = first(Options{Files: []string{"a.yaml"}, Environ: []string{"TAG=set"}}); s.Image != "x:set" {
		t.Error(s.Image)
	}
	if p, _ = first(Options{Environ: []string{"COMPOSE_FILE=a.yaml:b.yaml", "COMPOSE_PROJECT_NAME=other"}, ProjectName: "flag"}); p.Name != "flag" || len(p.Files) != 2 {
		t.Errorf("%s %v", p.Name, p.Files)
	}
	if p, s = first(Options{Files: []string{"sub/compose.yaml"}, Environ: []string{"COMPOSE_PROJECT_NAME="}}); s.Image != "x:beside" && s.Image != "x:sub" || p.Dir != filepath.Join(d, "sub") {
		t.Error(s.Image, p.Dir)
	}
	for _, o := range []Options{{Files: []string{"none.yaml"}}, {Files: []string{"-"}}, {Files: []string{"https://example.com/x"}}, {Files: []string{""}}, {EnvFiles: []string{"none"}}, {Files: []string{"a.yaml"}, ProfileDir: "none"}, {ProjectName: "No Name", Files: []string{"a.yaml"}}} {
		o.Dir = d
		if _, err := Load(t.Context(), o); err == nil {
			t.Errorf("%+v", o)
		}
	}
	if _, err := Load(t.Context(), Options{Dir: "relative"}); err == nil {
		t.Error("a relative directory")
	}
	if _, err := Load(t.Context(), Options{Dir: t.TempDir()}); fail.KindOf(err) != fail.NotFound {
		t.Errorf("%v", err)
	}
}

// TestContents: what stands in no file is given to the caller to write, and is
// an error if there is nowhere to.
func TestContents(t *testing.T) {
	d := dir(t, map[string]string{"compose.yaml": "services: {a: {image: x, secrets: [s], configs: [c]}}\nsecrets: {s: {environment: SET}}\nconfigs: {c: {content: 'hello $SET'}}\n"})
	p, err := load(t, d)
	if err != nil {
		t.Fatal(err)
	}
	want := []Content{{"/content/secret-s", []byte("value"), true}, {"/content/config-c", []byte("hello value"), false}}
	if !reflect.DeepEqual(p.Services[0].Contents, want) {
		t.Errorf("%+v", p.Services[0].Contents)
	}
	if strings.Contains(p.Services[0].Hash, "value") || strings.Contains(strings.Replace(string(p.Config), "hello value", "", 1), "value") {
		t.Errorf("%s", p.Config)
	}
	if _, err := Load(t.Context(), Options{Dir: d, ProjectName: "p", Environ: []string{"SET=value"}}); err == nil || strings.Count(err.Error(), "stands in no file") != 2 {
		t.Error(err)
	}
}

func FuzzLoad(f *testing.F) {
	for _, s := range serviceSamples() {
		f.Add(prelude + "    image: x\n    " + strings.ReplaceAll(s.with, "; ", "\n    ") + "\n")
	}
	for _, s := range fileSamples() {
		f.Add(s.with)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d := dir(t, map[string]string{"compose.yaml": text, "f": "A=1\n", "base.yaml": "services: {z: {image: z}}\n"})
		p, err := load(t, d)
		if err != nil {
			var ps Problems
			if errors.As(err, &ps) && len(ps) == 0 {
				t.Error("an error without a problem")
			}
			if bad := unprintable(err.Error()); bad != "" {
				t.Errorf("%q in %q", bad, err)
			}
			return
		}
		for _, s := range p.Services {
			if strings.HasPrefix(s.Image, "-") || s.ContainerName == "" || s.Hash == "" {
				t.Errorf("%+v", s)
			}
			for _, fl := range s.Flags {
				if !strings.HasPrefix(fl.Word, "--") || fl.Place.File == "" || unprintable(fl.Key) != "" {
					t.Errorf("%+v", fl)
				}
			}
		}
		data, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var again Project
		if err := json.Unmarshal(data, &again); err != nil || !reflect.DeepEqual(p.Services, again.Services) {
			t.Errorf("JSON loses something: %v", err)
		}
		refused, err := Judge(p, policy.Site{})
		if err != nil && unprintable(err.Error()) != "" {
			t.Errorf("%q", err)
		}
		for _, r := range refused {
			if r.Place.File == "" {
				t.Errorf("%+v", r)
			}
		}
	})
}

func FuzzRawEnv(f *testing.F) {
	f.Add([]byte("A=1\n# x\nB\n C=d e\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		vars := map[string]string{}
		err := rawEnv(data, vars, map[string]string{"B": "set"})
		if err != nil && !strings.HasPrefix(err.Error(), "line ") {
			t.Error(err)
		}
		for name, value := range vars {
			if name == "" || strings.ContainsAny(name, "=\n \t") || strings.Contains(value, "\n") {
				t.Errorf("%q=%q", name, value)
			}
		}
	})
}

func TestMain(m *testing.M) {
	os.Setenv("HOME", "/home/u") // compose-go expands ~ by it
	os.Exit(m.Run())
}
