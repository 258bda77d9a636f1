package compose

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"

	"github.com/safe-run/safe-run/internal/fail"
)

// exists says whether there is a file, or might be one that cannot be seen.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil || !errors.Is(err, os.ErrNotExist)
}

// find gives the compose files, absolute.
func (l *loading) find() ([]string, error) {
	files := slices.Clone(l.o.Files)
	if named := l.env["COMPOSE_FILE"]; len(files) == 0 && named != "" {
		sep := l.env["COMPOSE_PATH_SEPARATOR"]
		if sep == "" {
			sep = string(os.PathListSeparator)
		}
		files = strings.Split(named, sep)
	}
	if len(files) > maxFiles {
		return nil, fail.New(fail.Usage, "there are more than %d compose files", maxFiles)
	}
	for i, f := range files {
		switch {
		case f == "-":
			return nil, fail.New(fail.Usage, "a compose file cannot be read from standard input").Hint("write it to a file: relative paths in it start there")
		case f == "":
			return nil, fail.New(fail.Usage, "the name of a compose file is empty")
		case remote(f):
			return nil, fail.New(fail.Usage, "%s is not a file of this host", quote(f)).Hint("fetch it first, look at it, and name the file")
		case !filepath.IsAbs(f):
			files[i] = filepath.Join(l.o.Dir, f)
		}
	}
	for _, f := range files {
		if !exists(f) {
			return nil, fail.New(fail.NotFound, "there is no compose file %s", quote(f))
		}
	}
	if len(files) > 0 {
		return files, nil
	}
	for dir := l.o.Dir; ; dir = filepath.Dir(dir) {
		found := first(dir, "compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
		if found != "" {
			files = []string{found}
			over := first(dir, "compose.override.yaml", "compose.override.yml", "docker-compose.override.yaml", "docker-compose.override.yml")
			if over != "" {
				files = append(files, over)
			}
			return files, nil
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	return nil, fail.New(fail.NotFound, "there is no compose file in %s or above it", quote(l.o.Dir)).
		Hint("it is called compose.yaml; name another one with -f FILE")
}

func first(dir string, names ...string) string {
	for _, n := range names {
		if f := filepath.Join(dir, n); exists(f) {
			return f
		}
	}
	return ""
}

// remote says whether a path names something that would be fetched.
func remote(path string) bool {
	return strings.Contains(path, "://") || strings.HasPrefix(path, "git@") || strings.HasPrefix(path, "github.com/") ||
		strings.HasPrefix(path, "oci:") || strings.Contains(path, ".git#") || strings.HasSuffix(path, ".git")
}

// place makes the path of a place short.
func (l *loading) place(p Place) Place {
	p.File = relative(l.o.Dir, p.File)
	return p
}

func (l *loading) problem(p Problem) {
	p.Place = l.place(p.Place)
	l.problems = append(l.problems, p)
}

// open reads and parses a file that is named at a place. nil: there is a
// problem with it.
func (l *loading) open(path string, named Place) *source {
	if len(l.sources)+len(l.bases) >= maxFiles {
		l.problem(Problem{Place: named, Text: "there are too many compose files"})
		return nil
	}
	data, err := readFile(path)
	if err != nil {
		p := Problem{Place: named, Text: err.Error()}
		if named.File == "" {
			p.Place = Place{}
		}
		l.problem(p)
		return nil
	}
	s, p := parseSource(path, data)
	if p != nil {
		l.problem(*p)
		return nil
	}
	return s
}

// discover reads a compose file and those it includes and extends, as the
// loader will: the included ones come before it, so that it counts before
// them. dir is where its relative paths start, within the files that include
// it.
func (l *loading) discover(path, dir string, env types.Mapping, named Place, within []string) {
	if slices.Contains(within, path) {
		l.problem(Problem{Place: named, Text: "the file includes itself: " + strings.Join(append(within, path), ", ")})
		return
	}
	s := l.open(path, named)
	if s == nil {
		return
	}
	s.dir, s.own, s.lookup = dir, len(within) == 0, both(env, nil)
	within = append(slices.Clone(within), path)
	for _, doc := range s.docs {
		include, ok := s.below(entry{value: doc}, []string{"include"})
		if !ok {
			continue
		}
		for _, n := range items(include.value) {
			l.include(s, n, env, within)
		}
	}
	l.sources = append(l.sources, s)
	l.extended(s, dir)
}

// include reads one entry of include.
func (l *loading) include(s *source, n *yaml.Node, env types.Mapping, within []string) {
	at := Place{s.path, n.Line}
	var paths, envFiles []string
	project := ""
	if one, single := s.scalar(n); single {
		paths = []string{one}
	} else {
		paths, envFiles, project = s.list(n, "path"), s.list(n, "env_file"), s.get(n, "project_directory")
	}
	for i, p := range paths {
		if remote(p) {
			l.problem(Problem{Place: at, Key: "include", Text: quote(p) + " is not a file of this host", Hint: "fetch it first, look at it, and include the file"})
			return
		}
		paths[i] = within1(s.dir, p)
	}
	if len(paths) == 0 {
		return // the schema says so
	}
	switch project {
	case "":
		project = filepath.Dir(paths[0])
	default:
		project = within1(s.dir, project)
	}
	for i, f := range envFiles {
		envFiles[i] = within1(s.dir, f)
	}
	envFiles = slices.DeleteFunc(envFiles, func(f string) bool { return f == "/dev/null" })
	if beside := filepath.Join(project, ".env"); len(s.list(n, "env_file")) == 0 && exists(beside) {
		envFiles = []string{beside}
	}
	vars, err := readEnv(envFiles, env)
	if err != nil {
		l.problem(Problem{Place: at, Key: "include", Text: err.Error()})
		return
	}
	for _, p := range paths {
		l.discover(p, project, env.Clone().Merge(vars), at, within)
	}
}

// within1 makes a path absolute from dir.
func within1(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

// extended reads the files whose services those of s extend.
func (l *loading) extended(s *source, dir string) {
	for _, doc := range s.docs {
		services, _ := s.below(entry{value: doc}, []string{"services"})
		for _, svc := range s.keys(services.value) {
			e, ok := s.below(svc, []string{"extends"})
			if !ok {
				continue
			}
			file := s.get(e.value, "file")
			at := Place{s.path, e.line}
			switch {
			case file == "":
				continue
			case remote(file):
				l.problem(Problem{
					Place: at, Key: keyPath([]string{"services", svc.key, "extends"}), Text: quote(file) + " is not a file of this host",
					Hint: "fetch it first, look at it, and name the file",
				})
				continue
			}
			path := within1(dir, file)
			if l.read(path) != nil {
				continue
			}
			base := l.open(path, at)
			if base == nil {
				continue
			}
			base.dir, base.lookup = filepath.Dir(path), s.lookup
			l.bases = append(l.bases, base)
			l.extended(base, base.dir)
		}
	}
}

// read gives a file that was read already.
func (l *loading) read(path string) *source {
	for _, s := range slices.Concat(l.sources, l.bases) {
		if s.path == path {
			return s
		}
	}
	return nil
}

// list is a key of n that is one value or a list of them.
func (s *source) list(n *yaml.Node, key string) (all []string) {
	e, ok := s.below(entry{value: n}, []string{key})
	if !ok {
		return nil
	}
	for _, item := range items(e.value) {
		if v, single := s.scalar(item); single {
			all = append(all, v)
		}
	}
	return all
}

// variable finds the first line of a file that uses a variable.
func (l *loading) variable(name string) Place {
	use, err := regexp.Compile(`\$(\{` + regexp.QuoteMeta(name) + `\b|` + regexp.QuoteMeta(name) + `\b)`)
	if err != nil {
		return Place{}
	}
	for _, s := range slices.Concat(l.sources, l.bases) {
		n := 0
		for line := range strings.Lines(string(s.text)) {
			n++
			if use.MatchString(line) {
				return Place{s.path, n}
			}
		}
	}
	return Place{}
}
