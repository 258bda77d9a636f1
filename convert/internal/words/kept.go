package words

import (
	"encoding/csv"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/internal/argv"
	"github.com/safe-run/safe-run/internal/plain"
	"github.com/safe-run/safe-run/internal/unit"
)

// escaped writes the characters of JSON that do not show as themselves by their
// numbers.
func escaped(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == ' ' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// Merge puts kept flags after those a document says, in place of those that
// were only the nearest to them.
func Merge(said, kept []Flag) []Flag {
	taken := map[string]bool{}
	for _, f := range kept {
		if s := argv.Slot(f.Name, f.Value); s != "" {
			taken[s] = true
		}
	}
	out := slices.DeleteFunc(slices.Clone(said), func(f Flag) bool {
		return taken[argv.Slot(f.Name, f.Value)] || slices.Contains(kept, f)
	})
	return append(out, kept...)
}

// Target is where a flag mounts something, "" if it does not say.
func Target(f Flag) string { return argv.Target(f.Name, f.Value) }

// Name makes a name for objects and files of any other.
func Name(s string) string {
	s = strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, s), "-")
	s = strings.Trim(s[:min(len(s), 63)], "-")
	if s == "" {
		return "container"
	}
	return s
}

// ImageName makes one of an image's: nginx of example.com/library/nginx:1.29.
func ImageName(image string) string { return Name(unit.ImageName(image)) }

// IsName says whether s is as Name gives it.
func IsName(s string) bool { return s != "" && Name(s) == s }

// Default is the name of a container that nothing else names.
func Default(flags []Flag, image string) string {
	for _, f := range slices.Backward(flags) {
		if f.Name == "name" {
			return Name(f.Value)
		}
	}
	return ImageName(image)
}

// Unique gives containers of the same name others.
func Unique(found []convert.Found) {
	seen := map[string]bool{}
	for i := range found {
		name := found[i].Name
		for n := 2; seen[found[i].Name]; n++ {
			tail := fmt.Sprintf("-%d", n)
			found[i].Name = strings.TrimRight(name[:min(len(name), 63-len(tail))], "-") + tail
		}
		seen[found[i].Name] = true
	}
}

// Batch is what was read of one command or file.
type Batch struct {
	Name   string // of the file, with its suffix, so that no container has it; "" is not known
	Found  []convert.Found
	Losses []convert.Loss
}

// Together gives each container a name of its own. Then losses are told by that
// name where one container was read with them, else by the name of the file.
func Together(all []Batch) (found []convert.Found, losses []convert.Loss) {
	for _, b := range all {
		found = append(found, b.Found...)
	}
	Unique(found)
	n := 0
	for _, b := range all {
		name := Line(b.Name)
		if len(b.Found) == 1 {
			name = found[n].Name
		}
		for _, l := range b.Losses {
			l.Container = name
			losses = append(losses, l)
		}
		n += len(b.Found)
	}
	return found, losses
}

// Dependencies writes what a container depends on in one word.
func Dependencies(all []convert.Dependency) string {
	words := make([]string, len(all))
	for i, d := range all {
		words[i] = d.Name + ":" + d.Condition
	}
	return strings.Join(words, ",")
}

// conditions are those of convert.Dependency.
func conditions() []string { return []string{"started", "healthy", "completed"} }

// ReadDependencies reads what Dependencies writes; ok is false for anything else.
func ReadDependencies(s string) (all []convert.Dependency, ok bool) {
	if s == "" {
		return nil, true
	}
	for word := range strings.SplitSeq(s, ",") {
		name, condition, _ := strings.Cut(word, ":")
		if !IsName(name) || !slices.Contains(conditions(), condition) || len(all) > 1000 {
			return nil, false
		}
		all = append(all, convert.Dependency{Name: name, Condition: condition})
	}
	return all, true
}

// Comment says on top of a file where it comes from and what is lost, one line
// each. Losses that come of no flag are told where it is written, not in it:
// they are not there any more when it is read.
func Comment(head []string, losses, defaults []convert.Loss) string {
	var b strings.Builder
	line := func(format string, args ...any) {
		b.WriteString(strings.TrimRight("# "+fmt.Sprintf(format, args...), " ") + "\n")
	}
	for _, h := range head {
		line("%s", h)
	}
	list := func(title string, all []convert.Loss) {
		for i, l := range all {
			if i == 0 {
				line("")
				line("%s", title)
			}
			line("- %s", Line(l.String()))
		}
	}
	list("Kept for safe-run, without effect elsewhere or not quite the same:", slices.DeleteFunc(slices.Clone(losses), func(l convert.Loss) bool { return !strings.HasPrefix(l.What, "--") }))
	list("What safe-run does besides, and this does not:", defaults)
	return b.String()
}

// Line is text of bounded length that stays in one line of a comment.
func Line(s string) string {
	if r := []rune(s); len(r) > 400 {
		s = string(r[:400]) + "…"
	}
	return plain.Line(s)
}

// Fields takes a line of comma-separated values apart, as --mount has it.
func Fields(value string) ([]string, error) { return csv.NewReader(strings.NewReader(value)).Read() }

// CSV is the line that Fields reads.
func CSV(fields ...string) string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write(fields) // to memory
	w.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}

// WithoutExec is the value of --mount without the word exec, and whether it had
// it.
func WithoutExec(value string) (string, bool) {
	fields, err := Fields(value)
	n := len(fields)
	fields = slices.DeleteFunc(fields, func(f string) bool { return f == "exec" })
	return CSV(fields...), err == nil && len(fields) < n
}

// Of gives the losses of one container, and those that are no container's. One
// of several names them all.
func Of(name string, all []convert.Loss) []convert.Loss {
	return slices.DeleteFunc(slices.Clone(all), func(l convert.Loss) bool {
		return l.Container != "" && !slices.Contains(strings.Split(l.Container, ", "), name)
	})
}
