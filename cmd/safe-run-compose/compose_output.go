package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"

	xterm "golang.org/x/term"

	"github.com/safe-run/safe-run/internal/plain"
)

// lineMax is how much of a line is kept back for its end, in bytes.
const lineMax = 64 << 10

// prefixed writes lines with a name before each. Several write to one place:
// the lock is theirs together.
type prefixed struct {
	to     io.Writer
	mu     *sync.Mutex
	prefix string
	clean  bool // what steers a terminal is taken out: a line could pass for another's
	rest   []byte
}

func (p *prefixed) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		switch {
		case i >= 0:
			if err := p.line(append(p.rest, b[:i]...)); err != nil {
				return 0, err
			}
			p.rest, b = p.rest[:0], b[i+1:]
		case len(p.rest)+len(b) > lineMax:
			room := lineMax - len(p.rest)
			if err := p.line(append(p.rest, b[:room]...)); err != nil {
				return 0, err
			}
			p.rest, b = p.rest[:0], b[room:]
		default:
			p.rest, b = append(p.rest, b...), nil
		}
	}
	return n, nil
}

// close writes what is left without an end.
func (p *prefixed) close() {
	if len(p.rest) > 0 {
		_ = p.line(p.rest)
		p.rest = nil
	}
}

func (p *prefixed) line(l []byte) error {
	if p.clean {
		l = []byte(plain.Line(strings.TrimSuffix(paint.ReplaceAllString(string(l), ""), "\r")))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.to.Write(append(append([]byte(p.prefix), l...), '\n'))
	return err
}

// paint is what sets colours: it is left out, and not shown as something odd.
var paint = regexp.MustCompile("\x1b\\[[0-9;:]*m")

// outputs are where the lines of containers go.
type outputs struct {
	mu     sync.Mutex
	width  int
	plain  bool // no names
	colour bool
	clean  [2]bool // stdout and stderr are terminals
	n      int
}

// outputsFor are those for containers of these names. Tabs within lines stay
// where no terminal is.
func (a *app) outputsFor(names []string, noPrefix, noColour bool) *outputs {
	o := &outputs{plain: noPrefix}
	for _, n := range names {
		o.width = max(o.width, len(n))
	}
	o.clean = [2]bool{xterm.IsTerminal(int(os.Stdout.Fd())), xterm.IsTerminal(int(os.Stderr.Fd()))}
	o.colour = a.ansi == "always" || a.ansi != "never" && o.clean[0] && os.Getenv("NO_COLOR") == ""
	o.colour = o.colour && !noColour
	return o
}

// of gives the two streams of a container.
func (o *outputs) of(name string) (stdout, stderr *prefixed) {
	prefix := ""
	if !o.plain {
		prefix = fmt.Sprintf("%-*s | ", o.width, plain.Line(name))
		if o.colour {
			colours := []int{36, 33, 32, 35, 34, 96, 93, 92, 95, 94}
			prefix = fmt.Sprintf("\x1b[%dm%s\x1b[0m", colours[o.n%len(colours)], prefix)
			o.n++
		}
	}
	// Without names there is nothing to pass for: the bytes are those of logs.
	clean := func(i int) bool { return !o.plain && (o.clean[i] || o.colour) }
	return &prefixed{to: os.Stdout, mu: &o.mu, prefix: prefix, clean: clean(0)},
		&prefixed{to: os.Stderr, mu: &o.mu, prefix: prefix, clean: clean(1)}
}

// shown is the name of a container before its lines: without the project's.
func shown(project, name string) string {
	return strings.TrimPrefix(name, project+"-")
}
