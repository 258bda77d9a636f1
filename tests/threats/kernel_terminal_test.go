package threats

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/tests/harness"
)

// operator is a terminal as that of one who types commands: what is typed
// waits in it to be read.
type operator struct {
	master, slave *os.File
	mu            sync.Mutex
	seen          strings.Builder // what was shown on it
}

func operated(t *testing.T) *operator {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	conn, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var number uint32
	var slave int
	if cerr := conn.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err != nil {
			return
		}
		if number, err = unix.IoctlGetUint32(int(fd), unix.TIOCGPTN); err != nil {
			return
		}
		slave, err = unix.Open("/dev/pts/"+strconv.Itoa(int(number)), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	}); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	o := &operator{master: master, slave: os.NewFile(uintptr(slave), "terminal")}
	t.Cleanup(func() { o.slave.Close() })
	// What is typed counts at once, not with the end of a line.
	tio, err := unix.IoctlGetTermios(slave, unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	tio.Lflag &^= unix.ICANON | unix.ECHO
	if err := unix.IoctlSetTermios(slave, unix.TCSETS, tio); err != nil {
		t.Fatal(err)
	}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			o.mu.Lock()
			o.seen.Write(b[:n])
			o.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return o
}

func (o *operator) shown() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen.String()
}

// typed is how much waits to be read as if the operator had typed it. It is
// taken away.
func (o *operator) typed(t *testing.T) int {
	t.Helper()
	n, err := unix.IoctlGetInt(int(o.slave.Fd()), unix.TIOCINQ)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetInt(int(o.slave.Fd()), unix.TCFLSH, unix.TCIFLUSH); err != nil {
		t.Fatal(err)
	}
	return n
}

// calls safe-run from this terminal and gives what was shown of it.
func (o *operator) calls(t *testing.T, args ...string) string {
	t.Helper()
	before := len(o.shown())
	cmd := exec.Command(here.Bin, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = o.slave, o.slave, o.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(harness.Patient(minute), func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	if err := cmd.Wait(); err != nil {
		t.Errorf("%q: %v: %s", args, err, o.shown()[before:])
	}
	// All that was written was taken from the terminal when it is marked.
	if _, err := io.WriteString(o.slave, "\nmark\n"); err != nil {
		t.Fatal(err)
	}
	patient(t, func() error {
		if !strings.Contains(o.shown()[before:], "\nmark") {
			return fmt.Errorf("%q: the terminal shows %q", args, o.shown()[before:])
		}
		return nil
	})
	text, _, _ := strings.Cut(o.shown()[before:], "\r\nmark")
	return text
}

func TestK21(t *testing.T) {
	row(t, "K21")
	stopped(t, "tiocsti", "tioclinux", "tiocsti-high")
	probed(t, "tiocsti-terminal")
	o := operated(t)
	// Outside it works: for root whatever the setting dev.tty.legacy_tiocsti.
	if err := unix.IoctlSetPointerInt(int(o.slave.Fd()), unix.TIOCSTI, 'x'); err != nil {
		t.Fatalf("typing into a terminal outside: %v", err)
	}
	if n := o.typed(t); n != 1 {
		t.Fatalf("%d typed outside", n)
	}
	const attack = `for i in 0 1 2; do readlink /proc/self/fd/$i; done; /probe --json | grep -A3 '"tiocsti-terminal"' | grep verdict`
	name := "k21-terminal"
	detached(t, name, denImage, "sleep", "600")
	for _, args := range [][]string{
		{"run", "--rm", denImage},
		{"run", "--rm", "-i", denImage},
		{"run", "--rm", "-t", denImage},
		{"run", "--rm", "-it", denImage},
		{"run", "--rm", "-a", "stdin", "-a", "stdout", "-a", "stderr", denImage},
		{"exec", name},
		{"exec", "-i", name},
		{"exec", "-it", name},
	} {
		text := o.calls(t, append(args, "sh", "-c", attack)...)
		own := slices.Contains(args, "-t") || slices.Contains(args, "-it")
		if !strings.Contains(text, `"blocked"`) || strings.Contains(text, `"OPEN"`) {
			t.Errorf("%q: %q", args, text)
		}
		if got := strings.Contains(text, "/dev/pts/0"); got != own {
			t.Errorf("%q: a terminal of its own: %v, wanted %v: %q", args, got, own, text)
		}
		if outer := o.slaveName(t); strings.Contains(text, outer+"\r") && outer != "/dev/pts/0" {
			t.Errorf("%q: it has the operator's terminal: %q", args, text)
		}
		if n := o.typed(t); n != 0 {
			t.Errorf("%q: %d characters were typed for the operator", args, n)
		}
	}
}

func (o *operator) slaveName(t *testing.T) string {
	t.Helper()
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", o.slave.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func TestK22(t *testing.T) {
	row(t, "K22")
	const evil = "\x1b]52;c;cm0gLXJmIC8=\a\x1bP$q\"p\x1b\\\x9b31m"
	name := "k22-painter"
	// Its name as a process is hostile as well.
	const prints = "\x1b]0;x\a\x1b[31mred\n"
	detached(t, name, "-e", "X="+evil, denImage, "sh", "-c",
		`printf '\033]0;x\a\033[31mred\n'; printf '\033]0;x' >/proc/self/comm; sleep 600 & wait`, evil)
	patient(t, func() error {
		if a := here.Run("logs", name); a.Stdout != prints {
			return fmt.Errorf("the log of a pipe is not what was printed: %s", a)
		}
		return nil
	})
	for _, args := range [][]string{
		{"ps", "-a", "--no-trunc"},
		{"ps", "-a", "--no-trunc", "--format", "{{.Command}} {{.Names}} {{.Labels}}"},
		{"ps", "-a", "--format", "json"},
		{"inspect", name},
		{"inspect", "--format", "{{json .Config.Cmd}} {{json .Config.Env}}", name},
		{"top", name},
		{"stats", "--no-stream", name},
		{"events", "--since", "1h", "--until", "0s"},
		{"run", "--rm", denImage, evil},
		{"run", "--rm", evil},
		{"run", "--rm", "--name", evil, denImage},
		{"run", "--rm", "-w", "/" + evil, denImage, "true"},
		{"run", "--rm", "-u", evil, denImage, "true"},
		{"run", "--rm", "-v", "/" + evil + ":/x", denImage, "true"},
		{"exec", name, evil},
		{"exec", evil, "true"},
		{"logs", evil},
		{"rm", evil},
		{"--" + evil},
		{evil},
	} {
		a := here.Run(args...)
		if strings.ContainsFunc(a.Stdout+a.Stderr, func(r rune) bool { return r == 0x1b || r == 7 || r == 0x9b }) || strings.Contains(a.Stdout+a.Stderr, "\x9b3") {
			t.Errorf("%q: escape codes: %q %q", args, a.Stdout, a.Stderr)
		}
	}
}
