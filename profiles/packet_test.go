package profiles

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Packet sockets need both: NET_RAW is free, NET_ADMIN is the site's to grant.
func TestPacketSockets(t *testing.T) {
	for _, tc := range []struct {
		caps []string
		want bool
	}{
		{nil, false},
		{[]string{"CAP_NET_RAW"}, false},
		{[]string{"CAP_NET_ADMIN"}, false},
		{[]string{"CAP_NET_ADMIN", "CAP_NET_RAW"}, true},
	} {
		o := amd64()
		o.Capabilities = tc.caps
		f := Seccomp(o)
		if bad := Lint(f, o); bad != nil {
			t.Errorf("%q: %q", tc.caps, bad)
		}
		if got := permitted(f, "socket", unix.AF_PACKET, unix.SOCK_RAW); got != tc.want {
			t.Errorf("%q: %v", tc.caps, got)
		}
		if permitted(f, "socketpair", unix.AF_PACKET, unix.SOCK_RAW) || permitted(f, "socket", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER) {
			t.Errorf("%q open more than packet sockets", tc.caps)
		}
	}
}
