package check

import (
	"slices"
	"strings"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/policy"
	"github.com/safe-run/safe-run/spec"
)

// parse reads words as run does, without looking at anything.
func (b *bench) parse(args []string) (*cli.Invocation, error) {
	return cli.Parse(append(slices.Clone(args), either(b.image, unknownImage)), cli.Context{
		LookupEnv: func(string) (string, bool) { return "", false },
		Cwd:       deepCwd,
		ReadFile:  func(string, int64) ([]byte, error) { return []byte("{}"), nil },
		Profile: func(ref string, _ *cli.Invocation) (cli.Profile, error) {
			return cli.Profile{Name: ref, Shown: ref}, nil
		},
	})
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// review asks the policy, with the facts spelling gives.
func (b *bench) review(w spec.Workload) (refusals []policy.Refusal) {
	for _, r := range policy.ReviewSpelled(w, b.c.o.Site) {
		if b.image == "" {
			if r.Image = ""; strings.HasPrefix(r.Flag, "image ") {
				continue // of the site's registries and digests
			}
		}
		refusals = append(refusals, r)
	}
	return refusals
}

// ask parses and reviews a line of flags. The error is the parser's.
func (b *bench) ask(args ...string) ([]policy.Refusal, error) {
	const most = 10000 // lines kept
	key := b.image + "\x00" + strings.Join(args, "\x00")
	if a, ok := b.c.seen[key]; ok {
		return a.refusals, a.err
	}
	inv, err := b.parse(args)
	a := answer{err: err}
	if err == nil {
		a.refusals = b.review(inv.Workload)
	}
	if len(b.c.seen) < most && len(key) < 4<<10 {
		b.c.seen[key] = a
	}
	return a.refusals, a.err
}

// args are the words of all flags that count, but the ones in but.
func (b *bench) args(but ...int) (args []string) {
	for i, f := range b.flags {
		if f.arg != "" && f.unread == "" && !slices.Contains(but, i) {
			args = append(args, f.arg)
			if f.extra != "" {
				args = append(args, f.extra)
			}
		}
	}
	return args
}

// together finds the flags that cannot be read beside the others, and those
// that can only be read beside others.
func (b *bench) together() {
	for range b.flags {
		_, err := b.ask(b.args()...)
		if err == nil {
			break
		}
		i := b.culprit(err)
		if i < 0 {
			return
		}
		b.flags[i].unread = because(err, "")
	}
	for i := range b.flags {
		f := &b.flags[i]
		if f.unread == "" || f.arg == "" {
			continue
		}
		was := f.unread
		f.unread = ""
		if _, err := b.ask(b.args()...); err != nil {
			f.unread = was
		}
	}
}

// culprit is the flag without which the error is another, or none; of two
// that exclude each other the later. -1: there is none.
func (b *bench) culprit(err error) int {
	const most = 64 // of a longer line, the flag at which the error begins
	for i := len(b.flags) - 1; i >= 0; i-- {
		if b.flags[i].arg == "" || b.flags[i].unread != "" || len(b.flags) > most {
			continue
		}
		if _, other := b.ask(b.args(i)...); other == nil || other.Error() != err.Error() {
			return i
		}
	}
	lo, hi := 0, len(b.flags)
	for lo < hi {
		mid := (lo + hi) / 2
		var rest []int
		for i := mid + 1; i < len(b.flags); i++ {
			rest = append(rest, i)
		}
		if _, err := b.ask(b.args(rest...)...); err != nil {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	if lo == len(b.flags) {
		return -1
	}
	return lo
}

// attribute reviews all flags together and finds the flag of each refusal.
func (b *bench) attribute() (all []Refusal) {
	for i := range b.flags {
		b.flags[i].refusals = nil
	}
	refusals, err := b.ask(b.args()...)
	if err != nil {
		return nil
	}
	nothing, _ := b.ask() // what is refused of any flags: the image
	for _, r := range refusals {
		i, line := -1, 0
		if !slices.Contains(nothing, r) {
			i = b.owner(r)
		}
		if i >= 0 {
			f := &b.flags[i]
			f.refusals = append(f.refusals, r)
			r.Flag, line = f.typed, f.line
		}
		all = append(all, Refusal{line, refusalText(r)})
	}
	return all
}

func (b *bench) owner(r policy.Refusal) int {
	for i, f := range b.flags {
		if f.arg == "" || f.unread != "" || slices.ContainsFunc(f.refusals, func(o policy.Refusal) bool { return o.ID == r.ID && o.Flag == r.Flag }) {
			continue
		}
		own, err := b.ask(f.arg)
		if err == nil && slices.ContainsFunc(own, func(o policy.Refusal) bool { return o.ID == r.ID && o.Flag == r.Flag }) {
			return i
		}
	}
	if len(b.flags) > 64 {
		return -1
	}
	for i := len(b.flags) - 1; i >= 0; i-- {
		if b.flags[i].arg == "" || b.flags[i].unread != "" {
			continue
		}
		without, err := b.ask(b.args(i)...)
		if err == nil && !slices.ContainsFunc(without, func(o policy.Refusal) bool { return o.ID == r.ID && o.Flag == r.Flag }) {
			return i
		}
	}
	return -1
}

func refusalText(r policy.Refusal) policy.Refusal {
	r.Flag, r.GivesAway, r.Safer = short(r.Flag, 200), short(r.GivesAway, 600), short(r.Safer, 600)
	r.Grant, r.Image = short(r.Grant, 300), short(r.Image, 300)
	return r
}
