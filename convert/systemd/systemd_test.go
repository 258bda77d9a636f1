package systemd_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/converttest"
	"github.com/safe-run/safe-run/convert/internal/formattest"
	"github.com/safe-run/safe-run/convert/systemd"
	"github.com/safe-run/safe-run/internal/argv/argvtest"
)

func refused() []string {
	return []string{"no rules; nothing could run", "no command line says", "is not a name for a container", "exclude each other", "looks like a secret"}
}

func TestEverything(t *testing.T) {
	formattest.Everything(t, systemd.Format(), refused()...)
}

// TestVerify: systemd itself finds nothing wrong with the units.
func TestVerify(t *testing.T) {
	o := converttest.Options()
	o.Program = "/bin/true" // which has to be there
	p := formattest.Project(converttest.Workloads(t)...)
	p.Networks = []convert.Network{{Name: "app", Internal: true}}
	c, err := formattest.Line([]string{"--network=app", "--restart=on-failure:3", "--sdnotify=healthy", "--name=net", "--env=A=%n $x \"'\\ \n\x1b", "img", "%h", "$HOME", ";"}, o)
	if err != nil {
		t.Fatal(err)
	}
	p.Containers = append(p.Containers, c)
	p.Containers[1].DependsOn = []convert.Dependency{{Name: p.Containers[0].Name, Condition: "healthy"}, {Name: p.Containers[2].Name, Condition: "completed"}}
	files, losses, err := formattest.Export(t, systemd.Format(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(losses) != 1 || losses[0].Container != p.Containers[1].Name {
		t.Errorf("%q", losses)
	}
	dir := t.TempDir()
	var paths []string
	for _, f := range files {
		if f.Also {
			continue
		}
		path := filepath.Join(dir, f.Name)
		if err := os.WriteFile(path, f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	verify := exec.Command("systemd-analyze", append([]string{"verify", "--man=no"}, paths...)...)
	verify.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
	out, err := verify.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, dir) {
			t.Errorf("systemd-analyze verify: %s", line)
		}
	}
	if err != nil && strings.Contains(string(out), dir) {
		t.Error(err)
	}
	text := string(files[1].Data)
	for _, want := range []string{"Requires=" + p.Containers[0].Name + ".service", "Wants=network-online.target " + p.Containers[2].Name + ".service", "DependsOn=" + p.Containers[0].Name + ":healthy,"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if text := string(files[len(p.Containers)-1].Data); !strings.Contains(text, "ExecStartPre=-/bin/true network create --icc --internal app\n") || !strings.Contains(text, "StartLimitBurst=4") {
		t.Errorf("%s", text)
	}
}

// TestStream: several units in one stream, as on standard output, are read as
// themselves.
func TestStream(t *testing.T) {
	o := converttest.Options()
	p := formattest.Project(converttest.Workloads(t)[:4]...)
	files, _, err := convert.Export(systemd.Format(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	var one []byte
	for _, f := range files {
		one = append(append(one, f.Data...), '\n')
	}
	again := formattest.Import(t, systemd.Format(), []convert.File{{Name: "-", Data: one}}, o)
	if len(again.Containers) != len(p.Containers) {
		t.Fatalf("%d containers of %d", len(again.Containers), len(p.Containers))
	}
	second, _, err := convert.Export(systemd.Format(), again, o)
	if err != nil || formattest.Diff(files, second) != "no line" {
		t.Errorf("%v\n%s", err, formattest.Diff(files, second))
	}
}

// TestLossesOfTheirs: a loss is told by the name the container has at last, and
// by the unit's where that has several.
func TestLossesOfTheirs(t *testing.T) {
	one := "[Service]\nUser=u\nExecStart=docker run --foo=1 "
	text := "# web.service\n" + one + "a\n# a/web.service\n" + one + "b\n# two.service\n" + one + "--name=web c ; docker run --name two --security-opt seccomp=/nowhere.json d\n"
	found, losses, err := systemd.Format().Read([]convert.File{{Name: "-", Data: []byte(text)}}, formattest.Options())
	if err != nil {
		t.Fatal(err)
	}
	var names, of []string
	for _, c := range found {
		names = append(names, c.Name)
	}
	for _, l := range losses {
		of = append(of, l.Container)
	}
	if want := []string{"web", "web-2", "web-3", "two"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
	if want := []string{"web", "web", "web-2", "web-2", "two.service", "two.service", "two"}; !slices.Equal(of, want) {
		t.Errorf("%q, want %q", of, want)
	}
}

// TestRead: units of others.
func TestRead(t *testing.T) {
	unit := func(service string) string {
		return "[Unit]\nAfter=docker.service network-online.target db.service\nRequires=docker.service\n[Service]\n" + service + "\n[Install]\nWantedBy=multi-user.target\n"
	}
	for _, c := range []struct {
		unit string
		want []string
		lost []string
	}{
		{
			unit("Restart=always\nTimeoutStopSec=45\nExecStartPre=-/usr/bin/docker rm -f web\nExecStart=/usr/bin/docker run --rm --name %n \\\n  -p 80:80 -e \"A=b c\" nginx:1 -g 'daemon off;'\nExecStop=/usr/bin/docker stop web"),
			[]string{"web: --name=web.service --publish=80:80 --env=A=b c --restart=always --stop-timeout=30 nginx:1 -g|daemon off;"},
			[]string{"After=db.service", "ExecStartPre=", "ExecStop="},
		},
		{unit("ExecStart=/usr/bin/docker start -a web"), nil, []string{"After=db.service", "docker start -a"}},
		{unit("Restart=on-failure\nStartLimitBurst=3\nEnvironment=TAG=1.2 X=%h\nExecStart=podman run --rm -v %h:/x img:${TAG} $X"), nil, []string{"After=db", "-v %h:/x", "podman run --rm"}},
		{unit("Environment=TAG=1.2\nMemoryMax=1G\nUser=me\nExecStart=podman run --rm img:${TAG}\nRestart=on-abort"), []string{"web: --restart=on-failure img:1.2"}, []string{"After=db", "MemoryMax=1G", "User=me", "Restart=on-abort"}},
		{unit("ExecStart=/bin/sh -c 'docker run x'\nExecStart=/bin/true"), nil, []string{"After=db", "docker run x", "ExecStart=/bin/true"}},
		{unit("ExecStart=safe-run --name a i1 ; safe-run --name b i2"), []string{"a: --name=a i1", "b: --name=b i2"}, []string{"After=db"}},
		{unit("ExecStart=docker run --cap-add SYS_ADMIN -v /srv:/srv --foo=1 old:1\nExecStartPre=/bin/old\nEnvironment=TAG=1\nEnvironmentFile=/x\n\n# /etc/systemd/system/web.service.d/override.conf\n[Unit]\nAfter=\n[Service]\nExecStart=\nExecStartPre=\nEnvironment=\nEnvironmentFile=\nEnvironment=TAG=2\nExecStart=docker run new:$TAG"), []string{"web:  new:2"}, []string{"After=db"}},
		{unit("ExecStart=docker run a\nExecStart="), nil, []string{"After=db"}},
		{unit("ExecStart=safe-run i1\n[X-Safe-Run]\nContainer=UP\nFlags=[\"x\"]\nDependsOn=a"), []string{"i1:  i1"}, []string{"Container=UP", "Flags=", "DependsOn="}},
	} {
		found, losses, err := systemd.Format().Read([]convert.File{{Name: "web.service", Data: []byte(c.unit)}}, formattest.Options())
		if err != nil {
			t.Errorf("%s: %v", c.unit, err)
			continue
		}
		var got []string
		for _, f := range found {
			got = append(got, strings.TrimSpace(f.Name+": "+strings.Join(f.Flags, " ")+" "+f.Image+" "+strings.Join(f.Args, "|")))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.unit, got, c.want)
		}
		if len(losses) != len(c.lost) {
			t.Errorf("%s: %q, want %q", c.unit, losses, c.lost)
			continue
		}
		for i, l := range losses {
			if !strings.Contains(l.What, c.lost[i]) || l.Why == "" {
				t.Errorf("%s: %q, want %q", c.unit, l, c.lost[i])
			}
		}
	}
	two := []convert.File{{Name: "web.service", Data: []byte(unit("ExecStart=docker run web"))}, {Name: "db.service", Data: []byte("[Service]\nExecStart=docker run db")}}
	found, losses, err := systemd.Format().Read(two, formattest.Options())
	if err != nil || len(losses) > 0 || len(found) != 2 || !slices.Equal(found[0].DependsOn, []convert.Dependency{{Name: "db", Condition: "started"}}) {
		t.Errorf("%+v %q %v", found, losses, err)
	}
	for _, bad := range []string{"", "x", "[Service]\nExecStart=a \\", "[Unit]\nDescription=x"} {
		if found, _, err := systemd.Format().Read([]convert.File{{Data: []byte(bad)}}, formattest.Options()); err == nil {
			t.Errorf("%q: %+v", bad, found)
		}
	}
}

// FuzzRead: any text is containers or an error.
func FuzzRead(f *testing.F) {
	f.Add([]byte("[Service]\nExecStart=docker run --name %n -e \"a\\x41\" img ; safe-run b\nRestart=always\n"))
	f.Add([]byte("[Service]\nExecStart=safe-run i1\n[X-Safe-Run]\nContainer=a\nFlags=[\"--egress=none\"]\nDependsOn=b:healthy"))
	f.Fuzz(func(t *testing.T, data []byte) { formattest.Reads(t, systemd.Format(), "a.service", data) })
}

// FuzzLine: any command line that is taken is written and comes back.
func FuzzLine(f *testing.F) {
	for _, l := range argvtest.Lines() {
		f.Add(strings.ReplaceAll(strings.ReplaceAll(l, " ", "\x00"), "~", " "))
	}
	f.Fuzz(func(t *testing.T, text string) { formattest.Comes(t, systemd.Format(), text, refused()...) })
}
