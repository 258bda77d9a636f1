package netfilter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// The older kernel side of iptables cannot be reached through nf_tables. Its
// own program is used, if its table filter is there at all.

// legacyProgram is one of them, and where the kernel lists its tables.
type legacyProgram struct{ name, tables string }

func legacyPrograms() []legacyProgram {
	return []legacyProgram{{"iptables-legacy", "ip_tables_names"}, {"ip6tables-legacy", "ip6_tables_names"}}
}

// present says whether the table filter is there in the namespace of the
// calling thread.
func (p legacyProgram) present() bool {
	b, err := os.ReadFile("/proc/thread-self/net/" + p.tables)
	return err == nil && slices.Contains(strings.Fields(string(b)), "filter")
}

// find gives the program's path, "" if it is not in the system's directories.
func (p legacyProgram) find() string {
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
		path := filepath.Join(dir, p.name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

func legacyRun(path string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, append([]string{"-w", "5"}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "%s %s: %.200q", path, strings.Join(args, " "), complaint.String())
	}
	return out, nil
}

// inside runs f on a thread in the table's network namespace.
func (t Table) inside(f func() error) error {
	if t.NetNS == 0 {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends here
		err := unix.Setns(t.NetNS, unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func (t Table) legacyOpen(bridge string, links []link) (made []Repair, warnings []string, err error) {
	err = t.inside(func() error {
		for _, p := range legacyPrograms() {
			if !p.present() {
				continue
			}
			path := p.find()
			if path == "" {
				warnings = append(warnings, fmt.Sprintf("the kernel has rules of %s, which may cut off containers, and the program is not there to look at them", p.name))
				continue
			}
			at, err := legacyOpen(path, bridge, links)
			for _, chain := range at {
				made = append(made, Repair{p.name, "filter", chain})
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return made, warnings, err
}

func legacyOpen(path, bridge string, links []link) (made []string, err error) {
	const base = "FORWARD"
	for range mostRules {
		out, err := legacyRun(path, "-S")
		if err != nil {
			return made, err
		}
		set := parseLegacy(out)
		l, at, isCut, err := firstCut(links, func(c string) ([]step, error) { return set.chains[c], nil }, base, set.drops[base])
		if err != nil || !isCut {
			return made, err
		}
		args := []string{"-A", at.chain}
		if at.before != 0 {
			args = []string{"-I", at.chain, strconv.FormatUint(at.before, 10)}
		}
		side := "-o"
		if l.in == bridge {
			side = "-i"
		}
		if _, err := legacyRun(path, append(args, side, bridge, "-j", "ACCEPT")...); err != nil {
			return made, err
		}
		if !slices.Contains(made, at.chain) {
			made = append(made, at.chain)
		}
	}
	return made, fail.New(fail.Internal, "%s still cuts off %s after %d rules", path, bridge, mostRules)
}

func (t Table) legacyClose(bridge string) error {
	return t.inside(func() (errs error) {
		for _, p := range legacyPrograms() {
			path := p.find()
			if path == "" || !p.present() {
				continue
			}
			out, err := legacyRun(path, "-S")
			errs = errors.Join(errs, err)
			for line := range strings.Lines(string(out)) {
				f := strings.Fields(line)
				// -A CHAIN -i BRIDGE -j ACCEPT
				if len(f) == 6 && f[0] == "-A" && (f[2] == "-i" || f[2] == "-o") && f[3] == bridge && f[4] == "-j" && f[5] == "ACCEPT" {
					_, err := legacyRun(path, append([]string{"-D"}, f[1:]...)...)
					errs = errors.Join(errs, err)
				}
			}
		}
		return errs
	})
}

// legacyRules is the table filter as iptables -S shows it.
type legacyRules struct {
	chains map[string][]step
	drops  map[string]bool // by policy
}

// parseLegacy reads what iptables -S writes. What it does not know makes a
// rule one that holds for some packets only.
func parseLegacy(out []byte) legacyRules {
	r := legacyRules{map[string][]step{}, map[string]bool{}}
	for line := range strings.Lines(string(out)) {
		f := words(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "-P":
			r.chains[f[1]] = nil
			r.drops[f[1]] = len(f) > 2 && f[2] == "DROP"
		case "-N":
			r.chains[f[1]] = nil
		case "-A":
			s := r.legacyStep(f[2:])
			s.handle = uint64(len(r.chains[f[1]]) + 1)
			r.chains[f[1]] = append(r.chains[f[1]], s)
		}
	}
	return r
}

func (r legacyRules) legacyStep(f []string) (s step) {
	next := func() (v string) {
		if len(f) > 0 {
			v, f = f[0], f[1:]
		}
		return v
	}
	not := false
	for len(f) > 0 {
		switch w := next(); w {
		case "!":
			not = true
			continue
		case "-i", "-o":
			name, prefix := strings.CutSuffix(next(), "+")
			m := match{name: name, prefix: prefix, not: not}
			if w == "-i" {
				s.iif = append(s.iif, m)
			} else {
				s.oif = append(s.oif, m)
			}
		case "-m":
			s.other = s.other || next() != "comment"
		case "--comment":
			next()
		case "-j", "-g":
			target := next()
			_, ischain := r.chains[target]
			switch {
			case target == "ACCEPT":
				s.does = accepts
			case target == "DROP", target == "REJECT":
				s.does = cuts
			case target == "RETURN":
				s.does = returns
			case ischain && w == "-g":
				s.does, s.chain = goesTo, target
			case ischain:
				s.does, s.chain = jumps, target
			}
			return s // what follows are the target's own options
		default:
			s.other = true
		}
		not = false
	}
	return s
}

// words splits a line as iptables-save quotes it: words with spaces are in
// double quotes, with backslashes before quotes and backslashes.
func words(line string) (out []string) {
	var w strings.Builder
	inWord, quoted, escaped := false, false, false
	for _, c := range strings.TrimRight(line, "\n") {
		switch {
		case escaped:
			w.WriteRune(c)
			escaped = false
		case c == '\\' && quoted:
			escaped = true
		case c == '"':
			quoted, inWord = !quoted, true
		case c == ' ' && !quoted:
			if inWord {
				out = append(out, w.String())
			}
			w.Reset()
			inWord = false
		default:
			inWord = true
			w.WriteRune(c)
		}
	}
	if inWord {
		out = append(out, w.String())
	}
	return out
}
