package dockerline

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/internal/words"
	"github.com/safe-run/safe-run/internal/fail"
)

// maxContainers bounds what one script makes.
const maxContainers = 1000

// shallow is a reader that fails when its caller is nested too deeply: the
// parser recurses, and reads as it goes.
type shallow struct{ r io.Reader }

var errDeep = errors.New("nested too deeply")

func (s shallow) Read(p []byte) (int, error) {
	var pc [1]uintptr
	if runtime.Callers(4000, pc[:]) > 0 {
		return 0, errDeep
	}
	return s.r.Read(p)
}

// Read finds the containers a shell script runs.
func (f format) Read(files []convert.File, o convert.Options) ([]convert.Found, []convert.Loss, error) {
	if len(files) == 0 || len(files[0].Data) > maxFile {
		return nil, nil, fail.New(fail.Usage, "a script of at most %d bytes is read", maxFile)
	}
	calls, err := commands(strings.ReplaceAll(string(files[0].Data), words.Mark, ""))
	if err != nil {
		return nil, nil, err
	}
	var all []words.Batch
	n := 0
	for _, call := range calls {
		if n == maxContainers {
			return nil, nil, fail.New(fail.Usage, "more than %d containers in one script", maxContainers)
		}
		var batch words.Batch
		draft, left := words.Command(call.words, ours)
		if draft != nil {
			draft.Line = call.line
			left = append(left, keep(draft)...)
			one, more := draft.Found(files, o)
			batch.Found, left = []convert.Found{one}, append(left, more...)
			n++
		}
		for _, l := range left {
			l.What = fmt.Sprintf("line %d: %s", call.line, words.Line(l.What))
			batch.Losses = append(batch.Losses, l)
		}
		all = append(all, batch)
	}
	found, losses := words.Together(all)
	if len(found) == 0 && len(losses) == 0 {
		return nil, nil, fail.New(fail.Usage, "no docker run, podman run, nerdctl run or safe-run in it").
			Hint("give the command as it is typed into a shell, or a script with it")
	}
	return found, losses, nil
}

// ours says whether a command makes a network of an exported project.
func ours(list []string) bool {
	return len(list) > 3 && list[1] == "network" && list[2] == "create" && list[3] == "--label="+labelNetwork+"=icc"
}

// keep takes the labels that say what docker has no flag for.
func keep(d *words.Draft) (losses []convert.Loss) {
	wrong := func(label, why string) {
		losses = append(losses, convert.Loss{What: "--label=" + label, Why: why})
	}
	d.Said = slices.DeleteFunc(d.Said, func(f words.Flag) bool {
		if f.Name != "label" || !strings.HasPrefix(f.Value, "safe-run.") {
			return false
		}
		key, value, _ := strings.Cut(f.Value, "=")
		switch key {
		case labelName:
			if !words.IsName(value) {
				wrong(f.Value, "it takes a name of lower case letters, digits and dashes")
				break
			}
			d.Name = value
		case labelDepends:
			var ok bool
			if d.DependsOn, ok = words.ReadDependencies(value); !ok {
				wrong(f.Value, "it takes NAME:started, NAME:healthy or NAME:completed, separated by commas")
			}
		case labelFlags:
			kept, err := words.FromJSON(value)
			if err != nil {
				wrong(f.Value, err.Error())
			}
			d.Kept = append(d.Kept, kept...)
		default:
			wrong(f.Value, "labels that begin with safe-run. are its own")
		}
		return true
	})
	return losses
}

// command is a simple command of a script.
type command struct {
	words []string
	line  int
}

// commands gives the simple commands of a script. What is not known before it
// runs is marked in the words.
func commands(text string) (out []command, err error) {
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(shallow{strings.NewReader(text)}, "")
	if err != nil {
		var p syntax.ParseError
		if errors.As(err, &p) {
			return nil, fail.New(fail.Usage, "line %d: %.120q", p.Pos.Line(), p.Text).Hint("it was read as a shell script")
		}
		return nil, fail.New(fail.Usage, "it is no shell script: %.120q", err.Error())
	}
	const most = 4000 // a long pipe is parsed in a loop and is a deep tree
	depth := 0
	syntax.Walk(file, func(n syntax.Node) bool {
		if n == nil {
			depth--
			return false
		}
		if depth >= most {
			err = fail.New(fail.Usage, "the script is %s", errDeep.Error())
		}
		if err != nil {
			return false
		}
		depth++
		if call, is := n.(*syntax.CallExpr); is && len(call.Args) > 0 {
			out = append(out, command{wordsOf(text, call.Args), int(call.Pos().Line())})
		}
		if a, is := n.(*syntax.Assign); is && a.Value != nil { // what $NAME may run later
			out = append(out, command{wordsOf(text, []*syntax.Word{a.Value}), int(a.Pos().Line())})
		}
		return true
	})
	return out, err
}

func wordsOf(text string, list []*syntax.Word) []string {
	out := make([]string, len(list))
	for i, w := range list {
		out[i] = wordOf(text, w)
	}
	return out
}

// raw is how a node stands in the script.
func raw(text string, n syntax.Node) string {
	from, to := int(n.Pos().Offset()), int(n.End().Offset())
	if from > to || to > len(text) {
		return "?"
	}
	return text[from:to]
}

// wordOf is what a word becomes, as far as it is known.
func wordOf(text string, w *syntax.Word) string {
	whole := raw(text, w)
	again := &syntax.Word{Parts: slices.Clone(w.Parts)}
	if strings.HasPrefix(whole, "~") || syntax.SplitBraces(again) {
		return words.Unknown(whole)
	}
	var b strings.Builder
	for _, p := range w.Parts {
		part(&b, text, p)
	}
	return b.String()
}

func part(b *strings.Builder, text string, p syntax.WordPart) {
	switch p := p.(type) {
	case *syntax.Lit:
		b.WriteString(strings.ReplaceAll(unescape(p.Value), words.Mark, ""))
	case *syntax.SglQuoted:
		b.WriteString(literal(p))
	case *syntax.DblQuoted:
		for _, inner := range p.Parts {
			if lit, is := inner.(*syntax.Lit); is {
				b.WriteString(literal(&syntax.DblQuoted{Parts: []syntax.WordPart{lit}}))
				continue
			}
			b.WriteString(words.Unknown(raw(text, inner)))
		}
	default:
		b.WriteString(words.Unknown(raw(text, p)))
	}
}

// unescape takes away the backslashes of text without quotation marks.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			if i++; s[i] == '\n' {
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// literal takes the quoting off a part that has nothing to expand.
func literal(p syntax.WordPart) string {
	s, err := expand.Literal(nil, &syntax.Word{Parts: []syntax.WordPart{p}})
	if err != nil {
		return words.Unknown("?")
	}
	return strings.ReplaceAll(s, words.Mark, "")
}
