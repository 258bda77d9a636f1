package properties

import (
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/spec"
)

// holds checks one launch: what is accepted passes the last gate, and has no
// right that the site does not give.
func holds(t *testing.T, l launch, grants []grantOf) outcome {
	t.Helper()
	o := l.run()
	if !o.accepted() {
		if o.err != nil && strings.ContainsAny(o.err.Error(), "\x00\x1b\r") {
			t.Errorf("control characters: %q\n%s", o.err, l)
		}
		return o
	}
	if err := spec.Verify(o.spec, spec.VerifyFor(o.in)); err != nil {
		t.Errorf("%v\n%s", err, l)
	}
	for _, r := range rightsOf(o) {
		if !given(grants, r) {
			t.Errorf("a right nobody gave: %s %s\n%s\n%s", r.key, r.value, l, o.text())
		}
	}
	return o
}

const tries = 2500

// TestAccepted: the properties of launches of pseudo-random choices. Enough of
// them are accepted, and each flag is in one that is.
func TestAccepted(t *testing.T) {
	t.Parallel()
	used, stages := map[string]int{}, map[string]int{}
	accepted := 0
	for seed := range uint64(tries) {
		p := generate(seeded(seed, 96))
		o := holds(t, p.write(), p.grants)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		if !o.accepted() {
			stages[o.at]++
			continue
		}
		accepted++
		for _, f := range p.flags {
			used[f.flag]++
		}
		if seed%4 != 0 {
			continue
		}
		if again := p.write().run(); again.text() != o.text() {
			t.Fatalf("seed %d: another specification the second time\n%s\n%s", seed, o.text(), again.text())
		}
	}
	if accepted < tries/5 {
		t.Errorf("%d of %d were accepted", accepted, tries)
	}
	t.Logf("%d of %d accepted; the others by stage: %v", accepted, tries, stages)
	var unused []string
	for _, f := range flags() {
		if used[f.flag] == 0 {
			unused = append(unused, f.flag)
		}
	}
	slices.Sort(unused)
	if !slices.Equal(unused, neverAccepted()) {
		t.Errorf("never accepted: %q\nwant %q", unused, neverAccepted())
	}
}

// neverAccepted are the flags of which no value is.
func neverAccepted() []string {
	return []string{
		"cpu-count", "cpu-percent", "device-cgroup-rule", "gpus", "io-maxbandwidth", "io-maxiops", "link", "link-local-ip", "storage-opt", "volumes-from",
	}
}

// acceptedPlans gives count launches with rights that are accepted, of seeds
// from first on.
func acceptedPlans(t *testing.T, first uint64, count int) func(func(plan, outcome) bool) {
	return func(yield func(plan, outcome) bool) {
		for seed := first; count > 0; seed++ {
			if seed > first+2000 {
				t.Fatalf("%d launches less than wanted", count)
			}
			p := privileged(seeded(seed, 32))
			o := holds(t, p.write(), p.grants)
			if !o.accepted() || len(rightsOf(o)) == 0 {
				continue
			}
			count--
			if !yield(p, o) {
				return
			}
		}
	}
}

// TestLessIsGrantedLessIsGiven: without one of the grants a launch is refused,
// or it has not got the right that grant was for and no other instead. Without
// any it has none.
func TestLessIsGrantedLessIsGiven(t *testing.T) {
	t.Parallel()
	lifted, seen := map[grantOf]bool{}, map[grantOf]bool{}
	for p, o := range acceptedPlans(t, 1<<32, 120) {
		had := rightsOf(o)
		for i, g := range p.grants {
			for _, r := range had {
				seen[g] = seen[g] || given([]grantOf{g}, r)
			}
			if !slices.Contains(o.in.Grants.IDs, g.value) && !slices.Contains(o.in.Grants.Capabilities, g.value) && !slices.ContainsFunc(had, func(r right) bool { return given([]grantOf{g}, r) }) {
				continue
			}
			less := p
			less.grants = slices.Concat(p.grants[:i], p.grants[i+1:])
			now := less.write().run()
			if now.accepted() {
				for _, r := range rightsOf(now) {
					if !slices.Contains(had, r) || !given(less.grants, r) {
						t.Fatalf("without %v it has %v\n%s", g, r, less.write())
					}
				}
				continue
			}
			lifted[g] = true
			if len(now.refusals) == 0 {
				t.Fatalf("without %v: %s: %v, and not refused\n%s", g, now.at, now.err, less.write())
			}
		}
		less := p
		less.grants = nil
		if now := less.write().run(); now.accepted() {
			t.Fatalf("without grants: %v\n%s", rightsOf(now), less.write())
		}
	}
	for _, g := range gives() {
		if !lifted[g] {
			t.Errorf("no launch needed %v", g)
		}
		// An address is not in the specification, and NET_RAW is harmless where
		// it is not over a network of others.
		if !seen[g] && g.value != "publish-address" && g.value != "CAP_NET_RAW" {
			t.Errorf("%v was never seen in a specification", g)
		}
	}
}

// TestDenialsAddNothing: a flag that takes away makes the launch fail, or
// takes away.
func TestDenialsAddNothing(t *testing.T) {
	t.Parallel()
	denials := [][]string{
		{"--cap-drop=ALL"},
		{"--cap-drop=CHOWN"},
		{"--cap-drop", "NET_ADMIN"},
		{"--read-only"},
		{"--read-only=true"},
		{"--network=none"},
		{"--egress=none"},
		{"--security-opt=no-new-privileges"},
		{"--security-opt=no-new-privileges:true"},
		{"--security-opt=seccomp=builtin"},
		{"--security-opt=apparmor=docker-default"},
		{"--security-opt=writable-cgroups=false"},
		{"--memory=64m"},
		{"--pids-limit=10"},
		{"--privileged=false"},
		{"--pid="},
		{"--ipc=private"},
		{"--uts="},
		{"--userns="},
		{"--cgroupns=private"},
		{"--ulimit=nofile=64"},
		{"--ulimit", "core=0"},
		{"--cpus=0.5"},
		{"--user=1000"},
		{"--no-healthcheck"},
		{"--oom-kill-disable=false"},
		{"--shm-size=1m"},
		{"--ipc=none"},
		{"--publish-all=false"},
		{"--use-api-socket=false"},
	}
	c := seeded(2, 4096)
	kept := map[int]int{}
	for p, o := range acceptedPlans(t, 2<<32, 60) {
		had := rightsOf(o)
		for range 8 {
			i := c.below(len(denials))
			more := p
			more.flags = append(slices.Clone(p.flags), flagWord{"denial", denials[i]})
			now := more.write().run()
			if !now.accepted() {
				continue
			}
			kept[i]++
			for _, r := range rightsOf(now) {
				if !slices.Contains(had, r) {
					t.Fatalf("%v gives %v\n%s", denials[i], r, more.write())
				}
			}
		}
	}
	for i, d := range denials {
		if kept[i] == 0 {
			t.Errorf("no launch was accepted with %v", d)
		}
	}
}

// group puts flags together whose order among themselves has a meaning: those
// of which the last counts, and mounts, which are made in their order.
func group(flag string) string {
	switch flag {
	case "volume", "mount", "tmpfs":
		return "mounts"
	case "net", "network", "net-alias", "network-alias":
		return "networks"
	case "dns-opt", "dns-option":
		return "dns-option"
	}
	return flag
}

// TestOrderDoesNotMatter: of flags, and of the grants in the site's file.
func TestOrderDoesNotMatter(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		p := generate(seeded(3<<32+seed, 96))
		if len(p.flags) < 2 {
			continue
		}
		turned := p
		turned.flags = nil
		groups := map[string][]flagWord{}
		var order []string
		for _, f := range p.flags {
			g := group(f.flag)
			if groups[g] == nil {
				order = append(order, g)
			}
			groups[g] = append(groups[g], f)
		}
		slices.Reverse(order)
		for _, g := range order {
			turned.flags = append(turned.flags, groups[g]...)
		}
		turned.grants = slices.Clone(p.grants)
		slices.Reverse(turned.grants)
		one, other := p.write().run(), turned.write().run()
		if one.accepted() != other.accepted() || len(one.refusals) != len(other.refusals) {
			t.Fatalf("%v %v, the other way round %v %v\n%s", one.err, one.refusals, other.err, other.refusals, p.write())
		}
		if one.accepted() && one.text() != other.text() {
			t.Fatalf("%s\nthe other way round:\n%s\n%s", one.text(), other.text(), p.write())
		}
	}
}

// FuzzLaunch: the properties of launches of a fuzzer's choices.
func FuzzLaunch(f *testing.F) {
	f.Add([]byte{})
	for seed := range uint64(20) {
		f.Add(seeded(4<<32+seed, 96).data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p := generate(&choices{data})
		holds(t, p.write(), p.grants)
	})
}

// FuzzArgv: the properties of any words, on a host whose site gives nothing,
// and where it gives much. Words are separated by NUL.
func FuzzArgv(f *testing.F) {
	f.Add("busybox\x00true")
	for _, w := range flags() {
		for _, values := range [][]string{w.good, w.bad} {
			if len(values) > 0 {
				f.Add(strings.Join([]string{"--" + w.flag, values[0], "busybox", "sh"}, "\x00"))
			}
		}
	}
	f.Add("--pid=host\x00--cap-add\x00SYS_PTRACE\x00-v\x00/etc/app:/a\x00--device=/dev/fuse\x00busybox")
	f.Add("-it\x00--rm\x00-eA=b\x00-v/srv/www:/w:ro,exec\x00-p127.0.0.1:1:1\x00busybox")
	f.Fuzz(func(t *testing.T, text string) {
		l := launch{argv: strings.Split(text, "\x00"), profile: "version: 1\nname: p\n", image: `{"os":"linux","architecture":"amd64","config":{"Cmd":["sh"]}}`}
		l.host = hosts()[1]
		holds(t, l, nil)
		l.site = siteOf(gives(), "")
		holds(t, l, gives())
	})
}
