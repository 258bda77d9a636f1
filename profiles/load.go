package profiles

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/strictyaml"
)

// MaxFile is the largest profile file read, in bytes.
const MaxFile = 256 << 10

// maxTold is how many errors of one file are told.
const maxTold = 10

// Parse reads a profile file; name is the file's, for messages. It is strict:
// unknown and repeated keys, anything a reader could overlook, and rights no
// site can grant are errors. All errors of meaning are told at once. They are
// of kind Refused, and each names FILE:LINE.
//
// Capabilities are given in one spelling, without CAP_.
func Parse(data []byte, name string) (Profile, error) {
	var p Profile
	doc, err := strictyaml.Parse(data, MaxFile)
	if err == nil {
		err = doc.Decode(&p)
	}
	if e := (*strictyaml.Error)(nil); errors.As(err, &e) {
		return Profile{}, refused(name, *e)
	}
	p = p.normal()
	var wrong []strictyaml.Error
	p.check(func(msg string, path ...any) {
		wrong = append(wrong, strictyaml.Error{Line: doc.Line(path...), Msg: msg})
	})
	if len(wrong) > 0 {
		slices.SortStableFunc(wrong, func(a, b strictyaml.Error) int { return a.Line - b.Line })
		return Profile{}, refused(name, wrong...)
	}
	return p, nil
}

func refused(name string, wrong ...strictyaml.Error) error {
	var all []string
	for i, e := range wrong {
		if i == maxTold {
			all = append(all, fmt.Sprintf("and %d more", len(wrong)-i))
			break
		}
		all = append(all, strictyaml.At(name, e.Line)+": "+e.Msg)
	}
	return fail.New(fail.Refused, "profile %s", strings.Join(all, "; ")).
		Hint("the format is in docs/profiles.md; check a file with: safe-run profile check FILE")
}

// YAML writes the profile as a file that Parse reads to the same profile. A
// profile that Parse would refuse is an error of kind Refused.
func (p Profile) YAML() ([]byte, error) {
	p = p.normal()
	body, err := strictyaml.Marshal(p)
	if err != nil {
		return nil, fail.Wrap(fail.Internal, err, "writing a profile")
	}
	out := append([]byte("# Profile of safe-run; the format is in docs/profiles.md.\n"), body...)
	if _, err := Parse(out, "to be written"); err != nil {
		return nil, err
	}
	return out, nil
}

// normal brings what can be spelled in several ways to one: capabilities
// without CAP_ in capitals, dates in UTC. It shares no memory with p that it
// changes.
func (p Profile) normal() Profile {
	p.Capabilities = slices.Clone(p.Capabilities)
	for i, c := range p.Capabilities {
		p.Capabilities[i].Name = strings.TrimPrefix(strings.ToUpper(c.Name), "CAP_")
	}
	p.Recorded = slices.Clone(p.Recorded)
	for i, r := range p.Recorded {
		p.Recorded[i].Date = r.Date.UTC()
	}
	return p
}

// printableText says why a string cannot stand in a profile: everything in it
// is shown to people, who must see what is there.
func printableText(s string, most int) string {
	switch {
	case len(s) > most:
		return fmt.Sprintf("longer than %d bytes", most)
	case !utf8.ValidString(s):
		return "not valid UTF-8"
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return fmt.Sprintf("the character %U cannot be seen, and is not taken", r)
		}
	}
	return ""
}
