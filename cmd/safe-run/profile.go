package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/strictyaml"
	"github.com/safe-run/safe-run/policy"
	"github.com/safe-run/safe-run/profiles"
)

func profileVerb() *cobra.Command {
	words := []*cobra.Command{profileLs(), profileShow(), profileCheck(), profileDiff(), profileMerge()}
	for _, c := range words {
		c.ValidArgsFunction = func(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
			names := slices.DeleteFunc(profileNames(), func(n string) bool { return !strings.HasPrefix(n, word) })
			return names, cobra.ShellCompDirectiveDefault
		}
	}
	c := group("profile", "What applications ask for: ls, show, check, diff, merge", words...)
	c.Long = `Files that say what applications ask for. A profile grants nothing: run --profile
takes it for the flags it lists, and the site's policy judges them. NAME is one of
/etc/safe-run/profiles or one that comes with safe-run; FILE has a slash or ends
in .yaml.`
	return c
}

// profileNames are those of the embedded profiles and of the site's, sorted.
func profileNames() []string {
	site, _ := profiles.SiteNames(profiles.SiteDir) // who cannot list them has the others
	names := append(profiles.Embedded(), site...)
	slices.Sort(names)
	return slices.Compact(names)
}

// findProfile finds a profile by name or file, read with the caller's rights.
func findProfile(ref string) (profiles.Loaded, error) {
	caller, err := cli.CallerOf(os.Geteuid(), os.LookupEnv)
	if err != nil {
		return profiles.Loaded{}, err
	}
	return profiles.Find(ref, caller.ReadFile, profiles.SiteDir)
}

// profileRow is a profile as --format sees it.
type profileRow struct{ Name, Source, Rights, Description string }

func profileLs() *cobra.Command {
	var quiet, noTrunc bool
	var format string
	c := &cobra.Command{Use: "ls [OPTIONS] [FILE...]", Aliases: []string{"list"}, Short: "List the profiles there are, or those of files", RunE: func(_ *cobra.Command, args []string) error {
		refs := args
		var errs []error
		if len(refs) == 0 {
			site, err := profiles.SiteNames(profiles.SiteDir)
			errs = append(errs, err)
			refs = append(profiles.Embedded(), site...)
			slices.Sort(refs)
			refs = slices.Compact(refs)
		}
		rows := []profileRow{}
		for _, ref := range refs {
			l, err := findProfile(ref)
			if err != nil {
				errs = append(errs, err) // the others are listed
				continue
			}
			rows = append(rows, rowOf(l))
		}
		if quiet {
			format = "{{.Name}}"
		}
		columns := "{{.Name}}\t{{.Source}}\t{{.Rights}}\t{{truncate .Description 72}}"
		if noTrunc {
			columns = "{{.Name}}\t{{.Source}}\t{{.Rights}}\t{{.Description}}"
		}
		return errors.Join(append([]error{renderTable(os.Stdout, listing(format, columns), headings{
			"Name": "NAME", "Source": "SOURCE", "Rights": "RIGHTS", "Description": "DESCRIPTION",
		}, rows)}, errs...)...)
	}}
	c.Long = `List the profiles that come with safe-run and those in /etc/safe-run/profiles, or
those of files.`
	c.Example = `  safe-run profile ls
  safe-run profile ls ./*.yaml`
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "only names")
	c.Flags().BoolVar(&noTrunc, "no-trunc", false, "full descriptions")
	c.Flags().StringVar(&format, "format", "", "print each by a Go template, or json")
	return c
}

func rowOf(l profiles.Loaded) profileRow {
	r := profileRow{Name: l.Name, Source: "embedded", Rights: rights(l.Profile), Description: l.Profile.Description}
	switch {
	case l.Name == "":
		r.Name, r.Source = l.Profile.Name, l.Path
	case l.Path != "":
		r.Source = "site"
	}
	return r
}

// rights sums up what a profile asks for.
func rights(p profiles.Profile) string {
	var out []string
	for _, c := range p.Capabilities {
		out = append(out, c.Name)
	}
	for _, f := range []struct {
		n         int
		one, many string
	}{
		{len(p.Writable), "writable directory", "writable directories"},
		{len(p.Binds), "bind", "binds"},
		{len(p.Devices), "device", "devices"},
		{len(p.Sysctls), "sysctl", "sysctls"},
	} {
		switch {
		case f.n == 1:
			out = append(out, "1 "+f.one)
		case f.n > 1:
			out = append(out, fmt.Sprintf("%d %s", f.n, f.many))
		}
	}
	if p.UserNS != "" {
		out = append(out, "userns="+p.UserNS)
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}

func profileShow() *cobra.Command {
	var flags bool
	var format string
	c := &cobra.Command{Use: "show [OPTIONS] NAME|FILE", Short: "Print a profile", Args: exactly(1), RunE: func(_ *cobra.Command, args []string) error {
		l, err := findProfile(args[0])
		if err != nil {
			return err
		}
		switch {
		case flags:
			for _, f := range l.Profile.Flags() {
				if err := put(os.Stdout, shellWord(f)+"\n"); err != nil {
					return err
				}
			}
			return nil
		case format == "json":
			return printJSON(os.Stdout, strictyaml.Tree(l.Profile), true)
		case format == "" || format == "yaml":
			text, err := l.Profile.YAML()
			if err != nil {
				return err
			}
			return put(os.Stdout, string(text))
		}
		return fail.New(fail.Usage, "unknown format %.40q", format).Hint("it is yaml or json")
	}}
	c.Example = `  safe-run profile show nginx
  safe-run profile show --flags ./web.yaml`
	c.Flags().BoolVar(&flags, "flags", false, "as flags of docker run, one in each line; filters have none")
	c.Flags().StringVar(&format, "format", "", "yaml or json")
	return c
}

// shellWord quotes a word for a shell where it needs to be.
func shellWord(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=/.,:@+%") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func profileCheck() *cobra.Command {
	var image string
	c := &cobra.Command{Use: "check [OPTIONS] NAME|FILE...", Short: "Say whether profiles are valid, and what this host's policy refuses", Args: atLeast(1), RunE: func(_ *cobra.Command, args []string) error {
		bad := false
		for _, ref := range args {
			refusals, err := checkProfile(ref, image)
			switch {
			case err != nil:
				printError(os.Stderr, err)
				bad = true
			case len(refusals) > 0:
				bad = true
				if err := printChecked(os.Stdout, ref, refusals); err != nil {
					return err
				}
			default:
				if err := put(os.Stdout, ref+": ok\n"); err != nil {
					return err
				}
			}
		}
		if bad {
			return &exitError{1}
		}
		return nil
	}}
	c.Long = `Say whether profiles are valid, and what this host's policy refuses of them.

The exit code is 0 if nothing is refused, else 1.`
	c.Example = `  safe-run profile check ./web.yaml
  safe-run profile check --image registry.example:5000/team/web ./web.yaml`
	c.Flags().StringVar(&image, "image", "", "judge it for this image, to which the site may have granted something")
	return c
}

// checkProfile reads a profile as a run would, and judges it by the site's
// policy for an image; that of "" is the one the profile names, or none that
// has a grant.
func checkProfile(ref, image string) ([]policy.Refusal, error) {
	ctx, err := cliContext()
	if err != nil {
		return nil, err
	}
	p, err := ctx.Profile(ref, &cli.Invocation{})
	if err != nil {
		return nil, err
	}
	ctx.Profile = func(string, *cli.Invocation) (cli.Profile, error) { return p, nil }
	for _, name := range []string{p.Image, "image"} {
		if image == "" {
			image = name
		}
	}
	inv, err := cli.Parse([]string{"--profile=" + ref, "--", image}, ctx)
	if err != nil {
		return nil, err
	}
	caller, err := cli.CallerOf(os.Geteuid(), os.LookupEnv)
	if err != nil {
		return nil, err
	}
	j, err := judge(&inv.Workload, caller)
	if err != nil {
		return nil, err
	}
	defer j.close()
	_, refusals := j.review(nil)
	return refusals, nil
}

func printChecked(w io.Writer, ref string, refusals []policy.Refusal) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: valid, but this host refuses:\n", ref)
	for _, r := range refusals {
		grant := "none can be given"
		if r.Grant != "" {
			grant = "the site's policy can allow it to the image: " + r.Grant
		}
		fmt.Fprintf(&b, "  %s   [%s]\n    gives away: %s\n    instead:    %s\n    grant:      %s\n", r.Flag, r.ID, r.GivesAway, r.Safer, grant)
	}
	return put(w, b.String())
}

func profileDiff() *cobra.Command {
	var format string
	c := &cobra.Command{Use: "diff [OPTIONS] NAME|FILE NAME|FILE", Short: "List the rights in which two profiles differ", Args: exactly(2), RunE: func(_ *cobra.Command, args []string) error {
		a, err := findProfile(args[0])
		if err != nil {
			return err
		}
		b, err := findProfile(args[1])
		if err != nil {
			return err
		}
		columns := "{{.Effect}}\t{{.Right}}\t{{or .From \"-\"}}\t{{or .To \"-\"}}"
		return renderTable(os.Stdout, listing(format, columns), headings{
			"Effect": "EFFECT", "Right": "RIGHT", "From": "FROM", "To": "TO",
		}, profiles.Diff(a.Profile, b.Profile))
	}}
	c.Example = `  safe-run profile diff nginx ./web.yaml`
	c.Flags().StringVar(&format, "format", "", "print each by a Go template, or json")
	return c
}

func profileMerge() *cobra.Command {
	var output string
	c := &cobra.Command{Use: "merge [OPTIONS] NAME|FILE NAME|FILE...", Short: "Print the profile that asks for what any of them asks for", Args: atLeast(2), RunE: func(_ *cobra.Command, args []string) error {
		caller, err := cli.CallerOf(os.Geteuid(), os.LookupEnv)
		if err != nil {
			return err
		}
		var out profiles.Profile
		for i, ref := range args {
			l, err := findProfile(ref)
			if err != nil {
				return err
			}
			if i == 0 {
				out = l.Profile
			} else if out, err = profiles.Merge(out, l.Profile); err != nil {
				return err
			}
		}
		text, err := out.YAML()
		if err != nil {
			return err
		}
		if output == "" {
			return put(os.Stdout, string(text))
		}
		if err := checkOutput(caller, output); err != nil {
			return err
		}
		return writeAs(caller, output, func(w io.Writer) error {
			_, err := w.Write(text)
			return fail.Wrap(fail.HostCannot, err, "output file")
		})
	}}
	c.Example = `  safe-run profile merge -o web.yaml web-start.yaml web-reload.yaml`
	c.Flags().StringVarP(&output, "output", "o", "", "write to this file instead of stdout")
	return c
}
