package main

import (
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestByErrno(t *testing.T) {
	for _, c := range []struct {
		err  error
		gone []syscall.Errno
		want verdict
	}{
		{nil, nil, open},
		{syscall.EPERM, nil, blocked},
		{syscall.EACCES, nil, blocked},
		{syscall.ENOSYS, nil, blocked},
		{syscall.EROFS, nil, blocked},
		{syscall.EINVAL, nil, open},
		{syscall.EFAULT, nil, open},
		{syscall.EAFNOSUPPORT, nil, open},
		{syscall.EAFNOSUPPORT, []syscall.Errno{syscall.EAFNOSUPPORT}, absent},
		{syscall.ENOENT, []syscall.Errno{syscall.EAFNOSUPPORT}, open},
	} {
		if got := byErrno(c.err, c.gone...); got.verdict != c.want {
			t.Errorf("byErrno(%v, %v) = %s, wanted %s", c.err, c.gone, got.verdict, c.want)
		}
	}
}

func TestWorst(t *testing.T) {
	o := func(v verdict) outcome { return outcome{verdict: v} }
	for _, c := range []struct {
		in   []outcome
		want verdict
	}{
		{nil, absent},
		{[]outcome{o(absent), o(blocked)}, blocked},
		{[]outcome{o(blocked), o(open), o(absent)}, open},
	} {
		if got := worst(c.in); got.verdict != c.want {
			t.Errorf("worst(%v) = %s, wanted %s", c.in, got.verdict, c.want)
		}
	}
}

func TestParseMountinfo(t *testing.T) {
	const text = `22 27 0:21 / / ro,relatime - overlay overlay rw,lowerdir=/x
31 22 0:30 / /tmp rw,nosuid,nodev,noexec shared:4 master:1 - tmpfs tmpfs rw,size=65536k
32 22 0:31 /a\040b /with\040space rw - ext4 /dev/vda ro
nonsense
`
	all := parseMountinfo(text)
	if len(all) != 3 {
		t.Fatalf("%d mounts, wanted 3", len(all))
	}
	for i, want := range []struct {
		target           string
		writable, shared bool
	}{{"/", false, false}, {"/tmp", true, true}, {"/with space", false, false}} {
		m := all[i]
		if m.target != want.target || m.writable() != want.writable || m.shared != want.shared {
			t.Errorf("line %d: %+v, wanted %+v", i, m, want)
		}
	}
}

// TestRows: names are unique and every heading has its place.
func TestRows(t *testing.T) {
	seen := map[string]bool{}
	all := attempts(facts{})
	if len(all) < 100 {
		t.Errorf("only %d attempts", len(all))
	}
	for _, a := range all {
		if seen[a.id] {
			t.Errorf("two attempts are called %s", a.id)
		}
		seen[a.id] = true
		if !slices.Contains(groupOrder, a.group) {
			t.Errorf("%s: the heading %q has no place", a.id, a.group)
		}
	}
}

// TestPosture: a report with nothing known must not look safe.
func TestPosture(t *testing.T) {
	for _, a := range postureAttempts(facts{}) {
		if o := a.try(); o.verdict != open {
			t.Errorf("%s is %s without any fact", a.id, o.verdict)
		}
	}
	good := facts{
		Capabilities: map[string]string{}, NoNewPrivs: "1", Seccomp: "2",
		UIDMap: [][3]uint64{{0, 524288, 65536}}, GIDMap: [][3]uint64{{0, 524288, 65536}},
		Limits: map[string]string{"memory": "536870912", "pids": "256", "core": "0"},
	}
	for _, s := range capabilitySets {
		good.Capabilities[s] = strings.Repeat("0", 16)
	}
	for _, a := range postureAttempts(good) {
		if o := a.try(); o.verdict != blocked {
			t.Errorf("%s is %s: %s", a.id, o.verdict, o.note)
		}
	}
	good.Capabilities["CapAmb"] = "0000000000000400"
	if o := postureAttempts(good)[0].try(); o.verdict != open {
		t.Error("an ambient capability went unseen")
	}
}
