package learn

import (
	"reflect"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/profiles"
)

func TestBase(t *testing.T) {
	line := "--rm --cap-add chown --cap-add=CAP_CHOWN -e A=b --tmpfs /x:size=4m,mode=700,uid=3 --tmpfs=/y:nr_inodes=10 -v data:/d -v /anon -v /etc/x:/x1:ro " +
		"-p 127.0.0.1:8080:80 -p 90 -m 1g --pids-limit 20 --egress none -u 5 --health-cmd true --health-interval 5s --entrypoint /e img a"
	flags, rest, err := cli.Split(strings.Fields(line))
	if err != nil || !reflect.DeepEqual(rest, []string{"img", "a"}) {
		t.Fatalf("%v, %q", err, rest)
	}
	inv, err := cli.Parse(strings.Fields(line), cli.Context{LookupEnv: func(string) (string, bool) { return "", false }, Cwd: "/"})
	if err != nil {
		t.Fatal(err)
	}
	p, left := Base(flags, inv.Workload)
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
		Limits: profiles.Limits{Memory: "1g", Pids: 20}, Health: &profiles.Health{Command: "true", Interval: "5s"},
	}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("%+v\nwanted\n%+v", p, want)
	}
	var words []string
	for _, f := range left {
		words = append(words, f.Word())
	}
	if got := strings.Join(words, " "); got != "--env=A=b --tmpfs=/y:nr_inodes=10 --entrypoint=/e" {
		t.Errorf("left: %s", got)
	}
}
