package profiles

import (
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// On the host's network nothing makes a UNIX socket that could connect to, or
// send to, an abstract address of the host.
func TestHostNetwork(t *testing.T) {
	o := amd64()
	o.HostNetwork = true
	theirs, err := ParseSeccomp(profile(`{"names":["read","socket","socketpair"],"action":"SCMP_ACT_ALLOW"}`), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []*specs.LinuxSeccomp{Seccomp(o), theirs} {
		if bad := Lint(f, o); bad != nil {
			t.Errorf("%q", bad)
		}
		for _, tc := range []struct {
			name string
			args []uint64
			want bool
		}{
			{"socket", []uint64{unix.AF_UNIX, unix.SOCK_STREAM}, false},
			{"socket", []uint64{unix.AF_UNIX, unix.SOCK_DGRAM | unix.SOCK_CLOEXEC}, false},
			{"socket", []uint64{1<<32 | unix.AF_UNIX, unix.SOCK_STREAM}, false},
			{"socket", []uint64{unix.AF_INET, unix.SOCK_STREAM}, true},
			{"socket", []uint64{unix.AF_INET6, unix.SOCK_DGRAM}, true},
			{"socket", []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE}, true},
			{"socket", []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_SOCK_DIAG}, false},
			{"socket", []uint64{unix.AF_PACKET, unix.SOCK_RAW}, false},
			{"socketpair", []uint64{unix.AF_UNIX, unix.SOCK_STREAM}, true},
			{"socketpair", []uint64{unix.AF_UNIX, unix.SOCK_STREAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK}, true},
			{"socketpair", []uint64{unix.AF_UNIX, unix.SOCK_SEQPACKET}, true},
			{"socketpair", []uint64{unix.AF_UNIX, unix.SOCK_DGRAM}, false},
			{"socketpair", []uint64{unix.AF_UNIX, unix.SOCK_DGRAM | unix.SOCK_CLOEXEC}, false},
			{"socketpair", []uint64{unix.AF_UNIX, 1<<32 | unix.SOCK_DGRAM}, false},
			{"socketpair", []uint64{unix.AF_UNIX, unix.SOCK_RAW}, false},
			{"socketpair", []uint64{unix.AF_INET, unix.SOCK_STREAM}, false},
		} {
			if got := permitted(f, tc.name, tc.args...); got != tc.want {
				t.Errorf("%s%#x: %v", tc.name, tc.args, got)
			}
		}
	}
	if len(Lint(Seccomp(amd64()), o)) == 0 {
		t.Error("the filter of a network of its own is good enough for the host's")
	}
	one, err := ParseSeccomp(profile(`{"names":["read"],"action":"SCMP_ACT_ALLOW"},{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]}`), o)
	if err != nil || permitted(one, "socket", unix.AF_UNIX) {
		t.Errorf("a file that permits UNIX sockets only: %v", err)
	}
}
