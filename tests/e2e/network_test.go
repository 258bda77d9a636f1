package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/tests/harness"
)

// TestPublishLoopback: a port published on 127.0.0.1 is for this host alone,
// by whatever way a neighbour sends the packet.
func TestPublishLoopback(t *testing.T) {
	before := take(t)
	t.Cleanup(func() { settle(t, before) })
	b := beside(t, answers("http://127.0.0.1:18080/", nil), web("-p", "127.0.0.1:18080:80")...)
	if strings.Contains(b.stderr.String(), "all addresses") {
		t.Errorf("a loopback port is told as open: %s", b.stderr)
	}
	if body, err := harness.Get("http://"+harness.HostAddr+":18080/", here.lan); err == nil {
		t.Errorf("the neighbour got %q from a port of 127.0.0.1", body)
	}
	address := strings.TrimSpace(addressOf(t, b.id))
	for _, route := range []string{address + "/32", "127.0.0.1/32"} {
		// A hostile neighbour routes the container's address, or even loopback, to this host.
		add := exec.Command("sh", "-c", "sysctl -qw net.ipv4.conf.all.route_localnet=1; ip route replace "+route+" via "+harness.HostAddr+" dev wire; ip route del local 127.0.0.1 table local 2>/dev/null; true")
		add.Args = append(here.lan.Command("true").Args[:2], add.Args...)
		add.Path = "/usr/bin/nsenter"
		if out, err := add.CombinedOutput(); err != nil {
			t.Fatalf("%s: %s", err, out)
		}
	}
	t.Cleanup(func() {
		_ = here.lan.Command("sh", "-c", "ip route del "+address+"/32; ip route del 127.0.0.1/32 dev wire; ip route add local 127.0.0.1 dev lo table local").Run()
	})
	for _, url := range []string{"http://" + address + ":80/", "http://127.0.0.1:18080/"} {
		if body, err := harness.Get(url, here.lan); err == nil {
			t.Errorf("the neighbour got %q from %s", body, url)
		}
	}
	if _, err := harness.Get("http://127.0.0.1:18080/", nil); err != nil {
		t.Errorf("the host itself: %v", err)
	}
}

// addressOf reads a container's IPv4 address from its own hosts file.
func addressOf(t *testing.T, id string) string {
	t.Helper()
	b, err := os.ReadFile(here.root + "/containers/" + id + "/hosts")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines(string(b)) {
		if f := strings.Fields(l); len(f) > 1 && f[1] == id[:12] && net.ParseIP(f[0]).To4() != nil {
			return f[0]
		}
	}
	t.Fatalf("no address in %s", b)
	return ""
}

// TestPublishForms: every way to publish, from the host, from a neighbour and
// from a container.
func TestPublishForms(t *testing.T) {
	before := take(t)
	t.Cleanup(func() { settle(t, before) })
	b := beside(t, answers("http://127.0.0.1:18081/", nil), web("-p", "18081:80", "-p", harness.HostAddr+":18082:80", "-p", "[::1]:18083:80/tcp", "-p", "18090-18092:80-82", "-p", "published=18084,target=80")...)
	if !strings.Contains(b.stderr.String(), "all addresses") {
		t.Errorf("a port open to all is not told: %q", b.stderr)
	}
	for _, c := range []struct {
		url  string
		from *harness.Lan
		ok   bool
	}{
		{"http://127.0.0.1:18081/", nil, true},
		{"http://" + harness.HostAddr + ":18081/", nil, true},
		{"http://[::1]:18081/", nil, true},
		{"http://[" + harness.HostAddr6 + "]:18081/", nil, true},
		{"http://" + harness.HostAddr + ":18081/", here.lan, true},
		{"http://[" + harness.HostAddr6 + "]:18081/", here.lan, true},
		{"http://127.0.0.1:18082/", nil, false},
		{"http://" + harness.HostAddr + ":18082/", nil, true},
		{"http://" + harness.HostAddr + ":18082/", here.lan, true},
		{"http://[::1]:18083/", nil, true},
		{"http://127.0.0.1:18083/", nil, false},
		{"http://[" + harness.HostAddr6 + "]:18083/", here.lan, false},
		{"http://" + harness.HostAddr + ":18090/", here.lan, true},
		{"http://" + harness.HostAddr + ":18091/", here.lan, false}, // nobody listens on 81 inside
		{"http://" + harness.HostAddr + ":18084/", here.lan, true},
	} {
		if body, err := harness.Get(c.url, c.from); (err == nil && body == "served\n") != c.ok {
			t.Errorf("%s (from the neighbour: %v): %q, %v; wanted reached = %v", c.url, c.from != nil, body, err, c.ok)
		}
	}
	// A container reaches what is published to all, as docker has it.
	if r := sh("timeout 3 wget -q -O - http://" + harness.HostAddr + ":18081/"); r.stdout != "served\n" {
		t.Errorf("another container: %s", r)
	}
	// The container reaches itself by its published port (hairpin).
	r := sh("echo own >/tmp/index.html; httpd -p 8000 -h /tmp; sleep 0.2; timeout 3 wget -q -O - http://"+harness.HostAddr+":18095/", "-p", "18095:8000")
	if r.stdout != "own\n" {
		t.Errorf("hairpin: %s", r)
	}
}

// TestPublishUDP: a datagram goes in and its answer out, by each address.
func TestPublishUDP(t *testing.T) {
	before := take(t)
	t.Cleanup(func() { settle(t, before) })
	beside(t, nil, "-p", "18085:9000/udp", "safe-run-probe", "echo-udp", ":9000")
	for _, to := range []string{"127.0.0.1", "[::1]", harness.HostAddr, "[" + harness.HostAddr6 + "]"} {
		if err := retry(func() error { return ping(to + ":18085") }); err != nil {
			t.Errorf("%s: %v", to, err)
		}
	}
	if err := here.lan.Inside(func() error { return retry(func() error { return ping(harness.HostAddr + ":18085") }) }); err != nil {
		t.Errorf("from the neighbour: %v", err)
	}
}

// ping sends a datagram and waits for it to come back.
func ping(to string) error {
	c, err := net.Dial("udp", to)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patient(200 * time.Millisecond)))
	if _, err := c.Write([]byte("ping")); err != nil {
		return err
	}
	got := make([]byte, 16)
	n, err := c.Read(got)
	if err == nil && string(got[:n]) != "ping" {
		err = fmt.Errorf("%q", got[:n])
	}
	return err
}

// TestPublishRandom: -P and a port without a number take free ones.
func TestPublishRandom(t *testing.T) {
	before := take(t)
	t.Cleanup(func() { settle(t, before) })
	b := beside(t, nil, web("--expose", "80", "-P")...)
	_ = b
	var port string
	for range 100 {
		out, _ := exec.Command("sh", "-c", "ss -Hltn | awk '{print $4}' | grep -o '0.0.0.0:[0-9]*' | cut -d: -f2").Output()
		for _, p := range strings.Fields(string(out)) {
			if p != "2222" {
				port = p
			}
		}
		if port != "" {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := retry(answers("http://"+harness.HostAddr+":"+port+"/", here.lan)); err != nil {
		t.Errorf("port %q: %v", port, err)
	}
}

func retry(f func() error) (err error) {
	for range 50 {
		if err = f(); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// TestPortInUse: the error names who has the port, and nothing is made.
func TestPortInUse(t *testing.T) {
	before := take(t)
	t.Cleanup(func() { settle(t, before) })
	for _, p := range []string{"2222:80", "127.0.0.1:2222:80", harness.HostAddr + ":2222:80"} {
		r := run("--rm", "-p", p, "busybox", "true")
		if r.code != 125 || !strings.Contains(r.stderr, "2222") || !strings.Contains(r.stderr, "in use") {
			t.Errorf("-p %s: %s", p, r)
		}
	}
	beside(t, answers("http://127.0.0.1:18086/", nil), web("--name", "holder", "-p", "18086:80")...)
	r := run("--rm", "-p", "18086:80", "busybox", "true")
	// The search for the name gives up after a second.
	if r.code != 125 || !strings.Contains(r.stderr, "container holder") && slowness == 1 {
		t.Errorf("a port of another container: %s", r)
	}
	if r := run("--rm", "-p", "192.0.2.77:18087:80", "busybox", "true"); r.code != 125 {
		t.Errorf("an address that is not the host's: %s", r)
	}
}

// TestEgress: out by NAT, in v4 and v6; not to metadata, not to the host.
func TestEgress(t *testing.T) {
	before := take(t)
	wget := "timeout 2 wget -q -O - http://%s/"
	for _, a := range []string{harness.LanAddr, harness.WorldAddr, "[" + harness.WorldAddr6 + "]"} {
		if r := sh(fmt.Sprintf(wget, a)); r.code != 0 || !strings.HasPrefix(r.stdout, "you are ") {
			t.Errorf("%s is not reached: %s", a, r)
		}
	}
	if r := sh(fmt.Sprintf(wget, harness.WorldAddr)); strings.TrimSpace(r.stdout) != "you are "+harness.HostAddr {
		t.Errorf("not masqueraded: %s", r)
	}
	for _, a := range harness.Metadata() {
		if strings.Contains(a, ":") {
			a = "[" + a + "]"
		}
		if _, err := harness.Get("http://"+a+"/", nil); err != nil {
			t.Errorf("the host itself does not reach %s: %v", a, err)
		}
		r := sh(fmt.Sprintf(wget, a))
		if r.code == 0 || r.took > patient(1500*time.Millisecond) {
			t.Errorf("metadata %s: wanted a quick refusal, took %s: %s", a, r.took, r)
		}
	}
	// Octal and other spellings are the same packets.
	if r := sh(fmt.Sprintf(wget, "0251.0376.0251.0376")); r.code == 0 {
		t.Errorf("metadata in octal: %s", r)
	}
	// The host's own service, by each of the host's addresses.
	script := "gw=$(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p'); for a in $gw " + harness.HostAddr + " " + harness.LanAddr + "; do timeout 2 wget -q -O /dev/null http://$a:2222/ && echo reached $a; done; true"
	if r := sh(script); r.stdout != "" || r.code != 0 {
		t.Errorf("a service of the host: %s", r)
	}
	settle(t, before)
}

// TestNeighbours: containers do not reach each other but on a network made for it.
func TestNeighbours(t *testing.T) {
	before := take(t)
	t.Cleanup(func() { settle(t, before) })
	beside(t, answers("http://127.0.0.1:18088/", nil), web("--name", "closed", "-p", "127.0.0.1:18088:80")...)
	all, err := exec.Command("sh", "-c", "cat "+here.root+"/containers/*/hosts | awk '/^10\\.|^172\\.|^fd/ {print $1}'").Output()
	if err != nil || len(strings.Fields(string(all))) < 2 {
		t.Fatalf("addresses: %q, %v", all, err)
	}
	for _, a := range strings.Fields(string(all)) {
		if strings.Contains(a, ":") {
			a = "[" + a + "]"
		}
		if r := sh("timeout 1 wget -q -O - http://"+a+"/", "--cap-add", "NET_RAW"); r.code == 0 {
			t.Errorf("a container reached another at %s: %s", a, r)
		}
	}

	for name, flags := range map[string][]string{"e2e-icc": {"--icc"}, "e2e-in": {"--icc", "--internal"}, "e2e-shut": {"--internal"}} {
		if r := run(append(append([]string{"network", "create", "--ipv6"}, flags...), name)...); r.code != 0 {
			t.Fatal(r)
		}
		t.Cleanup(func() {
			if r := run("network", "rm", name); r.code != 0 {
				t.Error(r)
			}
		})
	}
	for _, n := range []string{"e2e-icc", "e2e-in"} {
		b := beside(t, nil, append([]string{"--name", "open-" + n, "--network", n, "--network-alias", "alias." + n}, web()...)...)
		for _, name := range []string{"open-" + n, "alias." + n, b.id[:12], "OPEN-" + n} {
			if err := retry(func() error {
				if r := sh("timeout 2 wget -q -O - http://"+name+"/", "--network", n); r.stdout != "served\n" {
					return fmt.Errorf("%s", r)
				}
				return nil
			}); err != nil {
				t.Errorf("%s on %s: %v", name, n, err)
			}
		}
		b.end()
	}
	if r := sh("timeout 2 wget -q -O - http://"+harness.WorldAddr+"/", "--network", "e2e-icc"); r.code != 0 {
		t.Errorf("no way out of an icc network: %s", r)
	}
	for _, n := range []string{"e2e-in", "e2e-shut"} {
		for _, try := range []string{
			"timeout 1 wget -q -O - http://" + harness.WorldAddr + "/", "timeout 1 wget -q -O - http://[" + harness.WorldAddr6 + "]/", "timeout 1 wget -q -O - http://" + harness.LanAddr + "/",
			"timeout 1 wget -q -O - http://" + harness.HostAddr + ":2222/", "echo x | nc -u -w 1 " + harness.LanAddr + " 7 | grep x", "timeout 3 nslookup example.org",
			"timeout 3 nslookup example.org " + harness.LanAddr, "ip route add default via $(ip -o -4 addr show eth0 | awk '{print $4}' | sed 's/[0-9]*\\/.*/1/')",
		} {
			if r := sh(try, "--network", n); r.code == 0 {
				t.Errorf("a way out of %s: %q: %s", n, try, r)
			}
		}
	}
}

// TestNetworkVerbs: what scripts read of the network commands.
func TestNetworkVerbs(t *testing.T) {
	r := run("network", "create", "--subnet", "10.77.0.0/24", "e2e-verbs")
	if r.code != 0 || len(strings.TrimSpace(r.stdout)) != 64 {
		t.Fatal(r)
	}
	t.Cleanup(func() { run("network", "rm", "e2e-verbs") })
	for _, args := range [][]string{
		{"create", "e2e-verbs"},
		{"create", "host"},
		{"create", "none"},
		{"create", "bridge"},
		{"create", "a/b"},
		{"create", "../x"},
		{"create", "--subnet", "10.77.0.128/25", "overlap"},
		{"create", "--subnet", "198.51.100.0/24", "hosts-own"},
		{"create", "--subnet", "10.0.0.0", "nomask"},
		{"rm", "bridge"},
		{"rm", "nosuch"},
		{"inspect", "nosuch"},
	} {
		if r := run(append([]string{"network"}, args...)...); r.code != 125 && r.code != 1 || r.stderr == "" {
			t.Errorf("network %v: %s", args, r)
		}
	}
	if r := run("network", "ls"); !strings.Contains(r.stdout, "e2e-verbs") || !strings.Contains(r.stdout, "10.77.0.0/24") {
		t.Error(r)
	}
	if r := run("network", "inspect", "e2e-verbs"); !strings.Contains(r.stdout, `"Subnet": "10.77.0.0/24"`) {
		t.Error(r)
	}
	a := sh("ip -o -4 addr show eth0", "--network", "e2e-verbs", "--ip", "10.77.0.9")
	if !strings.Contains(a.stdout, "10.77.0.9/24") {
		t.Error(a)
	}
	if m := sh("cat /sys/class/net/eth0/address", "--network", "e2e-verbs", "--mac-address", "02:00:00:00:12:34"); m.stdout != "02:00:00:00:12:34\n" {
		t.Error(m)
	}
	beside(t, nil, "--network", "e2e-verbs", "--ip", "10.77.0.10", "--mac-address", "02:00:00:00:00:aa", "busybox", "sleep", "60")
	for _, bad := range [][]string{
		{"--ip", "10.77.0.10"},
		{"--ip", "10.77.0.1"},
		{"--ip", "10.77.0.0"},
		{"--ip", "10.77.0.255"},
		{"--ip", "10.78.0.2"},
		{"--mac-address", "02:00:00:00:00:aa"},
		{"--mac-address", "01:00:5e:00:00:01"},
		{"--mac-address", "ff:ff:ff:ff:ff:ff"},
	} {
		if r := sh("true", append([]string{"--network", "e2e-verbs"}, bad...)...); r.code != 125 {
			t.Errorf("%v: %s", bad, r)
		}
	}
	if r := run("network", "rm", "e2e-verbs"); r.code == 0 {
		t.Errorf("a network in use was removed: %s", r)
	}
}

// TestJoinNetwork: container:NAME shares addresses, ports and names.
func TestJoinNetwork(t *testing.T) {
	before := take(t)
	t.Cleanup(func() { settle(t, before) })
	beside(t, answers("http://127.0.0.1:18089/", nil), web("--name", "pod", "--hostname", "podhost", "-p", "127.0.0.1:18089:80")...)
	r := sh("hostname; timeout 2 wget -q -O - http://127.0.0.1/; cat /sys/class/net/eth0/operstate; grep -c podhost /etc/hosts", "--network", "container:pod")
	if r.code != 0 || r.stdout != "podhost\nserved\nup\n2\n" && r.stdout != "podhost\nserved\nup\n1\n" {
		t.Error(r)
	}
	for _, bad := range [][]string{{"-p", "1:1"}, {"--hostname", "x"}, {"--dns", "1.1.1.1"}, {"--cap-add", "NET_BIND_SERVICE"}} {
		if r := sh("true", append([]string{"--network", "container:pod"}, bad...)...); r.code != 125 {
			t.Errorf("%v: %s", bad, r)
		}
	}
	for _, ref := range []string{"nosuch", "../x", ""} {
		if r := sh("true", "--network", "container:"+ref); r.code != 125 {
			t.Errorf("container:%s: %s", ref, r)
		}
	}
}

// TestEgressList: only what is listed is reached, by address and by name.
func TestEgressList(t *testing.T) {
	before := take(t)
	try := "for u in http://" + harness.WorldAddr + "/ http://" + harness.WorldAddr + ":8443/ http://" + harness.LanAddr + "/ http://[" + harness.WorldAddr6 + "]/; do timeout 1 wget -q -O /dev/null $u && echo $u; done; true"
	for _, c := range []struct{ egress, want string }{
		{"all", "http://203.0.113.5/\nhttp://203.0.113.5:8443/\nhttp://198.51.100.2/\nhttp://[fd53:113::5]/\n"},
		{"none", ""},
		{harness.WorldAddr + ":80", "http://203.0.113.5/\n"},
		{harness.WorldAddr + ":8000-9000", "http://203.0.113.5:8443/\n"},
		{"203.0.113.0/24:*", "http://203.0.113.5/\nhttp://203.0.113.5:8443/\n"},
		{"[" + harness.WorldAddr6 + "]:80," + harness.LanAddr + ":80", "http://198.51.100.2/\nhttp://[fd53:113::5]/\n"},
		{harness.WorldAddr + ":80/udp", ""},
		{"0.0.0.0/0:80", "http://203.0.113.5/\nhttp://198.51.100.2/\n"},
	} {
		if r := sh(try, "--egress", c.egress); r.code != 0 || r.stdout != c.want {
			t.Errorf("--egress %s: wanted %q, got %s", c.egress, c.want, r)
		}
	}
	settle(t, before)
}

// TestEgressNames: a name of the list leads where it leads, other names
// nowhere: not even to the name server.
func TestEgressNames(t *testing.T) {
	before := take(t)
	try := func(name string) string { return "timeout 4 wget -q -O - http://" + name + "/" }
	flags := []string{"--dns", harness.LanAddr, "--egress", "listed.test:80,rebind.test:80"}
	if r := sh(try("listed.test"), flags...); r.stdout != "you are "+harness.HostAddr+"\n" {
		t.Errorf("a listed name: %s", r)
	}
	if r := sh(try("LISTED.test"), flags...); r.stdout != "you are "+harness.HostAddr+"\n" {
		t.Errorf("a listed name in capitals: %s", r)
	}
	for _, n := range []string{"other.test", "rebind.test", "secret.other.test", harness.LanAddr, "169.254.169.254"} {
		if r := sh(try(n), flags...); r.code == 0 {
			t.Errorf("%s: %s", n, r)
		}
	}
	for _, n := range []string{"other.test.", "secret.other.test."} {
		if here.lan.Asked(n) {
			t.Errorf("the name server was asked for %s, which is not listed", n)
		}
	}
	if r := sh("nslookup secret.other.test "+harness.LanAddr, flags...); r.code == 0 {
		t.Errorf("the name server itself is reached: %s", r)
	}
	// Without a list the name server is asked for everything.
	if r := sh(try("other.test"), "--dns", harness.LanAddr); r.stdout != "you are "+harness.HostAddr+"\n" {
		t.Errorf("--dns: %s", r)
	}
	settle(t, before)
}

// TestReusedAddress: who gets a dead container's address gets none of its
// connections.
func TestReusedAddress(t *testing.T) {
	before := take(t)
	t.Cleanup(func() { settle(t, before) })
	if r := run("network", "create", "--subnet", "10.78.0.0/24", "e2e-reuse"); r.code != 0 {
		t.Fatal(r)
	}
	t.Cleanup(func() { run("network", "rm", "e2e-reuse") })
	flags := []string{"--network", "e2e-reuse", "--ip", "10.78.0.9"}
	send := "echo-udp :9000 " + harness.LanAddr + ":7"
	probe := func(more ...string) answer {
		return run(append(append(append([]string{"--rm"}, flags...), more...), append([]string{"safe-run-probe"}, strings.Fields(send)...)...)...)
	}
	if r := probe(); r.stdout != "answered\n" {
		t.Fatalf("the first one: %s", r)
	}
	if r := probe("--egress", "none"); r.stdout != "no answer\n" {
		t.Errorf("the next one, with the same tuple: %s", r)
	}
}

// TestForwardDropped: another table drops what is forwarded, as dockerd's
// does; containers have their network all the same, and afterwards the
// ruleset is as before.
func TestForwardDropped(t *testing.T) {
	for name, ruleset := range map[string]string{
		"iptables": "iptables -P FORWARD DROP; ip6tables -P FORWARD DROP",
		"docker": "iptables -P FORWARD DROP; ip6tables -P FORWARD DROP; iptables -N DOCKER-USER; iptables -A DOCKER-USER -j RETURN; iptables -A FORWARD -j DOCKER-USER;" +
			"iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
		"final reject": "nft 'table inet other { chain forward { type filter hook forward priority 10; iifname \"eth7\" accept; reject with icmpx admin-prohibited; }; }'",
	} {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(func() { _ = exec.Command("nft", "flush", "ruleset").Run() })
			if out, err := exec.Command("sh", "-ec", ruleset).CombinedOutput(); err != nil {
				t.Fatalf("%s: %s", err, out)
			}
			before := take(t)
			b := beside(t, answers("http://"+harness.HostAddr+":18093/", here.lan), web("-p", "18093:80")...)
			for _, a := range []string{harness.WorldAddr, "[" + harness.WorldAddr6 + "]"} {
				if r := sh("timeout 2 wget -q -O - http://" + a + "/"); r.code != 0 {
					t.Errorf("%s is not reached: %s", a, r)
				}
			}
			if out, err := exec.Command("iptables", "-S").CombinedOutput(); err != nil {
				t.Errorf("iptables cannot read its table any longer: %s", out)
			}
			b.end()
			settle(t, before)
		})
	}
}

// TestManyNetworks: each of 32 launches gets an address of its own.
func TestManyNetworks(t *testing.T) {
	before := take(t)
	const n = 32
	var wg sync.WaitGroup
	got := make([]string, n)
	for i := range n {
		wg.Go(func() {
			r := call(request{args: []string{"--rm", "busybox", "sh", "-c", "ip -o addr show eth0 | awk '/inet/ {print $4}'; sleep " + strconv.Itoa(3*slowness)}, timeout: 2 * time.Minute})
			if r.code != 0 {
				t.Error(r)
			}
			got[i] = r.stdout
		})
	}
	wg.Wait()
	slices.Sort(got)
	if u := slices.Compact(slices.Clone(got)); len(u) != n {
		t.Errorf("%d different addresses: %q", len(u), got)
	}
	settle(t, before)
}

// TestKilledNetworks: SIGKILL anywhere in 50 launches leaves no link, rule,
// address or port after one further command.
func TestKilledNetworks(t *testing.T) {
	before := take(t)
	full := run("--rm", "-p", "18094:80", "busybox", "true").took
	for i := range 50 {
		cmd := exec.Command(here.bin, "--rm", "--init", "-p", fmt.Sprintf("%d:80", 19000+i), "busybox", "sleep", "0.05")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * (full + 50*time.Millisecond) / 50)
		_ = cmd.Process.Signal(unix.SIGKILL)
		_ = cmd.Wait()
	}
	if r := run("images", "-q"); r.code != 0 {
		t.Fatal(r)
	}
	settle(t, before)
}
