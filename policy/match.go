package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// pattern says which images a grant is for.
type pattern struct {
	repository string // normalised, without tag
	below      bool   // any repository below it ("/*")
	digest     string
}

func parsePattern(s string) (pattern, error) {
	var p pattern
	if s == "" {
		return p, errors.New("missing; write the repository, like docker.io/library/nginx")
	}
	name := s
	if before, ok := strings.CutSuffix(name, "/*"); ok {
		p.below, name = true, before
		if strings.Contains(name, "@") {
			return p, fmt.Errorf("%.80q has a digest and a wildcard", s)
		}
		// A bare host is no repository to the parser.
		if !strings.Contains(name, "/") && strings.ContainsAny(name, ".:") {
			if _, err := reference.ParseNormalizedNamed(name + "/x"); err != nil {
				return p, fmt.Errorf("%.80q is not a registry", s)
			}
			p.repository = name
			return p, nil
		}
	}
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return p, fmt.Errorf("%.80q is not a repository", s)
	}
	if _, tagged := ref.(reference.Tagged); tagged {
		return p, fmt.Errorf("%.80q has a tag, which anyone who can push can move; leave it out, or name a digest", s)
	}
	p.repository = ref.Name()
	if d, ok := ref.(reference.Digested); ok {
		p.digest = d.Digest().String()
	}
	return p, nil
}

// repository is the normalised repository of an image reference, or "".
func repository(image string) string {
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return ""
	}
	return ref.Name()
}

// pinned is the digest in an image reference, or "".
func pinned(image string) string {
	ref, _ := reference.ParseNormalizedNamed(image) // nil, if it is none
	if d, ok := ref.(reference.Digested); ok {
		return d.Digest().String()
	}
	return ""
}

func (p pattern) matches(r *Request) bool {
	name := repository(r.imageName())
	if name == "" {
		return false
	}
	if p.below {
		return strings.HasPrefix(name, p.repository+"/")
	}
	if name != p.repository {
		return false
	}
	if p.digest == "" || p.digest == r.Image.Digest {
		return true
	}
	// What was asked for by digest was resolved by that digest: an index has
	// another one than the manifest that is run.
	if pinned(r.imageName()) == p.digest {
		return true
	}
	return r.Provisional && r.Image.Digest == "" && pinned(r.imageName()) == ""
}

// allowed are the grants of the site that hold for one request.
type allowed struct{ grants []Grant }

func (s Site) forRequest(r *Request) allowed {
	var a allowed
	for _, g := range s.Grants {
		p, err := parsePattern(g.Image)
		if err == nil && p.matches(r) && (g.Profile == "" || g.Profile == r.Profile) {
			a.grants = append(a.grants, g)
		}
	}
	return a
}

// permits says whether a grant meets the need. A need of nothing is one that
// nothing meets.
func (a allowed) permits(n Need) bool {
	return !n.Void && slices.ContainsFunc(a.grants, func(g Grant) bool {
		switch n.Key {
		case "allow":
			return slices.Contains(g.Allow, n.Value)
		case "capabilities":
			return slices.Contains(g.Capabilities, n.Value)
		case "sysctls":
			return slices.Contains(g.Sysctls, n.Value)
		case "annotations":
			return slices.Contains(g.Annotations, n.Value)
		case "binds":
			return slices.ContainsFunc(g.Binds, func(b BindGrant) bool { return b.permits(n) })
		case "devices":
			return n.Device != nil && slices.ContainsFunc(g.Devices, func(d DeviceGrant) bool { return d.permits(n) })
		}
		return false
	})
}

func (b BindGrant) permits(n Need) bool {
	rel := relate(n.Value, b.Source)
	return (rel == same || rel == inside) && (n.ReadOnly || !b.ReadOnly)
}

func (d DeviceGrant) permits(n Need) bool {
	return n.Value == d.Path && strings.Trim(n.Perms, d.Permissions) == ""
}

func siteRules() []Rule {
	return []Rule{
		{
			ID: "registry", Title: "Registries the site does not use",
			GivesAway: "trust: the site takes images only from registries it names",
			SaferWay:  "take the image from a registry of the site's list",
			Check: func(r *Request) []Finding {
				if len(r.Site.Registries) == 0 {
					return nil
				}
				ref, err := reference.ParseNormalizedNamed(r.imageName())
				ok := err == nil && slices.Contains(r.Site.Registries, reference.Domain(ref))
				return when(!ok, Finding{Flag: "image " + shown(r.imageName())})
			},
		},
		{
			ID: "require-digest", Title: "Images without a digest",
			GivesAway: "the choice of what is run to whoever can move the tag",
			SaferWay:  "name the image by digest: REPOSITORY@sha256:...",
			Check: func(r *Request) []Finding {
				// What was typed counts: the tag of a resolved name was resolved just now.
				_, err := digest.Parse(pinned(r.Workload.Image))
				return when(r.Site.RequireDigest && err != nil, Finding{Flag: "image " + shown(r.Workload.Image)})
			},
		},
		{
			ID: "require-lsm", Title: "Hosts without mandatory access control",
			GivesAway: "the second wall: this host has neither AppArmor nor SELinux, and the site requires one",
			SaferWay:  "enable AppArmor or SELinux on the host (kernel command line: lsm=...,apparmor)",
			Check: func(r *Request) []Finding {
				return when(r.Site.RequireLSM && !r.Host.AppArmor && !r.Host.SELinux, Finding{Flag: "this host"})
			},
		},
	}
}
