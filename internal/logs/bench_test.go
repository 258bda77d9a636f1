package logs

import (
	"bytes"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkWrite is the speed of json-file in bytes of output, chunks of 64 KiB.
func BenchmarkWrite(b *testing.B) {
	for _, line := range []string{"y\n", "a line of some forty bytes, as logs have\n", string(bytes.Repeat([]byte{'x'}, 200)) + "\n", "\x1b[1m\xff\"bin\"\x00\n"} {
		b.Run(fmt.Sprintf("%d", len(line)), func(b *testing.B) {
			dir := b.TempDir()
			if d := os.Getenv("LOGS_BENCH_DIR"); d != "" {
				var err error
				if dir, err = os.MkdirTemp(d, "logs"); err != nil {
					b.Fatal(err)
				}
				defer os.RemoveAll(dir)
			}
			c, _ := Parse("", nil)
			c.Dir = dir + "/log"
			l, err := Open(c, Meta{})
			if err != nil {
				b.Fatal(err)
			}
			chunk := bytes.Repeat([]byte(line), 64<<10/len(line))
			b.SetBytes(int64(len(chunk)))
			b.ReportAllocs()
			used, n := cpu(), 0
			for b.Loop() {
				_ = l.Write(Stdout, chunk)
				n += len(chunk)
			}
			b.ReportMetric(float64(n)/1e6/(cpu()-used).Seconds(), "MB/cpu-s")
			_ = l.Close()
		})
	}
}

// BenchmarkEncode is the part of it that does not write.
func BenchmarkEncode(b *testing.B) {
	c, _ := Parse("", nil)
	f, _ := newFiles(c, Meta{}, &drops{})
	f.buf = make([]byte, 0, flushAt+entrySize)
	f.tail = append(f.middle[0], `2026-01-02T03:04:05.123456789Z"}`+"\n"...)
	chunk := bytes.Repeat([]byte("y\n"), 32<<10)
	b.SetBytes(int64(len(chunk)))
	used, n := cpu(), 0
	for b.Loop() {
		n += f.lines(Stdout, chunk)
	}
	b.ReportMetric(float64(n)/1e6/(cpu()-used).Seconds(), "MB/cpu-s")
}

// cpu is the processor time used: a busy machine does not blur it.
func cpu() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
