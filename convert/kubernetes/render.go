package kubernetes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"sigs.k8s.io/yaml"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/plain"
)

// render writes objects as a stream of YAML documents, after a comment that
// says what is to be known about them.
func render(objects []any, losses []convert.Loss, steps []string) ([]byte, error) {
	var b bytes.Buffer
	comment(&b, "Written by safe-run export kubernetes.")
	verdicts, err := judge(objects)
	if err != nil {
		return nil, err
	}
	for _, v := range verdicts {
		for _, line := range v.lines() {
			comment(&b, line)
		}
	}
	if len(steps) > 0 {
		comment(&b, "\nBefore it can start:")
		for _, s := range steps {
			comment(&b, "- "+s)
		}
	}
	if len(losses) > 0 {
		comment(&b, "\nWhat is not as with safe-run:")
		for _, l := range losses {
			comment(&b, "- "+lossLine(l))
		}
	}
	for _, o := range objects {
		data, err := document(o)
		if err != nil {
			return nil, err
		}
		b.WriteString("---\n")
		b.Write(data)
	}
	return b.Bytes(), nil
}

// lossLine is a loss without values of variables, which may be secrets.
func lossLine(l convert.Loss) string {
	if name, value, ok := strings.Cut(strings.TrimPrefix(l.What, "--env="), "="); ok && strings.HasPrefix(l.What, "--env=") && value != "" {
		l.What = "--env=" + name + "=…"
	}
	return l.String()
}

// maxComment bounds a line of a comment in bytes.
const maxComment = 500

// comment writes one line, after an empty one if text begins with a line break.
func comment(b *bytes.Buffer, text string) {
	if rest, ok := strings.CutPrefix(text, "\n"); ok {
		b.WriteString("#\n")
		text = rest
	}
	text = plain.Line(text)
	if len(text) > maxComment {
		text = strings.ToValidUTF8(text[:maxComment], "") + "…"
	}
	b.WriteString("# " + text + "\n")
}

// document is an object as YAML, without the fields that only a cluster fills
// in. It is fit for a terminal: where YAML would have characters that do not show
// as themselves, it is JSON, which is YAML too and has escapes for all of them.
func document(o any) ([]byte, error) {
	data, err := json.Marshal(o)
	var tree map[string]any
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		err = d.Decode(&tree)
	}
	if err != nil {
		return nil, fail.Wrap(fail.Internal, err, "writing an object")
	}
	prune(tree)
	// What is in JSON as it is may not be in YAML at all.
	if !bytes.ContainsFunc(data, plain.Hidden) {
		out, err := yaml.Marshal(tree)
		if err != nil {
			return nil, fail.Wrap(fail.Internal, err, "writing an object")
		}
		if !bytes.ContainsFunc(out, func(r rune) bool { return r != '\n' && plain.Hidden(r) }) {
			return out, nil
		}
	}
	out, err := json.MarshalIndent(tree, "", "  ")
	if err != nil {
		return nil, fail.Wrap(fail.Internal, err, "writing an object")
	}
	return append(shown(out), '\n'), nil
}

// shown writes the characters of JSON text that do not show as escapes.
func shown(data []byte) []byte {
	var b bytes.Buffer
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		switch {
		case r == '\n' || !plain.Hidden(r):
			b.Write(data[:n])
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r) // not the surrogates of JSON: YAML has none
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		data = data[n:]
	}
	return b.Bytes()
}

// prune takes out what the types write though it is empty.
func prune(tree map[string]any) {
	delete(tree, "status")
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, key := range []string{"creationTimestamp", "resources", "strategy", "updateStrategy"} {
				if m, isMap := v[key].(map[string]any); v[key] == nil || isMap && len(m) == 0 {
					delete(v, key)
				}
			}
			for _, e := range v {
				walk(e)
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(tree["metadata"])
	walk(tree["spec"])
}
