// Package converttest has workloads for tests of what is made of them.
package converttest

import (
	"fmt"
	"testing"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/internal/argv"
	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/profiles"
	"github.com/safe-run/safe-run/spec"
)

// Options are those of a host with the built-in policy and no files.
func Options() convert.Options {
	return convert.Options{
		Limits: spec.DefaultLimits(), Files: true, Program: "/usr/bin/safe-run",
		Context: cli.Context{
			Cwd: "/home/me", LookupEnv: func(string) (string, bool) { return "", false },
			ReadFile: func(path string, _ int64) ([]byte, error) { return nil, fail.New(fail.NotFound, "no file %.80q", path) },
			Profile:  profile,
		},
	}
}

// profile finds embedded profiles.
func profile(ref string, _ *cli.Invocation) (cli.Profile, error) {
	found, err := profiles.Find(ref, nil, "")
	if err != nil {
		return cli.Profile{}, err
	}
	return argv.OfProfile(found, ref, nil)
}

// variants are flags a profile is tried with.
var variants = [][]string{
	{},
	{
		"--user=1000:1000", "--publish=127.0.0.1:18080:8080", "--env=MODE=a b", "--env=EMPTY=", "--memory=256m", "--cpus=1.5", "--pids-limit=100",
		"--restart=unless-stopped", "--volume=data:/var/lib/data", "--health-cmd=true", "--health-interval=5s", "--label=tier=web", "--hostname=box", "--workdir=/srv",
	},
	{
		"--network=none", "--tmpfs=/scratch:size=8m,mode=0700,uid=5,gid=6", "--tmpfs=/bin2:exec", "--read-only", "--cap-drop=ALL", "--stop-signal=INT", "--stop-timeout=30",
		"--mount=type=bind,source=/etc/localtime,target=/etc/localtime,readonly", "--health-exec=[\"/bin/probe\",\"a b\"]", "--ulimit=nofile=1024:2048", "--entrypoint=/bin/sh",
	},
}

// Workloads are the embedded profiles, each in three variants.
func Workloads(t testing.TB) (out []convert.Container) {
	t.Helper()
	o := Options()
	for _, name := range profiles.Embedded() {
		for i, flags := range variants {
			args := []string{}
			if i == 2 {
				args = []string{"-c", "echo $HOME `id` \"%n\" 'x' \\ ; exit 0"}
			}
			out = append(out, Container(t, fmt.Sprintf("%s-%d", name, i), o, append(append([]string{"--profile=" + name}, flags...), append([]string{name + ":1"}, args...)...)...))
		}
	}
	return out
}

// Container is what a command line of run asks for.
func Container(t testing.TB, name string, o convert.Options, words ...string) convert.Container {
	t.Helper()
	inv, err := cli.Parse(words, o.Context)
	if err != nil {
		t.Fatalf("%q: %v", words, err)
	}
	return convert.Container{Name: name, Workload: inv.Workload}
}
