package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Man writes the manual page safe-run(1). verbs are the commands besides the
// main one, each with what it does.
func Man(w io.Writer, version string, verbs [][2]string) error {
	var b strings.Builder
	section := func(name, text string) { fmt.Fprintf(&b, ".SH %s\n%s\n", name, text) }
	item := func(head, text string) { fmt.Fprintf(&b, ".TP\n%s\n%s\n", head, roff(text)) }

	fmt.Fprintf(&b, ".TH SAFE\\-RUN 1 \"\" \"safe\\-run %s\" \"User Commands\"\n", roff(version))
	section("NAME", `safe\-run \- docker run on containerd, with least privilege as the default`)
	section("SYNOPSIS", ".B safe\\-run\n[OPTIONS] IMAGE [COMMAND] [ARG...]\n.br\n.B safe\\-run\nCOMMAND [OPTIONS] [ARG...]")
	section("DESCRIPTION", roff("Run a command in a new container with the least privileges that work: no capabilities, "+
		"own user namespace, read-only root file system, strict seccomp, limits on memory and processes. "+
		"The command line is that of docker run. What would give the host away is refused; the site's policy, "+
		"/etc/safe-run/policy.yaml, can allow some of it for an image."))
	flags := append(Own(), Table()...)
	section("OPTIONS", "")
	for _, g := range helpGroups() {
		of := slices.DeleteFunc(slices.Clone(flags), func(f Flag) bool {
			return f.Group != g || f.Visibility != Public || f.Disposition > PolicyChecked
		})
		if len(of) == 0 {
			continue
		}
		fmt.Fprintf(&b, ".SS %s\n", roff(g))
		for _, f := range of {
			head, text := f.shown()
			item(`\fB`+roff(strings.TrimSpace(head))+`\fR`, text)
		}
	}
	fmt.Fprint(&b, ".SS Not supported\n")
	for _, r := range unsupportedFlags(flags) {
		item(roff(strings.Join(r.names, " ")), r.why)
	}
	section("COMMANDS", roff("Without one of these words, the first word that is not an option is the image."))
	for _, v := range verbs {
		item(`\fB`+roff(v[0])+`\fR`, v[1])
	}
	section("EXIT STATUS", roff("That of the container's process, and:"))
	for _, c := range [][2]string{
		{"1", "no IMAGE, -i with -t and no terminal, output that could not be written"},
		{"125", "refused, a wrong command line, or a failure of safe-run"},
		{"126", "the command cannot be executed"},
		{"127", "the command does not exist"},
		{"128+n", "ended by signal n"},
	} {
		item(c[0], c[1])
	}
	section("FILES", "")
	item(`\fI/etc/safe\-run/policy.yaml\fR`, "the site's policy: what is allowed beyond the least, and the limits")
	_, err := io.WriteString(w, b.String())
	return err
}

// roff makes text fit for a line of a manual page.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		return `\&` + text
	}
	return text
}
