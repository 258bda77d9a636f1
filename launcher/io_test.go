package launcher

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// ended gives the stdio of a container that wrote b to its standard output
// and ended.
func ended(t *testing.T, to *os.File, b []byte) *stdio {
	t.Helper()
	s := Streams{Out: to}
	p, err := newStdio(t.TempDir(), s, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	shim, err := os.OpenFile(p.out, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.start(s, nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := shim.Write(b); err != nil {
		t.Fatal(err)
	}
	shim.Close()
	return p
}

// TestDrainWaitsForSlowReader: output is not lost because its reader takes
// longer than the shim may, as a pager does.
func TestDrainWaitsForSlowReader(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("0123456789abcdef"), 9<<10) // fills the pipe, the FIFO and a buffer
	p := ended(t, w, want)
	got := make(chan []byte)
	go func() {
		time.Sleep(300 * time.Millisecond)
		b, _ := io.ReadAll(r)
		got <- b
	}()
	if err := p.drain(50*time.Millisecond, nil); err != nil {
		t.Error(err)
	}
	w.Close()
	if b := <-got; !bytes.Equal(b, want) {
		t.Errorf("%d bytes of %d", len(b), len(want))
	}
}

func TestDrainTellsLostOutput(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	err = ended(t, full, []byte("x")).drain(time.Second, nil)
	if !errors.Is(err, unix.ENOSPC) || fail.KindOf(err) != fail.NoStatus {
		t.Errorf("%v", err)
	}
}

func TestDrainEnds(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	signals := make(chan os.Signal, 2)
	signals <- unix.SIGWINCH
	signals <- unix.SIGTERM
	p := ended(t, w, make([]byte, 140<<10))
	if err := p.drain(time.Second, signals); fail.KindOf(err) != fail.Interrupted {
		t.Errorf("by a signal: %v", err)
	}
	r.Close() // lets the copier go

	// A shim that holds its end open and is silent is not waited for.
	p, err = newStdio(t.TempDir(), Streams{}, true)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	shim, err := os.OpenFile(p.out, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer shim.Close()
	if err := p.start(Streams{}, nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := p.drain(20*time.Millisecond, nil); err != nil {
		t.Errorf("silent shim: %v", err)
	}
}
