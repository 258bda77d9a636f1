package systemd

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// maxStatus bounds a status text, in bytes; systemctl shows one line of it.
const maxStatus = 256

// sendTimeout bounds the wait for a service manager that does not read: it
// reloads its units, say.
const sendTimeout = 30 * time.Second

// Notifier tells a service manager about the state of its unit, sd_notify(3).
// The methods of one without a socket, or of nil, do nothing and give no
// error. It opens the socket for each message: the manager may have been
// executed anew in between. Errors have kind HostCannot; a caller may ignore
// them as most programs do.
type Notifier struct{ socket string }

// NewNotifier makes a Notifier for the value of $NOTIFY_SOCKET: an absolute
// path, an abstract name after "@", or "".
func NewNotifier(socket string) *Notifier { return &Notifier{socket} }

// On says whether anybody is told.
func (n *Notifier) On() bool { return n != nil && n.socket != "" }

// Ready says that the service is up.
func (n *Notifier) Ready(status string) error { return n.send("READY=1", statusLine(status)) }

// Status sets the text systemctl status shows.
func (n *Notifier) Status(text string) error { return n.send("STATUS=" + oneLine(text)) }

// Stopping says that the service is going down.
func (n *Notifier) Stopping(status string) error { return n.send("STOPPING=1", statusLine(status)) }

// ExtendTimeout asks for at least d more from now for what is going on: the
// start, the stop.
func (n *Notifier) ExtendTimeout(d time.Duration) error {
	return n.send("EXTEND_TIMEOUT_USEC=" + strconv.FormatInt(max(0, d.Microseconds()), 10))
}

// Watchdog says that the service is well; to be said more often than once in
// Unit.WatchdogInterval.
func (n *Notifier) Watchdog() error { return n.send("WATCHDOG=1") }

// MainPID names the main process, if it is not the one that was started.
func (n *Notifier) MainPID(pid int) error { return n.send("MAINPID=" + strconv.Itoa(pid)) }

// Watch feeds the watchdog twice in each interval while healthy says so, until
// ctx ends. Without an interval or a socket it returns at once.
func (n *Notifier) Watch(ctx context.Context, interval time.Duration, healthy func() bool) {
	if !n.On() || interval <= 0 {
		return
	}
	tick := time.NewTicker(max(interval/2, time.Millisecond))
	defer tick.Stop()
	for {
		if healthy() {
			_ = n.Watchdog()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func statusLine(text string) string {
	if text == "" {
		return ""
	}
	return "STATUS=" + oneLine(text)
}

func (n *Notifier) send(lines ...string) error {
	if !n.On() {
		return nil
	}
	var b []byte
	for _, l := range lines {
		if l != "" {
			b = append(append(b, l...), '\n')
		}
	}
	return n.post(b)
}

// post sends one datagram.
func (n *Notifier) post(message []byte) error {
	if !strings.HasPrefix(n.socket, "/") && !strings.HasPrefix(n.socket, "@") {
		return fail.New(fail.HostCannot, "the notification socket %.100q is none this program can use", n.socket)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "telling systemd")
	}
	defer func() { _ = unix.Close(fd) }()
	t := unix.NsecToTimeval(sendTimeout.Nanoseconds())
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &t)
	for {
		err = unix.Sendto(fd, message, unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: n.socket})
		if !errors.Is(err, unix.EINTR) {
			return fail.Wrap(fail.HostCannot, err, "telling systemd")
		}
	}
}

// oneLine makes any text safe for a terminal, the journal and the protocol.
func oneLine(text string) string { return string(appendLine(nil, text)) }

// appendLine appends at most maxStatus bytes of text, with a space for what is
// not printable.
func appendLine[T ~string | ~[]byte](dst []byte, text T) []byte {
	end := len(dst) + maxStatus
	if len(text) > maxStatus {
		text = text[:maxStatus]
	}
	for _, r := range string(text) {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			r = ' '
		}
		if len(dst)+utf8.RuneLen(r) > end {
			break
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}
