package main

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"mvdan.cc/sh/v3/syntax"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/plain"
	"github.com/safe-run/safe-run/policy"
)

// importFlags are the flags of import.
type importFlags struct {
	out, kind, service string
	strict, force      bool
	noProfile          bool
}

// maxImport is the largest file that is read, in bytes.
const maxImport = 4 << 20

func importVerb(program string) *cobra.Command {
	var f importFlags
	c := &cobra.Command{
		Use:   "import [OPTIONS] FILE|- | docker run ...",
		Short: "Make a profile and a command line of what others run",
		Long: "Make a profile, and the shortest command line of safe-run, of each container of a file: a shell script with\n" +
			"docker run, a compose file, a Kubernetes manifest, a quadlet or a unit; or of a docker run line that is given.\n" +
			"The profiles are written as NAME.yaml, the command lines to standard output. What safe-run does not honour or\n" +
			"no site can grant is left out and told on stderr.",
		Example: "  safe-run import compose.yaml\n" +
			"  safe-run import -o profiles deployment.yaml\n" +
			"  safe-run import docker run -d --cap-add NET_BIND_SERVICE -p 80:80 nginx",
	}
	c.Flags().SetInterspersed(false)
	c.Flags().StringVarP(&f.out, "output", "o", ".", "write the profiles into `DIR`")
	c.Flags().StringVar(&f.kind, "type", "", "`FORMAT` of the file: kubernetes, compose, systemd, quadlet or docker, instead of by its name and content")
	c.Flags().StringVar(&f.service, "service", "", "take the container `NAME` alone")
	c.Flags().BoolVar(&f.strict, "strict", false, "anything that is left out is an error, and nothing is written")
	c.Flags().BoolVar(&f.force, "force", false, "replace profiles that are there already")
	c.Flags().BoolVar(&f.noProfile, "no-profile", false, "no profile: all as flags of one line")
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.Help()
		}
		return f.run(program, args, c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr())
	}
	return c
}

func (f *importFlags) run(program string, args []string, in io.Reader, out, errs io.Writer) error {
	o, site, err := options(program)
	if err != nil {
		return err
	}
	format, files, err := f.source(args, in, o)
	if err != nil {
		return err
	}
	found, losses, err := format.Read(files, o)
	if err != nil {
		return err
	}
	if f.service != "" {
		found, losses = alone(f.service, found, losses)
	}
	if len(found) == 0 {
		for _, l := range losses {
			fmt.Fprintf(errs, "safe-run: %s\n", plain.Line(l.String()))
		}
		return fail.New(fail.NotFound, "no container in it to import, read as %s", format.Name()).Hint("--type says what it is; --service takes the name of a container")
	}
	dir := o.Context.Cwd // of standard input, and of a line that is given
	if filepath.IsAbs(files[0].Path) {
		dir = filepath.Dir(files[0].Path)
	}
	var taken []convert.Taken
	var needs []policy.Refusal
	for _, c := range found {
		c, more, err := convert.Readable(c.Aside(dir), o)
		if err != nil {
			return err
		}
		losses = append(losses, more...)
		c, more, refusals, err := convert.Permitted(c, site, o)
		if err != nil {
			return err
		}
		losses, needs = append(losses, more...), append(needs, refusals...)
		t, err := convert.Take(c, o)
		if err != nil {
			return err
		}
		taken = append(taken, t)
	}
	for _, l := range losses {
		fmt.Fprintf(errs, "safe-run: left out: %s\n", plain.Line(l.String()))
	}
	for _, r := range needs {
		fmt.Fprintf(errs, "safe-run: %s: %s: run refuses it until the site grants: %s\n", plain.Line(r.Image), plain.Line(r.Flag), plain.Line(r.Grant))
	}
	if f.strict && len(losses) > 0 {
		return fail.New(fail.Usage, "not all of it can be taken over, and --strict was given; nothing is written")
	}
	return f.write(taken, o, out, errs)
}

// alone gives one container, and the losses that are not another's. A loss that
// is no container's may be this one's too.
func alone(name string, found []convert.Found, losses []convert.Loss) ([]convert.Found, []convert.Loss) {
	others := map[string]bool{}
	for _, c := range found {
		others[c.Name] = c.Name != name
	}
	found = slices.DeleteFunc(found, func(c convert.Found) bool { return others[c.Name] })
	return found, slices.DeleteFunc(losses, func(l convert.Loss) bool { return others[l.Container] })
}

// source is what is to be read, and as what.
func (f *importFlags) source(args []string, in io.Reader, o convert.Options) (convert.Format, []convert.File, error) {
	byName := func(name string) (convert.Format, error) {
		for _, x := range formats("") {
			if x.Name() == name {
				return x, nil
			}
		}
		return nil, fail.New(fail.Usage, "there is no format %.40q", name).Hint("it is kubernetes, compose, systemd, quadlet or docker")
	}
	if slices.Contains([]string{"docker", "podman", "nerdctl", "safe-run"}, args[0]) {
		var line strings.Builder
		for _, w := range args {
			q, err := quoted(w)
			if err != nil {
				return nil, nil, err
			}
			line.WriteString(q + " ")
		}
		format, err := byName("docker")
		return format, []convert.File{{Name: "line", Data: []byte(line.String() + "\n")}}, err
	}
	if len(args) > 1 {
		return nil, nil, fail.New(fail.Usage, "import takes one FILE, or a line that begins with docker, podman or nerdctl").Hint("flags come before the file")
	}
	var data []byte
	var err error
	path := args[0]
	if path == "-" {
		data, err = io.ReadAll(io.LimitReader(in, maxImport+1))
		if err == nil && len(data) > maxImport {
			err = fail.New(fail.Usage, "standard input has more than %d bytes", maxImport)
		}
	} else {
		if !filepath.IsAbs(path) {
			path = filepath.Join(o.Context.Cwd, path)
		}
		data, err = o.Context.ReadFile(path, maxImport)
	}
	if err != nil {
		return nil, nil, err
	}
	name := f.kind
	if name == "" {
		name = kindOf(filepath.Base(path), data)
	}
	format, err := byName(name)
	if err != nil {
		return nil, nil, err
	}
	files := []convert.File{{Name: filepath.Base(path), Data: data, Path: strings.TrimPrefix(path, "-")}}
	return format, append(files, beside(path, o)...), nil
}

// beside are the filters that export writes beside the main file.
func beside(path string, o convert.Options) (files []convert.File) {
	if path == "-" {
		return nil
	}
	all, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*"+convert.SeccompName("")))
	for _, p := range all[:min(len(all), 64)] {
		if data, err := o.Context.ReadFile(p, 1<<20); err == nil {
			files = append(files, convert.File{Name: filepath.Base(p), Data: data, Path: p, Also: true})
		}
	}
	return files
}

// kindOf tells what a file is by its name, and else by its content.
func kindOf(name string, data []byte) string {
	ext := filepath.Ext(name)
	has := func(prefix string) bool {
		for line := range strings.Lines(string(data)) {
			if strings.HasPrefix(line, prefix) {
				return true
			}
		}
		return false
	}
	switch {
	case ext == ".container" || has("[Container]"):
		return "quadlet"
	case ext == ".service" || has("[Service]"):
		return "systemd"
	case has("apiVersion:") || has(`{"apiVersion"`) || has("- apiVersion:"):
		return "kubernetes"
	case has("services:") || ext == ".yaml" || ext == ".yml":
		return "compose"
	}
	return "docker"
}

// write puts the profiles into files, and prints the command lines.
func (f *importFlags) write(taken []convert.Taken, o convert.Options, out, errs io.Writer) error {
	var files []convert.File
	var lines []string
	for _, t := range taken {
		profile := ""
		if !f.noProfile && !t.Empty() {
			text, err := t.Profile.YAML()
			if err != nil {
				return err
			}
			name := t.Name + ".yaml"
			files = append(files, convert.File{Name: name, Data: text})
			profile = filepath.Join(f.out, name)
			if !filepath.IsAbs(profile) {
				profile = "./" + profile
			}
		}
		if t.Seccomp != nil {
			files = append(files, convert.File{Name: convert.SeccompName(t.Name), Data: t.Seccomp})
		}
		words := t.Line(profile)
		if f.noProfile {
			words = t.WithoutProfile(filepath.Join(f.out, convert.SeccompName(t.Name)))
		}
		for i, w := range words {
			q, err := quoted(w)
			if err != nil {
				return err
			}
			words[i] = q
		}
		lines = append(lines, strings.Join(words, " "))
	}
	if len(files) > 0 {
		if err := writeFiles(o, f.out, files, f.force, errs); err != nil {
			return err
		}
	}
	for _, l := range lines {
		fmt.Fprintln(out, l)
	}
	return nil
}

// quoted writes a word for a shell. What does not show as itself is written as
// its number.
func quoted(w string) (string, error) {
	q, err := syntax.Quote(w, syntax.LangBash)
	if err != nil {
		return "", fail.Wrap(fail.Usage, err, "%.80q cannot be written for a shell", w)
	}
	return q, nil
}
