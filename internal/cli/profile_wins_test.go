package cli

import (
	"fmt"
	"testing"

	"github.com/safe-run/safe-run/spec"
)

// What --complain allows is never had again.
func TestComplainKeepsNothing(t *testing.T) {
	for _, args := range [][]string{{"--complain", "img"}, {"--complain", "--rm=false", "img"}, {"--rm", "img"}} {
		if !mustParse(t, args...).Workload.Remove {
			t.Errorf("%q: the container stays", args)
		}
	}
}

// What is typed is never weakened by a profile.
func TestProfileFlagsWin(t *testing.T) {
	asked := Profile{
		Name: "p", Shown: "p", Seccomp: []byte(`{}`), AppArmor: &spec.AppArmorRules{},
		Flags: []string{
			"--cap-add=CHOWN", "--cap-add=NET_RAW", "--tmpfs=/data:exec", "--device=/dev/fuse", "--publish=0.0.0.0:80:80", "--network=bridge",
			"--egress=192.0.2.1:443", "--sysctl=net.ipv4.ip_unprivileged_port_start=1", "--user=0", "--userns=host", "--memory=4g",
			"--pids-limit=4000", "--ulimit=nofile=4096:4096", "--health-cmd=true",
		},
	}
	for _, c := range []struct {
		typed []string
		of    func(spec.Workload) any
		want  string
	}{
		{nil, func(w spec.Workload) any { return []any{w.CapAdd, w.User, w.Profile, w.SecurityOpts} }, "[[CHOWN NET_RAW] 0 p [seccomp=profile]]"},
		{[]string{"--cap-drop=cap_chown"}, func(w spec.Workload) any { return w.CapAdd }, "[NET_RAW]"},
		{[]string{"-v", "/srv:/data/:ro"}, func(w spec.Workload) any { return []any{len(w.Mounts), w.Mounts[0].Source} }, "[1 /srv]"},
		{[]string{"--device=/dev/null:/dev/fuse:r"}, func(w spec.Workload) any { return []any{len(w.Devices), w.Devices[0].Host} }, "[1 /dev/null]"},
		{[]string{"-p", "127.0.0.1:8080:80"}, func(w spec.Workload) any { return []any{len(w.Publish), w.Publish[0].HostIP} }, "[1 127.0.0.1]"},
		{[]string{"--network=none"}, func(w spec.Workload) any { return []any{len(w.Networks), w.Networks[0].Name, len(w.Egress.Allow)} }, "[1 none 0]"},
		{[]string{"--egress=none"}, func(w spec.Workload) any { return []any{w.Egress.Mode == spec.EgressNone, len(w.Egress.Allow)} }, "[true 0]"},
		{[]string{"--sysctl=net/ipv4/ip_unprivileged_port_start=9"}, func(w spec.Workload) any { return w.Sysctls }, "map[net.ipv4.ip_unprivileged_port_start:9]"},
		{[]string{"-u5:5", "-m64m", "--pids-limit=20", "--userns="}, func(w spec.Workload) any { return []any{w.User, w.UserNSMode} }, "[5:5 ]"},
		{[]string{"--no-healthcheck"}, func(w spec.Workload) any { return w.Health.Test }, "[NONE]"},
		{[]string{"--security-opt=seccomp=builtin", "--security-opt=apparmor=site"}, func(w spec.Workload) any { return []any{w.Seccomp == nil, w.AppArmor == nil, w.SecurityOpts} }, "[true true [seccomp=builtin apparmor=site]]"},
	} {
		inv, err := Parse(append(append([]string{"--profile=p"}, c.typed...), "img"), Context{
			Cwd: "/", LookupEnv: func(string) (string, bool) { return "", false },
			Profile: func(string, *Invocation) (Profile, error) { return asked, nil },
		})
		if err != nil {
			t.Errorf("%q: %v", c.typed, err)
			continue
		}
		if got := fmt.Sprint(c.of(inv.Workload)); got != c.want {
			t.Errorf("%q: %s, not %s", c.typed, got, c.want)
		}
	}
}
