package check

import (
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// shellStyle writes words for a shell.
type shellStyle struct{}

func (shellStyle) text(s string) string {
	if isPlain(s) {
		return s
	}
	if q, err := syntax.Quote(s, syntax.LangBash); err == nil {
		return q
	}
	return "''"
}

func (st shellStyle) parts(list []part) string {
	if !slices.ContainsFunc(list, func(p part) bool { return p.unknown }) {
		v, _ := word{parts: list}.value()
		return st.text(v)
	}
	var b strings.Builder
	for _, p := range list {
		switch {
		case !p.unknown && p.text == "":
		case !p.unknown:
			b.WriteString(st.text(p.text))
		case p.quoted:
			b.WriteString(`"` + p.text + `"`)
		default:
			b.WriteString(p.text)
		}
	}
	return b.String()
}
