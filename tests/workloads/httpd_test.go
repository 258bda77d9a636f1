package workloads

import (
	"strings"
	"syscall"
	"testing"
)

// TestLowPort: a port below 1024 is a capability, for a user who is not root
// too, and a server that lacks it is told.
func TestLowPort(t *testing.T) {
	httpd := []string{"busybox", "httpd", "-f", "-p", "80", "-h", "/etc"}
	args := func(flags ...string) []string {
		return append(append([]string{"--rm", "--user", "1000", "-p", "127.0.0.1:18081:80"}, flags...), httpd...)
	}

	s := here.Serve(t, args("--cap-add", "NET_BIND_SERVICE")...)
	s.Until(t, serves("http://127.0.0.1:18081/passwd", "user:x:1000:1000:"))
	all, err := s.Processes()
	if err != nil || len(all) == 0 {
		t.Fatalf("%d processes, %v", len(all), err)
	}
	for _, p := range all {
		if p.UID != 1000 || p.Status["CapBnd"] != "0000000000000400" {
			t.Errorf("%s: uid %d, CapBnd %s", p.Args, p.UID, p.Status["CapBnd"])
		}
	}
	s.Stop(syscall.SIGKILL)

	if a := here.Run(args()...); a.Code == 0 || a.Code == 125 || !strings.Contains(a.Stderr, "NET_BIND_SERVICE") {
		t.Errorf("without the capability: %s", a)
	}
}
