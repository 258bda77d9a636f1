package dockerjson

import (
	"encoding/json"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/safe-run/safe-run/internal/ports"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/network"
	"github.com/safe-run/safe-run/spec"
)

var now = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

const id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestStatus(t *testing.T) {
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for _, c := range []struct {
		r             store.Record
		supervised    bool
		health        string
		state, status string
	}{
		{store.Record{Phase: store.PhaseRunning, Started: ago(5 * time.Minute)}, true, "", Running, "Up 5 minutes"},
		{store.Record{Phase: store.PhaseRunning, Started: ago(5 * time.Minute)}, true, "healthy", Running, "Up 5 minutes (healthy)"},
		{store.Record{Phase: store.PhaseRunning, Started: ago(time.Second)}, true, "starting", Running, "Up 1 second (health: starting)"},
		{store.Record{Phase: store.PhaseRunning, Started: ago(3 * time.Minute), Paused: true}, true, "healthy", Paused, "Up 3 minutes (Paused)"},
		{store.Record{Phase: store.PhaseRunning}, false, "", Dead, "Dead"},
		{store.Record{Phase: store.PhaseRestarting, ExitCode: 1, Finished: ago(3 * time.Second)}, true, "", Restarting, "Restarting (1) 3 seconds ago"},
		{store.Record{Phase: store.PhaseRestarting, ExitCode: 1, Finished: ago(3 * time.Second)}, false, "", Exited, "Exited (1) 3 seconds ago"},
		{store.Record{Phase: store.PhaseExited, ExitCode: 137, Finished: ago(2 * time.Hour), Paused: true}, false, "", Exited, "Exited (137) 2 hours ago"},
		{store.Record{Phase: store.PhaseCreating}, true, "", Created, "Created"},
		{store.Record{Phase: store.PhaseCreating, PID: 7, Started: ago(time.Second)}, true, "", Running, "Up 1 second"},
		{store.Record{Phase: store.PhaseCreating, PID: 7}, false, "", Created, "Created"},
	} {
		state := StateOf(c.r, c.supervised)
		if status := Status(c.r, state, c.health, now); state != c.state || status != c.status {
			t.Errorf("%+v: %s, %q; want %s, %q", c.r, state, status, c.state, c.status)
		}
	}
}

func TestPorts(t *testing.T) {
	any4, any6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	for _, c := range []struct {
		published []Port
		exposed   []spec.PortRange
		want      string
	}{
		{nil, nil, ""},
		{nil, []spec.PortRange{{First: 80, Last: 80, Proto: "tcp"}, {First: 443, Last: 443, Proto: "tcp"}}, "80/tcp, 443/tcp"},
		{nil, []spec.PortRange{{First: 80, Last: 82, Proto: "tcp"}}, "80-82/tcp"},
		{[]Port{{any4, 8080, 80, "tcp"}, {any6, 8080, 80, "tcp"}}, []spec.PortRange{{First: 80, Last: 80, Proto: "tcp"}}, "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"},
		{[]Port{{any4, 80, 80, "tcp"}, {any4, 81, 81, "tcp"}, {any4, 90, 90, "tcp"}}, nil, "0.0.0.0:80-81->80-81/tcp, 0.0.0.0:90->90/tcp"},
		{[]Port{{any4, 53, 53, "udp"}}, []spec.PortRange{{First: 1, Last: 65535, Proto: "tcp"}}, "0.0.0.0:53->53/udp, 1-65535/tcp"},
	} {
		if got := Ports(c.published, c.exposed); got != c.want {
			t.Errorf("%v %v: %q, want %q", c.published, c.exposed, got, c.want)
		}
	}
}

// Thousands of ranges of all ports are an image's few kilobytes.
func TestHostilePortsAreBounded(t *testing.T) {
	var all []spec.PortRange
	for range 4096 {
		all = append(all, spec.PortRange{First: 1, Last: 65535, Proto: "tcp"})
	}
	start := time.Now()
	if n := len(portNames(all)); n != 1 {
		t.Errorf("%d names", n)
	}
	_ = Ports(nil, all)
	if d := time.Since(start); d > time.Second {
		t.Errorf("took %s", d)
	}
}

func TestEnvironment(t *testing.T) {
	b, c := "b", "c"
	w := spec.Workload{Env: []spec.EnvVar{{Name: "A", Value: &b}, {Name: "GONE"}, {Name: "A", Value: &c}, {Name: "PATH"}}}
	got := environment(w, spec.Image{Env: []string{"PATH=/bin", "X=1=2"}})
	if want := []string{"A=c", "X=1=2"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestHealthcheck(t *testing.T) {
	image := spec.Healthcheck{Test: []string{"CMD", "check"}, Interval: time.Second, Retries: 2}
	got := healthcheck(spec.Healthcheck{Interval: time.Minute}, image)
	if want := (&Healthcheck{Test: []string{"CMD", "check"}, Interval: int64(time.Minute), Retries: 2}); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	if healthcheck(spec.Healthcheck{}, spec.Healthcheck{}) != nil {
		t.Error("a check out of nothing")
	}
}

func source() Source {
	memory := int64(64 << 20)
	return Source{
		Record: store.Record{
			ID: id, Name: "web", Image: "docker.io/library/busybox:latest", Digest: "sha256:aa", Phase: store.PhaseRunning, Keep: true, PID: 42,
			Created: now, Started: now, Checked: true, Block: spec.IDBlock{HostUID: 100000, HostGID: 200000, Size: 65536}, Labels: map[string]string{"a": "b"},
			Restart: spec.RestartPolicy{Name: spec.RestartOnFailure, Max: 3}, Anonymous: []string{"anon"},
		},
		Asked: &store.Asked{
			Workload: spec.Workload{
				Image: "busybox", Args: []string{"sleep", "1"}, CapAdd: []string{"net_raw", "CHOWN"}, CapDrop: []string{"chown"}, Detach: true,
				Mounts: []spec.Mount{
					{Origin: "-v", Type: spec.MountBind, Source: "/srv", Target: "/data", ReadOnly: true},
					{Origin: "-v", Type: spec.MountVolume, Source: "anon", Target: "/anon"},
					{Origin: "--mount", Type: spec.MountVolume, Source: "vol", Target: "/vol"},
					{Origin: "--tmpfs", Type: spec.MountTmpfs, Target: "/tmp"},
				},
				Networks:  []spec.NetworkUse{{Name: "bridge"}, {Name: "other", Aliases: []string{"w"}}},
				Publish:   []spec.Publish{{HostFirst: 8080, HostLast: 8080, Ports: spec.PortRange{First: 80, Last: 80, Proto: "tcp"}}},
				Resources: spec.Resources{Memory: &memory}, Health: spec.Healthcheck{Test: []string{"CMD-SHELL", "true"}},
			},
			Image: spec.Image{Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}, Exposed: []spec.PortRange{{First: 443, Last: 443, Proto: "tcp"}}},
		},
		Supervised: true, Limits: spec.DefaultLimits(), Dir: "/d", LogDir: "/d/log",
		Volume:    func(n string) string { return "/v/" + n },
		NetworkID: func(n string) string { return "id-" + n },
		Network: network.Settings{
			Leases: []network.Lease{{
				Network: "bridge", Addrs: []netip.Prefix{netip.MustParsePrefix("172.30.0.2/16"), netip.MustParsePrefix("fd00::2/64")},
				Gateways: []netip.Addr{netip.MustParseAddr("172.30.0.1"), netip.MustParseAddr("fd00::1")}, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 2},
			}},
			Ports: []ports.Mapping{{Host: netip.IPv4Unspecified(), HostPort: 8080, Port: 80, Proto: "tcp"}},
		},
	}
}

// at finds a path of JSON fields.
func at(t *testing.T, v any, path string) any {
	t.Helper()
	for f := range strings.SplitSeq(path, "|") {
		m, ok := v.(map[string]any)
		if !ok {
			if l, isList := v.([]any); isList && len(l) > 0 {
				m, _ = l[0].(map[string]any)
			}
		}
		if v, ok = m[f]; !ok {
			t.Errorf("no %s in %s", f, path)
			return nil
		}
	}
	return v
}

func decoded(t *testing.T, c Container) any {
	t.Helper()
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// What scripts read of a running container.
func TestFields(t *testing.T) {
	v := decoded(t, New(source()))
	for path, want := range map[string]any{
		"Id": id, "Name": "/web", "Path": "sleep", "Image": "sha256:aa",
		"State|Status": "running", "State|Running": true, "State|Pid": 42.0, "State|FinishedAt": "0001-01-01T00:00:00Z",
		"State|StartedAt": "2026-01-02T12:00:00Z", "State|Health|Status": "starting",
		"Config|Image": "busybox", "Config|Hostname": id[:12], "Config|AttachStdout": false,
		"HostConfig|Memory": float64(64 << 20), "HostConfig|MemorySwap": float64(64 << 20), "HostConfig|PidsLimit": 256.0,
		"HostConfig|ShmSize": float64(64 << 20), "HostConfig|ReadonlyRootfs": true, "HostConfig|Privileged": false,
		"HostConfig|RestartPolicy|Name": "on-failure", "HostConfig|RestartPolicy|MaximumRetryCount": 3.0,
		"HostConfig|NetworkMode": "bridge", "HostConfig|LogConfig|Type": "json-file", "HostConfig|NanoCpus": 0.0, "HostConfig|CpuShares": 0.0,
		"HostConfig|PortBindings|80/tcp|HostPort": "8080", "HostConfig|AutoRemove": false,
		"NetworkSettings|IPAddress": "172.30.0.2", "NetworkSettings|Gateway": "172.30.0.1", "NetworkSettings|IPPrefixLen": 16.0,
		"NetworkSettings|MacAddress": "02:00:00:00:00:02", "NetworkSettings|GlobalIPv6Address": "fd00::2",
		"NetworkSettings|Ports|80/tcp|HostIp": "0.0.0.0", "NetworkSettings|Ports|443/tcp": nil,
		"NetworkSettings|Networks|bridge|NetworkID": "id-bridge", "NetworkSettings|Networks|other|IPAddress": "",
		"Mounts|Source": "/srv", "Mounts|RW": false, "Mounts|Propagation": "rprivate",
		"SafeRun|UserNamespace|HostUID": 100000.0, "LogPath": "/d/log/json.log",
	} {
		if got := at(t, v, path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
	for path, want := range map[string]string{
		"Args": `["1"]`, "HostConfig|CapAdd": `["CAP_NET_RAW"]`, "HostConfig|CapDrop": `["ALL"]`,
		"HostConfig|SecurityOpt": `["no-new-privileges"]`, "HostConfig|Binds": `["/srv:/data:ro"]`,
		"Config|Cmd": `["sleep","1"]`, "Config|Env": `["PATH=/bin"]`, "Config|Volumes": `{"/anon":{}}`,
		"Config|ExposedPorts": `{"443/tcp":{},"80/tcp":{}}`, "HostConfig|Mounts": `[{"Source":"vol","Target":"/vol","Type":"volume"}]`,
	} {
		if b, _ := json.Marshal(at(t, v, path)); string(b) != want {
			t.Errorf("%s is %s, want %s", path, b, want)
		}
	}
}

// One that has ended has no address and no port, and none of its kept files
// need be there.
func TestFieldsOfAnEndedOne(t *testing.T) {
	s := source()
	s.Supervised, s.Record.Phase, s.Record.ExitCode, s.Record.Checked = false, store.PhaseExited, 3, false
	v := decoded(t, New(s))
	for path, want := range map[string]any{
		"State|Status": "exited", "State|ExitCode": 3.0, "State|Pid": 0.0, "NetworkSettings|IPAddress": "", "NetworkSettings|Networks|bridge|Gateway": "",
	} {
		if got := at(t, v, path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
	if m := at(t, v, "State").(map[string]any); m["Health"] != nil {
		t.Error("a health without checks")
	}
	New(Source{Record: store.Record{ID: id}})
}
