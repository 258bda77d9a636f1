package main

import (
	"io"
	"strings"
	"text/tabwriter"
)

// listing prints rows by docker's --format: "" and "table" are the columns
// given, "table TEMPLATE" others with their headings, "json" a JSON object on
// each line, and else each row by a template. headings are by field.
func listing[T any](w io.Writer, format, columns string, headings map[string]string, rows []T) error {
	format = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(strings.TrimSpace(format))
	if format != "" && format != "table" && !strings.HasPrefix(format, "table ") {
		return render(w, format, rows)
	}
	if own := strings.TrimSpace(strings.TrimPrefix(format, "table")); own != "" {
		columns = own
	}
	t := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
	if err := render(t, columns, []map[string]string{headings}); err != nil {
		return err
	}
	if err := render(t, columns, rows); err != nil {
		return err
	}
	return t.Flush()
}
