package dockerline_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/converttest"
	"github.com/safe-run/safe-run/convert/dockerline"
	"github.com/safe-run/safe-run/convert/internal/formattest"
	"github.com/safe-run/safe-run/internal/argv/argvtest"
)

func refused() []string {
	return []string{"is no name of an image", "no rules; nothing could run", "no command line says"}
}

func TestEverything(t *testing.T) {
	formattest.Everything(t, dockerline.Format(), refused()...)
}

// run runs a script with a docker that writes down its words, and gives these.
func run(t *testing.T, files []convert.File) (calls [][]string) {
	t.Helper()
	dir := t.TempDir()
	out := filepath.Join(dir, "calls")
	stub := "#!/bin/sh\n[ \"$1 $2\" != 'network inspect' ] || exit 1\nprintf '%s\\0' \"$@\" END >> " + out + "\n"
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte(stub), 0o700); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, files[0].Data, 0o600); err != nil {
		t.Fatal(err)
	}
	if msg, err := exec.Command("bash", "-n", script).CombinedOutput(); err != nil {
		t.Fatalf("bash -n: %v\n%s\n%s", err, msg, files[0].Data)
	}
	cmd := exec.Command("bash", script)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin", "HOME=/wrong"}
	if msg, err := cmd.CombinedOutput(); err != nil || len(msg) > 0 {
		t.Fatalf("bash: %v\n%s\n%s", err, msg, files[0].Data)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for call := range strings.SplitSeq(strings.TrimSuffix(string(data), "END\x00"), "END\x00") {
		calls = append(calls, strings.Split(strings.TrimSuffix(call, "\x00"), "\x00"))
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("%d files: %v", len(entries), err)
	}
	return calls
}

// TestBash: a shell hands docker the words that are meant, and runs nothing else.
func TestBash(t *testing.T) {
	o := formattest.Options()
	for _, h := range formattest.Hostile() {
		var args []string
		for _, flag := range []string{"--env=A=" + h, "--label=a=" + h, "--annotation=a=" + h, "--health-cmd=" + h, "--entrypoint=" + h, "--workdir=/" + h, "--hostname=" + h, "--log-opt=a=" + h, "--egress=none"} {
			if _, err := formattest.Line(append(slices.Clone(args), flag, "img"), o); err == nil {
				args = append(args, flag)
			}
		}
		c, err := formattest.Line(append(args, "img", h, "a"+h, ""), o)
		if err != nil {
			t.Fatal(err)
		}
		files, _, err := convert.Export(dockerline.Format(), formattest.Project(c), o)
		if err != nil {
			t.Fatal(err)
		}
		calls := run(t, files)
		if len(calls) != 1 || calls[0][0] != "run" {
			t.Fatalf("%q", calls)
		}
		words := calls[0]
		n := len(words)
		if !slices.Equal(words[n-4:], []string{"img", h, "a" + h, ""}) {
			t.Errorf("%q ends in %q", h, words[n-4:])
		}
		for _, flag := range args {
			if flag != "--egress=none" && !slices.Contains(words, flag) {
				t.Errorf("no %q in %q", flag, words)
			}
		}
	}
	p := formattest.Project(converttest.Workloads(t)[:3]...)
	p.Networks = []convert.Network{{Name: "app", Internal: true}, {Name: "there", External: true}}
	files, _, err := convert.Export(dockerline.Format(), p, converttest.Options())
	if err != nil {
		t.Fatal(err)
	}
	calls := run(t, files)
	if len(calls) != 4 || strings.Join(calls[0], " ") != "network create --label=safe-run.network=icc --internal app" {
		t.Errorf("%q", calls)
	}
	for _, words := range calls[1:] {
		for _, want := range []string{
			"--detach", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--read-only", "--tmpfs=/tmp:size=64m,noexec,nosuid,nodev,nr_inodes=65536", "--ulimit=core=0:0", "--shm-size=64m",
			"--log-opt=max-size=10m", "--log-opt=max-file=3", "--cgroupns=private",
		} {
			if !slices.Contains(words, want) {
				t.Errorf("no %s in %q", want, words)
			}
		}
	}
}

// TestRead: lines of others, as they stand in scripts and guides.
func TestRead(t *testing.T) {
	for _, c := range []struct {
		script string
		want   []string // name: flags image words
		lost   []string // parts of what is left out, in order
	}{
		{"docker run -d --name web -p 80:80 nginx:1", []string{"web: --detach=true --name=web --publish=80:80 nginx:1"}, nil},
		{"sudo -u root docker container run --rm \\\n  -it 'busy box' sh -c \"a b\"", []string{"busy-box: --rm=true --interactive=true --tty=true busy box sh|-c|a b"}, nil},
		{"$ podman run -eA=1 -e B=2 img", []string{"img: --env=A=1 --env=B=2 img"}, nil},
		{"safe-run --memory 1g img; safe-run run img2", []string{"img: --memory=1g img", "img2:  img2"}, nil},
		{"FOO=1 BAR=2 nerdctl -n ns run --net host img", []string{"img: --network=host img"}, []string{"nerdctl -n ns"}},
		{"docker run -v $HOME/x:/x -e T=$(cat t) -m 1g img", []string{"img: --memory=1g img"}, []string{"-v $HOME/x:/x", "-e T=$(cat t)"}},
		{"docker run $OPTS img", []string{"img:  img"}, []string{"$OPTS"}},
		{"docker run -d $IMAGE; docker run \"$X\" y", nil, []string{"docker run -d $IMAGE", "docker run $X y"}},
		{"docker run img sh -c \"echo $HOME\"", nil, []string{"docker run img sh"}},
		{"podman run --userns keep-id --tz=UTC --uidmap 0:1:2 --replace --name x img", []string{"x: --userns=keep-id --name=x img"}, []string{"--tz=UTC", "--uidmap=0:1:2", "--replace"}},
		{"docker run --link db --storage-opt size=1g --disable-content-trust img", []string{"img:  img"}, []string{"--link=db", "--storage-opt=size=1g"}},
		{"docker pull img\ndocker rm -f web || true\ndocker network create app\ndocker run --name A_b img\ndocker start -a x\ndocker exec x ls", []string{"a-b: --name=A_b img"}, []string{"docker network create app", "docker start -a x", "docker exec x ls"}},
		{"if x; then docker run a; else docker run a; fi", []string{"a:  a", "a-2:  a"}, nil},
		{"docker run --cap-add={A,B} ~/x img\nssh host 'docker run x'", []string{}, []string{"--cap-add={A,B}", "docker run --cap-add={A,B} ~/x", "docker run x"}},
		{"docker run --label 'safe-run.flags=[\"--egress=none\"]' --label safe-run.name=n1 --label safe-run.depends-on=db:healthy img", []string{"n1: --egress=none img"}, nil},
		{"docker run --label 'safe-run.flags=[\"img\"]' --label safe-run.x=y --label safe-run.name=A img", []string{"img:  img"}, []string{"--label=safe-run.flags=[\"img\"]", "--label=safe-run.x=y", "--label=safe-run.name=A"}},
		{"docker run --security-opt seccomp=./none.json img", []string{"img:  img"}, []string{"--security-opt=seccomp=./none.json"}},
		{"docker run ok; xargs -n 1 docker run --privileged a", []string{"ok:  ok"}, []string{"line 1: xargs -n 1 docker run --privileged a"}},
		{"docker run ok; eval docker run b", []string{"ok:  ok"}, []string{"eval docker run b"}},
		{"docker run ok; systemd-run --unit x /usr/bin/docker -H x container create --privileged c", []string{"ok:  ok"}, []string{"systemd-run"}},
		{"docker run ok; env -S \"docker run --privileged d\"", []string{"ok:  ok"}, []string{"docker run --privileged d"}},
		{"docker run ok; env -S'docker  run d'; env --split-string='docker run d' x", []string{"ok:  ok"}, []string{"-Sdocker  run d", "--split-string=docker run d"}},
		{"docker run ok; env -S 'A=1 podman container run d' docker run e", []string{"ok:  ok", "e:  e"}, []string{"A=1 podman container run d"}},
		{"docker run ok; xargs nerdctl create a; xargs safe-run run b; bash -c \"docker $X run c\"", []string{"ok:  ok"}, []string{"xargs nerdctl create a", "xargs safe-run run b", "docker $X run c"}},
		{"docker run ok; $DOCKER run --privileged f; C='docker run g'; $C", []string{"ok:  ok"}, []string{"$DOCKER run --privileged f", "docker run g"}},
		{"id=$(docker run ok); echo \"$(docker run ok)\" docker running; D=docker; apt-get install docker podman; which docker", []string{"ok:  ok", "ok-2:  ok"}, nil},
		{"docker run", nil, []string{"docker run"}},
		{"docker run -it", nil, []string{"docker run -it"}},
		{"docker -H tcp://x run --frobnicate --name=x -Z img", []string{"x: --name=x img"}, []string{"docker -H tcp://x", "--frobnicate", "-Z"}},
	} {
		found, losses, err := dockerline.Format().Read([]convert.File{{Name: "x.sh", Data: []byte(c.script)}}, formattest.Options())
		if err != nil {
			t.Errorf("%s: %v", c.script, err)
			continue
		}
		var got []string
		for _, f := range found {
			got = append(got, strings.TrimSpace(f.Name+": "+strings.Join(f.Flags, " ")+" "+f.Image+" "+strings.Join(f.Args, "|")))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.script, got, c.want)
		}
		for i, l := range losses {
			if i >= len(c.lost) || !strings.Contains(l.What, c.lost[i]) || l.Why == "" {
				t.Errorf("%s: %q", c.script, l)
			}
		}
		if len(losses) != len(c.lost) {
			t.Errorf("%s: %d losses, want %q", c.script, len(losses), c.lost)
		}
	}
	for _, bad := range []string{"echo hi", "docker run 'x", "", "docker run $(", strings.Repeat("$(", 20000) + "docker run x", strings.Repeat("a|", 20000) + "docker run x"} {
		if found, _, err := dockerline.Format().Read([]convert.File{{Data: []byte(bad)}}, formattest.Options()); err == nil {
			t.Errorf("%.40q: %+v", bad, found)
		} else {
			formattest.Printable(t, err.Error())
		}
	}
}

// TestLossesOfTheirs: a loss is told by the name the container has at last.
func TestLossesOfTheirs(t *testing.T) {
	script := "docker run --name web a\ndocker run --name web --foo=1 --security-opt seccomp=/nowhere.json b\nxargs docker run c"
	_, losses, err := dockerline.Format().Read([]convert.File{{Name: "x.sh", Data: []byte(script)}}, formattest.Options())
	if err != nil || len(losses) != 3 {
		t.Fatalf("%v %q", err, losses)
	}
	for i, want := range []string{"web-2", "web-2", ""} {
		if losses[i].Container != want {
			t.Errorf("%q is of %q, want %q", losses[i].What, losses[i].Container, want)
		}
	}
}

// FuzzRead: any text is containers or an error, and what is told of it can be
// shown.
func FuzzRead(f *testing.F) {
	for _, s := range []string{"docker run -d --name a img x", "sudo podman run $A \\\n -e B=$'\\x1b' img", "docker run \"a${b}c\" ; safe-run img", "docker run --label 'safe-run.flags=[\"--egress=none\"]' i"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) { formattest.Reads(t, dockerline.Format(), "x.sh", data) })
}

// FuzzLine: any command line that is taken is written and comes back.
func FuzzLine(f *testing.F) {
	for _, l := range argvtest.Lines() {
		f.Add(strings.ReplaceAll(strings.ReplaceAll(l, " ", "\x00"), "~", " "))
	}
	f.Fuzz(func(t *testing.T, text string) { formattest.Comes(t, dockerline.Format(), text, refused()...) })
}

// TestNotText: bytes that are no text are words of a command line, and nothing
// else.
func TestNotText(t *testing.T) {
	o := formattest.Options()
	c, err := formattest.Line([]string{"--env=A=\xff\xfe", "img", "\xc3("}, o)
	if err != nil {
		t.Fatal(err)
	}
	files, _, err := convert.Export(dockerline.Format(), formattest.Project(c), o)
	if err != nil {
		t.Fatal(err)
	}
	words := run(t, files)[0]
	if !slices.Contains(words, "--env=A=\xff\xfe") || words[len(words)-1] != "\xc3(" || bytes.Contains(files[0].Data, []byte{0xff}) {
		t.Errorf("%q", words)
	}
}
