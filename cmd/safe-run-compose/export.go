package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/safe-run/safe-run/compose"
	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/composefile"
	"github.com/safe-run/safe-run/convert/dockerline"
	"github.com/safe-run/safe-run/convert/kubernetes"
	"github.com/safe-run/safe-run/convert/quadlet"
	"github.com/safe-run/safe-run/convert/systemd"
	"github.com/safe-run/safe-run/internal/argv"
	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/plain"
	"github.com/safe-run/safe-run/internal/unit"
	"github.com/safe-run/safe-run/policy"
	"github.com/safe-run/safe-run/profiles"
	"github.com/safe-run/safe-run/spec"
)

// formats are what can be written and read.
func formats(kind string) []convert.Format {
	return []convert.Format{kubernetes.Format(kind), composefile.Format(), systemd.Format(), quadlet.Format(), dockerline.Format()}
}

// exportFlags are the flags of export itself.
type exportFlags struct {
	out, kind, seccomp, profileDir string
	files                          []string
	strict, force, help            bool
}

func (f *exportFlags) set() *pflag.FlagSet {
	fs := pflag.NewFlagSet("export", pflag.ContinueOnError)
	fs.StringVarP(&f.out, "output", "o", "", "write the files into `DIR`, instead of the main one to standard output")
	fs.StringArrayVarP(&f.files, "file", "f", nil, "take the services of a compose `FILE`, instead of a command line of run")
	fs.StringVar(&f.profileDir, "profile-dir", "", "with -f: `DIR` with SERVICE.yaml, the profiles of services")
	fs.BoolVar(&f.strict, "strict", false, "what was asked for and cannot be said is an error")
	fs.BoolVar(&f.force, "force", false, "replace files that are there already")
	fs.StringVar(&f.kind, "kind", "", "for Kubernetes: `Deployment`, Job or Pod, instead of what fits the restart policy")
	fs.StringVar(&f.seccomp, "seccomp", "localhost", "for Kubernetes: localhost (safe-run's filter, to be installed on the nodes) or runtime-default")
	fs.BoolVar(&f.help, "help", false, "print this help") // -h is --hostname
	return fs
}

func exportVerb(program string) *cobra.Command {
	c := &cobra.Command{
		Use:   "export [OPTIONS] kubernetes|compose|systemd|quadlet|docker [RUN OPTIONS] IMAGE [COMMAND] [ARG...]",
		Short: "Write a container down for another runner",
		Long: "Write a container down as run would start it, for another program that runs containers. What the format\n" +
			"cannot say is told on stderr and in a comment, and kept where safe-run import finds it again.",
		Example: "  safe-run export kubernetes --profile nginx -p 8080:80 nginx:1.29 | kubectl apply -f -\n" +
			"  safe-run export quadlet -o /etc/containers/systemd --profile redis redis:8\n" +
			"  safe-run export kubernetes -f compose.yaml -o manifests",
		DisableFlagParsing: true,
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			var names []string
			for _, f := range formats("") {
				names = append(names, f.Name())
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
	(&exportFlags{}).set().VisitAll(func(f *pflag.Flag) { c.Flags().AddFlag(f) })
	c.RunE = func(c *cobra.Command, args []string) error {
		var f exportFlags
		name, words, err := f.parse(args)
		switch {
		case err != nil:
			return err
		case f.help || len(args) == 0:
			return c.Help()
		}
		return f.export(c.Context(), program, name, words, c.OutOrStdout(), c.ErrOrStderr())
	}
	return c
}

// parse takes the flags of export off, before and after the name of the format.
// words is the command line of run.
func (f *exportFlags) parse(args []string) (format string, words []string, err error) {
	before := f.set()
	before.SetInterspersed(false)
	before.Usage = func() {}
	if err := before.Parse(args); err != nil {
		return "", nil, fail.Wrap(fail.Usage, err, "export")
	}
	if f.help || before.NArg() == 0 {
		return "", nil, nil
	}
	format = before.Arg(0)
	given := *f // what was said before the format stays, unless it is said again
	after := f.set()
	*f = given
	var own []*pflag.Flag
	after.VisitAll(func(f *pflag.Flag) { own = append(own, f) })
	flags, rest, err := cli.Split(before.Args()[1:], own...)
	if err != nil {
		return "", nil, err
	}
	for _, g := range flags {
		words = append(words, g.Word())
	}
	if len(words) > 0 || len(rest) > 0 {
		words = append(words, "--")
	}
	switch {
	case f.seccomp != "localhost" && f.seccomp != "runtime-default":
		return "", nil, fail.New(fail.Usage, "--seccomp takes localhost or runtime-default, and not %.40q", f.seccomp)
	case len(f.files) > 0 && len(flags) > 0:
		return "", nil, fail.New(fail.Usage, "-f takes what it exports from the file: leave %.80q out", flags[0].Word())
	case f.profileDir != "" && len(f.files) == 0:
		return "", nil, fail.New(fail.Usage, "--profile-dir is for the services of -f").Hint("for a command line: --profile FILE")
	}
	if len(f.files) > 0 {
		return format, rest, nil
	}
	return format, append(words, rest...), nil
}

func (f *exportFlags) export(ctx context.Context, program, name string, words []string, out, errs io.Writer) error {
	i := slices.IndexFunc(formats(f.kind), func(x convert.Format) bool { return x.Name() == name })
	if i < 0 {
		return fail.New(fail.Usage, "there is no format %.40q", name).Hint("it is kubernetes, compose, systemd, quadlet or docker, and comes before the flags of run: safe-run export kubernetes -p 8080:80 nginx")
	}
	format := formats(f.kind)[i]
	if f.kind != "" && name != "kubernetes" {
		return fail.New(fail.Usage, "--kind is for kubernetes alone")
	}
	o, site, err := options(program)
	if err != nil {
		return err
	}
	o.Files, o.RuntimeDefaultSeccomp = f.out != "", f.seccomp == "runtime-default"
	var p convert.Project
	if len(f.files) > 0 {
		p, err = f.fromCompose(ctx, program, words, o, errs)
	} else {
		p, err = fromWords(words, o)
	}
	if err != nil {
		return err
	}
	if err := permitted(p, site, errs); err != nil {
		return err
	}
	if name == "kubernetes" {
		for i := range p.Containers {
			c := &p.Containers[i]
			c.Workload = imageFacts(ctx, program, c.Workload, errs)
		}
	}
	files, losses, err := convert.Export(format, p, o)
	if err != nil {
		return err
	}
	asked := 0
	for _, l := range losses {
		said := "not as with safe-run"
		if !l.Default {
			asked++
			said = name + " cannot say it"
		}
		fmt.Fprintf(errs, "safe-run: %s: %s\n", said, plain.Line(l.String()))
	}
	if asked > 0 && f.strict {
		return fail.New(fail.Usage, "%s cannot say all that was asked for, and --strict was given; nothing is written", name).
			Hint("leave out what is named above, or --strict: it is kept then, and said in a comment")
	}
	if name == "kubernetes" {
		if err := verdicts(files, errs); err != nil {
			return err
		}
	}
	if f.out != "" {
		return writeFiles(o, f.out, files, f.force, out)
	}
	return toStdout(files, out, errs)
}

// verdicts says by which level of the Pod Security Standards each pod passes.
func verdicts(files []convert.File, errs io.Writer) error {
	all, err := kubernetes.Verdict(files)
	if err != nil {
		return err
	}
	for _, v := range all {
		fmt.Fprintf(errs, "safe-run: %s passes the Pod Security Standard %s\n", plain.Line(v.Object), v.Level)
		for _, r := range v.Reasons {
			fmt.Fprintf(errs, "  restricted is prevented by %s\n", plain.Line(r))
		}
	}
	return nil
}

// options are what this host and its policy say.
func options(program string) (convert.Options, policy.Site, error) {
	site, err := policy.LoadSite(policy.DefaultFile)
	if err != nil {
		return convert.Options{}, site, err
	}
	ctx, err := cli.NewContext()
	if err != nil {
		return convert.Options{}, site, err
	}
	// What a variable holds here today is not written down: -e NAME is the
	// variable of whoever starts the container.
	ctx.LookupEnv = func(string) (string, bool) { return "", false }
	ctx.Profile = func(ref string, _ *cli.Invocation) (cli.Profile, error) {
		if _, is := profiles.InImage(ref); is {
			return cli.Profile{}, fail.New(fail.Usage, "the profile %.80q is inside of the image", ref).
				Hint("write it to a file first: safe-run profile show --help")
		}
		if profiles.IsFile(ref) && !filepath.IsAbs(ref) {
			ref = filepath.Join(ctx.Cwd, ref)
		}
		found, err := profiles.Find(ref, ctx.ReadFile, profiles.SiteDir)
		if err != nil {
			return cli.Profile{}, err
		}
		return argv.OfProfile(found, ref, ctx.ReadFile)
	}
	return convert.Options{Limits: site.Limits(), Context: ctx, Program: program, Compose: loadProject, LookupEnv: os.LookupEnv}, site, nil
}

// fromCompose is the project of compose files, or some services of it.
func (f *exportFlags) fromCompose(ctx context.Context, program string, services []string, o convert.Options, errs io.Writer) (convert.Project, error) {
	a := &app{program: program, opts: compose.Options{Files: f.files, ProfileDir: f.profileDir}}
	p, err := a.read(ctx)
	if err != nil {
		return convert.Project{}, err
	}
	if _, err := chosen(p, services, false); err != nil {
		return convert.Project{}, err
	}
	found, losses := composefile.FromProject(p, nil, o)
	for _, l := range losses {
		fmt.Fprintf(errs, "safe-run: %s\n", plain.Line(l.String()))
	}
	out := convert.Project{Name: p.Name}
	for i, c := range found {
		if len(services) > 0 && !slices.Contains(services, p.Services[i].Name) {
			continue
		}
		one, err := c.Container(o)
		if err != nil {
			return out, err
		}
		out.Containers = append(out.Containers, one)
	}
	for _, n := range p.Networks {
		out.Networks = append(out.Networks, convert.Network{Name: n.Name, Internal: n.Internal, External: n.External})
	}
	return out, nil
}

// fromWords is the project of one command line of run.
func fromWords(words []string, o convert.Options) (convert.Project, error) {
	inv, err := cli.Parse(words, o.Context)
	if err != nil {
		return convert.Project{}, err
	}
	if inv.DryRun != "" || inv.Explain || inv.Complain || inv.Help {
		return convert.Project{}, fail.New(fail.Usage, "--dry-run, --explain, --complain and --help are of run, not of export")
	}
	w := inv.Workload
	name := w.Name
	if name == "" {
		name = unit.ImageName(w.Image)
	}
	return convert.Project{Containers: []convert.Container{{Name: convert.ObjectName(name), Workload: w}}}, nil
}

// permitted refuses what no site can grant, and says what this one does not.
func permitted(p convert.Project, site policy.Site, errs io.Writer) error {
	var final []policy.Refusal
	for _, c := range p.Containers {
		for _, r := range policy.ReviewSpelled(c.Workload, site) {
			if r.Grant == "" {
				final = append(final, r)
				continue
			}
			fmt.Fprintf(errs, "safe-run: %s: %s: here it would need the site's grant: %s\n", plain.Line(c.Name), plain.Line(r.Flag), plain.Line(r.Grant))
		}
	}
	if len(final) == 0 {
		return nil
	}
	return errors.Join(policy.WriteText(errs, final), &exitError{125})
}

// imageFacts makes explicit what an image says and Kubernetes does not look at:
// user, volumes, health check. An image that is not here is said to be so.
func imageFacts(ctx context.Context, program string, w spec.Workload, errs io.Writer) spec.Workload {
	ctx, stop := context.WithTimeout(ctx, 20*time.Second)
	defer stop()
	call := exec.CommandContext(ctx, program, "inspect", "--type", "image", "--format", "{{json .Config}}", "--", w.Image)
	var text bytes.Buffer
	call.Stdout = &text
	if os.Geteuid() == 0 && engineRuns(ctx, program) && call.Run() == nil {
		if img, err := spec.ImageFromConfig(slices.Concat([]byte(`{"config":`), bytes.TrimSpace(text.Bytes()), []byte("}"))); err == nil {
			return kubernetes.Fold(w, img)
		}
	}
	fmt.Fprintf(errs, "safe-run: the image %s is not here: if it has a USER, VOLUMEs or a HEALTHCHECK, say so with --user, -v and --health-cmd, since Kubernetes does not look at them\n", plain.Line(w.Image))
	return w
}

// engineRuns says whether there is a containerd to ask: to look at an image is
// no reason to start one.
func engineRuns(ctx context.Context, program string) bool {
	if _, err := os.Stat("/run/containerd/containerd.sock"); err == nil {
		return true
	}
	out, err := exec.CommandContext(ctx, program, "engine", "status").Output()
	return err == nil && bytes.HasPrefix(out, []byte("running"))
}
