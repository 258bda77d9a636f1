package images

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/schollz/progressbar/v3"
)

// Progress is told how far a pull or load has come: a stage ("Downloading",
// "Loading", "Checking": bytes; "Unpacking": layers), and how much of how much
// is done. total is -1 if it is not known. It may be called from several
// goroutines. A nil Progress says nothing.
type Progress func(stage string, done, total int64)

func (p Progress) report(stage string, done, total int64) {
	if p != nil {
		p(stage, done, total)
	}
}

// adder gives a function that adds to done and reports.
func (p Progress) adder(stage string, total int64, done *int64) func(int) {
	return func(n int) { p.report(stage, atomic.AddInt64(done, int64(n)), total) }
}

// counter counts what is read through its readers.
type counter struct{ add func(int) }

func (c counter) reader(r io.Reader) io.Reader { return &countingReader{r, c.add} }

type countingReader struct {
	r   io.Reader
	add func(int)
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.add(n)
	return n, err
}

// Bar draws one line of progress on a terminal and wipes it at the end. out
// must be the terminal, standard error as a rule: nothing here ever writes to
// standard output. The second function must be called before anything else is
// printed there.
func Bar(out io.Writer, name string) (Progress, func()) {
	type update struct {
		stage       string
		done, total int64
	}
	updates := make(chan update, 1)
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		var bar *progressbar.ProgressBar
		var stage string
		for {
			select {
			case <-quit:
				if bar != nil {
					_ = bar.Clear()
				}
				return
			case u := <-updates:
				if u.stage != stage {
					stage = u.stage
					bar = progressbar.NewOptions64(u.total,
						progressbar.OptionSetWriter(out),
						progressbar.OptionSetDescription(fmt.Sprintf("%s %s", stage, cleanText(name))),
						progressbar.OptionShowBytes(stage != "Unpacking"),
						progressbar.OptionThrottle(65*time.Millisecond),
						progressbar.OptionClearOnFinish(),
						progressbar.OptionFullWidth())
				}
				_ = bar.Set64(u.done)
			}
		}
	}()
	report := func(stage string, done, total int64) {
		// The newest state is all that matters; a slow terminal must not slow
		// the work.
		select {
		case updates <- update{stage, done, total}:
		default:
		}
	}
	return report, func() { close(quit); <-ended }
}
