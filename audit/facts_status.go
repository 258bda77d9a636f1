package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// procStatus is what matters of /proc/PID/status.
type procStatus struct {
	state            byte
	uid, gid         [4]uint32 // real, effective, saved, file system
	groups           []uint32
	caps             capSets
	noNewPrivs       bool
	seccomp, filters int
	name             string
}

// capSets are the sets of a process as masks.
type capSets struct{ inh, prm, eff, bnd, amb uint64 }

// all are the capabilities a process has or can get by executing a file.
func (c capSets) all() uint64 { return c.prm | c.eff | c.bnd | c.amb }

func parseStatus(b []byte) (s procStatus, err error) {
	seen := 0
	for line := range bytes.Lines(b) {
		key, value, ok := bytes.Cut(line, []byte{':'})
		if !ok {
			continue
		}
		v := strings.TrimSpace(string(value))
		mask := func(into *uint64) {
			seen++
			n, bad := strconv.ParseUint(v, 16, 64)
			*into, err = n, errors.Join(err, bad)
		}
		ids := func(into []uint32) {
			seen++
			f := strings.Fields(v)
			if len(f) != len(into) {
				err = errors.Join(err, fmt.Errorf("status: %.60q are not four ids", v))
				return
			}
			for i := range f {
				n, bad := strconv.ParseUint(f[i], 10, 32)
				into[i], err = uint32(n), errors.Join(err, bad)
			}
		}
		switch string(key) {
		case "Name":
			s.name = v
		case "State":
			if v != "" {
				s.state = v[0]
				seen++
			}
		case "Uid":
			ids(s.uid[:])
		case "Gid":
			ids(s.gid[:])
		case "Groups":
			for g := range strings.FieldsSeq(v) {
				n, bad := strconv.ParseUint(g, 10, 32)
				s.groups, err = append(s.groups, uint32(n)), errors.Join(err, bad)
			}
		case "CapInh":
			mask(&s.caps.inh)
		case "CapPrm":
			mask(&s.caps.prm)
		case "CapEff":
			mask(&s.caps.eff)
		case "CapBnd":
			mask(&s.caps.bnd)
		case "CapAmb":
			mask(&s.caps.amb)
		case "NoNewPrivs":
			seen++
			s.noNewPrivs = v == "1"
		case "Seccomp":
			s.seccomp, _ = strconv.Atoi(v)
		case "Seccomp_filters":
			s.filters, _ = strconv.Atoi(v)
		}
	}
	if err == nil && seen != 9 {
		err = errors.New("status: not complete")
	}
	return s, err
}

// capNames gives the names of the capabilities in a mask, in the kernel's
// order. A number this program has no name for is "CAP_41".
func capNames(mask uint64) []string {
	out := []string{}
	names := capTable()
	for bit := range 64 {
		if mask&(1<<bit) == 0 {
			continue
		}
		if bit < len(names) {
			out = append(out, names[bit])
		} else {
			out = append(out, fmt.Sprintf("CAP_%d", bit))
		}
	}
	return out
}

func (c capSets) named() Capabilities {
	return Capabilities{
		Bounding: capNames(c.bnd), Effective: capNames(c.eff), Permitted: capNames(c.prm),
		Inheritable: capNames(c.inh), Ambient: capNames(c.amb),
	}
}

func (l *looker) lookStatus() error {
	b, err := l.read("status")
	if err != nil {
		return err
	}
	s, err := parseStatus(b)
	if err != nil {
		return err
	}
	if s.state == 'Z' || s.state == 'X' {
		return errGone
	}
	f := l.f
	f.User.UID, f.User.GID = s.uid[1], s.gid[1]
	f.User.Groups = s.groups
	if f.User.Groups == nil {
		f.User.Groups = []uint32{}
	}
	if len(f.User.Groups) > maxListed {
		f.User.Groups = f.User.Groups[:maxListed]
	}
	f.Capabilities = s.caps.named()
	f.NoNewPrivileges = s.noNewPrivs
	f.Seccomp = Seccomp{Mode: seccompMode(s.seccomp), Filters: s.filters}
	f.drift.caps = s.caps
	return nil
}

func seccompMode(n int) string {
	switch n {
	case 0:
		return "disabled"
	case 1:
		return "strict"
	}
	return "filter" // 3 is that of a process the filter kills just now
}

func parseIDMap(b []byte) ([]IDRange, error) {
	out := []IDRange{}
	for line := range bytes.Lines(b) {
		f := strings.Fields(string(line))
		if len(f) != 3 {
			return nil, fmt.Errorf("id map: %.60q is not a mapping", line)
		}
		var n [3]uint64
		for i := range n {
			v, err := strconv.ParseUint(f[i], 10, 32)
			if err != nil {
				return nil, fmt.Errorf("id map: %.60q is not a mapping", line)
			}
			n[i] = v
		}
		out = append(out, IDRange{n[0], n[1], n[2]})
	}
	return out, nil
}

func (l *looker) lookLSM() error {
	f := &l.f.LSM
	f.Module = hostLSM()
	switch f.Module {
	case "apparmor":
		b, err := l.read("attr/apparmor/current")
		if errors.Is(err, unix.ENOENT) {
			b, err = l.read("attr/current")
		}
		text, err := labelText(b, err)
		if err != nil {
			return err
		}
		f.Label, f.Mode = appArmorLabel(text)
	case "selinux":
		b, err := l.read("attr/current")
		text, err := labelText(b, err)
		if err != nil {
			return err
		}
		f.Label, f.Mode = printable(text), "permissive"
		if b, err := os.ReadFile("/sys/fs/selinux/enforce"); err == nil && strings.TrimSpace(string(b)) == "1" {
			f.Mode = "enforce"
		}
		// The types of processes that SELinux leaves alone.
		if t := strings.Split(text, ":"); len(t) < 3 || slices.Contains([]string{"unconfined_t", "spc_t", "kernel_t", "initrc_t"}, t[2]) {
			f.Mode = "unconfined"
		}
	}
	return nil
}

// appArmorLabel splits "docker-default (enforce)".
func appArmorLabel(text string) (label, mode string) {
	label, rest, ok := strings.Cut(text, " (")
	switch {
	case ok:
		mode = strings.TrimSuffix(rest, ")")
	default:
		mode = "unconfined"
	}
	return printable(label), printable(mode)
}

// hostLSM names the security module of this host that confines containers.
func hostLSM() string {
	if b, err := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err == nil && strings.HasPrefix(string(b), "Y") {
		return "apparmor"
	}
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err == nil {
		return "selinux"
	}
	return ""
}
