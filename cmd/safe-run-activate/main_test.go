package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/systemd"
)

// The tests' program is also the one in the container (ACT=run) and the
// one that it executes (ACT=show).
func TestMain(m *testing.M) {
	switch os.Getenv("ACT") {
	case "run":
		_ = os.Setenv("ACT", "show")
		run(os.Getenv("SOCKET"), os.Args[1:])
	case "show":
		show()
		return
	}
	os.Exit(m.Run())
}

// show prints what it was given, and says hello on the first socket.
func show() {
	fmt.Println(os.Getenv("LISTEN_PID") == fmt.Sprint(os.Getpid()), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES"), os.Args[1:])
	files, _ := os.ReadDir("/proc/self/fd")
	for _, f := range files {
		to, _ := os.Readlink("/proc/self/fd/" + f.Name())
		fmt.Println(f.Name(), to)
	}
	if os.Getenv("LISTEN_FDS") == "" {
		return
	}
	if os.Getenv("ESCAPE") != "" {
		escape()
		return
	}
	l, err := net.FileListener(os.NewFile(3, "l"))
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := l.Accept()
	if err == nil {
		_, _ = c.Write([]byte("hello"))
		_ = c.Close()
	}
}

// escape tries to use the sockets for something else, and prints what came of
// it; it then does what must still work.
func escape() {
	port, _ := strconv.Atoi(os.Getenv("ESCAPE"))
	to := &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	disconnect := func(fd int) {
		var unspec [16]byte
		_, _, _ = unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unspec)), 16)
		_ = unix.SetNonblock(fd, false)
	}
	disconnect(3)
	fmt.Println("listener:", unix.Connect(3, to))
	disconnect(4)
	fmt.Println("bind:", unix.Bind(4, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	fmt.Println("accepted:", unix.Connect(4, to))
	disconnect(4)
	fmt.Println("fast open:", unix.Sendto(4, []byte("x"), unix.MSG_FASTOPEN, to))
	_, err := unix.SendmsgN(4, []byte("x"), nil, to, unix.MSG_FASTOPEN)
	fmt.Println("fast open:", err)
	dir, _ := os.MkdirTemp("", "")
	defer func() { _ = os.RemoveAll(dir) }()
	_ = os.Mkdir(dir+"/a", 0o700)
	_ = os.Mkdir(dir+"/b", 0o700)
	_ = os.WriteFile(dir+"/a/f", nil, 0o600)
	fmt.Println("rename:", os.Rename(dir+"/a/f", dir+"/b/f"))
}

// Sockets of the host's network are not for connecting out of the container.
func TestNoConnect(t *testing.T) {
	if !systemd.CanFence() {
		t.Fatal("this kernel has no Landlock for TCP: Linux 6.7 or newer is needed")
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "listener: <nil>\nbind: <nil>\naccepted: <nil>\nfast open: <nil>\nfast open: transport endpoint is already connected\nrename: <nil>\n"},
		{[]string{"--no-connect"}, "listener: permission denied\nbind: permission denied\naccepted: permission denied\nfast open: operation not permitted\nfast open: operation not permitted\nrename: <nil>\n"},
	} {
		target, l := listen(t), listen(t)
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = client.Close() }()
		accepted, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		var files []*os.File
		for _, c := range []interface{ File() (*os.File, error) }{l, accepted.(*net.TCPConn)} {
			f, err := c.File()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			files = append(files, f)
		}
		path := filepath.Join(t.TempDir(), "s")
		a, err := systemd.Activation(path, files, []string{"a", "b"})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		cmd := command(t, path, append(c.args, os.Args[0])...)
		cmd.Env = append(cmd.Env, fmt.Sprint("ESCAPE=", target.Addr().(*net.TCPAddr).Port))
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.HasSuffix(string(out), c.want) {
			t.Errorf("%q: %v\n%s", c.args, err, out)
		}
	}
}

// listen gives a listener like systemd's: Go's own are MPTCP.
func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	var c net.ListenConfig
	c.SetMultipathTCP(false)
	l, err := c.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.(*net.TCPListener)
}

func command(t *testing.T, socket string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(exe, args...)
	c.Env = []string{"ACT=run", "SOCKET=" + socket, "PATH=/bin:/usr/bin:" + filepath.Dir(exe), "LISTEN_PID=1", "LISTEN_FDNAMES=the image's"}
	return c
}

func TestGiven(t *testing.T) {
	const many = 40
	files, names := make([]*os.File, many), make([]string, many)
	var address string
	for i := range files {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		if files[i], err = l.(*net.TCPListener).File(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = files[i].Close() }()
		names[i] = fmt.Sprint("n", i)
		if i == 0 {
			address = l.Addr().String()
		}
	}
	path := filepath.Join(t.TempDir(), "s")
	a, err := systemd.Activation(path, files, names)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	leak, err := os.Create(filepath.Join(t.TempDir(), "leak"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = leak.Close() }()
	c := command(t, path, filepath.Base(os.Args[0]), "an", "argument")
	c.ExtraFiles = slices.Repeat([]*os.File{leak}, 60) // 3 to 62, without close-on-exec
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	<-a.Given()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(conn); string(b) != "hello" {
		t.Errorf("on the socket: %q", b)
	}
	b, _ := io.ReadAll(out)
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
	text := string(b)
	if !strings.HasPrefix(text, fmt.Sprintf("true %d %s [an argument]\n", many, strings.Join(names, ":"))) {
		t.Errorf("the program got %.300q", text)
	}
	if strings.Contains(text, "leak") {
		t.Errorf("a file was leaked: %s", text)
	}
	if n := strings.Count(text, "socket:"); n != many {
		t.Errorf("%d sockets are open, %d were given", n, many)
	}
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"plain": 0o644, "garbage": 0o755, "script": 0o755} {
		text := map[string]string{"script": "#!/nowhere\n", "garbage": "\x01\x02"}[name]
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(dir, "s")
	for _, c := range []struct {
		args []string
		code int
		text string
		give bool
	}{
		{nil, 125, "usage:", false},
		{[]string{"nosuchcommand"}, 127, `exec: "nosuchcommand": executable file not found in $PATH`, false},
		{[]string{""}, 127, `exec: "": executable file not found in $PATH`, false},
		{[]string{"/no/such"}, 127, `exec: "/no/such": stat /no/such: no such file or directory`, false},
		{[]string{dir + "/plain"}, 126, "permission denied", false},
		{[]string{dir}, 126, "is a directory", false},
		{[]string{"true"}, 125, "taking the sockets of systemd", false},
		{[]string{dir + "/garbage"}, 126, "exec format error", true},
		{[]string{dir + "/script"}, 127, "no such file or directory", true},
	} {
		if c.give {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			f, err := l.(*net.TCPListener).File()
			if err != nil {
				t.Fatal(err)
			}
			a, err := systemd.Activation(socket, []*os.File{f}, []string{"x"})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { a.Close(); _ = f.Close(); _ = l.Close() }()
		}
		cmd := command(t, socket, c.args...)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != c.code || !strings.Contains(string(out), c.text) {
			t.Errorf("%q: exit %d (%v), %q", c.args, cmd.ProcessState.ExitCode(), err, out)
		}
	}
}

// A further process has no sockets from here, and can do nothing with one that
// another hands it.
func TestFurther(t *testing.T) {
	if !systemd.CanFence() {
		t.Fatal("this kernel has no Landlock for TCP: Linux 6.7 or newer is needed")
	}
	target, l := listen(t), listen(t)
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(t, "/nowhere", "--no-sockets", os.Args[0])
	for _, c := range []interface{ File() (*os.File, error) }{l, accepted.(*net.TCPConn)} {
		f, err := c.File()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	cmd.Env = append(cmd.Env, "LISTEN_FDS=2", fmt.Sprint("ESCAPE=", target.Addr().(*net.TCPAddr).Port))
	out, err := cmd.CombinedOutput()
	const want = "listener: permission denied\nbind: permission denied\naccepted: permission denied\nfast open: operation not permitted\nfast open: operation not permitted\nrename: <nil>\n"
	if err != nil || !strings.HasSuffix(string(out), want) {
		t.Errorf("%v\n%s", err, out)
	}
}
