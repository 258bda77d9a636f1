package threats

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/tests/harness"
)

func TestU7(t *testing.T) {
	row(t, "U7")
	// What the host has of each kind.
	shm, err := unix.SysvShmGet(unix.IPC_PRIVATE, 4096, unix.IPC_CREAT|0o666)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.SysvShmCtl(shm, unix.IPC_RMID, nil) })
	queue, err := unix.BytePtrFromString("u7-host")
	if err != nil {
		t.Fatal(err)
	}
	fd, _, e := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(queue)), unix.O_CREAT|unix.O_RDWR, 0o666, 0, 0, 0)
	if e != 0 {
		t.Fatal(e)
	}
	t.Cleanup(func() {
		_ = unix.Close(int(fd))
		_, _, _ = unix.Syscall(unix.SYS_MQ_UNLINK, uintptr(unsafe.Pointer(queue)), 0, 0)
	})
	// And what a neighbour has.
	detached(t, "u7-a", denImage, "/probe", "use-up", "shm", "1", "keep")
	patient(t, func() error {
		if a := here.Run("exec", "u7-a", "sh", "-c", "touch /dev/shm/u7-a; sed 1d /proc/sysvipc/shm | wc -l"); a.Stdout != "1\n" {
			return fmt.Errorf("the neighbour does not see its own segment: %s", a)
		}
		return nil
	})
	inModes(t, nil, "sed 1d /proc/sysvipc/shm; sed 1d /proc/sysvipc/msg; sed 1d /proc/sysvipc/sem; ls /dev/mqueue; ls /dev/shm | grep u7; true", prints(""))
	refused(t, "ipc-host", []string{"--ipc", "host"}, []string{"--ipc=host"})
	refused(t, "ipc-join", []string{"--ipc", "container:u7-a"})
}

func TestU8(t *testing.T) {
	row(t, "U8")
	l, err := net.Listen("unix", "@u8-host")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if b, err := os.ReadFile("/proc/thread-self/net/unix"); err != nil || !strings.Contains(string(b), "@u8-host") {
		t.Fatalf("the host's abstract socket is not seen on the host: %v", err)
	}
	detached(t, "u8-a", denImage, "sh", "-c", "echo served >/tmp/index.html; exec httpd -f -p 127.0.0.1:8080 -h /tmp")
	const get = "timeout 5 wget -q -O - http://127.0.0.1:8080/ 2>&1"
	patient(t, func() error {
		if a := here.Run("exec", "u8-a", "sh", "-c", get); a.Stdout != "served\n" {
			return fmt.Errorf("the neighbour does not reach itself: %s", a)
		}
		return nil
	})
	inModes(t, nil, get+"; grep -c @ /proc/net/unix; ps | grep -c '[h]ttpd'",
		prints("wget: can't connect to remote host (127.0.0.1): Connection refused\n0\n0\n"))
	// Whoever types the command can say so, of a container that exists. What is
	// shared is the network alone.
	a := here.Run("run", "--rm", "--network", "container:u8-a", denImage, "sh", "-c", get+"; head -n 1 /proc/self/uid_map; ps | grep -c '[h]ttpd'")
	got := lines(a.Stdout)
	if len(got) != 3 || got[0] != "served" || got[2] != "0" || idsIn(t, got[1]).meets(idsOf(t, hostPID(t, "u8-a"), "uid")) {
		t.Errorf("container:u8-a: %s", a)
	}
	refused(t, "network-join", []string{"--network", "ns:/proc/1/ns/net"})
	refused(t, "cap-network", []string{"--network", "container:u8-a", "--cap-add", "NET_BIND_SERVICE"}, []string{"--network", "container:u8-a", "--cap-add", "NET_RAW"})
	refused(t, "",
		[]string{"--network", "container:u8-none"}, []string{"--network", "container:"}, []string{"--network", "container:../u8-a"},
		[]string{"--network", "container:u8-a", "-p", "8080:80"}, []string{"--network", "container:u8-a", "--dns", "192.0.2.1"},
		[]string{"--network", "container:u8-a", "--sysctl", "net.ipv4.ip_unprivileged_port_start=0"})
}

// addressesOf are a container's, by its own hosts file: IPv4 first.
func addressesOf(t *testing.T, name string) []string {
	t.Helper()
	id := idOf(t, name)
	b, err := os.ReadFile(filepath.Join(here.Root, "containers", id, "hosts"))
	if err != nil {
		t.Fatal(err)
	}
	var v4, v6 []string
	for _, l := range lines(string(b)) {
		f := strings.Fields(l)
		if len(f) < 2 || !slices.Contains(f[1:], id[:12]) {
			continue
		}
		if ip := net.ParseIP(f[0]); ip.To4() != nil {
			v4 = append(v4, f[0])
		} else if ip != nil {
			v6 = append(v6, f[0])
		}
	}
	if len(v4) == 0 {
		t.Fatalf("no address in %s", b)
	}
	return append(v4, v6...)
}

// serving is a container with a web server on port 8000 and an echo of
// datagrams on 9000, both of all its addresses. It waits for both.
func serving(t *testing.T, name string, flags ...string) {
	t.Helper()
	detached(t, name, slices.Concat(flags, []string{denImage, "sh", "-c", "echo served >/tmp/index.html; /probe echo-udp :9000 & exec httpd -f -p 8000 -h /tmp"})...)
	patient(t, func() error {
		a := here.Run("exec", name, "sh", "-c", "timeout 5 wget -q -O - http://127.0.0.1:8000/ && /probe echo-udp 127.0.0.1:0 127.0.0.1:9000")
		if a.Stdout != "served\nanswered\n" {
			return fmt.Errorf("%s does not serve: %s", name, a)
		}
		return nil
	})
}

func TestU9(t *testing.T) {
	row(t, "U9")
	serving(t, "u9-b")
	var reach strings.Builder
	for _, a := range addressesOf(t, "u9-b") {
		host := a
		if strings.Contains(a, ":") {
			host = "[" + a + "]"
		}
		if body, err := harness.Get("http://"+host+":8000/", nil); err != nil || body != "served\n" {
			t.Fatalf("the host does not reach %s: %q, %v", host, body, err)
		}
		fmt.Fprintf(&reach, "timeout 5 wget -q -O - http://%s:8000/ 2>/dev/null; /probe echo-udp :0 %s:9000 | grep '^answered'; ping -c 1 -W 1 %s >/dev/null 2>&1 && echo ping\n", host, host, a)
	}
	reach.WriteString("true")
	a := here.Run("run", "--rm", denImage, "sh", "-c", reach.String())
	if a.Code != 0 || a.Stdout != "" {
		t.Errorf("a container reaches another: %s", a)
	}
	if a := here.Run("run", "--rm", "--cap-add", "NET_RAW", "--cap-add", "NET_BIND_SERVICE", denImage, "sh", "-c", reach.String()); a.Code != 0 || a.Stdout != "" {
		t.Errorf("a container with NET_RAW reaches another: %s", a)
	}
	// Neither on a network both have named, but on one that is made for it.
	for _, n := range []struct {
		name  string
		flags []string
		want  string
	}{{"u9-apart", nil, ""}, {"u9-joint", []string{"--icc"}, "served\n"}} {
		if a := here.Run(slices.Concat([]string{"network", "create"}, n.flags, []string{n.name})...); a.Code != 0 {
			t.Fatal(a)
		}
		serving(t, "u9-c", "--network", n.name)
		a := here.Run("run", "--rm", "--network", n.name, denImage, "sh", "-c", "timeout 5 wget -q -O - http://"+addressesOf(t, "u9-c")[0]+":8000/ 2>/dev/null")
		if a.Stdout != n.want {
			t.Errorf("on %s: wanted %q, got %s", n.name, n.want, a)
		}
		here.Run("rm", "-f", "u9-c")
		if a := here.Run("network", "rm", n.name); a.Code != 0 {
			t.Error(a)
		}
	}
}

func TestU10(t *testing.T) {
	row(t, "U10")
	probed(t, "page-cache", "rootfs-write", "socket-families")
	// What the neighbours have read of the layer since is what is in it.
	sum := onHost(t, "sha256sum", filepath.Join(here.Repo, "build/probe"))
	for _, flags := range [][]string{nil, {"-u", "1000"}} {
		a := here.Run(slices.Concat([]string{"run", "--rm"}, flags, []string{denImage, "sha256sum", "/probe"})...)
		if a.Code != 0 || strings.Fields(a.Stdout)[0] != strings.Fields(sum.Stdout)[0] {
			t.Errorf("%q: the file of the image has changed: %s", flags, a)
		}
	}
}

func TestU11(t *testing.T) {
	row(t, "U11")
	connectedLan(t)
	if a := here.Run("network", "create", "--subnet", "10.79.0.0/24", "u11-net"); a.Code != 0 {
		t.Fatal(a)
	}
	t.Cleanup(func() { here.Run("network", "rm", "u11-net") })
	before := here.Inventory(t)
	const script = `for d in /data /tmp /run /var/tmp /dev/shm /dev/mqueue /scratch; do ls -A $d; done
for d in /data /tmp /run /var/tmp /dev/shm /scratch; do echo secret >$d/marker || echo cannot write to $d; done
head -n 1 /proc/self/uid_map; echo "out of $MARKER" >&2`
	var all []ids
	for i := range 3 {
		a := here.Run("run", "--name", "u11-a", "--network", "u11-net", "--ip", "10.79.0.9", "-v", "/data", "--tmpfs", "/scratch", "-e", fmt.Sprint("MARKER=", i), denImage, "sh", "-c", script)
		if a.Code != 0 {
			t.Fatal(a)
		}
		r := idsIn(t, strings.TrimRight(a.Stdout, "\n"))
		for _, other := range all {
			if r.meets(other) {
				t.Errorf("the ids of the container before it: %v", r)
			}
		}
		all = append(all, r)
		if a := here.Run("logs", "u11-a"); a.Stderr != fmt.Sprintf("out of %d\n", i) {
			t.Errorf("logs of the %d. of that name: %s", i, a)
		}
		if a := here.Run("rm", "-v", "u11-a"); a.Code != 0 {
			t.Error(a)
		}
	}
	settled(t, before)
	// The next one at an address is in none of its connections.
	send := func(egress string) harness.Answer {
		return here.Run("run", "--rm", "--network", "u11-net", "--ip", "10.79.0.9", "--egress", egress, denImage, "/probe", "echo-udp", ":9000", harness.LanAddr+":7")
	}
	if a := send("all"); a.Stdout != "answered\n" {
		t.Fatalf("the first one: %s", a)
	}
	if a := send("none"); a.Stdout != "no answer\n" {
		t.Errorf("the next one, which may not send: %s", a)
	}
}

func TestU12(t *testing.T) {
	row(t, "U12")
	id := detached(t, "u12-a", "-v", "/data", denImage, "sleep", "1000")
	pid := hostPID(t, "u12-a")
	first := uint32(idsOf(t, pid, "uid").first)
	snapshots := filepath.Join(here.Root, "engine/io.containerd.snapshotter.v1.overlayfs/snapshots")
	if all, err := os.ReadDir(snapshots); err != nil || len(all) == 0 {
		t.Fatalf("no snapshots: %v", err)
	}
	d := denOf(t, nil)
	other := uint32(idsOf(t, hostPID(t, d.name), "uid").first)
	// Somebody of the host, what got out of another container, and somebody who
	// has the container's own ids. The two have what is in their own root, as
	// inside.
	for uid, own := range map[uint32]string{65534: "none", other: idOf(t, d.name), first: id} {
		for _, dir := range []string{
			here.Root, here.State, filepath.Join(here.Root, "containers"), filepath.Join(here.Root, "volumes"), filepath.Join(here.Root, "ids"), snapshots,
			filepath.Join(here.State, "live"), filepath.Join(here.State, "engine"), filepath.Join("/proc", pid, "root"),
		} {
			if out, err := asUser(uid, nil, "ls", dir+"/"); err == nil {
				t.Errorf("uid %d lists %s: %.100q", uid, dir, out)
			}
		}
		// No file below is open to those who know its name.
		find := "find " + here.Root + " " + here.State + " \\( -type f -o -type s -o -type p -o -type d \\) 2>/dev/null | grep -v io.containerd.runtime.v2.task/safe-run/" + own
		all := lines(onHost(t, "sh", "-c", find+" | head -n 4000").Stdout)
		if len(all) < 30 {
			t.Fatalf("only %d files", len(all))
		}
		args := append([]string{"-c", `for f; do if [ -w "$f" ]; then echo "writes $f"; elif [ -f "$f" ] && [ -r "$f" ]; then echo "reads $f"; fi; done`, "sh"}, all...)
		out, err := asUser(uid, nil, "sh", args...)
		if err != nil || out != "" {
			t.Errorf("uid %d: %v: %.1000s", uid, err, out)
		}
	}
}
