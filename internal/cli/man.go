package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Manual is what all pages of a manual share.
type Manual struct {
	Version string
	Date    string // as in 2026-11-22; "" leaves it out
}

// ManVerb is a verb as its manual page shows it.
type ManVerb struct {
	Path        string      // the words that call it, "safe-run image ls"
	Arguments   string      // what follows them
	Short, Long string      // Long may be empty. Its lines that begin with a blank are kept as they are
	Flags       [][2]string // a flag with its argument, and what it does
	Verbs       []ManVerb   // further words
	Example     string      // command lines, printed as they are
	Verbatim    string      // a help text that is printed as it is
}

// page collects the text of a manual page in roff, the language of man(7).
type page struct{ strings.Builder }

func (p *page) title(m Manual, name string) {
	fmt.Fprintf(p, ".TH %s 1 \"%s\" \"safe\\-run %s\" \"User Commands\"\n", roff(strings.ToUpper(name)), m.Date, roff(m.Version))
}

func (p *page) section(name, text string) {
	fmt.Fprintf(p, ".SH %s\n", name)
	if text != "" {
		p.WriteString(text + "\n")
	}
}

func (p *page) item(head, text string) {
	if text == "" {
		text = `\&`
	}
	fmt.Fprintf(p, ".TP\n%s\n%s\n", head, text)
}

// Man writes the manual page safe-run(1). verbs are the commands besides the
// main one, each with what it does; only the first of a command's words is its
// name.
func Man(w io.Writer, m Manual, verbs [][2]string) error {
	var p page
	p.title(m, "safe-run")
	p.section("NAME", `safe\-run \- docker run on containerd, with least privilege as the default`)
	p.section("SYNOPSIS", ".B safe\\-run\n[OPTIONS] IMAGE [COMMAND] [ARG...]\n.br\n.B safe\\-run\nCOMMAND [OPTIONS] [ARG...]")
	p.section("DESCRIPTION", roff("Run a command in a new container with the least privileges that work: no capabilities, "+
		"own user namespace, read-only root file system, strict seccomp, limits on memory and processes. "+
		"The command line is that of docker run. What would give the host away is refused; the site's policy, "+
		"/etc/safe-run/policy.yaml, can allow some of it for an image."))
	flags := append(Own(), Table()...)
	p.section("OPTIONS", "")
	for _, g := range helpGroups() {
		of := slices.DeleteFunc(slices.Clone(flags), func(f Flag) bool {
			return f.Group != g || f.Visibility != Public || f.Disposition > PolicyChecked
		})
		if len(of) == 0 {
			continue
		}
		fmt.Fprintf(&p, ".SS %s\n", roff(g))
		for _, f := range of {
			head, text := f.shown()
			p.item(`\fB`+roff(strings.TrimSpace(head))+`\fR`, roff(text))
		}
	}
	p.WriteString(".SS Not supported\n")
	for _, r := range unsupportedFlags(flags) {
		p.item(roff(strings.Join(r.names, " ")), roff(r.why))
	}
	p.section("COMMANDS", roff("Without one of these words, the first word that is not an option is the image. Each has a page of its own, "+
		"safe-run-COMMAND(1)."))
	for _, v := range verbs {
		p.item(`\fB`+roff(v[0])+`\fR`, roff(v[1]))
	}
	p.section("EXIT STATUS", roff("That of the container's process, and:"))
	for _, c := range [][2]string{
		{"1", "no IMAGE, -i with -t and no terminal, output that could not be written"},
		{"125", "refused, a wrong command line, or a failure of safe-run"},
		{"126", "the command cannot be executed"},
		{"127", "the command does not exist"},
		{"128+n", "ended by signal n"},
	} {
		p.item(c[0], roff(c[1]))
	}
	p.section("FILES", "")
	for _, f := range [][2]string{
		{"/etc/safe-run/policy.yaml", "the site's policy: what is allowed beyond the least, and the limits"},
		{"/etc/safe-run/profiles", "the site's profiles of applications"},
		{"/etc/subuid, /etc/subgid", "the ranges of ids of the user safe-run, out of which containers get theirs"},
		{"/var/lib/safe-run", "images, volumes, and containers that are kept"},
		{"/run/safe-run", "what does not outlive a boot"},
	} {
		p.item(`\fI`+roff(f[0])+`\fR`, roff(f[1]))
	}
	p.seeAlso(verbs)
	_, err := io.WriteString(w, p.String())
	return err
}

func (p *page) seeAlso(verbs [][2]string) {
	var names []string
	for _, v := range verbs {
		word, _, _ := strings.Cut(v[0], " ")
		if word != "run" {
			names = append(names, `\fBsafe\-run\-`+roff(word)+`\fR(1)`)
		}
	}
	slices.Sort(names)
	if len(names) > 0 {
		p.section("SEE ALSO", strings.Join(names, ",\n"))
	}
}

// ManOf writes the manual page safe-run-VERB(1) of a verb, with its further
// words.
func ManOf(w io.Writer, m Manual, v ManVerb) error {
	var p page
	name := strings.ReplaceAll(v.Path, " ", "-")
	p.title(m, name)
	p.section("NAME", roff(name+" - "+lowered(v.Short)))
	p.section("SYNOPSIS", v.synopsis())
	p.section("DESCRIPTION", v.description())
	p.flags(".SH OPTIONS\n", v.Flags)
	if v.Verbatim != "" {
		p.section("HELP", ".nf\n"+lines(v.Verbatim)+".fi")
	}
	if len(v.Verbs) > 0 {
		p.section("COMMANDS", "")
		p.further(v.Verbs)
	}
	if v.Example != "" {
		p.section("EXAMPLES", ".nf\n"+lines(v.Example)+".fi")
	}
	p.section("SEE ALSO", `\fBsafe\-run\fR(1)`)
	_, err := io.WriteString(w, p.String())
	return err
}

func (p *page) further(verbs []ManVerb) {
	for _, v := range verbs {
		fmt.Fprintf(p, ".SS %s\n%s\n.PP\n%s\n", roff(v.Path), v.synopsis(), v.description())
		p.flags(".PP\nOptions:\n", v.Flags)
		if v.Example != "" {
			p.WriteString(".PP\n.nf\n" + lines(v.Example) + ".fi\n")
		}
		p.further(v.Verbs)
	}
}

// flags lists flags below a heading, and nothing where there are none.
func (p *page) flags(heading string, flags [][2]string) {
	if len(flags) > 0 {
		p.WriteString(heading)
	}
	for _, f := range flags {
		p.item(`\fB`+roff(f[0])+`\fR`, roff(f[1]))
	}
}

func (v ManVerb) synopsis() string {
	text := `\fB` + roff(v.Path) + `\fR`
	if v.Arguments != "" {
		text += " " + roff(v.Arguments)
	}
	return text
}

// description is the long text, else the short one, as a sentence.
func (v ManVerb) description() string {
	if strings.TrimSpace(v.Long) == "" {
		return roff(strings.TrimSuffix(v.Short, ".") + ".")
	}
	var b strings.Builder
	for i, paragraph := range strings.Split(strings.Trim(v.Long, "\n"), "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		// A table or an example, whose lines are not to be joined.
		if asIs := strings.HasPrefix(paragraph, " ") || strings.ContainsAny(paragraph, "\t") || strings.Contains(paragraph, "\n "); asIs {
			b.WriteString(".nf\n" + lines(paragraph) + ".fi\n")
			continue
		}
		b.WriteString(lines(paragraph))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// lines are those of a text, each fit for a line of a manual page.
func lines(text string) string {
	var b strings.Builder
	for line := range strings.SplitSeq(strings.Trim(text, "\n"), "\n") {
		line = strings.TrimRight(strings.ReplaceAll(line, "\t", "        "), " ")
		if line == "" {
			line = ".sp"
		} else {
			line = roff(line)
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

// lowered begins a text with a small letter, as the line NAME has it.
func lowered(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

// roff makes text fit for a line of a manual page.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "\n", " ", `"`, `\(dq`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		return `\&` + text
	}
	return text
}
