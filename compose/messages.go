package compose

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/compose-spec/compose-go/v2/errdefs"
	"github.com/sirupsen/logrus"
)

// messageKeys finds a key path in a message of the loader.
func messageKeys() *regexp.Regexp {
	return regexp.MustCompile(`\b(services|networks|volumes|secrets|configs|include|name|version)((\.|\[)[^\s:,"'\]]+\]?)*`)
}

// loaderProblem finds the place an error of compose-go is about.
func (l *loading) loaderProblem(err error) Problem {
	text := err.Error()
	for _, s := range l.sources {
		text = strings.ReplaceAll(text, "validating "+s.path+": ", "")
	}
	path := []string{}
	if m := messageKeys().FindString(text); strings.Contains(m, ".") {
		for part := range strings.SplitSeq(strings.NewReplacer("[", ".[").Replace(m), ".") {
			if part != "" {
				path = append(path, part)
			}
		}
		// The numbers of items stand between dots as well.
		for i, p := range path {
			if _, err := strconv.Atoi(p); err == nil {
				path[i] = "[" + p + "]"
			}
		}
	} else if m := regexp.MustCompile(`\b(service|network|volume|secret|config) "?([a-zA-Z0-9._-]+)"?`).FindStringSubmatch(text); m != nil {
		path = []string{m[1] + "s", m[2]}
	} else if m := regexp.MustCompile(`cycle detected: (\S+) -> `).FindStringSubmatch(text); m != nil {
		path = []string{"services", m[1], "depends_on"}
	} else if m := regexp.MustCompile(`required variable ([A-Za-z0-9_]+) `).FindStringSubmatch(text); m != nil {
		return Problem{Place: l.variable(m[1]), Text: text}
	}
	p := Problem{Place: l.place(Place{File: l.sources[len(l.sources)-1].path})}
	if len(path) > 0 {
		p.Place, p.Key = l.where(path, nil)
	}
	for _, before := range []string{"error while interpolating ", keyPath(path), p.Key, ":", "failed to cast to expected type:"} {
		text = strings.TrimSpace(strings.TrimPrefix(text, before))
	}
	p.Text = strings.TrimSuffix(text, ": "+errdefs.ErrInvalid.Error())
	return p
}

// loaderError is for what keeps the files from being merged.
func (l *loading) loaderError(err error) error {
	list := []error{err}
	if joined, is := err.(interface{ Unwrap() []error }); is {
		list = joined.Unwrap()
	}
	for _, e := range list {
		l.problem(l.loaderProblem(e))
	}
	return l.problems.err()
}

// warning makes a note of what compose-go logs.
func (l *loading) warning(text string) {
	n := Note{Text: printable(text)}
	switch {
	case strings.Contains(text, "the attribute `version` is obsolete"):
		return // it has no effect; said in the table
	case strings.HasPrefix(text, "The \"") && strings.Contains(text, "variable is not set"):
		_, name, _ := strings.Cut(text, `"`)
		name, _, _ = strings.Cut(name, `"`)
		n = Note{l.place(l.variable(name)), fmt.Sprintf("the variable %s is not set; it is taken as empty", printable(name))}
	}
	if l.out != nil && !slices.Contains(l.out.Notes, n) {
		l.out.Notes = append(l.out.Notes, n)
	}
}

// logging guards the one logger compose-go has.
var logging sync.Mutex

// captured runs f and gives what is logged meanwhile, which goes nowhere else.
func captured(f func()) []string {
	logging.Lock()
	defer logging.Unlock()
	std := logrus.StandardLogger()
	out, level, hooks := std.Out, std.GetLevel(), std.ReplaceHooks(logrus.LevelHooks{})
	hook := &collect{}
	std.SetOutput(io.Discard)
	std.SetLevel(logrus.WarnLevel)
	std.AddHook(hook)
	defer func() {
		std.ReplaceHooks(hooks)
		std.SetOutput(out)
		std.SetLevel(level)
	}()
	f()
	return hook.lines
}

// collect keeps lines that are logged, each once.
type collect struct{ lines []string }

func (c *collect) Levels() []logrus.Level { return logrus.AllLevels }

func (c *collect) Fire(e *logrus.Entry) error {
	if len(c.lines) < maxFiles && !slices.Contains(c.lines, e.Message) {
		c.lines = append(c.lines, e.Message)
	}
	return nil
}
