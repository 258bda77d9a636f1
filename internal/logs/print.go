package logs

import (
	"bufio"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// Query is what to read of a log, and how to print it.
type Query struct {
	Since, Until   time.Time // the zero time is no bound; both belong to the span
	Tail           int       // number of last entries; negative is all
	Follow         bool      // go on while the container lives
	Stdout, Stderr bool
	Timestamps     bool // before each line
	Details        bool // before each line: the labels and variables noted with it
}

// fixedNano is docker's time of a line: always nine digits.
const fixedNano = "2006-01-02T15:04:05.000000000Z07:00"

// printer prints entries as docker logs does.
type printer struct {
	q       Query
	to      [2]io.Writer
	out     *bufio.Writer // of the stream printed last
	outs    [2]*bufio.Writer
	middle  [2]bool // the last entry of the stream was part of a line
	scratch []byte
}

func newPrinter(q Query, stdout, stderr io.Writer) *printer {
	return &printer{q: q, to: [2]io.Writer{stdout, stderr}}
}

// past tells that an entry of this time, and so all later ones, are not asked for.
func (p *printer) past(t time.Time) bool { return !p.q.Until.IsZero() && t.After(p.q.Until) }

// print prints an entry that is asked for.
func (p *printer) print(e *entry) error {
	if e.time.Before(p.q.Since) || (e.stream == Stdout && !p.q.Stdout) || (e.stream == Stderr && !p.q.Stderr) {
		return nil
	}
	i := e.stream - 1
	if p.outs[i] == nil {
		p.outs[i] = bufio.NewWriterSize(p.to[i], 64<<10)
	}
	if p.out != p.outs[i] {
		// The two may be one terminal: what was printed first shows first.
		if err := p.flush(); err != nil {
			return err
		}
		p.out = p.outs[i]
	}
	b := p.scratch[:0]
	if !p.middle[i] {
		if p.q.Timestamps {
			b = append(e.time.AppendFormat(b, fixedNano), ' ')
		}
		if p.q.Details {
			b = appendDetails(b, e.attrs)
		}
	}
	p.scratch = b
	p.middle[i] = len(e.text) > 0 && e.text[len(e.text)-1] != '\n'
	_, _ = p.out.Write(b) // the next error is the same
	_, err := p.out.Write(e.text)
	return printing(err)
}

func (p *printer) flush() error {
	if p.out == nil {
		return nil
	}
	return printing(p.out.Flush())
}

// errGone: nobody reads what is printed. It is the end, not a failure.
var errGone = errors.New("nobody reads the output")

func printing(err error) error {
	if errors.Is(err, unix.EPIPE) {
		return errGone
	}
	return fail.Wrap(fail.HostCannot, err, "printing")
}

// hungUp tells of polled outputs whether the other end of one is closed.
func hungUp(fds []unix.PollFd) bool {
	for _, f := range fds {
		if f.Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0 {
			return true
		}
	}
	return false
}

// outputs are the descriptors of outputs, to watch for a hang-up.
func (p *printer) outputs() []unix.PollFd {
	var fds []unix.PollFd
	for _, w := range p.to {
		if f, ok := w.(*os.File); ok {
			fds = append(fds, unix.PollFd{Fd: int32(f.Fd())})
		}
	}
	return fds
}

func pollNow(fds []unix.PollFd) []unix.PollFd {
	_, _ = unix.Poll(fds, 0) // an error leaves no events
	return fds
}
