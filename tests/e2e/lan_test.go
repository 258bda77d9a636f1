package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/tests/harness"
)

// ownNetNS runs the tests again in a network namespace of their own, after
// what needs the machine's.
func ownNetNS(before func() error) error {
	const mark = "SAFE_RUN_E2E_NETNS"
	if os.Getenv(mark) != "" {
		return nil
	}
	if err := before(); err != nil {
		return err
	}
	return syscall.Exec("/usr/bin/unshare", append([]string{"unshare", "--net"}, os.Args...), append(os.Environ(), mark+"=1"))
}

// background is a container that runs beside the test.
type background struct {
	cmd    *exec.Cmd
	id     string
	stderr *bytes.Buffer
}

// beside runs a container until the test ends; ready is waited for.
func beside(t *testing.T, ready func() error, args ...string) *background {
	t.Helper()
	cid := t.TempDir() + "/cid"
	b := &background{stderr: &bytes.Buffer{}}
	b.cmd = exec.Command(here.bin, append([]string{"--rm", "--init", "--cidfile", cid}, args...)...)
	b.cmd.Stderr = b.stderr
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.end)
	var err error
	for end := time.Now().Add(patient(10 * time.Second)); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var id []byte
		if id, err = os.ReadFile(cid); err != nil || len(id) == 0 { // it is made empty
			continue
		}
		b.id = string(id)
		if ready == nil {
			return b
		}
		if err = ready(); err == nil {
			return b
		}
	}
	b.end()
	t.Fatalf("the container is not ready: %v\n%s", err, b.stderr)
	return nil
}

func (b *background) end() {
	if b.cmd.ProcessState != nil {
		return
	}
	_ = b.cmd.Process.Signal(unix.SIGTERM)
	done := make(chan struct{})
	go func() { _ = b.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(patient(10 * time.Second)):
		_ = b.cmd.Process.Kill()
		<-done
	}
}

// web is the command line of a small web server in the container, as root of
// the container with the one capability that port 80 needs.
func web(flags ...string) []string {
	return append(append([]string{"--cap-add", "NET_BIND_SERVICE"}, flags...),
		"busybox", "sh", "-c", "echo served >/tmp/index.html; exec httpd -f -p 80 -h /tmp")
}

// answers waits until a page says "served".
func answers(url string, from *harness.Lan) func() error {
	return func() error {
		body, err := harness.Get(url, from)
		if err == nil && body != "served\n" {
			err = fmt.Errorf("%q", body)
		}
		return err
	}
}
