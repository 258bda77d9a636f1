package kubernetes

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/internal/argv/argvtest"
	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
)

// Flags of several command lines together are exported as those of one.
func TestTogether(t *testing.T) {
	r := rand.New(rand.NewPCG(seed, 2))
	var all []string
	for _, l := range append(argvtest.Lines(), "--user=1000:7 img", "--tmpfs=/run:size=1m img", "--volume=data:/data img", "--publish=80:80 --publish=127.0.0.1:80:80 --publish=81:80 img", "--publish=10.0.0.1:80:80 img",
		"--expose=80-82 img", "--egress=10.0.0.0/8:1-9,169.254.1.1:80,x.example:5 img", "--egress=0.0.0.0/0:443 img", "--health-start-period=9s --health-on-failure=kill img", "--health-on-failure=restart img", "--no-healthcheck img",
		"--volume=Data_1:/d1 --volume=/x:/y:ro img", "--network=none img", "--stop-timeout=10 --memory-reservation=512m img", "--env=TOKEN=x --env=B=$(A) img", "--platform=linux/arm64 img", "--restart=on-failure:2147483647 img") {
		flags, _, err := cli.Split(words(l))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range flags {
			all = append(all, f.Word())
		}
	}
	tried := 0
	for range count {
		o := lineOptions()
		o.RuntimeDefaultSeccomp = r.IntN(8) > 0
		var line []string
		for range 1 + r.IntN(8) {
			line = append(line, all[r.IntN(len(all))])
		}
		line = append(line, "img", "$(A)")
		w, err := parse(line, o)
		if err != nil {
			continue
		}
		tried++
		kind := []string{"", "", "deployment", "job", "pod"}[r.IntN(5)]
		p := convert.Project{Containers: []convert.Container{{Name: "web", Workload: w}}}
		if r.IntN(2) == 0 {
			p.Networks = []convert.Network{{Name: "a", Internal: r.IntN(2) == 0}, {Name: "b"}, {Name: "Web"}}
		}
		files, _, err := convert.Export(Format(kind), p, o)
		if err != nil {
			if fail.KindOf(err) != fail.Usage {
				t.Errorf("%q as %q: %v", line, kind, err)
			}
			continue
		}
		first, second := again(t, Format(kind), p, o)
		if !sameFiles(first, second) || !slices.EqualFunc(first, files, func(a, b convert.File) bool { return string(a.Data) == string(b.Data) }) {
			t.Errorf("%q as %q:\n%s\n%s", line, kind, first[0].Data, second[0].Data)
		}
		check(t, decode(t, files[0].Data))
	}
	if tried < count/4 {
		t.Errorf("only %d lines were tried", tried)
	}
}

const (
	seed  = 1
	count = 100
)
