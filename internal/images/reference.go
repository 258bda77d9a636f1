package images

import (
	"runtime"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/lazyre"
)

// maxReference bounds what is parsed as a reference, in bytes. A repository
// name has at most 255, a tag 128, a digest 135.
const maxReference = 600

// Normalize turns an image reference as people type it into the name
// containerd knows the image by, with docker's rules: docker.io and library/
// are added, the tag is latest if there is neither tag nor digest, and a tag
// beside a digest is dropped. A digest alone is no name. Errors are of kind
// Usage.
func Normalize(ref string) (string, error) {
	if len(ref) > maxReference {
		return "", fail.New(fail.Usage, "image reference of %d bytes is too long (at most %d)", len(ref), maxReference)
	}
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return "", fail.New(fail.Usage, "invalid image reference %q: %v", ref, cleanText(err.Error())).
			Hint("write it as [REGISTRY/]NAME[:TAG] or NAME@sha256:DIGEST, in lower case")
	}
	if digest.Algorithm(reference.FamiliarName(named)).Available() {
		// sha256:... is the id of an image; no archive may make it a name.
		return "", fail.New(fail.Usage, "invalid image reference %q: %q is no name of a repository, it starts a digest", ref, reference.FamiliarName(named))
	}
	return named.String(), nil
}

// Familiar is the short form docker prints: busybox:latest for
// docker.io/library/busybox:latest. What is no reference comes back unchanged.
func Familiar(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarString(named)
}

// digestOf gives the digest a name pins, or "".
func digestOf(name string) digest.Digest {
	if _, d, ok := strings.Cut(name, "@"); ok {
		return digest.Digest(d)
	}
	return ""
}

func repositoryOf(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return ""
	}
	return named.Name()
}

// identifier matches what docker takes as an image id, whole or shortened.
var identifier = lazyre.New(`^(sha256:)?[0-9a-f]{4,64}$`)

// hostPlatform is what this host runs.
func hostPlatform() ocispec.Platform { return platforms.DefaultSpec() }

// parsePlatform gives the platform asked for; "" is the host's. Another
// operating system or architecture is an error of kind HostCannot, since
// nothing here emulates one.
func parsePlatform(s string) (ocispec.Platform, error) {
	host := hostPlatform()
	if s == "" {
		return host, nil
	}
	if len(s) > 64 {
		return host, fail.New(fail.Usage, "invalid platform: %d bytes", len(s))
	}
	p, err := platforms.Parse(s)
	if err != nil {
		return host, fail.New(fail.Usage, "invalid platform %q: want OS/ARCH[/VARIANT], for example linux/%s", s, runtime.GOARCH)
	}
	p = platforms.Normalize(p)
	if err := canRun(p, "the platform asked for"); err != nil {
		return host, err
	}
	return p, nil
}

// canRun says whether this host runs programs of platform p.
func canRun(p ocispec.Platform, what string) error {
	host := hostPlatform()
	if platforms.Only(host).Match(p) && p.Architecture == host.Architecture {
		return nil
	}
	return fail.New(fail.HostCannot, "%s is %s, and this host runs only %s", what, formatPlatform(p), formatPlatform(host)).
		Hint("use an image built for %s; emulation of other architectures is not offered", formatPlatform(host))
}

// formatPlatform prints a platform whose words come from an image.
func formatPlatform(p ocispec.Platform) string {
	s := cleanText(p.OS + "/" + p.Architecture)
	if p.Variant != "" {
		s += "/" + cleanText(p.Variant)
	}
	if p.OS == "" && p.Architecture == "" {
		return "not stated"
	}
	return s
}
