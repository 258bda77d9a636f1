package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/safe-run/safe-run/internal/argv"
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
	ctx.Profile = func(ref string, of *cli.Invocation) (cli.Profile, error) {
		if path, is := profiles.InImage(ref); is {
			return imageProfile(ref, path, of)
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
	return ctx, nil
}

// imageProfile reads the profile an image brings, which is named like any other
// and asks like any other.
func imageProfile(ref, path string, of *cli.Invocation) (p cli.Profile, err error) {
	if err := needRoot(); err != nil {
		return p, err
	}
	if of.Workload.Image == "" {
		return p, fail.New(fail.Usage, "--profile %s: no image is named", ref)
	}
	w := of.Workload
	if of.DryRun != "" {
		w.Pull = "never"
	}
	// Nothing is fetched that could not be run, whatever the profile says.
	if err := fetchable(&w); err != nil {
		return p, err
	}
	ctx := context.Background()
	s, err := connect(ctx, of.Address, of.Namespace, dialAhead())
	if err != nil {
		return p, err
	}
	img, err := image(ctx, s, &w)
	if err != nil {
		return p, err
	}
	data, err := s.launcher.ImageFile(ctx, img, path, func(ctx context.Context) error { return s.images.Unpack(ctx, img, nil) })
	if err != nil {
		return p, err
	}
	found, err := profiles.Parse(data, ref)
	if err != nil {
		return p, err
	}
	return argv.OfProfile(profiles.Loaded{Profile: found}, ref, func(string, int64) ([]byte, error) {
		return nil, fail.New(fail.Refused, "a profile in an image lists its system calls itself (seccomp: allow), and names no file")
	})
}

// fetchable says whether the policy lets a workload be fetched at all.
func fetchable(w *spec.Workload) error {
	caller, err := cli.CallerOf(os.Geteuid(), os.LookupEnv)
	if err != nil {
		return err
	}
	j, err := judge(w, caller)
	if err != nil {
		return err
	}
	defer j.close()
	if _, r := j.review(nil); len(r) > 0 {
		return refused(r)
	}
	return nil
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
