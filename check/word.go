package check

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// word is one word of a command line as its file has it.
type word struct {
	parts []part
	raw   string // as written
	line  int
	many  bool   // it becomes any number of words
	may   []word // of many: words it becomes if everything in the file holds
}

// part is a piece of a word.
type part struct {
	text    string // its value; of an unknown part, how it is written
	unknown bool   // nobody knows it until it runs
	guess   string // of an unknown part: what it usually is, or ""
	name    string // of an unknown part: the variable
	quoted  bool   // of an unknown part: it stands in quotation marks
	loose   bool   // of a known part: it is a variable's, and a shell splits it at blanks
}

func literal(s string, line int) word {
	return word{parts: []part{{text: s}}, raw: s, line: line}
}

// value is the word's text, if all of it is known.
func (w word) value() (string, bool) {
	if w.many {
		return "", false
	}
	var b strings.Builder
	for _, p := range w.parts {
		if p.unknown {
			return "", false
		}
		b.WriteString(p.text)
	}
	return b.String(), true
}

// head is the known text the word begins with.
func (w word) head() string {
	var b strings.Builder
	for _, p := range w.parts {
		if p.unknown {
			break
		}
		b.WriteString(p.text)
	}
	return b.String()
}

// fill is the word's text with unknown parts replaced: by what they usually are
// where guesses is true, else by standIn.
func (w word) fill(standIn string, guesses bool) string {
	var b strings.Builder
	for _, p := range w.parts {
		switch {
		case !p.unknown:
			b.WriteString(p.text)
		case guesses && p.guess != "":
			b.WriteString(p.guess)
		default:
			b.WriteString(standIn)
		}
	}
	return b.String()
}

func (w word) isUnknown() bool {
	for _, p := range w.parts {
		if p.unknown {
			return true
		}
	}
	return w.many
}

func (w word) hasGuess() bool {
	for _, p := range w.parts {
		if p.unknown && p.guess != "" {
			return true
		}
	}
	return false
}

// allGuessed says whether all that is unknown has a guess.
func (w word) allGuessed() bool {
	for _, p := range w.parts {
		if p.unknown && p.guess == "" {
			return false
		}
	}
	return w.hasGuess() && !w.many
}

// unknownName is the variable an unknown word begins with.
func unknownName(w word) string {
	for _, p := range w.parts {
		if p.unknown {
			return strings.ToUpper(p.name)
		}
	}
	return ""
}

// namedImage says whether an unknown word is an image by its name.
func namedImage(w word) bool {
	for _, is := range []string{"IMAGE", "IMG", "TAG", "REPO", "REGISTRY"} {
		if strings.Contains(unknownName(w), is) {
			return true
		}
	}
	if !strings.ContainsAny(w.raw, "(`") {
		return false
	}
	for _, is := range []string{" build", "image", "tag"} { // $(docker build -q .)
		if strings.Contains(w.raw, is) {
			return true
		}
	}
	return false
}

// after is the word without its first n bytes, which are known.
func (w word) after(n int) word {
	out := word{line: w.line}
	for _, p := range w.parts {
		if !p.unknown && n > 0 {
			k := min(n, len(p.text))
			p.text, n = p.text[k:], n-k
			if p.text == "" {
				continue
			}
		}
		out.parts = append(out.parts, p)
	}
	return out
}

// fields splits parts at the blanks of what is known, as a shell does with a
// variable that is not quoted: of all parts, or of loose ones alone.
func fields(parts []part, all bool) (out [][]part) {
	var cur []part
	for _, p := range parts {
		if p.unknown {
			p.quoted = p.quoted || all // it was one word where it was assigned
			cur = append(cur, p)
			continue
		}
		if !all && !p.loose {
			cur = append(cur, p)
			continue
		}
		for text := p.text; text != ""; {
			n := strings.IndexFunc(text, blank)
			if n != 0 {
				piece := text
				if n > 0 {
					piece = text[:n]
				}
				cur = append(cur, part{text: piece})
				text = text[len(piece):]
				continue
			}
			if len(cur) > 0 {
				out, cur = append(out, cur), nil
			}
			text = strings.TrimLeftFunc(text, blank)
		}
	}
	if len(cur) > 0 {
		out = append(out, cur)
	}
	return out
}

// printable makes text fit for a terminal and one line: what is not printable,
// direction marks among them, is written as an escape.
func printable(s string) string {
	const most = 4096
	if len(s) > most {
		s = s[:most] + "…"
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n <= 1:
			b.WriteString(`\x` + strconv.FormatUint(uint64(s[i])|0x100, 16)[1:])
		case r != ' ' && !unicode.IsPrint(r):
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

func isPlain(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=/.,:@+%") == ""
}

// short bounds text that is repeated in a message.
func short(s string, most int) string {
	s = printable(s)
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "…"
}

func blank(r rune) bool { return r == ' ' || r == '\t' || r == '\n' }
