package check

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/policy"
	"github.com/safe-run/safe-run/profiles"
)

// judged is a flag with what came of it.
type judged struct {
	flagUse
	arg      string // as one word for the parser, "" if it cannot be said
	extra    string // a further one, which it needs beside it
	unread   string // why it is not honoured
	blind    bool   // its value is unknown, and no value is like it
	refusals []policy.Refusal
}

// unknownImage stands for an image nobody knows: of a registry that cannot be,
// so that a grant for a whole registry is not taken to hold for it.
const unknownImage = "image.invalid/unknown"

// deepCwd is where relative paths start: it is no path of the tables, nor is
// anything a few levels up from it.
const deepCwd = "/unknown/directory/of/the/file/that/is/looked/at"

// bench judges the flags of one launch.
type bench struct {
	c     *checker
	image string // "" is not known
	flags []judged
}

// answer is what came of a command line.
type answer struct {
	refusals []policy.Refusal
	err      error
}

func (c *checker) judge(l *launch) Launch {
	b := &bench{c: c}
	out := Launch{Line: l.line, Command: short(l.command, 200), Changes: slices.Clone(l.dropped), NotHonoured: slices.Clone(l.remote)}
	if l.image != nil {
		if v, known := l.image.value(); known {
			b.image = v
		} else if l.image.allGuessed() { // else its repository is anybody's, and so would be a grant for it
			b.image = l.image.fill("", true)
		}
		out.Image = short(l.image.written(l.style), 300)
		if _, err := b.ask(); err != nil {
			out.NotHonoured = append(out.NotHonoured, Remark{l.image.line, out.Image, because(err, "")})
			b.image = ""
			none := literal("IMAGE", l.image.line)
			l.image = &none
		}
	}
	for i, f := range l.flags {
		b.flags = append(b.flags, b.read(f, i))
	}
	b.together()
	refusals := b.attribute()

	for _, f := range b.flags {
		switch {
		case f.unread != "":
			out.NotHonoured = append(out.NotHonoured, Remark{f.line, short(f.typed, 200), f.unread})
		default:
			out.Unknown = append(out.Unknown, b.unknowns(f)...)
		}
	}
	if l.image == nil {
		out.Unknown = append(out.Unknown, Remark{l.line, "IMAGE", "there is none among the words that are known"})
	} else if l.image.isUnknown() {
		why := ""
		if b.image != "" {
			why = guessed(*l.image)
		}
		out.Unknown = append(out.Unknown, Remark{l.image.line, out.Image, why})
	}
	out.Refused = refusals
	for i := range out.Refused {
		if out.Refused[i].Line == 0 {
			out.Refused[i].Line = l.line
		}
	}
	out.Verdict = b.verdict(out, l)
	b.rewrite(l, &out)
	out.Notes = b.notes()
	if strings.HasSuffix(l.command, " create") {
		out.Notes = append(out.Notes, "there is no create: run starts the container as well")
	}
	if strings.HasPrefix(l.lead, "ExecStart=") && slices.ContainsFunc(b.flags, detaches) {
		out.Notes = append(out.Notes, "leave -d out unless the unit is Type=oneshot: systemd follows safe-run itself")
	}
	return out
}

func (b *bench) verdict(out Launch, l *launch) Verdict {
	switch {
	case len(out.Refused) > 0:
		return Refused
	case len(out.NotHonoured) > 0:
		return NotHonoured
	case l.image == nil || l.image.many && !namedImage(*l.image):
		return Unknown
	}
	for _, f := range b.flags {
		matters := f.def == nil || f.def.Disposition == cli.PolicyChecked
		if matters && f.value.isUnknown() && (!f.value.hasGuess() || f.climbs()) || f.name == "profile" || b.seccompFile(f) {
			return Unknown
		}
	}
	return Accepted
}

func detaches(f judged) bool {
	v, _ := f.value.value()
	on, _ := strconv.ParseBool(v)
	return f.name == "detach" && (!f.has || on)
}

// climbs says whether a path leaves the directory that was guessed: nobody knows
// then how far it is to the root.
func (j judged) climbs() bool {
	return (j.name == "volume" || j.name == "mount") && strings.Contains(j.value.fill("", false), "..")
}

func (b *bench) seccompFile(f judged) bool {
	v, known := f.value.value()
	file, is := strings.CutPrefix(strings.Replace(v, ":", "=", 1), "seccomp=")
	return known && is && f.name == "security-opt" && file != "unconfined" && file != "builtin"
}

// unknowns are what nobody knows of a flag.
func (b *bench) unknowns(f judged) []Remark {
	why := ""
	switch {
	case f.name == "profile":
		why = "what the profile asks for is not looked at"
	case b.seccompFile(f):
		why = "the file is not opened"
	case !f.value.isUnknown():
		return nil
	case f.name == "" && len(f.value.may) > 0:
		why = "judged by all that the file puts into it"
	case f.value.hasGuess() && !f.blind:
		why = guessed(f.value)
	}
	return []Remark{{f.line, short(f.typed, 200), why}}
}

func guessed(w word) string {
	s := w.fill("…", true)
	if !w.hasGuess() || strings.Contains(s, deepCwd) {
		return ""
	}
	return "judged as " + short(s, 200)
}

// notes are what else helps.
func (b *bench) notes() (notes []string) {
	for _, f := range b.flags {
		if f.name == "profile" {
			return nil
		}
	}
	if ref, err := reference.ParseNormalizedNamed(b.image); b.image != "" && err == nil {
		if name := profiles.ForImage(ref.Name()); name != "" {
			notes = append(notes, fmt.Sprintf("--profile %s asks for what this image is known to need", name))
		}
	}
	return notes
}

// read finds the word to judge a flag by.
func (b *bench) read(f flagUse, n int) judged {
	j := judged{flagUse: f}
	switch {
	case f.name == "": // an unknown word
		return j
	case f.bad != "":
		j.unread = f.bad
		return j
	case f.def == nil:
		word := "--" + f.name
		if strings.HasPrefix(f.name, "-") {
			word = f.name
		}
		_, err := b.ask(word)
		j.unread = because(err, "there is no such flag")
		return j
	}
	words := candidates(f, n)
	var first error
	found := false
	for _, v := range words {
		arg := "--" + f.def.Long
		if f.has {
			arg += "=" + v
		}
		r, err := b.ask(arg)
		if err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		if !found || len(r) == 0 {
			j.arg, found = arg, true
		}
		if len(r) == 0 || !f.value.isUnknown() || f.value.hasGuess() {
			break
		}
	}
	switch {
	case found:
	case f.name == "volume" && knownMode(f.value):
		j.unread = because(first, "it cannot be read")
	case f.value.isUnknown():
		j.blind = true
	default:
		j.arg = "--" + f.def.Long + "=" + words[0]
		if !f.has {
			j.arg = "--" + f.def.Long
		}
		j.unread = because(first, "it cannot be read")
	}
	return j
}

// knownMode says whether a -v ends in a mode that is known: what is wrong with
// it is wrong whatever the paths are.
func knownMode(w word) bool {
	flat, _ := flatten(w)
	last := w.parts[len(w.parts)-1]
	i := strings.LastIndexByte(last.text, ':')
	return strings.Count(flat, ":") == 2 && !last.unknown && i >= 0 && !strings.Contains(last.text[i:], "/")
}

// candidates are values to judge a flag by: its own, or such as an unknown one
// may have. Of those the first counts that is not refused: what is refused then
// is refused whatever the value is.
func candidates(f flagUse, n int) []string {
	if v, known := f.value.value(); known {
		return []string{v}
	}
	name, dir := "unknown"+itoa(n), "/unknown/"+itoa(n)
	standIns := []string{name, dir, "1", itoa(8000 + n), "1m", "true", "CHOWN", "10.0.0.1", "no", "always", "linux/amd64", "json-file", "none", "1s", "SIGTERM", "stdout", "a=b"}
	switch f.def.Long {
	case "volume", "mount", "tmpfs", "device":
		standIns = append([]string{dir}, standIns...)
	case "cap-add", "cap-drop":
		standIns = append([]string{"CHOWN"}, standIns...)
	}
	var all []string
	for _, guesses := range []bool{true, false} {
		if guesses && !f.value.hasGuess() {
			continue
		}
		for _, s := range standIns {
			all = append(all, f.value.fill(s, guesses))
		}
	}
	return all
}

// because is an error in one sentence with its next step.
func because(err error, otherwise string) string {
	if err == nil {
		return otherwise
	}
	s := err.Error()
	var fe *fail.Error
	if errors.As(err, &fe) && fe.Next != "" {
		s += " (" + fe.Next + ")"
	}
	return short(s, 600)
}
