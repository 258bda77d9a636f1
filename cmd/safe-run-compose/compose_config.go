package main

import (
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/safe-run/safe-run/compose"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/plain"
)

func (a *app) configVerb() *cobra.Command {
	var services, images, volumes, networks, quiet, asLines bool
	var format string
	c := &cobra.Command{
		Use: "config [OPTIONS] [SERVICE...]", Aliases: []string{"convert"}, Short: "Print the files as one, or the command lines that up runs", Example: "  safe-run compose config --lines\n  safe-run compose config -q",
		RunE: func(c *cobra.Command, names []string) error {
			if !slices.Contains([]string{"yaml", "json"}, format) {
				return fail.New(fail.Usage, "--format takes yaml or json, not %.40q", format)
			}
			p, err := a.load(c.Context())
			if err != nil || quiet {
				return err
			}
			chosen, err := chosen(p, names, true)
			if err != nil {
				return err
			}
			switch {
			case services:
				return list(chosen, func(s compose.Service) string { return s.Name })
			case images:
				return list(chosen, func(s compose.Service) string { return s.Image })
			case volumes:
				return list(p.Volumes, func(v compose.Volume) string { return v.Key })
			case networks:
				return list(p.Networks, func(n compose.Network) string { return n.Key })
			case asLines:
				return list(commandLines(p, chosen), func(l string) string { return l })
			}
			out := p.Config
			if format == "json" {
				if out, err = yaml.YAMLToJSON(p.Config); err != nil {
					return fail.Wrap(fail.Internal, err, "the files as JSON")
				}
				out = append(out, '\n')
			}
			_, err = io.WriteString(os.Stdout, plain.Text(string(out)))
			return fail.Wrap(fail.Internal, err, "printing")
		},
	}
	f := c.Flags()
	f.BoolVar(&services, "services", false, "only the names of the services")
	f.BoolVar(&images, "images", false, "only their images")
	f.BoolVar(&volumes, "volumes", false, "only the named volumes")
	f.BoolVar(&networks, "networks", false, "only the networks")
	f.BoolVarP(&quiet, "quiet", "q", false, "print nothing: only say what is wrong")
	f.BoolVar(&asLines, "lines", false, "the command lines of safe-run that up runs; none of them is run")
	f.StringVar(&format, "format", "yaml", "yaml or json")
	return c
}

func list[T any](all []T, of func(T) string) error {
	var b strings.Builder
	for _, v := range all {
		b.WriteString(plain.Line(of(v)) + "\n")
	}
	_, err := io.WriteString(os.Stdout, b.String())
	return fail.Wrap(fail.Internal, err, "printing")
}

// commandLines are what up runs for services that are not there yet, for a
// shell.
func commandLines(p *compose.Project, services []compose.Service) (out []string) {
	for _, n := range p.Networks {
		if !n.External && slices.ContainsFunc(services, func(s compose.Service) bool { return slices.Contains(s.Networks, n.Name) }) {
			out = append(out, line(append([]string{"safe-run", "network"}, networkWords(n, p.Name)...)))
		}
	}
	for _, s := range services {
		out = append(out, line(append([]string{"safe-run", "run", "-d"}, words(s, s.Flags)...)))
	}
	return out
}

func line(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = quote(w)
	}
	return strings.Join(quoted, " ")
}

// quote writes a word so that a POSIX shell reads it back. What does not print
// is written in $'...', which bash, ksh, zsh and POSIX 2024 know: on a terminal it
// would not be seen for what it is.
func quote(w string) string {
	const harmless = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-"
	switch {
	case w != "" && strings.Trim(w, harmless) == "":
		return w
	case !strings.ContainsFunc(w, plain.Hidden) && strings.ToValidUTF8(w, "") == w:
		return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	var b strings.Builder
	b.WriteString("$'")
	for i := 0; i < len(w); i++ {
		switch c := w[i]; {
		case c == '\'' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c >= 0x7f:
			b.WriteByte('\\')
			b.WriteByte('0' + c>>6)
			b.WriteByte('0' + c>>3&7)
			b.WriteByte('0' + c&7)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('\'')
	return b.String()
}
