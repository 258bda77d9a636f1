package learn

import (
	"strconv"
	"strings"
	"testing"
)

func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		r, err := Open(Denials)
		if err != nil {
			b.Fatal(err)
		}
		_ = r.Close()
	}
}

// BenchmarkCall gives the processor time of a system call, of a process of the
// host and of one in a container, with and without a recorder.
func BenchmarkCall(b *testing.B) {
	const n = 1_000_000
	inside := func(b *testing.B, r *Recorder) float64 {
		s := start(b, container{Loop: n})
		if r != nil {
			if err := r.Follow(s.cmd.Process.Pid); err != nil {
				b.Fatal(err)
			}
		}
		ns, err := strconv.ParseFloat(strings.TrimSpace(s.run(b)), 64)
		if err != nil {
			b.Fatal(err)
		}
		return ns
	}
	for _, mode := range []struct {
		name string
		mode Mode
	}{{"without", -1}, {"denials", Denials}, {"everything", Everything}} {
		b.Run(mode.name, func(b *testing.B) {
			for b.Loop() {
				var r *Recorder
				if mode.mode >= 0 {
					r = open(b, mode.mode)
				}
				b.ReportMetric(callCost(n), "outside-ns/call")
				b.ReportMetric(inside(b, r), "inside-ns/call")
				if r != nil {
					_ = r.Close()
				}
			}
		})
	}
}
