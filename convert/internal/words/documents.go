package words

import (
	"path"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/internal/fail"
)

// MaxFile bounds a file of units, in bytes.
const MaxFile = 1 << 20

// Document is one unit of what is read.
type Document struct {
	Name string // without its suffix, "" is not known
	Text string
	Line int // of its first line in its file, from 1
}

// Documents gives the units with a suffix among files, the first of which is one
// whatever it is called. Several in one file, as systemctl cat and export to
// standard output write them, follow on a comment with the name of each; others
// are the suffixes of further kinds that may stand among them.
func Documents(files []convert.File, suffix string, others ...string) (out []Document, err error) {
	for i, file := range files {
		if len(file.Data) > MaxFile {
			return nil, fail.New(fail.Usage, "%.80q has more than %d bytes", file.Name, MaxFile)
		}
		name, is := strings.CutSuffix(file.Name, suffix)
		if !is && i > 0 {
			continue
		}
		if !is {
			name = ""
		}
		current := Document{Name: name, Line: 1}
		var b strings.Builder
		n := 0
		for line := range strings.Lines(string(file.Data)) {
			n++
			title, comment := strings.CutPrefix(strings.TrimSpace(line), "# ")
			ext := path.Ext(title)
			name := strings.TrimSuffix(path.Base(title), suffix)
			if comment && name != "" && (ext == suffix || slices.Contains(others, ext)) && !strings.ContainsAny(title, " \t") {
				if strings.Contains(b.String(), "[") {
					current.Text = b.String()
					out = append(out, current)
					b.Reset()
					current = Document{Line: n}
				}
				current.Name = name
			}
			b.WriteString(line)
		}
		current.Text = b.String()
		out = append(out, current)
	}
	return out, nil
}
