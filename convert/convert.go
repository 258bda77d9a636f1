// Package convert writes workloads in the formats of other programs that run
// containers, and reads these back.
//
// What a format cannot say is never dropped. Each document that is written is
// read back at once: flags of run that do not come back are told (Loss) and
// kept in a place the format has for what it does not know (an annotation, an
// x- key), where Read finds them. So what is read from a document asks for the
// same container as that the document was made of, and writing it again gives
// the same document.
package convert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/compose"
	"github.com/safe-run/safe-run/internal/argv"
	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// Project is what is converted: containers, and what they share.
type Project struct {
	Name       string // "" if there is no more than containers
	Containers []Container
	Networks   []Network // that have to be made for them
}

// Container is one workload.
type Container struct {
	Name string // of objects and files made of it: lower case letters, digits, dashes, a DNS label of at most 63
	// Workload is normal (see Normal). Its Name is the container's own, which
	// may be another than Name, or "".
	Workload spec.Workload
	// Filter is the seccomp filter in force, in docker's JSON. Workload.Seccomp is
	// nil if it is the built-in one.
	Filter    []byte
	DependsOn []Dependency
	// Kept are flags of run that the format has no key for, each one word.
	// Write puts them where Read finds them.
	Kept []string
}

// Dependency is a container that has to be there first.
type Dependency struct {
	Name      string // Container.Name
	Condition string // started, healthy or completed
}

// Network is a network of a project. Containers name it in Workload.Networks.
type Network struct {
	Name     string
	Internal bool // no way out
	External bool // made by somebody else
}

// Found is a container as it was read: flags of run, which need not be right.
type Found struct {
	Name      string
	Line      int      // where it starts, 0 is not known
	Flags     []string // each one word, --NAME=VALUE
	Files     []string // --env-file=PATH and --label-file=PATH, absolute: whose content is not looked at; see Aside
	Image     string
	Args      []string
	Seccomp   []byte // filter in docker's JSON; nil, or what is the built-in one, is no flag
	DependsOn []Dependency
}

// File is one of the files that make a document.
type File struct {
	Name string // plain: no directory
	Data []byte
	// Path is where a file that is read lies, for what it names relative to
	// itself; "" is not known.
	Path string
	// Also says that the file is not part of what is written to standard output,
	// where it is one stream.
	Also bool
}

// Loss is something a format cannot say, or cannot say as it was meant.
type Loss struct {
	Container string `json:"container,omitempty"`
	What      string `json:"what"` // a flag of run, or a default of safe-run
	Why       string `json:"why"`
	// Default says that nobody asked for it: it is what every container of
	// safe-run has.
	Default bool `json:"default,omitempty"`
}

// Options are what documents say besides the workload.
type Options struct {
	Limits  spec.Limits // in force where it is converted, see policy.Site.Limits
	Context cli.Context // for the files that flags name
	// LookupEnv gives the variables a document asks its reader for; nil: none
	// are set.
	LookupEnv func(name string) (string, bool)
	// Files says that more than one file can be written. Without it, what Write
	// gives is read from standard output, and of files beside it only those are
	// referred to without which the container would be another one.
	Files bool
	// Compose loads compose files, which name further files; nil: compose.Load,
	// with the rights of this process.
	Compose func(context.Context, compose.Options) (*compose.Project, error)
	// Program is the absolute path of safe-run, for units.
	Program string
	// RuntimeDefaultSeccomp has Kubernetes use the filter of its runtime, and
	// not safe-run's, which has to be installed on each node.
	RuntimeDefaultSeccomp bool
}

// Format is a kind of document.
type Format interface {
	// Name is what export takes: kubernetes, compose, systemd, quadlet, docker.
	Name() string
	// Write gives the files of a project, and what of the defaults of safe-run
	// they do not say. losses are what comes of flags, for a comment on top.
	Write(p Project, losses []Loss, o Options) ([]File, []Loss, error)
	// Read gives the containers of a document, and what is left out and why.
	// All files of a document are given, the main one first; the others may be
	// missing.
	Read(files []File, o Options) ([]Found, []Loss, error)
	// Why says why the format has no key for a flag of run, by its long name.
	Why(flag string) string
}

// Export writes a project in a format, and says all that is lost. A container
// that does not come back as it was is an error of kind Internal.
func Export(f Format, p Project, o Options) ([]File, []Loss, error) {
	wanted := make([][]string, len(p.Containers))
	var losses []Loss
	for i := range p.Containers {
		more, err := p.Containers[i].settle(o)
		if err == nil {
			wanted[i], err = argv.Flags(p.Containers[i].Workload)
		}
		if err != nil {
			return nil, nil, fail.Wrap(fail.KindOf(err), err, "%s", p.Containers[i].Name)
		}
		losses = append(losses, more...)
	}
	for round := range 2 {
		files, more, err := f.Write(p, losses, o)
		if err != nil {
			return nil, nil, err
		}
		got, err := readBack(f, files, p, o)
		if err != nil {
			return nil, nil, err
		}
		lost := false
		for i := range p.Containers {
			c := &p.Containers[i]
			missing, extra := difference(wanted[i], got[i])
			if len(extra) > 0 || round > 0 && len(missing) > 0 {
				return nil, nil, fail.New(fail.Internal, "%s, written for %s, reads as another container: %.200q is missing and %.200q new",
					c.Name, f.Name(), missing, extra)
			}
			for _, word := range missing {
				lost = true
				name, _, _ := strings.Cut(strings.TrimPrefix(word, "--"), "=")
				c.Kept = append(c.Kept, word)
				losses = append(losses, Loss{Container: c.Name, What: word, Why: f.Why(name)})
			}
		}
		if !lost {
			for i := range more {
				more[i].Default = true
			}
			return files, append(losses, more...), nil
		}
	}
	return nil, nil, fail.New(fail.Internal, "what was kept for %s was lost", f.Name())
}

// readBack gives the words of each container of a document just written.
func readBack(f Format, files []File, p Project, o Options) ([][]string, error) {
	found, left, err := f.Read(files, o)
	if err != nil {
		return nil, fail.Wrap(fail.Internal, err, "reading back what was written for %s", f.Name())
	}
	if len(left) > 0 {
		return nil, fail.New(fail.Internal, "%s: %.200q, written for %s, cannot be read back: %.200s", left[0].Container, left[0].What, f.Name(), left[0].Why)
	}
	if len(found) != len(p.Containers) {
		return nil, fail.New(fail.Internal, "%d containers, written for %s, are read as %d", len(p.Containers), f.Name(), len(found))
	}
	words := make([][]string, len(found))
	for i, c := range found {
		if c.Name != p.Containers[i].Name {
			return nil, fail.New(fail.Internal, "%.80q, written for %s, is read as %.80q", p.Containers[i].Name, f.Name(), c.Name)
		}
		back, err := c.Container(o)
		if err == nil {
			_, err = back.settle(o)
		}
		if err == nil && !bytes.Equal(back.Filter, p.Containers[i].Filter) {
			err = errors.New("the seccomp filter is another one")
		}
		if err == nil {
			words[i], err = argv.Flags(back.Workload)
		}
		if err != nil {
			return nil, fail.Wrap(fail.Internal, err, "%s, written for %s", c.Name, f.Name())
		}
	}
	return words, nil
}

// Container reads the flags of what was found, as a container to write.
func (c Found) Container(o Options) (Container, error) {
	inv, err := cli.Parse(slices.Concat(c.Flags, []string{"--", c.Image}, c.Args), o.Context)
	if err != nil {
		return Container{}, err
	}
	out := Container{Name: c.Name, Workload: inv.Workload, DependsOn: c.DependsOn}
	if len(c.Seccomp) > 0 {
		out.Workload.Seccomp = &spec.SeccompFile{Path: seccompPath(c.Name), JSON: c.Seccomp}
	}
	return out, nil
}

// settle gives a container the one form there is for what it asks, and what
// cannot be kept at all.
func (c *Container) settle(o Options) (losses []Loss, err error) {
	c.Kept = nil
	c.Workload = Normal(c.Workload, o.Limits)
	if c.Workload.AppArmor != nil {
		losses = append(losses, Loss{Container: c.Name, What: "apparmor.files of the profile", Why: "no flag says it, and no other program narrows its own AppArmor profile: ship the profile file as well"})
		c.Workload.AppArmor = nil
	}
	return losses, c.filter()
}

// difference gives the words of a that b has not, and the other way round. The
// image and its words have to be the same.
func difference(a, b []string) (missing, extra []string) {
	count := map[string]int{}
	for _, w := range b {
		count[w]++
	}
	for _, w := range a {
		if count[w]--; count[w] < 0 {
			missing = append(missing, w)
		}
	}
	for _, w := range b {
		if count[w] > 0 {
			count[w]--
			extra = append(extra, w)
		}
	}
	return missing, extra
}

// ObjectName makes a name that all formats take of another one: lower case
// letters, digits and dashes, at most 63, a letter first (RFC 1035).
func ObjectName(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0:
			b.WriteByte('-')
		}
	}
	s := b.String()
	if s == "" || s[0] < 'a' {
		s = "c" + s
	}
	return strings.TrimRight(s[:min(len(s), 63)], "-")
}

// String is a loss in one line.
func (l Loss) String() string {
	if l.Container == "" {
		return fmt.Sprintf("%s: %s", l.What, l.Why)
	}
	return fmt.Sprintf("%s: %s: %s", l.Container, l.What, l.Why)
}
