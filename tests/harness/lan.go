package harness

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Tests run in a network namespace of their own, which is the host to the
// program under test. A second one, the lan, is a neighbour on the same wire
// and all the world behind it.
const (
	HostAddr, LanAddr   = "198.51.100.1", "198.51.100.2"
	HostAddr6, LanAddr6 = "fd51:100::1", "fd51:100::2"
	WorldAddr           = "203.0.113.5"  // behind the neighbour
	WorldAddr6          = "fd53:113::5"  // likewise
	HostService         = "0.0.0.0:2222" // a web server of the host's; [::]:2222 too
)

// Metadata are addresses that give credentials to whoever asks, in some cloud.
// The neighbour has them all.
func Metadata() []string {
	return []string{
		"169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "100.96.0.96",
		"fd00:ec2::254", "fd20:ce::254", "fd00:c1::a9fe:a9fe",
	}
}

// Lan is the neighbour's namespace.
type Lan struct {
	holder *exec.Cmd
	ns     *os.File
	stop   []io.Closer
	asked  sync.Map // names that the name server was asked for
}

// ConnectLan makes the neighbour and the wire to it, lan0 here and wire there,
// and the services on both ends: there a web server on ports 80 and 8443 of
// all addresses, a name server and an echo of datagrams on port 7. The
// neighbour ends with this process; Close also takes the wire away.
func ConnectLan() (*Lan, error) {
	l := &Lan{holder: exec.Command("unshare", "--net", "cat")}
	stdin, err := l.holder.StdinPipe() // cat ends with this process, however it ends
	if err != nil {
		return nil, err
	}
	l.stop = append(l.stop, stdin)
	if err := l.holder.Start(); err != nil {
		return nil, err
	}
	if err := l.connect(); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Lan) connect() error {
	pid := strconv.Itoa(l.holder.Process.Pid)
	if err := l.hold(pid); err != nil {
		return err
	}
	host := "ip link set lo up; ip link add lan0 type veth peer name wire netns " + pid + "; ip link set lan0 up;" +
		"ip addr add " + HostAddr + "/24 dev lan0; ip addr add " + HostAddr6 + "/64 dev lan0 nodad;" +
		"ip route add default via " + LanAddr + "; ip -6 route add default via " + LanAddr6
	there := "ip link set lo up; ip link set wire up; ip addr add " + LanAddr + "/24 dev wire; ip addr add " + LanAddr6 + "/64 dev wire nodad;" +
		"ip addr add " + WorldAddr + "/32 dev lo; ip addr add " + WorldAddr6 + "/128 dev lo nodad"
	for _, a := range Metadata() {
		there += "; ip addr add " + a + " dev lo"
		if strings.Contains(a, ":") {
			there += " nodad"
		}
	}
	if out, err := exec.Command("sh", "-ec", host).CombinedOutput(); err != nil {
		return fmt.Errorf("lan: %s", out)
	}
	if out, err := l.Command("sh", "-ec", there).CombinedOutput(); err != nil {
		return fmt.Errorf("lan: %s", out)
	}
	if err := l.serve(); err != nil {
		return err
	}
	for network, address := range map[string]string{"tcp4": HostService, "tcp6": "[::]:2222"} {
		h, err := net.Listen(network, address)
		if err != nil {
			return err
		}
		l.stop = append(l.stop, h)
		go answer(h)
	}
	return nil
}

// hold waits for the holder to be in its namespace.
func (l *Lan) hold(pid string) error {
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return err
	}
	for end := time.Now().Add(Patient(20 * time.Second)); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if theirs, err := os.Readlink("/proc/" + pid + "/ns/net"); err == nil && theirs != own {
			l.ns, err = os.Open("/proc/" + pid + "/ns/net")
			return err
		}
	}
	return errors.New("the neighbour's namespace does not come up")
}

// Close takes the neighbour away.
func (l *Lan) Close() {
	for _, c := range l.stop {
		_ = c.Close()
	}
	_ = l.holder.Process.Kill()
	_ = l.holder.Wait()
	_ = exec.Command("ip", "link", "del", "lan0").Run()
}

// Command runs a program in the neighbour's namespace.
func (l *Lan) Command(name string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=/proc/" + strconv.Itoa(l.holder.Process.Pid) + "/ns/net", name}, args...)...)
}

// Inside runs f on a thread in the neighbour's namespace. What it opens stays
// there.
func (l *Lan) Inside(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// /proc/self is the first thread, which is to stay where it is.
			defer runtime.UnlockOSThread()
			done <- l.Inside(f)
			return
		}
		// Never unlocked: the thread ends with the goroutine.
		if err := unix.Setns(int(l.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}
