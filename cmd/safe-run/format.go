package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"text/template"
	"unicode"
	"unicode/utf16"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/plain"
)

// render prints each item by a template of docker's --format: "json", or a
// text/template.
func render[T any](w io.Writer, format string, items []T) error {
	if format == "json" {
		format = "{{json .}}"
	}
	t, err := parseTemplate(format)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	err = execute(&b, t, items)
	return errors.Join(put(w, b.String()), err)
}

// listing is the format of a list: that asked for, or a table of columns.
func listing(format, columns string) string {
	if format = strings.TrimSpace(format); format == "" || format == "table" {
		return "table " + columns
	}
	return format
}

// renderTable prints a list by docker's --format: as render does, or in columns
// with "table TEMPLATE". `\t` and `\n` may be written as such.
func renderTable[T any](w io.Writer, format string, heads headings, items []T) error {
	format = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(format)
	format, table := strings.CutPrefix(format, "table ")
	if !table {
		return render(w, format, items)
	}
	t, err := parseTemplate(strings.Trim(format, " "))
	if err != nil {
		return err
	}
	top, err := t.Clone()
	if err != nil {
		return fail.Wrap(fail.Internal, err, "the headings")
	}
	var b bytes.Buffer
	if err := top.Funcs(headingFuncs()).Execute(&b, heads); err != nil {
		return badTemplate(err)
	}
	b.WriteByte('\n')
	err = execute(&b, t, items)
	tw := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
	return errors.Join(put(tw, b.String()), fail.Wrap(fail.Internal, tw.Flush(), "printing"), err)
}

// renderObjects prints what was inspected: as an indented array of JSON
// without a format, in one line with "json", or else each by the template.
func renderObjects[T any](w io.Writer, format string, items []T) error {
	if format == "" || format == "json" {
		return printJSON(w, items, format == "")
	}
	t, err := parseTemplate(format)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	err = execute(&b, t, items)
	if b.Len() == 0 {
		b.WriteByte('\n') // docker's answer when nothing was found
	}
	return errors.Join(put(w, b.String()), err)
}

func put(w io.Writer, s string) error {
	_, err := io.WriteString(w, printable(s))
	return fail.Wrap(fail.Internal, err, "printing")
}

// execute prints the items, each with a newline. Like docker it tries the names
// of Go's fields first, and then those of the JSON. Those that fail are left
// out; the first is the error.
func execute[T any](b *bytes.Buffer, t *template.Template, items []T) error {
	var failed error
	for _, i := range items {
		var one bytes.Buffer
		if t.Execute(&one, i) != nil {
			one.Reset()
			if err := executeRaw(&one, t, i); err != nil {
				if failed == nil {
					failed = badTemplate(err)
				}
				continue
			}
		}
		b.Write(one.Bytes())
		b.WriteByte('\n')
	}
	return failed
}

func executeRaw(w io.Writer, t *template.Template, item any) error {
	text, err := json.Marshal(item)
	if err != nil {
		return err
	}
	var raw any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&raw); err != nil {
		return err
	}
	c, err := t.Clone()
	if err != nil {
		return err
	}
	return c.Option("missingkey=error").Execute(w, raw)
}

func parseTemplate(format string) (*template.Template, error) {
	t, err := template.New("").Funcs(templateFuncs()).Parse(format)
	if err != nil {
		return nil, badTemplate(err)
	}
	return t, nil
}

// checkTemplate ends inspect with docker's code for what is no template.
func checkTemplate(format string) error {
	_, err := parseTemplate(format)
	if err == nil {
		return nil
	}
	printError(os.Stderr, err)
	return &exitError{64}
}

func badTemplate(err error) error {
	return fail.Wrap(fail.NoStatus, err, "template parsing error")
}

// templateFuncs are docker's.
func templateFuncs() template.FuncMap {
	return template.FuncMap{
		"json": compactJSON, "join": join, "split": strings.Split,
		"lower": strings.ToLower, "upper": strings.ToUpper, "title": title,
		"pad": func(s string, before, after int) string {
			if s == "" {
				return s
			}
			const most = 1 << 10
			return strings.Repeat(" ", min(max(before, 0), most)) + s + strings.Repeat(" ", min(max(after, 0), most))
		},
		"truncate": func(s string, n int) string {
			if n < 0 || len(s) < n {
				return s
			}
			return s[:n]
		},
	}
}

// headingFuncs leave headings as they are.
func headingFuncs() template.FuncMap {
	same := func(s string) string { return s }
	with := func(s, _ string) string { return s }
	return template.FuncMap{
		"json": same, "title": same, "lower": same, "upper": same, "join": with, "split": with,
		"truncate": func(s string, _ int) string { return s },
	}
}

func title(s string) string {
	last := ' '
	return strings.Map(func(r rune) rune {
		defer func() { last = r }()
		if last == ' ' {
			return unicode.ToTitle(r)
		}
		return r
	}, s)
}

// join takes lists of anything, and the values of maps in order.
func join(list any, sep string) (string, error) {
	if words, ok := list.([]string); ok || list == nil {
		return strings.Join(words, sep), nil
	}
	var out []string
	v := reflect.ValueOf(list)
	switch v.Kind() {
	case reflect.Array, reflect.Slice:
		for i := range v.Len() {
			out = append(out, fmt.Sprint(v.Index(i).Interface()))
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			out = append(out, fmt.Sprint(v.MapIndex(k).Interface()))
		}
		slices.Sort(out)
	default:
		return "", fmt.Errorf("expected slice, got %T", list)
	}
	return strings.Join(out, sep), nil
}

// headings are those of a table, by field.
type headings map[string]string

// Label is the heading of {{.Label "NAME"}}: the last part of the name.
func (headings) Label(name string) string {
	return strings.NewReplacer("-", " ", "_", " ").Replace(name[strings.LastIndexByte(name, '.')+1:])
}

func compactJSON(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return escapeHidden(strings.TrimSuffix(b.String(), "\n")), err
}

// printJSON prints a value as docker does. What does not print is escaped in
// it, so that it can be read back as it was.
func printJSON(w io.Writer, v any, indented bool) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if indented {
		e.SetIndent("", "    ")
	}
	if err := e.Encode(v); err != nil {
		return fail.Wrap(fail.Internal, err, "printing JSON")
	}
	_, err := io.WriteString(w, escapeHidden(b.String()))
	return fail.Wrap(fail.Internal, err, "printing")
}

// hidden says of a character whether it stays out of what is printed. Besides
// control characters, which steer a terminal, these are the format characters,
// which turn the direction of what follows or are not seen: a name could look
// like another one.
func hidden(r rune) bool { return plain.Hidden(r) }

// escapeHidden escapes what encoding/json leaves of hidden characters: but for
// line breaks and tabs they stand in strings only.
func escapeHidden(text string) string {
	escaped := func(r rune) bool { return r != '\n' && r != '\t' && hidden(r) }
	if !strings.ContainsFunc(text, escaped) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case !escaped(r):
			b.WriteRune(r)
		case r > 0xffff: // as JSON has it, in two halves
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func printable(s string) string { return plain.Text(s) }

func oneLine(s string) string { return plain.Line(s) }

// keyValues prints a map as KEY=VALUE,... in order.
func keyValues(m map[string]string) string {
	words := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		words = append(words, k+"="+m[k])
	}
	return strings.Join(words, ",")
}
