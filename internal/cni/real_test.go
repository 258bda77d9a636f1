package cni

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/ports"
)

// realNet is a network of real plugins.
func (s site) realNet(plugin string) {
	s.t.Helper()
	s.real("bridge", "ptp", "host-local", "portmap")
	dir := s.t.TempDir()
	s.conf("10-net.conflist", fmt.Sprintf(`{"name": "net", "cniVersion": "1.0.0", "plugins": [
		{"type": %q, "bridge": "cnitest0", "isGateway": true, "ipMasq": true, "ipMasqBackend": "nftables",
		 "ipam": {"type": "host-local", "dataDir": %q, "routes": [{"dst": "0.0.0.0/0"}],
		          "ranges": [[{"subnet": "10.88.0.0/24"}], [{"subnet": "fd88::/64"}]]},
		 "dns": {"nameservers": ["10.88.0.1"]},
		 "capabilities": {"ips": true}},
		{"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}}]}`, plugin, dir))
	s.t.Cleanup(func() {
		if left := leases(s.t, dir); len(left) > 0 {
			s.t.Errorf("host-local has leases left: %v", left)
		}
	})
}

func leases(t *testing.T, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if _, perr := netip.ParseAddr(d.Name()); perr == nil {
			out = append(out, d.Name())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return out
}

func veths(t *testing.T) (out []string) {
	t.Helper()
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Name, "veth") {
			out = append(out, l.Name)
		}
	}
	return out
}

// rulesOf are the nft rules that speak of an address or a port.
func rulesOf(t *testing.T, what ...string) (out []string) {
	t.Helper()
	b, err := exec.Command("/usr/sbin/nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		t.Fatalf("nft: %v: %s", err, b)
	}
	for line := range strings.Lines(string(b)) {
		if slices.ContainsFunc(what, func(w string) bool { return strings.Contains(line, w) }) {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

func greeting(t *testing.T, at string) string {
	t.Helper()
	c, err := net.DialTimeout("tcp", at, 3*time.Second)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(3 * time.Second))
	b := make([]byte, 10)
	n, _ := c.Read(b)
	return string(b[:n])
}

func TestRealPlugins(t *testing.T) {
	for _, plugin := range []string{"bridge", "ptp"} {
		t.Run(plugin, func(t *testing.T) {
			s := newSite(t)
			s.realNet(plugin)
			netns, end := startContainer(t)
			a := s.attachment(Attachment{
				NetNS: netns, IPs: []netip.Addr{netip.MustParseAddr("10.88.0.77")},
				Ports: []ports.Mapping{
					{Host: netip.MustParseAddr("127.0.0.1"), HostPort: 18080, Port: 80, Proto: "tcp"},
					{Host: netip.IPv4Unspecified(), HostPort: 18081, Port: 80, Proto: "tcp"},
				},
			})
			n := s.find("net")
			begin := time.Now()
			r, err := n.Setup(t.Context(), a)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("Setup: %v", time.Since(begin))
			if len(r.Addrs) != 2 || r.Addrs[0] != netip.MustParsePrefix("10.88.0.77/24") || !r.Addrs[1].Addr().Is6() ||
				len(r.Gateways) != 2 || len(r.DNS.Nameservers) != 1 || r.Interface != "eth0" {
				t.Errorf("%+v", r)
			}
			listenIn(t, netns, "0.0.0.0:80")
			for _, at := range []string{"10.88.0.77:80", "127.0.0.1:18080", "127.0.0.1:18081"} {
				if got := greeting(t, at); got != "hello" {
					t.Errorf("%s: %s", at, got)
				}
			}
			// An address that is taken is refused, and what was begun is undone.
			other := a
			other.NetNS, _ = startContainer(t)
			other.ID = strings.ReplaceAll(id, "f00", "bad")
			if _, err := n.Setup(t.Context(), other); fail.KindOf(err) != fail.HostCannot || !strings.Contains(fmt.Sprint(err), "10.88.0.77") {
				t.Errorf("an address that is taken: %v", err)
			}
			if v := veths(t); len(v) != 1 {
				t.Errorf("interfaces: %v", v)
			}
			end() // the process only
			begin = time.Now()
			if err := Teardown(t.Context(), s.Config, "net", id, "eth0"); err != nil {
				t.Fatal(err)
			}
			t.Logf("Teardown: %v", time.Since(begin))
			s.gone()
			if err := Teardown(context.Background(), s.Config, "net", id, "eth0"); err != nil {
				t.Error(err)
			}
			if got := greeting(t, "127.0.0.1:18080"); got == "hello" {
				t.Error("the port is published still")
			}
		})
	}
}

// gone fails if the plugins have left something of the container.
func (s site) gone() {
	s.t.Helper()
	s.nothingKept()
	// The kernel takes interfaces away a moment after their namespace.
	for end := time.Now().Add(3 * time.Second); len(veths(s.t)) > 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if v := veths(s.t); len(v) > 0 {
		s.t.Errorf("interfaces are left: %v", v)
	}
	if rules := rulesOf(s.t, "10.88.0.77", "18080", "18081", id); len(rules) > 0 {
		s.t.Errorf("rules are left: %q", rules)
	}
}

// Without the network namespace, as after a restart of the host.
func TestRealPluginsWithoutNamespace(t *testing.T) {
	s := newSite(t)
	s.realNet("ptp")
	netns, end := startContainer(t)
	a := s.attachment(Attachment{NetNS: netns, Ports: []ports.Mapping{{Host: netip.IPv4Unspecified(), HostPort: 18081, Port: 80, Proto: "tcp"}}})
	if _, err := s.find("net").Setup(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	end()
	k := s.kept("net", id, "eth0")
	if err := unix.Unmount(k.mount(), 0); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Teardown(t.Context(), s.Config, "net", id, "eth0"); err != nil {
			t.Fatal(err)
		}
	}
	s.nothingKept()
	if rules := rulesOf(t, "18081"); len(rules) > 0 {
		t.Errorf("rules are left: %q", rules)
	}
}
