package main

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/profiles"
	"github.com/safe-run/safe-run/spec"
)

// cliContext is cli.NewContext with the profiles there are.
func cliContext() (cli.Context, error) {
	ctx, err := cli.NewContext()
	if err != nil {
		return ctx, err
	}
	ctx.Profile = func(ref string) (cli.Profile, error) {
		if profiles.IsFile(ref) && !filepath.IsAbs(ref) {
			ref = filepath.Join(ctx.Cwd, ref)
		}
		found, err := profiles.Find(ref, ctx.ReadFile, profiles.SiteDir)
		if err != nil {
			return cli.Profile{}, err
		}
		return asFlags(found, ref, ctx.ReadFile)
	}
	return ctx, nil
}

// asFlags gives the command line a profile stands for.
func asFlags(found profiles.Loaded, ref string, read func(string, int64) ([]byte, error)) (cli.Profile, error) {
	p := found.Profile
	filter, err := found.SeccompJSON(read)
	if err != nil {
		return cli.Profile{}, err
	}
	out := cli.Profile{Name: found.Name, Shown: ref, Image: p.Image, Flags: p.Flags(), Seccomp: filter}
	if a := p.AppArmor; a != nil {
		out.AppArmorName = a.Name
		if len(a.Files) > 0 {
			out.AppArmor = &spec.AppArmorRules{}
			for _, f := range a.Files {
				out.AppArmor.Files = append(out.AppArmor.Files, spec.AppArmorFile{Path: f.Path, Access: f.Access})
			}
		}
	}
	return out, nil
}

// madeFor refuses a profile with another image than it names: its rights were
// weighed for that one.
func madeFor(p *cli.Profile, img spec.Image) error {
	if p == nil || p.Image == "" {
		return nil
	}
	want, err := reference.ParseNormalizedNamed(p.Image)
	if err != nil {
		return fail.Wrap(fail.Refused, err, "profile %q: image", p.Shown)
	}
	have, err := reference.ParseNormalizedNamed(img.Name)
	if err != nil || have.Name() != want.Name() {
		return fail.New(fail.Refused, "the profile %s is for the image %s, not for %s", p.Shown, reference.FamiliarString(want), img.Name).
			Hint("if its rights fit this image too, take the line image: out of a copy of the profile")
	}
	if d, ok := want.(reference.Digested); ok && !slices.Contains([]string{img.Digest, img.Target}, d.Digest().String()) {
		return fail.New(fail.Refused, "the profile %s is for %s; the image here has the digest %s", p.Shown, p.Image, img.Digest).
			Hint("learn it again for this version: safe-run learn")
	}
	return nil
}

// advice names the embedded profile of an image whose own command is run
// without any.
func advice(inv *cli.Invocation, img spec.Image) string {
	w := inv.Workload
	if inv.Profile != nil || len(w.Args) > 0 || w.Entrypoint != nil {
		return ""
	}
	name := profiles.ForImage(repository(img.Name))
	if name == "" {
		return ""
	}
	return "there is a profile of what " + name + " needs: --profile " + name + " (safe-run profile show " + name + " prints it)"
}

// repository is the last part of an image's name, without tag and digest.
func repository(image string) string {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return ""
	}
	name := named.Name()
	return name[strings.LastIndexByte(name, '/')+1:]
}
