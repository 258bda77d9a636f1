package words

import (
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/spec"
)

// maxSeccomp bounds the file of a filter, in bytes; as --security-opt has it.
const maxSeccomp = 1 << 20

// Draft is a container as it is read, before what is kept counts.
type Draft struct {
	Name      string // "": of the container's name or the image's
	Line      int
	Said      []Flag
	Kept      []Flag
	Image     string
	Args      []string
	DependsOn []convert.Dependency
}

// Found gives the flags that are asked for. files are those of the document: a
// filter of system calls among them is read, another from where it is.
func (d Draft) Found(files []convert.File, o convert.Options) (convert.Found, []convert.Loss) {
	out := convert.Found{Name: d.Name, Line: d.Line, Image: d.Image, Args: d.Args, DependsOn: d.DependsOn}
	var losses []convert.Loss
	for _, f := range Merge(Relax(d.Said, o.Limits), d.Kept) {
		key, file, _ := strings.Cut(f.Value, "=")
		if f.Name == "security-opt" && strings.HasPrefix(f.Value, "seccomp:") {
			key, file = "seccomp", strings.TrimPrefix(f.Value, "seccomp:")
		}
		if f.Name != "security-opt" || key != "seccomp" || file == "unconfined" || file == "builtin" || file == "" {
			out.Flags = append(out.Flags, f.Word())
			continue
		}
		data, err := seccomp(file, files, o)
		if err != nil {
			losses = append(losses, convert.Loss{What: f.Word(), Why: "the file cannot be read, and the built-in filter is used: " + err.Error()})
			continue
		}
		out.Seccomp = data
	}
	if out.Name == "" {
		out.Name = Default(d.Said, d.Image)
	}
	return out, losses
}

// seccomp reads a filter: one of the document's own files by its plain name,
// else from where the caller finds it.
func seccomp(file string, files []convert.File, o convert.Options) ([]byte, error) {
	if i := slices.IndexFunc(files, func(f convert.File) bool { return f.Name == path.Base(file) }); i >= 0 {
		return files[i].Data, nil
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(o.Context.Cwd, file)
	}
	return o.Context.ReadFile(file, maxSeccomp)
}

// SeccompFiles are the files of filters that documents of a project name.
func SeccompFiles(p convert.Project, o convert.Options) (out []convert.File) {
	for _, c := range p.Containers {
		if len(c.Filter) > 0 && (o.Files || c.Workload.Seccomp != nil) {
			out = append(out, convert.File{Name: convert.SeccompName(c.Name), Data: c.Filter, Also: true})
		}
	}
	return out
}

// Lost is something safe-run does by default, and who it is for.
type Lost struct {
	What, Why string
	Applies   func(c convert.Container, o convert.Options) bool
}

// Losses gives the defaults that apply to a project, each once, with the
// containers it is about where it is not about all.
func Losses(p convert.Project, o convert.Options, table []Lost) (out []convert.Loss) {
	for _, l := range table {
		var names []string
		for _, c := range p.Containers {
			if l.Applies(c, o) {
				names = append(names, c.Name)
			}
		}
		if len(names) == 0 {
			continue
		}
		one := convert.Loss{What: l.What, Why: l.Why}
		if len(names) < len(p.Containers) || len(names) == 1 {
			one.Container = strings.Join(names, ", ")
		}
		out = append(out, one)
	}
	return out
}

// Always is for defaults of all containers.
func Always(convert.Container, convert.Options) bool { return true }

// OwnIDs says whether a container has a user namespace of its own.
func OwnIDs(c convert.Container, _ convert.Options) bool { return c.Workload.UserNSMode == "" }

// Ambient says whether capabilities are added for a user other than root.
func Ambient(c convert.Container, _ convert.Options) bool {
	user, _, _ := strings.Cut(c.Workload.User, ":")
	return len(c.Workload.CapAdd) > 0 && user != "" && user != "0" && user != "root"
}

// Wired says whether a container has a network of safe-run's.
func Wired(c convert.Container, _ convert.Options) bool {
	return len(c.Workload.Networks) > 0 && !slices.ContainsFunc(c.Workload.Networks, func(n spec.NetworkUse) bool {
		return n.Name == "none" || n.Name == "host" || strings.HasPrefix(n.Name, "container:")
	})
}

// Data says whether a container has binds or volumes on which nothing can be
// executed.
func Data(c convert.Container, _ convert.Options) bool {
	return slices.ContainsFunc(c.Workload.Mounts, func(m spec.Mount) bool {
		return (m.Type == spec.MountBind || m.Type == spec.MountVolume) && !m.Exec
	})
}

// BuiltIn says whether a container has the built-in filter, and it is not
// written.
func BuiltIn(c convert.Container, o convert.Options) bool {
	return !o.Files && c.Workload.Seccomp == nil && len(c.Filter) > 0
}

// Waits says whether a container waits for another to be healthy or done.
func Waits(c convert.Container, _ convert.Options) bool {
	return slices.ContainsFunc(c.DependsOn, func(d convert.Dependency) bool { return d.Condition != "started" })
}
