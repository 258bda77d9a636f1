package compose

import (
	"errors"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/policy"
)

// Judge asks the policy about all services by what their flags say: no file is
// opened and no path looked at, so that run, which does both, may refuse what
// passes here. The refusals are those of all services, with the keys they come
// from. An error is of kind Usage and wraps Problems: flags that run would not
// take.
func Judge(p *Project, site policy.Site) ([]Refused, error) {
	var all []Refused
	var problems Problems
	for i := range p.Services {
		b := &bench{s: &p.Services[i], site: site}
		refusals, wrong := b.read()
		problems = append(problems, wrong...)
		for _, r := range refusals {
			f := b.owner(r)
			all = append(all, Refused{Service: b.s.Name, Place: f.Place, Key: f.Key, Refusal: r})
		}
	}
	return all, problems.err()
}

// bench judges the flags of one service, again and again.
type bench struct {
	s    *Service
	site policy.Site
	bad  []int              // flags that cannot be read
	each [][]policy.Refusal // of each flag alone, once asked for
}

// read reviews all flags. Those that cannot be read are put aside.
func (b *bench) read() ([]policy.Refusal, Problems) {
	var wrong Problems
	for {
		refusals, err := b.ask(b.words()...)
		if err == nil {
			return refusals, wrong
		}
		p := Problem{Place: b.s.Place, Key: "services." + b.s.Name, Text: err.Error()}
		var fe *fail.Error
		if errors.As(err, &fe) {
			p.Hint = fe.Next
		}
		i := b.culprit(err)
		if i >= 0 {
			p.Place, p.Key = b.s.Flags[i].Place, b.s.Flags[i].Key
		}
		wrong = append(wrong, p)
		if i < 0 || len(b.s.Flags) > most || len(wrong) == mostWrong {
			return nil, wrong
		}
		b.bad = append(b.bad, i)
	}
}

// culprit is the flag an error of the parser comes from: alone, or among the
// others. -1: there is none.
func (b *bench) culprit(err error) int {
	same := func(e error) bool { return e != nil && e.Error() == err.Error() }
	for i, f := range b.s.Flags {
		if _, alone := b.ask(f.Word); !slices.Contains(b.bad, i) && same(alone) {
			return i
		}
	}
	for i := range slices.Backward(b.s.Flags) {
		if len(b.s.Flags) > most || slices.Contains(b.bad, i) {
			continue
		}
		if _, without := b.ask(b.words(i)...); !same(without) {
			return i
		}
	}
	return -1
}

// words are all flags but those in but, and those that cannot be read.
func (b *bench) words(but ...int) []string {
	var words []string
	for i, f := range b.s.Flags {
		if !slices.Contains(but, i) && !slices.Contains(b.bad, i) {
			words = append(words, f.Word)
		}
	}
	return words
}

// ask parses and reviews a line of flags. The error is the parser's.
func (b *bench) ask(words ...string) ([]policy.Refusal, error) {
	args := append(slices.Clone(words), b.s.Image)
	inv, err := cli.Parse(append(args, b.s.Args...), cli.Context{
		LookupEnv: func(string) (string, bool) { return "", false },
		Cwd:       "/", // paths of a project are absolute
		ReadFile:  func(string, int64) ([]byte, error) { return []byte("{}"), nil },
		Profile: func(ref string, _ *cli.Invocation) (cli.Profile, error) {
			return cli.Profile{Shown: ref}, nil // of the caller's, so without a name
		},
	})
	if err != nil {
		return nil, err
	}
	return policy.ReviewSpelled(inv.Workload, b.site), nil
}

// most is how many flags a service may have for each to be tried without.
const most = 200

// mostWrong is how many flags of a service are told that cannot be read.
const mostWrong = 20

// owner finds the flag a refusal comes from: one that is refused the same
// alone, else one without which it is not refused. Of the image and of the
// line as a whole it is the service.
func (b *bench) owner(r policy.Refusal) Flag {
	same := func(o policy.Refusal) bool { return o.ID == r.ID && o.Flag == r.Flag }
	image := Flag{Key: "services." + b.s.Name, Place: b.s.Place}
	if strings.HasPrefix(r.Flag, "image ") {
		image.Key += ".image"
		return image
	}
	if b.each == nil {
		b.each = make([][]policy.Refusal, len(b.s.Flags))
		nothing, _ := b.ask()
		for i, f := range b.s.Flags {
			alone, err := b.ask(f.Word)
			if err != nil {
				continue
			}
			b.each[i] = slices.DeleteFunc(alone, func(o policy.Refusal) bool { return slices.Contains(nothing, o) })
		}
	}
	for i, f := range b.s.Flags {
		if at := slices.IndexFunc(b.each[i], same); at >= 0 {
			b.each[i] = slices.Delete(b.each[i], at, at+1) // of two flags alike the other is the next one's
			return f
		}
	}
	named := strings.FieldsFunc(r.Flag, func(c rune) bool { return c == ' ' || c == '=' })
	for _, first := range []bool{true, false} { // the flag the refusal speaks of, then any
		for i, f := range slices.Backward(b.s.Flags) {
			name, _, _ := strings.Cut(f.Word, "=")
			if len(b.s.Flags) > most || first != (len(named) > 0 && name == named[0]) {
				continue
			}
			if without, err := b.ask(b.words(i)...); err == nil && !slices.ContainsFunc(without, same) {
				return f
			}
		}
	}
	return image
}
