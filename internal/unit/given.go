package unit

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/profiles"
	"github.com/safe-run/safe-run/spec"
)

// FromFlags reads the words after run. The files of variables and labels, and the profile, stay
// files, and -e NAME stays the variable of whoever starts the container: what
// they hold today is not written into a unit.
func FromFlags(args []string, ctx cli.Context) (w spec.Workload, o Options, err error) {
	// First as run itself would, for its errors.
	inv, err := cli.Parse(args, ctx)
	if err != nil {
		return w, o, err
	}
	if inv.DryRun != "" || inv.Help || inv.Explain || inv.Complain {
		return w, o, fail.New(fail.Usage, "--dry-run, --help, --explain and --complain have no place in a unit")
	}
	pairs, rest, err := cli.Split(args)
	if err != nil {
		return w, o, err
	}
	var words []string
	never := false
	for _, p := range pairs {
		switch p.Long {
		case "env-file", "label-file":
			o.Files = append(o.Files, "--"+p.Long+"="+abs(ctx.Cwd, p.Value))
			continue
		case "profile":
			if _, inImage := profiles.InImage(p.Value); !inImage && profiles.IsFile(p.Value) {
				p.Value = abs(ctx.Cwd, p.Value)
			}
			o.Files = append(o.Files, "--profile="+p.Value)
			continue
		case "restart":
			never = p.Value == spec.RestartNo
		}
		words = append(words, "--"+p.Long+"="+p.Value)
	}
	// A platform the environment asks for is part of what was asked.
	platform := func(n string) (string, bool) {
		if n != "DOCKER_DEFAULT_PLATFORM" {
			return "", false
		}
		return ctx.LookupEnv(n)
	}
	lean := ctx
	lean.LookupEnv = platform
	again, err := cli.Parse(slices.Concat(words, []string{"--"}, rest), lean)
	if err != nil {
		return w, o, err
	}
	w = again.Workload
	if never {
		w.Restart.Name = spec.RestartNo
	}
	if inv.Address != "" {
		o.Global = append(o.Global, "--address="+inv.Address)
	}
	if inv.Namespace != "" {
		o.Global = append(o.Global, "--namespace="+inv.Namespace)
	}
	absoluteSeccomp(&w, ctx.Cwd)
	if w.Name == "" {
		w.Name = ImageName(w.Image)
	}
	return w, o, nil
}

func abs(cwd, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(cwd, path)
}

// absoluteSeccomp names the file of --security-opt seccomp=FILE from /.
func absoluteSeccomp(w *spec.Workload, cwd string) {
	if w.Seccomp == nil {
		return
	}
	path := abs(cwd, w.Seccomp.Path)
	for i, o := range w.SecurityOpts {
		if o == "seccomp="+w.Seccomp.Path || o == "seccomp:"+w.Seccomp.Path {
			w.SecurityOpts[i] = "seccomp=" + path
		}
	}
	w.Seccomp = &spec.SeccompFile{Path: path, JSON: w.Seccomp.JSON}
}

// ImageName makes a name of the last part of an image's: nginx of
// docker.io/library/nginx:1.29.
func ImageName(image string) string {
	image, _, _ = strings.Cut(image, "@")
	image = image[strings.LastIndexByte(image, '/')+1:]
	image, _, _ = strings.Cut(image, ":")
	return image
}
