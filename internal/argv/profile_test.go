package argv

import (
	"reflect"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/profiles"
)

func TestProfile(t *testing.T) {
	line := "--rm --cap-add chown --cap-add=CAP_CHOWN -e A=b --tmpfs /x:size=4m,mode=700,uid=3 --tmpfs=/y:nr_inodes=10 -v data:/d -v /anon -v /etc/x:/x1:ro " +
		"-p 127.0.0.1:8080:80 -p 90 -m 1g --pids-limit 20 --egress none -u 5 --health-cmd true --health-interval 5s --entrypoint /e " +
		"--network front --device /dev/fuse --device /dev/null:/dev/nul:r --ulimit nofile=99 --ulimit nproc=9 --cap-drop KILL --userns host img a"
	flags, rest, err := cli.Split(strings.Fields(line))
	if err != nil || !reflect.DeepEqual(rest, []string{"img", "a"}) {
		t.Fatalf("%v, %q", err, rest)
	}
	inv, err := cli.Parse(strings.Fields(line), cli.Context{LookupEnv: func(string) (string, bool) { return "", false }, Cwd: "/"})
	if err != nil {
		t.Fatal(err)
	}
	p, left := Profile(flags, inv.Workload)
	uid := uint32(3)
	want := profiles.Profile{
		Version:      1,
		Capabilities: []profiles.Capability{{Name: "CHOWN"}},
		Writable: []profiles.Writable{
			{Path: "/x", Size: "4m", Mode: "0700", UID: &uid}, {Path: "/d", Volume: "data"}, {Path: "/anon", Volume: "anonymous"},
		},
		Binds:  []profiles.Bind{{Source: "/etc/x", Target: "/x1"}},
		Ports:  []profiles.Port{{Port: "127.0.0.1:8080:80/tcp"}, {Port: ":90/tcp"}},
		Egress: []profiles.Egress{{To: "none"}}, User: "5",
		Network: "front", UserNS: "host", Devices: []profiles.Device{{Path: "/dev/fuse", Permissions: "rwm"}, {Path: "/dev/null", Target: "/dev/nul", Permissions: "r"}},
		Limits: profiles.Limits{Memory: "1g", Pids: 20, Nofile: 99}, Health: &profiles.Health{Command: "true", Interval: "5s"},
	}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("%+v\nwanted\n%+v", p, want)
	}
	var words []string
	for _, f := range left {
		words = append(words, f.Word())
	}
	if got := strings.Join(words, " "); got != "--env=A=b --tmpfs=/y:nr_inodes=10 --entrypoint=/e --ulimit=nproc=9 --cap-drop=KILL" {
		t.Errorf("left: %s", got)
	}
}

// What a profile cannot hold is not lost, but stays a flag.
func TestProfileLeaves(t *testing.T) {
	for _, line := range []string{
		"--network=a --network=b", "--network=name=a,ip=10.0.0.9", "--health-interval=5s", "--pids-limit=-1", "--egress=all", "--ulimit=nofile=5:9",
		"--device=vendor.com/class=name",
	} {
		words := append(strings.Fields(line), "img")
		flags, _, err := cli.Split(words)
		if err != nil {
			t.Fatal(err)
		}
		inv, err := cli.Parse(words, cli.Context{LookupEnv: func(string) (string, bool) { return "", false }, Cwd: "/"})
		if err != nil {
			t.Fatal(err)
		}
		p, left := Profile(flags, inv.Workload)
		var kept []string
		for _, f := range left {
			kept = append(kept, f.Word())
		}
		if strings.Join(kept, " ") != line || !reflect.DeepEqual(p, profiles.Profile{Version: 1}) {
			t.Errorf("%s: left %q of %+v", line, kept, p)
		}
	}
}
