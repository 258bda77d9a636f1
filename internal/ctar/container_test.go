package ctar

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/spec"
	"github.com/safe-run/safe-run/tests/harness"
)

const insideWord = "container-end"

func TestMain(m *testing.M) {
	if slices.Contains(os.Args, insideWord) {
		if err := Serve(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// ids are not those of any user of the host.
func ids() spec.IDBlock { return spec.IDBlock{HostUID: 7_000_000, HostGID: 7_100_000, Size: 65536} }

// rootDir is a container's root directory, owned by its root.
func rootDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chown(dir, 7_000_000, 7_100_000); err != nil {
		t.Fatal(err)
	}
	return dir
}

func start(t *testing.T, dir string) *Container {
	t.Helper()
	root, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	c, err := Start(context.Background(), []string{insideWord}, root, ids(), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestConfined(t *testing.T) {
	dir := rootDir(t)
	c := start(t, dir)
	if _, err := c.Source("/", false); err != nil {
		t.Fatal(err)
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", c.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var status []byte // of the thread that works: the only one if built with cgo
	for _, p := range threads {
		if b, err := os.ReadFile(p); err == nil && (status == nil || bytes.Contains(b, []byte("NoNewPrivs:\t1"))) {
			status = b
		}
	}
	for _, want := range []string{
		"Uid:\t7000000\t7000000\t7000000\t7000000\n", "Gid:\t7100000\t7100000\t7100000\t7100000\n", "Groups:\t \n",
		"CapPrm:\t000000000000000b\n", "CapEff:\t000000000000000b\n", "NoNewPrivs:\t1\n",
	} {
		if !strings.Contains(string(status), want) {
			t.Errorf("no %q in %s", want, status)
		}
	}
	if root, err := os.Readlink(fmt.Sprintf("/proc/%d/root", c.cmd.Process.Pid)); err != nil || root != dir {
		t.Errorf("root directory %q %v", root, err)
	}
	// What belongs to others stays theirs, whatever their number: the host's root has none here.
	err = errors.Join(os.WriteFile(dir+"/secret", []byte("host"), 0o600), os.Mkdir(dir+"/closed", 0o755))
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Pack("/secret", false, "secret", func(r io.Reader) (Problems, error) {
		b, err := io.ReadAll(r)
		if bytes.Contains(b, []byte("host")) {
			t.Error("the host's file was read")
		}
		return Problems{}, err
	})
	if err != nil || p.Count != 1 {
		t.Errorf("%+v %v", p, err)
	}
	_, err = start(t, dir).Unpack("/closed", "", false, func(w io.Writer) (Problems, error) {
		_, err := w.Write(archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "x"}))
		return Problems{}, err
	})
	if err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("written into the host's directory: %v", err)
	}
}

// TestSwaps copies while a directory and a link to the host's are exchanged.
func TestSwaps(t *testing.T) {
	dir := rootDir(t)
	_, outside := canary(t)
	// All may read and write there: only the way does not lead there.
	err := errors.Join(os.Chmod(outside, 0o777), os.Mkdir(dir+"/d", 0o777), os.Chmod(dir+"/d", 0o777), os.WriteFile(dir+"/d/f", []byte("mine"), 0o666),
		os.Symlink(strings.Repeat("../", 40)+outside, dir+"/l"))
	if err != nil {
		t.Fatal(err)
	}
	defer harness.Exchange(dir+"/d", dir+"/l")()
	read, written := 0, 0
	for i := range 60 {
		for _, p := range []string{"/d/f", "/d/.", "/d"} {
			_, _ = start(t, dir).Pack(p, i%2 == 0, "x", func(r io.Reader) (Problems, error) {
				b, err := io.ReadAll(r)
				if bytes.Contains(b, []byte("host")) {
					t.Error("read from outside")
				}
				if bytes.Contains(b, []byte("mine")) {
					read++
				}
				return Problems{}, err
			})
		}
		_, err := start(t, dir).Unpack("/d", "", false, func(w io.Writer) (Problems, error) {
			_, err := w.Write(archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "g"}, tar.Header{Typeflag: tar.TypeReg, Name: "s/g"}))
			return Problems{}, err
		})
		if err == nil {
			written++
		}
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Fatalf("written outside: %v %v", entries, err)
	}
	if read == 0 || written == 0 {
		t.Errorf("%d read and %d written: the loop leaves no chance", read, written)
	}
}

// TestEnds: both sides end when the other does.
func TestEnds(t *testing.T) {
	dir := rootDir(t)
	if err := os.WriteFile(dir+"/f", make([]byte, 10<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	full := errors.New("no space")
	_, err := start(t, dir).Pack("/f", false, "f", func(io.Reader) (Problems, error) { return Problems{}, full })
	if !errors.Is(err, full) {
		t.Error(err)
	}
	c := start(t, dir)
	_, err = c.Pack("/f", false, "f", func(r io.Reader) (Problems, error) {
		_ = c.cmd.Process.Signal(syscall.SIGKILL)
		_, err := io.Copy(io.Discard, r)
		return Problems{}, err
	})
	if err == nil {
		t.Error("a killed end is no error")
	}
	_, err = start(t, dir).Unpack("/missing", "", false, func(w io.Writer) (Problems, error) {
		_, err := io.Copy(w, neverEnding{})
		return Problems{}, err
	})
	if err == nil || err.Error() != "Could not find the file /missing in container test" {
		t.Error(err)
	}
}

type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) { return len(p), nil }
