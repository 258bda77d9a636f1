package convert_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/converttest"
	"github.com/safe-run/safe-run/internal/argv"
	"github.com/safe-run/safe-run/internal/argv/argvtest"
	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/policy"
	"github.com/safe-run/safe-run/spec"
)

// toy is a format of JSON that cannot say some flags, and may keep them.
type toy struct {
	deaf  []string // long names it has no key for
	keeps bool
	adds  string // a flag that is read and was not written
}

type toyContainer struct {
	Name    string
	Flags   []string
	Image   string
	Args    []string
	Kept    []string
	Seccomp []byte
}

func (toy) Name() string           { return "toy" }
func (toy) Why(flag string) string { return "no " + flag }

func (f toy) Write(p convert.Project, _ []convert.Loss, _ convert.Options) ([]convert.File, []convert.Loss, error) {
	var all []toyContainer
	for _, c := range p.Containers {
		seccomp := c.Workload.Seccomp
		w := c.Workload
		w.Seccomp = nil
		w.SecurityOpts = slices.DeleteFunc(slices.Clone(w.SecurityOpts), func(s string) bool { return strings.HasPrefix(s, "seccomp=/") })
		words, err := argv.Flags(w)
		if err != nil {
			return nil, nil, err
		}
		given, rest, _ := cli.Split(words)
		t := toyContainer{Name: c.Name, Image: rest[0], Args: rest[1:]}
		for _, g := range given {
			if !slices.Contains(f.deaf, g.Long) {
				t.Flags = append(t.Flags, g.Word())
			}
		}
		if f.keeps {
			t.Kept = c.Kept
		}
		if f.adds != "" {
			t.Flags = append(t.Flags, f.adds)
		}
		if seccomp != nil {
			t.Seccomp = c.Filter
		}
		all = append(all, t)
	}
	data, err := json.Marshal(all)
	return []convert.File{{Name: "toy", Data: data}}, []convert.Loss{{What: "default", Why: "toys have none"}}, err
}

func (toy) Read(files []convert.File, _ convert.Options) (out []convert.Found, losses []convert.Loss, err error) {
	var all []toyContainer
	err = json.Unmarshal(files[0].Data, &all)
	for _, t := range all {
		out = append(out, convert.Found{Name: t.Name, Flags: slices.Concat(t.Flags, t.Kept), Image: t.Image, Args: t.Args, Seccomp: t.Seccomp})
	}
	return out, nil, err
}

// What a format cannot say is told and kept; what it neither says nor keeps,
// and what it adds, is an error.
func TestExportSaysWhatIsLost(t *testing.T) {
	o := converttest.Options()
	one := func(words ...string) convert.Project {
		return convert.Project{Containers: []convert.Container{converttest.Container(t, "web", o, words...)}}
	}
	files, losses, err := convert.Export(toy{deaf: []string{"pids-limit", "label"}, keeps: true}, one("--pids-limit=7", "--label=a=b", "--label=c=d", "-m", "1g", "img", "x"), o)
	if err != nil {
		t.Fatal(err)
	}
	want := []convert.Loss{
		{Container: "web", What: "--label=a=b", Why: "no label"},
		{Container: "web", What: "--label=c=d", Why: "no label"},
		{Container: "web", What: "--pids-limit=7", Why: "no pids-limit"},
		{What: "default", Why: "toys have none", Default: true},
	}
	if !reflect.DeepEqual(losses, want) {
		t.Errorf("%+v", losses)
	}
	if !strings.Contains(string(files[0].Data), `"Kept":["--label=a=b","--label=c=d","--pids-limit=7"]`) {
		t.Errorf("%s", files[0].Data)
	}
	for name, f := range map[string]toy{
		"drops silently":           {deaf: []string{"memory"}},
		"adds":                     {keeps: true, adds: "--cap-add=CHOWN"},
		"adds what has no meaning": {keeps: true, adds: "--bogus"},
	} {
		if _, _, err := convert.Export(f, one("-m", "1g", "img"), o); fail.KindOf(err) != fail.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Asking for a default is not asking, and the order of lists is no difference.
func TestNormal(t *testing.T) {
	o := converttest.Options()
	for _, tc := range [][2]string{
		{"--memory=512m --memory-swap=512m --pids-limit=256 --shm-size=64m --read-only --cap-drop=ALL --security-opt=no-new-privileges --tmpfs=/tmp:rw,noexec,nosuid,size=64m --network=bridge --ipc=private --pull=missing --restart=no -d --rm -it --ulimit=nofile=65536:65536 img", "-it img"},
		{"--cap-add=chown --cap-add=CAP_KILL --cap-drop=KILL --cap-add=NET_RAW img", "--cap-add=NET_RAW --cap-add=CHOWN img"},
		{"-e B=1 -e A=2 -e B=3 img", "-e A=2 -e B=3 img"},
		{"-v bb:/b -v aa:/a img", "--mount=type=volume,src=aa,dst=/a --mount=type=volume,src=bb,dst=/b img"},
		{"-p 81:81 -p 80:80 img", "-p 80:80/tcp -p 81:81 img"},
		{"--cpu-quota=150000 img", "--cpus=1.5 img"},
		{"--cpu-quota=20000 --cpu-period=10000 img", "--cpus=2 img"},
		{"--memory=1g --memory-swap=1g img", "-m 1g img"},
		{"--tmpfs=/tmp:exec img", "--tmpfs=/tmp:exec img"},
		{"--memory=512m --memory-swap=1g img", "--memory-swap=1024m --memory=512m img"},
		{"--memory=512m --memory-swap=-1 img", "--memory-swap=-1 img"},
	} {
		normal := func(line string) spec.Workload {
			return convert.Normal(argvtest.Parse(t, strings.Fields(line)...), o.Limits)
		}
		a, err1 := argv.Flags(normal(tc[0]))
		b, err2 := argv.Flags(normal(tc[1]))
		if err1 != nil || err2 != nil || !slices.Equal(a, b) {
			t.Errorf("%s\n%q %v\n%q %v", tc[0], a, err1, b, err2)
		}
	}
	for _, line := range argvtest.Lines() {
		w := argvtest.Parse(t, words(line)...)
		once := convert.Normal(w, o.Limits)
		if twice := convert.Normal(once, o.Limits); !reflect.DeepEqual(once, twice) {
			t.Errorf("%s: \n%+v\n%+v", line, once, twice)
		}
	}
}

func words(line string) []string {
	out := strings.Fields(line)
	for i := range out {
		out[i] = strings.ReplaceAll(out[i], "~", " ")
	}
	return out
}

// A profile and the flags that are left ask for what was found: of every
// command line that safe-run reads.
func TestTake(t *testing.T) {
	o := converttest.Options()
	o.Context = argvtest.Context()
	for _, line := range argvtest.Lines() {
		given, rest, err := cli.Split(words(line))
		if err != nil {
			t.Fatal(err)
		}
		found := convert.Found{Name: "web", Image: rest[0], Args: rest[1:]}
		for _, g := range given {
			if g.Long != "profile" {
				found.Flags = append(found.Flags, g.Word())
			}
		}
		if _, err := convert.Take(found, o); err != nil && !strings.Contains(err.Error(), "seccomp") {
			t.Errorf("%s: %v", line, err)
		}
	}
	took, err := convert.Take(convert.Found{
		Name: "web", Image: "nginx", Args: []string{"a b"},
		Flags: []string{"--detach", "--name=ww", "--restart=always", "--cap-add=CHOWN", "--publish=80:80", "--env=A=b c", "--memory=512m", "--cap-drop=ALL"},
	}, o)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(took.Line("./web.yaml"), "|"); got != "safe-run|run|--profile|./web.yaml|-d|-e|A=b c|--name|ww|--restart|always|nginx|a b" && got != "safe-run|run|--profile|./web.yaml|-d|-e|A=b c|--restart|always|--name|ww|nginx|a b" {
		t.Errorf("%s", got)
	}
	if text, err := took.Profile.YAML(); err != nil || !bytes.Contains(text, []byte("CHOWN")) || !bytes.Contains(text, []byte("80:80")) {
		t.Errorf("%s %v", text, err)
	}
}

// Nothing is dropped without a word, and what can be granted stays.
func TestPermitted(t *testing.T) {
	o := converttest.Options()
	c := convert.Found{Name: "x", Image: "img", Flags: []string{"--privileged", "--volume=/var/run/docker.sock:/s", "--cap-add=NET_ADMIN", "--link=a:b", "--user=5", "--bogus=1"}}
	c, losses, err := convert.Readable(c, o)
	if err != nil {
		t.Fatal(err)
	}
	c, more, refusals, err := convert.Permitted(c, policy.Site{}, o)
	if err != nil {
		t.Fatal(err)
	}
	var lost []string
	for _, l := range append(losses, more...) {
		if l.Why == "" {
			t.Errorf("%s: no reason", l.What)
		}
		lost = append(lost, l.What)
	}
	slices.Sort(lost)
	if !slices.Equal(lost, []string{"--bogus=1", "--link=a:b", "--privileged", "--volume=/var/run/docker.sock:/s"}) {
		t.Errorf("%q", lost)
	}
	if !slices.Equal(c.Flags, []string{"--cap-add=NET_ADMIN", "--user=5"}) || len(refusals) != 1 || refusals[0].Grant == "" {
		t.Errorf("%q %+v", c.Flags, refusals)
	}
}
