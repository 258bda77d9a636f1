package composefile

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/lazyre"
)

// mapping is a YAML mapping in its order. Values are a string, a literal, a
// mapping, or a []any of these.
type mapping []pair

type pair struct {
	key   string
	value any
}

// literal is a number or boolean.
type literal string

func (m *mapping) add(key string, value any) { *m = append(*m, pair{key, value}) }

// bareScalar is text that no reader of YAML takes for anything but itself.
var bareScalar = lazyre.New(`^[a-zA-Z/_][a-zA-Z0-9_./-]*$`)

func matches(re func() *regexp.Regexp, s string) bool { return re().MatchString(s) }

// words of YAML 1.1 and 1.2 that are no text.
func reservedWord(s string) bool {
	return slices.Contains([]string{"true", "false", "yes", "no", "on", "off", "null", "y", "n", "inf", "nan"}, strings.ToLower(s))
}

// scalar writes text. What does not show as itself is written by its number.
func scalar(s string) string {
	if matches(bareScalar, s) && !reservedWord(s) {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// dollars keeps compose from putting variables into a value.
func dollars(s string) string { return strings.ReplaceAll(s, "$", "$$") }

// write writes a mapping in block style.
func (m mapping) write(b *strings.Builder, indent string) {
	for _, p := range m {
		fmt.Fprintf(b, "%s%s:", indent, scalar(p.key))
		value(b, p.value, indent)
	}
}

func value(b *strings.Builder, v any, indent string) {
	switch v := v.(type) {
	case string:
		b.WriteString(" " + scalar(dollars(v)) + "\n")
	case literal:
		b.WriteString(" " + string(v) + "\n")
	case mapping:
		if len(v) == 0 {
			b.WriteString(" {}\n")
			return
		}
		b.WriteByte('\n')
		v.write(b, indent+"  ")
	case []any:
		if len(v) == 0 {
			b.WriteString(" []\n")
			return
		}
		b.WriteByte('\n')
		for _, item := range v {
			if m, is := item.(mapping); is && len(m) > 0 {
				var inner strings.Builder
				m.write(&inner, indent+"    ")
				b.WriteString(indent + "  - " + strings.TrimPrefix(inner.String(), indent+"    "))
				continue
			}
			b.WriteString(indent + "  -")
			value(b, item, indent+"  ")
		}
	}
}

// document is a file that is read: its root, or nil if it is no single plain
// document, without aliases.
func document(data []byte) (*yaml.Node, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		return nil, fail.New(fail.Usage, "it is no YAML: %.200q", err.Error())
	}
	nodes := 0
	if root.Kind != yaml.DocumentNode || len(root.Content) != 1 || !plain(&root, &nodes, 0) {
		return nil, nil
	}
	return root.Content[0], nil
}

// plain says whether a tree has no aliases, tags or merges, and is of bounded
// size.
func plain(n *yaml.Node, nodes *int, depth int) bool {
	if *nodes++; *nodes > 200_000 || depth > 50 || n.Kind == yaml.AliasNode || n.Anchor != "" {
		return false
	}
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && (c.Kind != yaml.ScalarNode || c.Value == "<<") {
			return false
		}
		if !plain(c, nodes, depth+1) {
			return false
		}
	}
	return true
}

// entries gives the pairs of a mapping, nil for anything else.
func entries(n *yaml.Node) (out []struct {
	key   string
	value *yaml.Node
},
) {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		out = append(out, struct {
			key   string
			value *yaml.Node
		}{n.Content[i].Value, n.Content[i+1]})
	}
	return out
}

// at is the value of a key, nil if there is none.
func at(n *yaml.Node, keys ...string) *yaml.Node {
	for _, key := range keys {
		var found *yaml.Node
		for _, e := range entries(n) {
			if e.key == key {
				found = e.value
			}
		}
		n = found
	}
	return n
}

// text is a scalar as it was before its dollars were doubled, "" for anything
// else.
func text(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	return strings.ReplaceAll(n.Value, "$$", "$")
}

// texts are the scalars of a list.
func texts(n *yaml.Node) (out []string) {
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	for _, c := range n.Content {
		out = append(out, text(c))
	}
	return out
}
