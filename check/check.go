// Package check grades the launches that stand in files: docker run and its
// like in shell scripts, systemd units, quadlets and compose files. It says
// what safe-run would refuse of each, what it would not honour, and writes the
// line that would be run. Nothing of a file is executed, no file it names is
// opened, and no variable is asked for.
//
// A launch may be for another host, so what a path or a device is goes by its
// spelling. What is not known before it runs (variables, specifiers, command
// substitutions) is said to be unknown.
package check

import (
	"bytes"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/policy"
)

// MaxFile is the largest file that is looked at, in bytes.
const MaxFile = 256 << 10

// Bounds for hostile files. No honest one comes near them.
const (
	maxLaunches = 1000
	maxWords    = 512   // of one launch, before its image
	maxFlags    = 20000 // of one file
)

// Type is a kind of file.
type Type string

// The types there are.
const (
	Shell   Type = "shell"
	Unit    Type = "unit"    // of systemd
	Quadlet Type = "quadlet" // a .container file of podman
	Compose Type = "compose"
)

// Known says whether there is such a type.
func Known(t Type) bool { return t == Shell || t == Unit || t == Quadlet || t == Compose }

// Options are what launches are judged by.
type Options struct {
	Site  policy.Site
	Type  Type     // "": by name and content
	Verbs []string // of safe-run, besides run: their lines are no launches
}

// Report is what was found in one file.
type Report struct {
	File     string   `json:"file"`
	Type     Type     `json:"type"`
	Launches []Launch `json:"launches"`
	Remarks  []Remark `json:"remarks,omitempty"` // on the file
}

// Verdict sums a launch up, worst first.
type Verdict string

// The verdicts.
const (
	Refused     Verdict = "refused"      // safe-run would not run it
	NotHonoured Verdict = "not honoured" // nothing dangerous, but a flag safe-run cannot honour, so it would not run it either
	Unknown     Verdict = "unknown"      // nothing known is refused; what matters is not all known
	Accepted    Verdict = "accepted"
)

// Launch is one container a file would start.
type Launch struct {
	Line    int     `json:"line"`
	Command string  `json:"command"` // "docker run", or "compose service NAME"
	Image   string  `json:"image,omitempty"`
	Verdict Verdict `json:"verdict"`

	Refused     []Refusal `json:"refused,omitempty"`
	NotHonoured []Remark  `json:"not_honoured,omitempty"`
	Unknown     []Remark  `json:"unknown,omitempty"` // values nobody knows before it runs

	// Rewritten is the least safe-run command of it: without what is refused,
	// not honoured, or the default of safe-run anyway.
	Rewritten string   `json:"rewritten"`
	Changes   []Change `json:"changes,omitempty"`
	Notes     []string `json:"notes,omitempty"`
}

// Refusal is what the policy has against a flag.
type Refusal struct {
	Line int `json:"line"`
	policy.Refusal
}

// Remark is a flag or key, and what there is to say about it.
type Remark struct {
	Line int    `json:"line"`
	Flag string `json:"flag"`
	Why  string `json:"why,omitempty"`
}

// Change is a flag the rewritten line has not, or has in another form.
type Change struct {
	Line int    `json:"line"`
	Flag string `json:"flag"`
	Now  string `json:"now,omitempty"` // "": left out
	Why  string `json:"why"`           // id of the refusal, "not honoured" or "default"
}

// Look finds and judges the launches of a file with this name and content.
// An error is of kind Usage: the content is not what its type says, and the
// message has the line.
func Look(name string, data []byte, o Options) (r *Report, err error) {
	t := o.Type
	if t == "" {
		t = guess(name, data)
	}
	shown := short(name, 200)
	if len(data) > MaxFile {
		return nil, fail.New(fail.Usage, "%s: larger than %d KiB", shown, MaxFile>>10)
	}
	if i := bytes.IndexByte(data, 0); i >= 0 || !utf8.Valid(data) {
		return nil, fail.New(fail.Usage, "%s: not text", shown).Hint("it takes shell scripts, units, quadlets and compose files, in UTF-8")
	}
	c := &checker{o: o, file: shown, r: &Report{File: shown, Type: t, Launches: []Launch{}}}
	c.table, c.prefixes, c.seen = flagTable(), prefixes(), map[string]answer{}
	defer func() {
		// The parsers are not ours; a panic of theirs is a file that is not understood.
		if p := recover(); p != nil {
			r, err = nil, fail.New(fail.Usage, "%s: cannot be parsed as %s", shown, t)
		}
	}()
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	switch t {
	case Shell:
		err = c.shell(string(data))
	case Unit:
		err = c.unit(string(data))
	case Quadlet:
		err = c.quadlet(string(data))
	case Compose:
		err = c.compose(data)
	default:
		return nil, fail.New(fail.Usage, "there is no type %.40q", string(t)).Hint("it is shell, unit, compose or quadlet")
	}
	if err != nil {
		return nil, err
	}
	return c.r, nil
}

// checker is the state of one Look.
type checker struct {
	o     Options
	file  string
	r     *Report
	flags int // looked at so far

	table    map[string]*cli.Flag
	prefixes map[string]prefix
	seen     map[string]answer // command lines parsed and reviewed
}

// wrong is an error with its place.
func (c *checker) wrong(line int, format string, args ...any) *fail.Error {
	e := fail.New(fail.Usage, format, args...)
	e.Msg = c.file + ":" + itoa(line) + ": " + short(e.Msg, 500)
	return e
}

// add judges a launch and puts it into the report.
func (c *checker) add(l *launch) error {
	if len(c.r.Launches) >= maxLaunches {
		return c.wrong(l.line, "more than %d launches", maxLaunches)
	}
	c.flags += len(l.flags) + 1
	if len(l.flags) > maxWords || c.flags > maxFlags {
		return c.wrong(l.line, "too many flags")
	}
	c.r.Launches = append(c.r.Launches, c.judge(l))
	return nil
}

func (c *checker) remark(line int, flag, why string) {
	if len(c.r.Remarks) < 100 {
		c.r.Remarks = append(c.r.Remarks, Remark{line, short(flag, 200), why})
	}
}

// guess tells the type by the name, else by the content.
func guess(name string, data []byte) Type {
	switch path.Ext(name) {
	case ".sh", ".bash":
		return Shell
	case ".yml", ".yaml":
		return Compose
	case ".service", ".socket", ".timer", ".mount", ".swap":
		return Unit
	case ".container":
		return Quadlet
	case ".conf": // a drop-in
		if strings.Contains(name, ".service.d/") {
			return Unit
		}
	}
	head := data[:min(len(data), 64<<10)]
	if bytes.HasPrefix(head, []byte("#!")) {
		return Shell
	}
	t := Shell
	for line := range bytes.Lines(head) {
		switch s := strings.TrimRight(string(line), " \t\r\n"); s {
		case "[Container]":
			return Quadlet
		case "[Service]":
			t = Unit
		case "services:":
			return Compose
		}
	}
	return t
}
