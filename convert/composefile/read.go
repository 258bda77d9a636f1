package composefile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/compose"
	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/internal/words"
	"github.com/safe-run/safe-run/internal/fail"
)

// maxFile bounds a compose file in bytes, as package compose does.
const maxFile = 1 << 20

// Read gives the services of a compose file. One that Write wrote is read from
// its text alone. Any other is loaded with all it names, from where it lies; of
// one without a path, what it names beside itself is missing.
func (f format) Read(files []convert.File, o convert.Options) ([]convert.Found, []convert.Loss, error) {
	if len(files) == 0 || len(files[0].Data) > maxFile {
		return nil, nil, fail.New(fail.Usage, "a compose file of at most %d bytes is read", maxFile)
	}
	root, err := document(files[0].Data)
	if err != nil {
		return nil, nil, err
	}
	if !exported(root) {
		return load(files, o)
	}
	drafts, losses, err := readExported(root)
	if err != nil {
		return nil, nil, err
	}
	var found []convert.Found
	for _, d := range drafts {
		if d.Image == "" {
			return nil, nil, fail.New(fail.Usage, "services.%s: it has no image", d.Name)
		}
		one, more := d.Found(files, o)
		found, losses = append(found, one), append(losses, more...)
	}
	return found, losses, nil
}

// load reads a compose file of others, as safe-run compose does.
func load(files []convert.File, o convert.Options) ([]convert.Found, []convert.Loss, error) {
	read := o.Compose
	if read == nil {
		read = compose.Load
	}
	dir, main := filepath.Dir(files[0].Path), files[0].Path
	if main == "" {
		if o.Compose != nil {
			return nil, nil, fail.New(fail.Usage, "a compose file names others, which are looked for beside it: give it as a file")
		}
		var err error
		if dir, err = os.MkdirTemp("", "safe-run-import-"); err != nil {
			return nil, nil, fail.Wrap(fail.HostCannot, err, "making a directory")
		}
		defer os.RemoveAll(dir)
		for i, file := range files {
			name := path.Base(file.Name)
			if i == 0 {
				name = fileName
			}
			if err := os.WriteFile(filepath.Join(dir, name), file.Data, 0o600); err != nil {
				return nil, nil, fail.Wrap(fail.HostCannot, err, "writing a file to read")
			}
		}
		main = filepath.Join(dir, fileName)
	}
	var environ []string
	if o.LookupEnv != nil {
		for _, name := range variables(files[0].Data) {
			if v, set := o.LookupEnv(name); set {
				environ = append(environ, name+"="+v)
			}
		}
	}
	p, err := read(context.Background(), compose.Options{Files: []string{main}, Dir: dir, ProjectName: projectName(files[0].Data, o), Environ: environ})
	if err != nil {
		return nil, nil, shown(err, dir)
	}
	found, losses := FromProject(p, files, o)
	if files[0].Path == "" { // relative paths start in the caller's directory
		for i := range found {
			for j, w := range found[i].Flags {
				found[i].Flags[j] = strings.ReplaceAll(w, dir+"/", strings.TrimSuffix(o.Context.Cwd, "/")+"/")
			}
		}
	}
	for _, n := range p.Networks {
		internal := ""
		if n.Internal {
			internal = "--internal "
		}
		if !n.External {
			losses = append(losses, convert.Loss{What: "network " + words.Line(n.Name), Why: "make it first: safe-run network create --icc " + internal + words.Line(n.Name)})
		}
	}
	return found, losses, nil
}

// FromProject gives the services of a project that has been loaded. files are
// those that lie beside it.
func FromProject(p *compose.Project, files []convert.File, o convert.Options) ([]convert.Found, []convert.Loss) {
	var found []convert.Found
	var losses []convert.Loss
	resolved, err := document(p.Config)
	if err != nil {
		losses = append(losses, convert.Loss{What: extension, Why: err.Error()})
	}
	for _, s := range p.Services {
		d := words.Draft{Name: words.Name(s.Name), Line: s.Place.Line, Image: s.Image, Args: s.Args}
		for _, flag := range s.Flags {
			if strings.HasPrefix(flag.Word, "--label=com.docker.compose.") {
				continue
			}
			d.Said = append(d.Said, words.Parse(flag.Word))
		}
		own := at(resolved, "services", s.Name, extension, "flags")
		if d.Kept, err = words.Flags(texts(own)); err != nil {
			losses = append(losses, convert.Loss{Container: d.Name, What: extension + ".flags", Why: err.Error()})
		}
		if own != nil && at(resolved, "services", s.Name, "container_name") == nil {
			d.Said = slices.DeleteFunc(d.Said, func(f words.Flag) bool { return f.Name == "name" })
		}
		for _, dep := range s.DependsOn {
			for name, condition := range conditions() {
				if condition == dep.Condition {
					d.DependsOn = append(d.DependsOn, convert.Dependency{Name: words.Name(dep.Service), Condition: name})
				}
			}
		}
		one, more := d.Found(files, o)
		found, losses = append(found, one), append(losses, more...)
	}
	for _, n := range p.Notes {
		losses = append(losses, convert.Loss{What: n.Place.String(), Why: n.Text})
	}
	words.Unique(found)
	return found, losses
}

// projectName is the name of a project whose file says none: that of the
// caller's directory, and not of one made to read it.
func projectName(data []byte, o convert.Options) string {
	root, err := document(data)
	if err == nil && root != nil && at(root, "name") != nil {
		return ""
	}
	return words.Name(filepath.Base(o.Context.Cwd))
}

// variables are the names a file may ask the caller's environment for.
func variables(data []byte) (names []string) {
	seen := map[string]bool{}
	for _, w := range bytes.FieldsFunc(data, func(r rune) bool { return r != '_' && (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z') }) {
		if name := string(w); len(name) < 200 && !seen[name] && len(names) < 10_000 && (name[0] < '0' || name[0] > '9') {
			seen[name] = true
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// shown takes a directory made to read a file out of an error.
func shown(err error, dir string) error {
	var e *fail.Error
	if errors.As(err, &e) {
		return fail.New(e.Kind, "%s", strings.ReplaceAll(e.Error(), dir+"/", "")).Hint("%s", strings.ReplaceAll(e.Next, dir+"/", ""))
	}
	return fail.New(fail.Usage, "%s", strings.ReplaceAll(fmt.Sprint(err), dir+"/", ""))
}
