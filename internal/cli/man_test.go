package cli

import (
	"bytes"
	"strings"
	"testing"
)

// requests are those of roff that pages are made of.
var requests = []string{".TH", ".SH", ".SS", ".TP", ".PP", ".B", ".br", ".nf", ".fi", ".sp", ".so"}

// strayRequest is a line that a text brought in and roff would obey, "" if
// there is none.
func strayRequest(page string) string {
lines:
	for line := range strings.Lines(page) {
		if !strings.HasPrefix(line, ".") && !strings.HasPrefix(line, "'") {
			continue
		}
		word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		for _, r := range requests {
			if word == r {
				continue lines
			}
		}
		return line
	}
	return ""
}

func TestManOf(t *testing.T) {
	v := ManVerb{
		Path: "safe-run image", Arguments: "[OPTIONS] a|b", Short: "Images: ls",
		Long:  "First line\n.so /etc/passwd\n'tis \\fBbold\\fR \"quoted\"\n\n  a table\n  .de x\n\nlast\twith tab",
		Flags: [][2]string{{"-a, --all", "all of them\n.sp 1000"}, {"--empty", ""}},
		Verbs: []ManVerb{{
			Path: "safe-run image ls", Short: "List images.", Flags: [][2]string{{"-q", "ids"}}, Example: "  safe-run image ls",
			Verbs: []ManVerb{{Path: "safe-run image ls deep", Short: "Deep"}},
		}},
		Example: "  safe-run image ls\n\n.tm hello", Verbatim: "Usage:\n\n  x\n.ab",
	}
	var b bytes.Buffer
	if err := ManOf(&b, Manual{Version: "1.0-rc1", Date: "2026-11-22"}, v); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	if line := strayRequest(page); line != "" {
		t.Errorf("a request: %q", line)
	}
	for _, want := range []string{
		".TH SAFE\\-RUN\\-IMAGE 1 \"2026-11-22\" \"safe\\-run 1.0\\-rc1\" \"User Commands\"\n",
		".SH NAME\nsafe\\-run\\-image \\- images: ls\n",
		"\\fBsafe\\-run image\\fR [OPTIONS] a|b\n",
		"First line\n\\&.so /etc/passwd\n\\&'tis \\efBbold\\efR \\(dqquoted\\(dq\n.PP\n.nf\n  a table\n  .de x\n.fi\n.PP\n.nf\nlast        with tab\n.fi\n",
		".TP\n\\fB\\-a, \\-\\-all\\fR\nall of them .sp 1000\n.TP\n\\fB\\-\\-empty\\fR\n\\&\n",
		".SS safe\\-run image ls\n", "List images.\n.PP\nOptions:\n", ".SS safe\\-run image ls deep\n",
		".SH EXAMPLES\n.nf\n  safe\\-run image ls\n.sp\n\\&.tm hello\n.fi\n",
		".SH HELP\n.nf\nUsage:\n.sp\n  x\n\\&.ab\n.fi\n",
		".SH SEE ALSO\n\\fBsafe\\-run\\fR(1)\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
}

// FuzzManOf: no text becomes a request or an escape of roff.
func FuzzManOf(f *testing.F) {
	f.Add("Show\n.so x", "a\n\n 'b\n\t.c", "\\*x", "\r.x\n..")
	f.Add("", "\n\n\n", "'", ".")
	f.Fuzz(func(t *testing.T, short, long, flag, example string) {
		var b bytes.Buffer
		v := ManVerb{Path: "safe-run x", Arguments: flag, Short: short, Long: long, Flags: [][2]string{{flag, long}}, Example: example, Verbatim: long}
		v.Verbs = []ManVerb{v}
		if err := ManOf(&b, Manual{Version: flag, Date: ""}, v); err != nil {
			t.Fatal(err)
		}
		page := b.String()
		if line := strayRequest(page); line != "" {
			t.Errorf("a request: %q in\n%s", line, page)
		}
		rest := strings.NewReplacer(`\fB`, "", `\fR`, "", `\-`, "", `\e`, "", `\&`, "", `\(dq`, "").Replace(page)
		if strings.Contains(rest, `\`) {
			t.Errorf("an escape in\n%s", page)
		}
	})
}
