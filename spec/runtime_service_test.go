package spec

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The real runtime makes the mount points below /run, and a program that is
// not root uses what is there.
func TestRuntimeService(t *testing.T) {
	in := hostInput(t)
	in.ID = testID(t)
	host := t.TempDir()
	for d := host; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755))
	}
	root := int(in.IDs.HostUID)
	in.Files.Secrets = filepath.Join(host, "secrets")
	must(t, os.Mkdir(in.Files.Secrets, 0o755))
	must(t, os.WriteFile(filepath.Join(in.Files.Secrets, "db"), []byte("hunter2"), 0o400))
	must(t, os.Chown(filepath.Join(in.Files.Secrets, "db"), root+1000, root+1000))
	in.Files.Activate = filepath.Join(host, "activate")
	must(t, os.WriteFile(in.Files.Activate, []byte("#!/bin/sh\necho activated\nexec \"$@\"\n"), 0o755))
	in.Files.Notify, in.Files.ActivateSocket = filepath.Join(host, "n"), filepath.Join(host, "a")
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: in.Files.Notify, Net: "unixgram"})
	must(t, err)
	defer notify.Close()
	listen, err := net.Listen("unix", in.Files.ActivateSocket)
	must(t, err)
	defer listen.Close()
	for _, p := range []string{in.Files.Notify, in.Files.ActivateSocket} {
		must(t, os.Chown(p, root+1000, root+1000))
	}
	in.Workload.Secrets, in.Workload.SDNotify = []Secret{{ID: "db"}}, NotifyContainer
	in.User = User{UID: 1000, GID: 1000}
	in.Workload.Args = []string{"/bin/probe"}

	probe := filepath.Join(t.TempDir(), "probe")
	c := exec.Command("go", "build", "-o", probe, "./testdata/service")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dir := bundle(t, in, probe)
	out, code := run(t, dir, buildVerified(t, in))
	t.Logf("exit %d\n%s", code, out)
	for _, want := range []string{"activated\n", "hunter2 <nil>", "open /run/secrets/x: read-only file system", "notify <nil>", "socket <nil>"} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q", want)
		}
	}
	must(t, notify.SetReadDeadline(time.Now().Add(time.Second)))
	b := make([]byte, 64)
	if n, err := notify.Read(b); string(b[:n]) != "READY=1" {
		t.Errorf("%q %v", b[:n], err)
	}
}
