package main

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/fail"
)

func TestDockerGlobals(t *testing.T) {
	for _, c := range []struct {
		line string
		env  string
		rest string
		out  string
		kind fail.Kind
		set  string
	}{
		{line: "ps -a", rest: "ps -a"},
		{line: "-D -l debug --config /c run -H x", rest: "run -H x", set: "/c"},
		{line: "--log-level=warn ps", rest: "ps"},
		{line: "-c default ps", rest: "ps"},
		{line: "ps", env: "DOCKER_HOST=unix:///var/run/docker.sock", rest: "ps"},
		{line: "ps", env: "DOCKER_CONTEXT=default", rest: "ps"},
		{line: "--tls=false ps", rest: "ps"},
		{line: "", out: "help"},
		{line: "--help", out: "help"},
		{line: "-h ps", out: "help"},
		{line: "-v", out: "Docker version " + dockerVersion + ", build safe-run-" + version},
		{line: "--version ps", out: "Docker version " + dockerVersion + ", build safe-run-" + version},
		{line: "-H tcp://x ps", kind: fail.Refused},
		{line: "--host=unix:///var/run/docker.sock ps", kind: fail.Refused},
		{line: "ps", env: "DOCKER_HOST=ssh://x", kind: fail.Refused},
		{line: "ps", env: "DOCKER_CONTEXT=far", kind: fail.Refused},
		{line: "-c far ps", kind: fail.Refused},
		{line: "--tlsverify ps", kind: fail.Refused},
		{line: "--tlscert x ps", kind: fail.Refused},
		{line: "-l loud ps", kind: fail.NoStatus},
		{line: "--bogus ps", kind: fail.Usage},
		{line: "-H", kind: fail.Usage},
	} {
		var set string
		lookup := func(name string) (string, bool) {
			if v, ok := strings.CutPrefix(c.env, name+"="); ok {
				return v, true
			}
			return "", false
		}
		rest, out, err := dockerGlobals(strings.Fields(c.line), lookup, func(name, value string) error {
			set = value
			return nil
		})
		var e *fail.Error
		if c.kind != 0 {
			if !errors.As(err, &e) || e.Kind != c.kind {
				t.Errorf("%q %s: %v", c.line, c.env, err)
			}
			continue
		}
		if err != nil || strings.Join(rest, " ") != c.rest || out != c.out || set != c.set {
			t.Errorf("%q %s: %q, %q, %q, %v", c.line, c.env, rest, out, set, err)
		}
	}
}

func TestDockerWord(t *testing.T) {
	root := &cobra.Command{Use: "docker"}
	root.AddCommand(&cobra.Command{Use: "ps", Run: func(*cobra.Command, []string) {}}, group("container", ""), group("volume", ""))
	for line, kind := range map[string]fail.Kind{
		"foo": fail.NoStatus, "busybox ls": fail.NoStatus, "build .": fail.Usage, "image push x": fail.Usage,
		"container commit": fail.Usage, "swarm init": fail.Usage, "login": fail.Usage,
	} {
		if err := dockerWord(root, strings.Fields(line)); err == nil || fail.KindOf(err) != kind {
			t.Errorf("%s: %v", line, err)
		}
	}
	for _, line := range []string{"ps", "run x", "container ls", "container run x", "help", "volume ls", "container bogus"} {
		if err := dockerWord(root, strings.Fields(line)); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestManagement(t *testing.T) {
	for line, want := range map[string]string{
		"container run -d x":     "run -d x",
		"container ls -a":        "ps -a",
		"image inspect x":        "inspect --type image x",
		"image rm x":             "rmi x",
		"system prune -f":        "system prune -f",
		"volume ls":              "volume ls",
		"container":              "container",
		"run container ls":       "run container ls",
		"container exec -it x y": "exec -it x y",
	} {
		if got := strings.Join(managed(strings.Fields(line)), " "); got != want {
			t.Errorf("%s became %s", line, got)
		}
	}
	// Nothing is both offered and not.
	for _, m := range management {
		for _, words := range [][]string{{m.group}, {m.group, m.word}, m.verb} {
			if err := lacking(words); err != nil {
				t.Errorf("%q: %v", words, err)
			}
		}
	}
}

func TestVerbErrors(t *testing.T) {
	root := &cobra.Command{Use: "docker"}
	c := &cobra.Command{Use: "stop [OPTIONS] CONTAINER", Run: func(*cobra.Command, []string) {}, DisableFlagsInUseLine: true}
	root.AddCommand(c)
	for _, w := range []struct {
		n, lo, hi int
		want      string
	}{
		{0, 0, 0, ""},
		{1, 1, 1 << 30, ""},
		{0, 1, 1 << 30, "'docker stop' requires at least 1 argument\n"},
		{1, 0, 0, "'docker stop' accepts no arguments\n"},
		{1, 2, 2, "'docker stop' requires 2 arguments\n"},
		{2, 0, 1, "'docker stop' requires at most 1 argument\n"},
		{3, 1, 2, "'docker stop' requires at least 1 and at most 2 arguments\n"},
	} {
		err := countError(c, w.n, w.lo, w.hi)
		if (err == nil) != (w.want == "") || err != nil && (!strings.HasPrefix(err.Error(), w.want) || verbCode(err) != 1) {
			t.Errorf("%+v: %v", w, err)
		}
	}
	for _, e := range []struct {
		err  error
		code int
	}{
		{nil, 0},
		{flagError(c, errors.New("unknown flag: --x")), 125},
		{errors.Join(fail.New(fail.Conflict, "x")), 1},
		{fail.New(fail.Usage, "x"), 1},
		{errors.New("x"), 1},
		{&fail.Error{Kind: fail.Interrupted, Signal: 2}, 130},
	} {
		if got := verbCode(e.err); got != e.code {
			t.Errorf("%v: %d", e.err, got)
		}
	}
}

func TestWords(t *testing.T) {
	if w := strings.Split(words("image"), ", "); !slices.Contains(w, "pull") || !slices.Contains(w, "prune") {
		t.Errorf("%q", w)
	}
}
