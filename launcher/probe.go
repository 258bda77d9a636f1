package launcher

import (
	"context"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
)

// Probe runs a command in a running container to see how it does: as the
// container's user, in its directory, without input, and confined as every
// exec is. It gives the exit code and the first limit bytes of what the
// command wrote to standard output and error together; what comes after that
// is read and dropped. If ctx ends first, the command and its session are
// killed, and err is the cause; the output up to then is given all the same.
// Other errors are those of Exec.
func (l *Launcher) Probe(ctx context.Context, rec store.Record, args []string, limit int) (code int, output []byte, err error) {
	x, err := l.newExec(l.context(ctx), rec, ExecRequest{Args: args})
	if err != nil {
		return 0, nil, err
	}
	defer x.close(ctx)
	if err := x.makeDir(); err != nil {
		return 0, nil, err
	}
	fifo := filepath.Join(x.dir.path, "stdout")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		return 0, nil, fail.Wrap(fail.HostCannot, err, "FIFO of the exec")
	}
	from, err := os.OpenFile(fifo, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, nil, fail.Wrap(fail.HostCannot, err, "FIFO of the exec")
	}
	defer from.Close()
	if err := x.start(l.context(ctx), "", fifo, fifo); err != nil {
		return 0, nil, err
	}
	defer relieve()
	read := make(chan []byte, 1)
	go func() { read <- readCapped(from, limit) }()

	type end struct {
		code uint32
		err  error
	}
	waiting, stop := context.WithCancel(l.context(context.WithoutCancel(ctx)))
	defer stop()
	exited := make(chan end, 1)
	go func() {
		code, err := x.await(waiting)
		exited <- end{code, err}
	}()
	failed := x.attest()
	if failed != nil {
		x.signal(unix.SIGKILL)
	}
	var e end
	select {
	case e = <-exited:
	case <-ctx.Done():
		failed = context.Cause(ctx)
		x.signal(unix.SIGKILL)
		select {
		case e = <-exited:
		case <-time.After(stopTimeout): // stuck in the kernel
		}
	}
	// The shim has what the command wrote; what its children still write is
	// not waited for.
	_ = from.SetReadDeadline(time.Now().Add(probeDrain))
	output = <-read
	if failed == nil {
		failed = engineError(e.err, "waiting for the command")
	}
	return int(e.code), output, failed
}

// probeDrain is how long after the end of a probe its output is read.
const probeDrain = 500 * time.Millisecond

// readCapped reads to the end and keeps the first limit bytes.
func readCapped(from *os.File, limit int) []byte {
	var kept []byte
	chunk := make([]byte, 8<<10)
	for {
		n, err := from.Read(chunk)
		if room := limit - len(kept); room > 0 {
			kept = append(kept, chunk[:min(n, room)]...)
		}
		if err != nil {
			return kept
		}
	}
}

// relieve gives memory back to the host once enough of it is unused to be
// worth a collection. A probe leaves some 100 KiB, and the collector, which is
// to spare short launches its work, would let them become many MiB.
func relieve() {
	const worth = 256 << 10 // bytes
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	for _, m := range s {
		if m.Value.Kind() != metrics.KindUint64 {
			return
		}
	}
	if s[0].Value.Uint64()+s[1].Value.Uint64() > s[2].Value.Uint64()+worth {
		debug.FreeOSMemory()
	}
}
