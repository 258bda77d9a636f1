package systemd

import (
	"bytes"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

const (
	maxMessage   = 4096 // systemd reads no more of a message (NOTIFY_BUFFER_MAX)
	perSecond    = 20   // messages forwarded
	readInterval = 5 * time.Millisecond
	// maxExtend bounds by how much one message can extend a timeout.
	maxExtend = 24 * time.Hour
	// soPassRights is SO_PASSRIGHTS of Linux 6.16.
	soPassRights = 83
)

// NotifyProxy is a notification socket for a container: what the program in
// it says about its state reaches systemd, and nothing else does.
type NotifyProxy struct {
	path  string
	conn  *net.UnixConn
	to    *Notifier
	ready chan struct{}
	once  sync.Once
}

// Proxy opens a notification socket at path, for a bind mount into a
// container, and forwards from it to n until Close. uid and gid are the
// owner's on the host. Forwarded are READY, RELOADING with MONOTONIC_USEC,
// STOPPING, STATUS as one printable line, ERRNO, EXTEND_TIMEOUT_USEC and
// WATCHDOG; not what names processes or stores descriptors. At most 20
// messages in a second go on. More of them are dropped, but for those that
// change the state, which wait. An error has kind HostCannot.
func Proxy(path string, n *Notifier, uid, gid int) (*NotifyProxy, error) {
	f, err := bindAt(path, unix.SOCK_DGRAM, uid, gid)
	if err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "opening a notification socket for the container")
	}
	defer func() { _ = f.Close() }() // the connection has a copy
	// Descriptors are never received in any case, see serve; with this they
	// are refused where they are sent.
	_ = unix.SetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, soPassRights, 0)
	c, err := net.FilePacketConn(f)
	if err != nil {
		removeSocket(path)
		return nil, fail.Wrap(fail.HostCannot, err, "opening a notification socket for the container")
	}
	p := &NotifyProxy{path: path, conn: c.(*net.UnixConn), to: n, ready: make(chan struct{})}
	go p.serve()
	return p, nil
}

// Ready is closed when the container first says READY=1.
func (p *NotifyProxy) Ready() <-chan struct{} { return p.ready }

// Close ends the forwarding and removes the socket. What was not read yet is
// not forwarded; it does not wait for a message that is on its way.
func (p *NotifyProxy) Close() {
	p.once.Do(func() {
		_ = p.conn.Close()
		removeSocket(p.path)
	})
}

// serve reads with plain reads: descriptors sent along are then closed by the
// kernel before they are anybody's, sd_notify_barrier(3) returns, and no
// message can fill this process's table of them.
func (p *NotifyProxy) serve() {
	buf, out := make([]byte, maxMessage+1), make([]byte, 0, maxMessage)
	said := false
	tokens, last := float64(perSecond), time.Now()
	for {
		n, err := p.conn.Read(buf)
		if err != nil {
			return // closed
		}
		var f facts
		out, f = filter(out[:0], buf[:n])
		now := time.Now()
		tokens = min(perSecond, tokens+now.Sub(last).Seconds()*perSecond)
		last = now
		if f.ready && !said {
			said = true
			close(p.ready)
		}
		switch {
		case len(out) == 0:
		case tokens >= 1:
			tokens--
			_ = p.to.forward(out)
			continue
		case f.edge:
			time.Sleep(time.Duration((1 - tokens) / perSecond * float64(time.Second)))
			tokens, last = 0, time.Now()
			_ = p.to.forward(out)
			continue
		}
		// A flood costs its sender: it waits in the socket's queue.
		time.Sleep(readInterval)
	}
}

func (n *Notifier) forward(message []byte) error {
	if !n.On() {
		return nil
	}
	return n.post(message)
}

// facts are what the proxy has to know of a message.
type facts struct {
	ready bool // READY=1
	edge  bool // it changes the unit's state
}

// filter appends to dst the lines of a message that may go on. dst does not
// grow beyond its capacity if that is maxMessage.
func filter(dst, message []byte) ([]byte, facts) {
	var f facts
	if len(message) > maxMessage || bytes.IndexByte(message, 0) >= 0 {
		return dst, f
	}
	for line := range bytes.SplitSeq(message, []byte{'\n'}) {
		key, value, ok := bytes.Cut(line, []byte{'='})
		if !ok || len(dst)+len(key)+min(len(value), maxStatus)+2 > maxMessage {
			continue
		}
		from := len(dst)
		switch string(key) {
		case "READY", "RELOADING", "STOPPING":
			if string(value) != "1" {
				continue
			}
			f.edge = true
			f.ready = f.ready || string(key) == "READY"
		case "WATCHDOG":
			if string(value) != "1" && string(value) != "trigger" {
				continue
			}
		case "ERRNO":
			if !number(value, 4095) {
				continue
			}
		case "MONOTONIC_USEC":
			if !number(value, 1<<62) {
				continue
			}
		case "EXTEND_TIMEOUT_USEC":
			if !number(value, uint64(maxExtend.Microseconds())) {
				continue
			}
		case "STATUS":
			dst = append(dst, "STATUS="...)
			dst = append(appendLine(dst, value), '\n')
			if len(dst) > maxMessage {
				dst = dst[:from]
			}
			continue
		default:
			continue
		}
		dst = append(append(append(append(dst, key...), '='), value...), '\n')
	}
	return dst, f
}

// number says whether a value is a decimal number up to a limit.
func number(value []byte, limit uint64) bool {
	if len(value) == 0 || len(value) > 20 {
		return false
	}
	n, err := strconv.ParseUint(string(value), 10, 64)
	return err == nil && n <= limit
}
