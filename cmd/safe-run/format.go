package main

import (
	"encoding/json"
	"io"
	"strings"
	"text/template"

	"github.com/safe-run/safe-run/internal/fail"
)

// render prints each item by a template of docker's --format: text/template
// with the functions json, join, lower, upper, split and println.
func render[T any](w io.Writer, format string, items []T) error {
	if format == "json" {
		format = "{{json .}}"
	}
	t, err := template.New("").Funcs(template.FuncMap{
		"json": func(v any) (string, error) {
			var b strings.Builder
			e := json.NewEncoder(&b)
			e.SetEscapeHTML(false)
			err := e.Encode(v)
			return strings.TrimSuffix(b.String(), "\n"), err
		},
		"join": strings.Join, "lower": strings.ToLower, "upper": strings.ToUpper, "split": strings.Split,
	}).Option("missingkey=error").Parse(format)
	if err != nil {
		return fail.Wrap(fail.Usage, err, "--format")
	}
	for _, i := range items {
		var b strings.Builder
		if err := t.Execute(&b, i); err != nil {
			return fail.Wrap(fail.Usage, err, "--format")
		}
		if _, err := io.WriteString(w, printable(b.String())+"\n"); err != nil {
			return fail.Wrap(fail.Internal, err, "printing")
		}
	}
	return nil
}
