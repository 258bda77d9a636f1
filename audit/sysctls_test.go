package audit

import (
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// TestSysctls: what the runtime wrote is what was asked for, in the namespaces
// of the container and not in this process's.
func TestSysctls(t *testing.T) {
	dir, bind := bundle(t)
	s := hardened(bind, "/bin/busybox", "sleep", "60")
	s.Linux.Sysctl = map[string]string{
		"net.ipv4.ping_group_range": "0 65535", "net.core.somaxconn": "77", "net.ipv4.ip_local_port_range": "20000\t30000",
		"kernel.shmmni": "123", "fs.mqueue.msg_max": "7", "user.max_user_namespaces": "0",
	}
	c := create(t, dir, s)
	if err := Attest(c.pid, s, Want{}); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"net.ipv4.ping_group_range": "0 65534", "net.core.somaxconn": "78", "net.ipv4.ip_local_port_range": "20000 30001",
		"kernel.shmmni": "124", "fs.mqueue.msg_max": "8", "net.core.no_such_setting": "1",
	} {
		other := copyOf(t, s)
		other.Linux.Sysctl = map[string]string{name: value}
		found := differences(t, Attest(c.pid, other, Want{}))
		if len(found) != 1 || !strings.Contains(found[0].What, name) {
			t.Errorf("%s=%s: %v", name, value, found)
		}
	}
	// What is the host's, where the container has no namespace of that kind, and
	// what is not compared.
	a := &attestation{dir: -1, spec: &specs.Spec{Linux: &specs.Linux{Sysctl: map[string]string{
		"net.core.somaxconn": "1", "kernel.shmmni": "2", "user.x": "3", "net.ipv4.tcp_congestion_control": "none",
	}}}}
	if err := a.sysctls(); err != nil || len(a.diffs) > 0 {
		t.Error(err, a.diffs)
	}
}

func BenchmarkSysctls(b *testing.B) {
	dir, bind := bundle(b)
	s := hardened(bind, "/bin/busybox", "sleep", "60")
	s.Linux.Sysctl = map[string]string{"net.ipv4.ping_group_range": "0 65535", "net.ipv6.conf.all.accept_ra": "0", "net.ipv6.conf.default.accept_ra": "0", "user.max_user_namespaces": "0"}
	c := create(b, dir, s)
	for b.Loop() {
		if err := Attest(c.pid, s, Want{}); err != nil {
			b.Fatal(err)
		}
	}
}
