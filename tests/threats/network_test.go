package threats

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/netfilter"
	"github.com/safe-run/safe-run/tests/harness"
)

// inURL is an address as URLs have it.
func inURL(a string) string {
	if strings.Contains(a, ":") {
		return "[" + a + "]"
	}
	return a
}

// reached is a script that says which of these hosts and ports it gets a page
// from. Where it cannot, it is to be told at once.
func reached(hosts ...string) string {
	var b strings.Builder
	for _, h := range hosts {
		fmt.Fprintf(&b, "timeout 10 wget -q -O /dev/null http://%[1]s/ 2>/dev/null; case $? in 0) echo reached %[1]s;; 143|124) echo no answer from %[1]s;; esac\n", h)
	}
	b.WriteString("true")
	return b.String()
}

func TestN1(t *testing.T) {
	row(t, "N1")
	connectedLan(t)
	hosts := []string{"0251.0376.0251.0376", "2852039166", "0xa9fea9fe", "169.254.43518", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "169.254.169.254:8443"}
	for _, a := range harness.Metadata() {
		hosts = append(hosts, inURL(a))
		if _, err := harness.Get("http://"+inURL(a)+"/", nil); err != nil {
			t.Errorf("the host itself does not reach %s: %v", a, err)
		}
		if !netfilter.Blocked(netip.MustParseAddr(a)) {
			t.Errorf("%s is not in the list", a)
		}
	}
	if a := here.Run("run", "--rm", denImage, "sh", "-c", reached(inURL(harness.WorldAddr))); a.Stdout != "reached "+harness.WorldAddr+"\n" {
		t.Fatalf("a container does not reach the world: %s", a)
	}
	inModes(t, nil, reached(hosts...), prints(""))
	a := here.Run("run", "--rm", "--cap-add", "NET_RAW", denImage, "sh", "-c", "/probe echo-udp :0 169.254.169.254:7; ping -c 1 -W 1 169.254.169.254 >/dev/null && echo ping; true")
	if a.Stdout != "no answer\n" {
		t.Errorf("by other protocols: %s", a)
	}
	// By a name, and a list that allows it.
	a = here.Run("run", "--rm", "--dns", harness.LanAddr, "--egress", "rebind.test:80,listed.test:80", denImage, "sh", "-c", reached("rebind.test", "listed.test"))
	if a.Stdout != "reached listed.test\n" {
		t.Errorf("by a name: %s", a)
	}
	refused(t, "egress-metadata", []string{"--egress", "169.254.169.254:80"}, []string{"--egress", "169.254.0.0/16:80"}, []string{"--egress", "[fd00:ec2::254]:80"})
	refused(t, "", []string{"--link-local-ip", "169.254.169.254"})
}

func TestN2(t *testing.T) {
	row(t, "N2")
	lan := connectedLan(t)
	serve := func(name string, flags ...string) harness.Answer {
		t.Cleanup(func() { here.Run("rm", "-f", name) })
		return here.Run(slices.Concat([]string{"run", "-d", "--name", name}, flags, []string{denImage, "sh", "-c", "echo served >/tmp/index.html; exec httpd -f -p 8000 -h /tmp"})...)
	}
	from := func(l *harness.Lan, port string) func() error {
		return func() error {
			_, err := harness.Get("http://"+harness.HostAddr+":"+port+"/", l)
			return err
		}
	}
	// As with docker, but it is said.
	if a := serve("n2-open", "-p", "18101:8000"); a.Code != 0 || !strings.Contains(a.Stderr, "all addresses") {
		t.Errorf("a port without an address: %s", a)
	}
	patient(t, from(lan, "18101"))
	if out := onHost(t, "ss", "-Hltn", "sport = :18101").Stdout; !strings.Contains(out, "0.0.0.0:18101") {
		t.Errorf("ss does not show it: %q", out)
	}
	if a := serve("n2-shut", "-p", "127.0.0.1:18102:8000"); a.Code != 0 || strings.Contains(a.Stderr, "all addresses") {
		t.Errorf("a port of 127.0.0.1: %s", a)
	}
	patient(t, func() error { _, err := harness.Get("http://127.0.0.1:18102/", nil); return err })
	if from(lan, "18102")() == nil {
		t.Error("the neighbour reaches a port of 127.0.0.1")
	}
	t.Run("127.0.0.1 by policy", func(t *testing.T) {
		inForce(t, "publish-address: 127.0.0.1\n")
		if a := serve("n2-site", "-p", "18103:8000"); a.Code != 0 || strings.Contains(a.Stderr, "all addresses") {
			t.Errorf("a port without an address: %s", a)
		}
		patient(t, func() error { _, err := harness.Get("http://127.0.0.1:18103/", nil); return err })
		if from(lan, "18103")() == nil {
			t.Error("the neighbour reaches it")
		}
		if out := onHost(t, "ss", "-Hltn", "sport = :18103").Stdout; !strings.Contains(out, "127.0.0.1:18103") || strings.Contains(out, "0.0.0.0:18103") {
			t.Errorf("ss: %q", out)
		}
	})
	t.Run("required by policy", func(t *testing.T) {
		inForce(t, "publish-address: required\n")
		refused(t, "publish-address", []string{"-p", "18104:80"}, []string{"-p", "80"}, []string{"-P"}, []string{"-p", "0.0.0.0:18104:80"}, []string{"-p", "[::]:18104:80"},
			[]string{"--publish", "published=18104,target=80"})
	})
}

func TestN3(t *testing.T) {
	row(t, "N3")
	lan := connectedLan(t)
	serving(t, "n3-a", "-p", "127.0.0.1:18105:8000", "-p", "[::1]:18105:8000")
	patient(t, func() error { _, err := harness.Get("http://127.0.0.1:18105/", nil); return err })
	addresses := addressesOf(t, "n3-a")
	// A hostile neighbour routes the container's addresses, and loopback, to
	// this host.
	script := "sysctl -qw net.ipv4.conf.all.route_localnet=1 net.ipv4.conf.wire.route_localnet=1; ip route del local 127.0.0.1 table local; ip route add 127.0.0.1/32 via " + harness.HostAddr + " dev wire\n"
	undo := "ip route del 127.0.0.1/32; ip route add local 127.0.0.1 dev lo table local\n"
	urls := []string{"http://127.0.0.1:18105/", "http://" + harness.HostAddr + ":18105/", "http://[" + harness.HostAddr6 + "]:18105/"}
	for _, a := range addresses {
		via := harness.HostAddr
		if strings.Contains(a, ":") {
			via = harness.HostAddr6
		}
		script += "ip route add " + a + " via " + via + " dev wire\n"
		undo += "ip route del " + a + "\n"
		urls = append(urls, "http://"+inURL(a)+":8000/")
	}
	t.Cleanup(func() { _ = lan.Command("sh", "-c", undo).Run() })
	if out, err := lan.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, url := range urls {
		if body, err := harness.Get(url, lan); err == nil {
			t.Errorf("the neighbour got %q from %s", body, url)
		}
	}
	if _, err := harness.Get("http://"+inURL(addresses[0])+":8000/", nil); err != nil {
		t.Errorf("the host itself: %v", err)
	}
	if _, err := harness.Get("http://[::1]:18105/", nil); err != nil {
		t.Errorf("the host itself by ::1: %v", err)
	}
}

func TestN4(t *testing.T) {
	row(t, "N4")
	lan := connectedLan(t)
	for _, a := range []string{harness.HostAddr, harness.HostAddr6} {
		if _, err := harness.Get("http://"+inURL(a)+":2222/", lan); err != nil {
			t.Fatalf("the neighbour does not reach the host's service at %s: %v", a, err)
		}
	}
	// The gateway's addresses, and all others of the host.
	const script = `for h in $(ip route | sed -n 's/^default via \([^ ]*\).*/\1/p') $(ip -6 route | sed -n 's/^default via \([^ ]*\).*/[\1]/p') ` +
		harness.HostAddr + " [" + harness.HostAddr6 + `] 127.0.0.1 [::1]; do
timeout 10 wget -q -O /dev/null http://$h:2222/ 2>/dev/null; case $? in 0) echo reached $h;; 143|124) echo no answer from $h;; *) echo;; esac; done | sort | uniq -c | sed 's/^ *//'`
	inModes(t, nil, script, func(t *testing.T, _, out string) {
		// Two of the gateway where there is IPv6, and four.
		if s := strings.TrimRight(out, " \n"); s != "6" && s != "5" {
			t.Errorf("printed %q", out)
		}
	})
	a := here.Run("run", "--rm", "--cap-add", "NET_RAW", denImage, "sh", "-c", "gw=$(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p'); for p in 53 7 67 2222; do /probe echo-udp :0 $gw:$p; done")
	if a.Stdout != strings.Repeat("no answer\n", 4) {
		t.Errorf("datagrams to the gateway: %s", a)
	}
}

func TestN5(t *testing.T) {
	row(t, "N5")
	lan := connectedLan(t)
	const settings = "cd /proc/sys/net/ipv6/conf; grep -vl '^0$' default/accept_ra eth*/accept_ra default/accept_redirects eth*/accept_redirects default/accept_source_route eth*/accept_source_route 2>/dev/null; echo 1 >eth0/accept_ra || echo no"
	inModes(t, nil, settings, func(t *testing.T, _, out string) {
		for _, l := range lines(out) {
			if !strings.Contains(l, "Read-only") && l != "no" {
				t.Errorf("printed %q", out)
			}
		}
	})
	// The same filter for both families: what is open and what is not.
	refuse := []string{inURL("fd00:ec2::254"), inURL(harness.HostAddr6) + ":2222", "169.254.169.254", harness.HostAddr + ":2222"}
	a := here.Run("run", "--rm", denImage, "sh", "-c", reached(append(refuse, inURL(harness.WorldAddr6), harness.WorldAddr)...))
	if a.Stdout != "reached "+inURL(harness.WorldAddr6)+"\nreached "+harness.WorldAddr+"\n" {
		t.Errorf("both families: %s", a)
	}
	refused(t, "", []string{"--sysctl", "net.ipv6.conf.eth0.accept_ra=2"}, []string{"--sysctl", "net.ipv6.conf.default.accept_redirects=1"}, []string{"--sysctl", "net.ipv6.conf.default.accept_ra=1"})
	// A forged advertisement has its effect where it is believed.
	believed := func() error {
		out, err := lan.Command("ip", "-6", "addr", "show", "dev", "wire").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "fd66:bad:") {
			return fmt.Errorf("%v: %s", err, out)
		}
		return nil
	}
	if out, err := lan.Command("sysctl", "-qw", "net.ipv6.conf.wire.accept_ra=2").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		_ = lan.Command("sh", "-c", "sysctl -qw net.ipv6.conf.wire.accept_ra=0; ip -6 addr flush dev wire mngtmpaddr; ip -6 addr flush dev wire dynamic; ip -6 route flush dev wire proto ra").Run()
	})
	patient(t, func() error {
		if a := onHost(t, here.Repo+"/build/probe", "advertise", "lan0"); a.Code != 0 {
			return fmt.Errorf("%s", a)
		}
		return believed()
	})
	if a := here.Run("network", "create", "--icc", "--ipv6", "n5-net"); a.Code != 0 {
		t.Fatal(a)
	}
	t.Cleanup(func() {
		if a := here.Run("network", "rm", "n5-net"); a.Code != 0 {
			t.Error(a)
		}
	})
	detached(t, "n5-a", "--network", "n5-net", denImage, "sleep", "1000")
	if a := here.Run("run", "--rm", "--network", "n5-net", "--cap-add", "NET_RAW", denImage, "/probe", "advertise", "eth0"); a.Code != 0 {
		t.Logf("a neighbour cannot even send one: %s", a)
	}
	if a := here.Run("exec", "n5-a", "sh", "-c", "ip -6 addr; ip -6 route"); a.Code != 0 || strings.Contains(a.Stdout, "fd66:bad:") || !strings.Contains(a.Stdout, "fe80:") && !strings.Contains(a.Stdout, "fd") {
		t.Errorf("a forged advertisement is believed: %s", a)
	}
	here.Run("rm", "-f", "n5-a")
}

func TestN6(t *testing.T) {
	row(t, "N6")
	const settings = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range"
	before := onHost(t, "sh", "-c", settings).Stdout
	const bind = "httpd -p 127.0.0.1:80 -h /tmp 2>&1 && echo bound; "
	inModes(t, []string{"-u", "1000"}, bind+settings, prints("httpd: bind: Permission denied\n1024\n0\t65535\n"))
	for _, flags := range [][]string{{"-u", "1000", "--cap-add", "NET_BIND_SERVICE"}, {"-u", "1000", "--sysctl", "net.ipv4.ip_unprivileged_port_start=80"}} {
		if a := here.Run(slices.Concat([]string{"run", "--rm"}, flags, []string{denImage, "sh", "-c", bind})...); a.Stdout != "bound\n" {
			t.Errorf("%q: %s", flags, a)
		}
	}
	if after := onHost(t, "sh", "-c", settings).Stdout; after != before {
		t.Errorf("the host's settings were %q and are %q", before, after)
	}
	detached(t, "n6-a", denImage, "sleep", "1000")
	refused(t, "", []string{"--network", "container:n6-a", "--sysctl", "net.ipv4.ip_unprivileged_port_start=0"},
		[]string{"--network", "container:n6-a", "--sysctl", "net.ipv4.ping_group_range=0 1"})
	// With the host's network, where a site grants that.
	granted(t, "allow: [network-host]")
	a := here.Run("run", "--rm", "--network", "host", "--sysctl", "net.ipv4.ip_unprivileged_port_start=0", denImage, "echo", "RAN")
	if a.Code != 125 || a.Stdout != "" {
		t.Errorf("a setting of the host's network: %s", a)
	}
}

func TestN7(t *testing.T) {
	row(t, "N7")
	lan := connectedLan(t)
	for _, n := range []struct {
		name  string
		flags []string
	}{{"n7-in", []string{"--internal"}}, {"n7-icc", []string{"--internal", "--icc"}}} {
		if a := here.Run(slices.Concat([]string{"network", "create"}, n.flags, []string{n.name})...); a.Code != 0 {
			t.Fatal(a)
		}
		t.Cleanup(func() {
			if a := here.Run("network", "rm", n.name); a.Code != 0 {
				t.Error(a)
			}
		})
	}
	// A host with a search domain and the neighbour's name server.
	file := wrote(t, "resolv.conf", "search corp.secret.test\nnameserver "+harness.LanAddr+"\n")
	target, err := filepath.EvalSymlinks("/etc/resolv.conf")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(file, target, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
	a := here.Run("run", "--rm", denImage, "sh", "-c", "timeout 10 nslookup open.test; grep -c corp.secret /etc/resolv.conf")
	if !lan.Asked("open.test.") || !strings.HasSuffix(a.Stdout, "\n1\n") {
		t.Fatalf("with a way out the name server is asked: %v, %s", lan.Asked("open.test."), a)
	}
	for name, flags := range map[string][]string{
		"none":   {"--network", "none"},
		"in":     {"--network", "n7-in"},
		"icc":    {"--network", "n7-icc"},
		"egress": {"--egress", "none"},
		"dns":    {"--network", "n7-icc", "--dns", harness.LanAddr},
	} {
		secret := "secret-" + name + ".test"
		script := fmt.Sprintf("for s in '' 127.0.0.11 %s; do timeout 3 nslookup %s $s && echo answered; done >/dev/null 2>&1; grep -c corp.secret /etc/resolv.conf; timeout 3 wget -q -O - http://%s/; true", harness.LanAddr, secret, inURL(harness.LanAddr))
		a := here.Run(slices.Concat([]string{"run", "--rm"}, flags, []string{denImage, "sh", "-c", script})...)
		if a.Code != 0 || a.Stdout != "0\n" {
			t.Errorf("%q: %s", flags, a)
		}
		if lan.Asked(secret + ".") {
			t.Errorf("%q: the outside was asked for %s", flags, secret)
		}
	}
}

func TestN10(t *testing.T) {
	row(t, "N10")
	refused(t, "network-host", []string{"--network", "host"}, []string{"--net", "host"}, []string{"--net=host"}, []string{"--network", "name=host"})
	refused(t, "network-join", []string{"--network", "ns:/proc/1/ns/net"}, []string{"--network", "ns:/proc/self/ns/net"}, []string{"--network", "ns:/var/run/netns/x"})
	refused(t, "", []string{"--network", "HOST"}, []string{"--network", "bridge", "--network", "host"}, []string{"--network", "../host"}, []string{"--network", "container:"})
	// In its own: no socket of the host's, and no link of it.
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	l := exec.Command("sh", "-c", "exec "+here.Repo+"/build/probe echo-udp 127.0.0.1:18110")
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Process.Kill(); _ = l.Wait() })
	patient(t, func() error {
		if a := onHost(t, here.Repo+"/build/probe", "echo-udp", "127.0.0.1:0", "127.0.0.1:18110"); a.Stdout != "answered\n" {
			return fmt.Errorf("%s", a)
		}
		return nil
	})
	inModes(t, nil, "readlink /proc/self/ns/net; /probe echo-udp 127.0.0.1:0 127.0.0.1:18110; ls /sys/class/net | sort | tr '\\n' ' '", func(t *testing.T, _, out string) {
		got := lines(out)
		if len(got) != 3 || got[0] == own || got[1] != "no answer" || got[2] != "eth0 lo " {
			t.Errorf("printed %q", out)
		}
	})
	// Where a site grants it, abstract sockets stay closed.
	granted(t, "allow: [network-host]")
	of := verdicts(t, "--network", "host")
	verdictIs(t, "host network", of, "blocked", "socket-families", "socket-packet")
}

func TestN11(t *testing.T) {
	row(t, "N11")
	if a := here.Run("network", "create", "--icc", "--subnet", "10.81.0.0/24", "--subnet", "fd81::/64", "n11-net"); a.Code != 0 {
		t.Fatal(a)
	}
	t.Cleanup(func() {
		if a := here.Run("network", "rm", "n11-net"); a.Code != 0 {
			t.Error(a)
		}
	})
	on := func(flags ...string) []string { return append([]string{"--network", "n11-net"}, flags...) }
	detached(t, "n11-a", append(on("--ip", "10.81.0.9", "--ip6", "fd81::9", "--mac-address", "02:00:00:00:00:09"), denImage, "sleep", "1000")...)
	refused(t, "",
		on("--ip", "10.81.0.9"), on("--ip", "10.81.0.1"), on("--ip", "10.81.0.0"), on("--ip", "10.81.0.255"), on("--ip", "10.82.0.2"), on("--ip", "127.0.0.1"), on("--ip", "0.0.0.0"),
		on("--ip", "224.0.0.1"), on("--ip", "010.081.0.3"), on("--ip6", "fd81::9"), on("--ip6", "fd81::1"), on("--ip6", "fd82::2"), on("--ip6", "::1"), on("--ip6", "::ffff:10.81.0.3"),
		on("--mac-address", "02:00:00:00:00:09"), on("--mac-address", "02-00-00-00-00-09"), on("--mac-address", "ff:ff:ff:ff:ff:ff"), on("--mac-address", "01:00:5e:00:00:01"), on("--mac-address", "00:00:00:00:00:00"))
	// The bridge's own hardware address is the gateway's.
	links := onHost(t, "sh", "-c", "ip -o -4 addr show | awk '$4 == \"10.81.0.1/24\" {print $2}' | xargs -I{} ip -o link show {} | sed 's,.*link/ether \\([0-9a-f:]*\\).*,\\1,'")
	if mac := strings.TrimSpace(links.Stdout); mac == "" {
		t.Errorf("the bridge is not found: %s", links)
	} else {
		refused(t, "", on("--mac-address", mac))
	}
	refused(t, "", on("--link-local-ip", "169.254.1.1"))
	// What it has it keeps; a free one can be had.
	a := here.Run(slices.Concat([]string{"run", "--rm"}, on("--ip", "10.81.0.10"), []string{
		denImage, "sh", "-c",
		"ip -o -4 addr show eth0 | grep -o '10.81.0.10/24'; ip addr add 10.81.0.9/24 dev eth0 2>/dev/null && echo added; ip link set eth0 address 02:00:00:00:00:09 2>/dev/null && echo set; true",
	})...)
	if a.Stdout != "10.81.0.10/24\n" {
		t.Errorf("inside: %s", a)
	}
	// With the capability to change it, and a site's grant, packets from there
	// lead nowhere.
	serving(t, "n11-b", on("--ip", "10.81.0.20")...)
	granted(t, "capabilities: [NET_ADMIN]")
	take := "ip addr add 10.81.0.66/24 dev eth0; ip route del default; ip route add 10.81.0.20 dev eth0 src 10.81.0.66; timeout 5 wget -q -O - http://10.81.0.20:8000/ 2>/dev/null; " +
		"ip route del 10.81.0.20; timeout 5 wget -q -O - http://10.81.0.20:8000/"
	a = here.Run(slices.Concat([]string{"run", "--rm"}, on("--cap-add", "NET_ADMIN"), []string{denImage, "sh", "-c", take})...)
	if a.Stdout != "served\n" {
		t.Errorf("from a taken address: %s", a)
	}
}
