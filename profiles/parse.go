package profiles

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/safe-run/safe-run/internal/fail"
)

// Bounds of a profile file; docker's own is 15 kB with 430 names.
const (
	maxProfileBytes = 1 << 20
	maxProfileNames = 4096
	maxErrno        = 4095
)

// ParseSeccomp reads a user's profile in docker's JSON format and gives the
// part of it that the built-in profile permits too: a file can narrow the
// built-in filter, never widen it.
//
// It is strict where docker is not. A file that would leave a hole is an
// error: an empty object, one that permits or only logs by default, one with a
// syscall of the never-list. Unknown and repeated keys, a byte order mark and
// trailing text are errors too. Errors have kind Usage or Refused.
func ParseSeccomp(data []byte, o Options) (*specs.LinuxSeccomp, error) {
	arch := Arch(o.Arch)
	if arch == "" {
		return nil, fail.New(fail.HostCannot, "no seccomp filter is known for architecture %q", o.Arch)
	}
	file, err := decode(data)
	if err != nil {
		return nil, fail.Wrap(fail.Usage, err, "seccomp profile")
	}
	if err := judgeHead(file); err != nil {
		return nil, err
	}
	rules, err := flatten(file, o)
	if err != nil {
		return nil, err
	}
	syscalls, err := narrow(rules, o)
	if err != nil {
		return nil, err
	}
	out := empty(arch)
	out.DefaultAction = file.DefaultAction
	if out.DefaultAction != specs.ActErrno {
		out.DefaultErrnoRet = nil
	} else if file.DefaultErrnoRet != nil {
		out.DefaultErrnoRet = file.DefaultErrnoRet
	}
	out.Flags = file.Flags
	out.Syscalls = append(syscalls, noSys(o))
	return out, nil
}

// decode reads the JSON strictly.
func decode(data []byte) (*seccomp.Seccomp, error) {
	if len(data) > maxProfileBytes {
		return nil, fmt.Errorf("larger than %d bytes", maxProfileBytes)
	}
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
		return nil, errors.New("starts with a byte order mark; save the file as plain UTF-8")
	}
	if err := uniqueKeys(json.NewDecoder(bytes.NewReader(data)), ""); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var file *seccomp.Seccomp
	if err := d.Decode(&file); err != nil {
		return nil, quoted(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("text after the JSON object")
	}
	if file == nil {
		return nil, errors.New("is null, not a profile")
	}
	return file, nil
}

// quoted keeps control characters of the file out of a message.
func quoted(err error) error {
	if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) {
		return fmt.Errorf("%q", err.Error())
	}
	return err
}

// uniqueKeys walks one JSON value and refuses a key given twice in an object:
// encoding/json would let the last one win, in any case of letters, and a
// reader of the file sees the first.
func uniqueKeys(d *json.Decoder, at string) error {
	tok, err := d.Token()
	if err != nil {
		return quoted(err)
	}
	switch tok {
	case json.Delim('{'):
		seen := map[string]bool{}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return quoted(err)
			}
			name := strings.ToLower(key.(string)) // a token before a value in an object is a string
			if seen[name] {
				return fmt.Errorf("key %q is there twice in %q", key, at)
			}
			seen[name] = true
			if err := uniqueKeys(d, name); err != nil {
				return err
			}
		}
		_, err = d.Token()
	case json.Delim('['):
		for d.More() {
			if err := uniqueKeys(d, at); err != nil {
				return err
			}
		}
		_, err = d.Token()
	}
	if err != nil {
		return quoted(err)
	}
	return nil
}

// judgeHead checks all of a profile but its rules.
func judgeHead(file *seccomp.Seccomp) error {
	switch file.DefaultAction {
	case specs.ActErrno, specs.ActKill, specs.ActKillProcess, specs.ActKillThread, specs.ActTrap:
	case "":
		return fail.New(fail.Usage, "seccomp profile: no defaultAction; without one the runtime starts the container with no filter").
			Hint("start from docker's default profile, or leave the option out")
	case specs.ActAllow, specs.ActLog, specs.ActTrace, specs.ActNotify:
		return fail.New(fail.Refused, "seccomp profile: defaultAction %s permits whatever is not listed", file.DefaultAction).
			Hint("use SCMP_ACT_ERRNO as defaultAction and list what is permitted")
	default:
		return fail.New(fail.Usage, "seccomp profile: unknown defaultAction %q", file.DefaultAction)
	}
	if file.DefaultErrnoRet != nil && (*file.DefaultErrnoRet == 0 || *file.DefaultErrnoRet > maxErrno) {
		return fail.New(fail.Usage, "seccomp profile: defaultErrnoRet %d is not an errno", *file.DefaultErrnoRet)
	}
	if len(file.Syscalls) == 0 {
		return fail.New(fail.Usage, "seccomp profile: no rules; nothing could run")
	}
	if len(file.Architectures) > 0 && len(file.ArchMap) > 0 {
		return fail.New(fail.Usage, "seccomp profile: both architectures and archMap; use one")
	}
	for _, flag := range file.Flags {
		if flag != specs.LinuxSeccompFlagLog && flag != "SECCOMP_FILTER_FLAG_TSYNC" {
			return fail.New(fail.Refused, "seccomp profile: flag %q is not given to containers", flag)
		}
	}
	if file.ListenerPath != "" || file.ListenerMetadata != "" {
		return fail.New(fail.Refused, "seccomp profile: listenerPath hands syscalls to a program outside; safe-run has no such listener")
	}
	return nil
}

// flatten gives one rule per syscall name, for the rules whose conditions on
// capabilities, architecture and kernel hold.
func flatten(file *seccomp.Seccomp, o Options) ([]specs.LinuxSyscall, error) {
	var out []specs.LinuxSyscall
	for i, rule := range file.Syscalls {
		if rule == nil {
			return nil, fail.New(fail.Usage, "seccomp profile: rule %d is null", i+1)
		}
		names := rule.Names
		//lint:ignore SA1019 files in the old spelling are still about
		if old := rule.Name; old != "" {
			if len(names) > 0 {
				return nil, fail.New(fail.Usage, "seccomp profile: rule %d has both name and names", i+1)
			}
			names = []string{old}
		}
		if err := judgeRule(i+1, names, rule.LinuxSyscall); err != nil {
			return nil, err
		}
		if !holds(rule.Includes, rule.Excludes, o) {
			continue
		}
		if len(out)+len(names) > maxProfileNames {
			return nil, fail.New(fail.Usage, "seccomp profile: more than %d syscall names", maxProfileNames)
		}
		for _, name := range names {
			out = append(out, specs.LinuxSyscall{Names: []string{name}, Action: rule.Action, ErrnoRet: rule.ErrnoRet, Args: rule.Args})
		}
	}
	return out, nil
}

func judgeRule(n int, names []string, rule specs.LinuxSyscall) error {
	if len(names) == 0 {
		return fail.New(fail.Usage, "seccomp profile: rule %d names no syscall", n)
	}
	for _, name := range names {
		if !isSyscallName(name) {
			return fail.New(fail.Usage, "seccomp profile: rule %d: %.64q is not a syscall name", n, name)
		}
	}
	switch rule.Action {
	case specs.ActAllow, specs.ActLog, specs.ActErrno, specs.ActKill, specs.ActKillProcess, specs.ActKillThread, specs.ActTrap:
	case specs.ActTrace, specs.ActNotify:
		return fail.New(fail.Refused, "seccomp profile: rule %d: %s lets another program decide", n, rule.Action)
	default:
		return fail.New(fail.Usage, "seccomp profile: rule %d: unknown action %q", n, rule.Action)
	}
	if rule.ErrnoRet != nil && *rule.ErrnoRet > maxErrno {
		return fail.New(fail.Usage, "seccomp profile: rule %d: errnoRet %d is not an errno", n, *rule.ErrnoRet)
	}
	var seen [6]bool
	for _, a := range rule.Args {
		if a.Index >= uint(len(seen)) {
			return fail.New(fail.Usage, "seccomp profile: rule %d: a syscall has no argument %d", n, a.Index)
		}
		if seen[a.Index] {
			return fail.New(fail.Usage, "seccomp profile: rule %d: two conditions on argument %d; runc would need only one of them to hold", n, a.Index).
				Hint("write two rules if either is enough")
		}
		seen[a.Index] = true
		if !slices.Contains([]specs.LinuxSeccompOperator{
			specs.OpEqualTo, specs.OpNotEqual, specs.OpGreaterThan, specs.OpGreaterEqual,
			specs.OpLessThan, specs.OpLessEqual, specs.OpMaskedEqual,
		}, a.Op) {
			return fail.New(fail.Usage, "seccomp profile: rule %d: unknown operator %q", n, a.Op)
		}
	}
	return nil
}

func isSyscallName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}
