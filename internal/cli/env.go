package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// maxKVFile bounds an --env-file or --label-file in bytes. The kernel gives a
// process at most 6 MiB of arguments and environment together.
const maxKVFile = 4 << 20

// setEnv takes NAME=VALUE, or NAME alone: the caller's value, or removed from
// the container's environment if the caller has none.
func (p *parser) setEnv(v string) error {
	name, val, ok := strings.Cut(v, "=")
	if err := checkVarName(name); err != nil {
		return err
	}
	e := spec.EnvVar{Name: name, Value: &val}
	if !ok {
		if spec.ServiceVariable(name) {
			return callersService(name)
		}
		if val, ok = p.ctx.LookupEnv(name); !ok {
			e.Value = nil
		}
	}
	if strings.IndexByte(val, 0) >= 0 {
		return errors.New("the value contains a NUL")
	}
	p.flagEnv = append(p.flagEnv, e)
	return nil
}

// callersService: systemd's variables of this process name sockets and
// descriptors the container has not.
func callersService(name string) error {
	switch name {
	case "NOTIFY_SOCKET":
		return errors.New("the caller's NOTIFY_SOCKET is not the container's; --sdnotify container gives the program one of its own")
	case "WATCHDOG_PID", "WATCHDOG_USEC":
		return fmt.Errorf("the caller's %s is not the container's; the watchdog of the unit is served by safe-run, while the container is healthy", name)
	}
	return fmt.Errorf("the caller's %s is not the container's; the sockets of the unit are passed on without it", name)
}

// checkVarName checks the name of a variable. Docker passes all but an empty
// one; control characters have no use but to forge lines in logs.
func checkVarName(name string) error {
	if name == "" {
		return errors.New("the variable has no name")
	}
	return clean(name)
}

// finishEnv puts the env files before the -e flags, so that the flags win.
func (p *parser) finishEnv() error {
	for _, file := range p.envFiles {
		lines, err := p.readKV("--env-file", file)
		if err != nil {
			return err
		}
		for _, l := range lines {
			val := l.value
			if !l.hasValue {
				if spec.ServiceVariable(l.key) {
					return fmt.Errorf("--env-file %s, line %d: %w", quote(file), l.n, callersService(l.key))
				}
				var ok bool
				// Unlike -e NAME, a name without a value here removes nothing.
				if val, ok = p.ctx.LookupEnv(l.key); !ok {
					continue
				}
			}
			p.w.Env = append(p.w.Env, spec.EnvVar{Name: l.key, Value: &val})
		}
	}
	p.w.Env = append(p.w.Env, p.flagEnv...)
	return nil
}

// setLabel takes KEY[=VALUE].
func (p *parser) setLabel(v string) error {
	key, val, _ := strings.Cut(v, "=")
	if err := checkLabelKey(key); err != nil {
		return err
	}
	if strings.IndexByte(val, 0) >= 0 || !utf8.ValidString(val) {
		return errors.New("the value is not text")
	}
	p.flagLabels = append(p.flagLabels, [2]string{key, val})
	return nil
}

func checkLabelKey(key string) error {
	if key == "" {
		return errors.New("the name is empty")
	}
	if strings.ContainsAny(key, " \t") {
		return errors.New("the name contains a blank")
	}
	return clean(key)
}

// finishLabels puts the label files before the --label flags.
func (p *parser) finishLabels() error {
	for _, file := range p.labelFiles {
		lines, err := p.readKV("--label-file", file)
		if err != nil {
			return err
		}
		for _, l := range lines {
			if !l.hasValue {
				// As in docker the line counts for nothing, but it is told.
				p.inv.Notices = append(p.inv.Notices, fmt.Sprintf("--label-file %s: line %d has no \"=\" and sets no label", quote(file), l.n))
				continue
			}
			p.label(l.key, l.value)
		}
	}
	for _, kv := range p.flagLabels {
		p.label(kv[0], kv[1])
	}
	return nil
}

func (p *parser) label(key, val string) {
	if p.w.Labels == nil {
		p.w.Labels = map[string]string{}
	}
	p.w.Labels[key] = val
}

// kvLine is a line of an env or label file.
type kvLine struct {
	n          int // line number, from 1
	key, value string
	hasValue   bool
}

func (p *parser) readKV(flag, file string) ([]kvLine, error) {
	data, err := p.ctx.ReadFile(p.abs(file), maxKVFile)
	if err != nil {
		var fe *fail.Error
		if errors.As(err, &fe) {
			return nil, &fail.Error{Kind: fe.Kind, Msg: flag, Next: fe.Next, Err: err}
		}
		return nil, fail.Wrap(fail.Usage, err, "%s", flag)
	}
	lines, err := parseKV(data)
	if err != nil {
		return nil, fail.Wrap(fail.Usage, err, "%s %s", flag, quote(file))
	}
	return lines, nil
}

// parseKV reads KEY[=VALUE] lines: UTF-8, an optional byte order mark, blanks
// before a line cut, # at the start of a line a comment, no quoting and no
// expansion, blanks at the end part of the value, lines below 64 KiB. Errors
// give the line's number and never its content: the file may be anything the
// caller pointed at.
func parseKV(data []byte) ([]kvLine, error) {
	var lines []kvLine
	scan := bufio.NewScanner(bytes.NewReader(data)) // lines up to bufio.MaxScanTokenSize, as docker's
	n := 0
	for scan.Scan() {
		n++
		raw := scan.Bytes()
		if !utf8.Valid(raw) {
			return nil, fmt.Errorf("line %d is not valid UTF-8", n)
		}
		if n == 1 {
			raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))
		}
		line := strings.TrimLeftFunc(string(raw), unicode.IsSpace)
		if line == "" || line[0] == '#' {
			continue
		}
		key, val, has := strings.Cut(line, "=")
		switch {
		case key == "":
			return nil, fmt.Errorf("line %d has no name before the \"=\"", n)
		case strings.ContainsAny(key, " \t"):
			return nil, fmt.Errorf("line %d: the name contains a blank", n)
		case clean(key) != nil:
			return nil, fmt.Errorf("line %d: the name contains a control character or is too long", n)
		case strings.IndexByte(val, 0) >= 0:
			return nil, fmt.Errorf("line %d: the value contains a NUL", n)
		}
		lines = append(lines, kvLine{n, key, val, has})
	}
	if errors.Is(scan.Err(), bufio.ErrTooLong) {
		return nil, fmt.Errorf("line %d is longer than 64 KiB", n+1)
	}
	return lines, scan.Err()
}
