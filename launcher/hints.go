package launcher

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/docker/go-units"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// hints are what a program that failed may have lacked, as far as it can be
// told without watching it.
func (r *run) hints(code int, oom bool) (all []string) {
	if code == 0 || r.Observer != nil { // who watches tells more
		return nil
	}
	limits := r.spec.Linux.Resources
	if m := limits.Memory; oom && m != nil && m.Limit != nil {
		all = append(all, fmt.Sprintf("a process was killed when the memory limit of %s was reached: -m %s",
			units.BytesSize(float64(*m.Limit)), strings.ToLower(units.CustomSize("%.4g%s", float64(2**m.Limit), 1024, []string{"b", "k", "m", "g", "t"}))))
	}
	if p := limits.Pids; p != nil && p.Limit != nil && PidsReached(r.rec.Cgroup) {
		all = append(all, fmt.Sprintf("the limit of %d processes and threads was reached: --pids-limit %d", *p.Limit, 2**p.Limit))
	}
	if h := hint(r.spec, r.io.last.bytes()); h != "" {
		all = append(all, h)
	}
	// After a signal somebody wanted it to end.
	if r.Advice != nil && code < 128 {
		if h := r.Advice(); h != "" {
			all = append(all, h)
		}
	}
	return all
}

// tail keeps the end of what went through it.
type tail struct {
	mu   sync.Mutex
	last []byte
}

const tailSize = 4096 // bytes: some lines

func (t *tail) add(b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(b) >= tailSize {
		t.last = append(t.last[:0], b[len(b)-tailSize:]...)
		return
	}
	if over := len(t.last) + len(b) - tailSize; over > 0 {
		t.last = append(t.last[:0], t.last[over:]...)
	}
	t.last = append(t.last, b...)
}

func (t *tail) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.last)
}

// denial is what programs print when they are denied what a flag would give.
type denial struct {
	words      []string // one of them, and
	errors     []string // one of these, in lower case
	capability string   // only if the container has not got it
	next       string
}

var (
	notPermitted = []string{"operation not permitted", "eperm"}
	denied       = []string{"permission denied", "eacces"}
)

// denials has the particular before the general.
func denials() []denial {
	return []denial{
		{[]string{"bind", "listen"}, append(denied, notPermitted...), "CAP_NET_BIND_SERVICE", "a port below 1024 needs --cap-add NET_BIND_SERVICE"},
		{[]string{"setgroups", "initgroups", "setgid", "setresgid"}, notPermitted, "CAP_SETGID", "changing the group needs --cap-add SETGID (and the user SETUID), or start it as that user: --user"},
		{[]string{"setuid", "setresuid", "seteuid"}, notPermitted, "CAP_SETUID", "changing the user needs --cap-add SETUID (and the group SETGID), or start it as that user: --user"},
		{[]string{"chown"}, notPermitted, "CAP_CHOWN", "changing the owner of files needs --cap-add CHOWN"},
		{[]string{"ping", "raw socket", "sock_raw"}, append(denied, notPermitted...), "CAP_NET_RAW", "raw sockets need --cap-add NET_RAW"},
		{[]string{""}, []string{"read-only file system", "erofs"}, "", "the root file system is read-only: --tmpfs DIR for what may be lost, -v NAME:DIR for what stays"},
	}
}

// hint guesses, from the last words of a program that failed, which flag it
// would have needed; "" if there is nothing to say. The words only choose:
// nothing of them is repeated.
func hint(s *specs.Spec, last []byte) string {
	text := strings.ToLower(string(last))
	has := func(words []string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
	}
	for _, d := range denials() {
		if d.capability != "" && slices.Contains(s.Process.Capabilities.Effective, d.capability) {
			continue
		}
		if has(d.errors) && has(d.words) {
			return d.next
		}
	}
	return ""
}
