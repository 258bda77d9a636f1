package compose

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/safe-run/safe-run/internal/fail"
)

// loading is the state of one Load.
type loading struct {
	o        Options
	env      types.Mapping // for variables in the files
	dir      string        // of the project: relative paths start here
	sources  []*source     // compose files, later ones count before earlier ones
	bases    []*source     // further files, that services extend
	keys     *keyNode
	profiles []string
	problems Problems
	notes    []Note
	model    map[string]any // the files merged, as compose-go has it
	project  *types.Project // the same, typed
	out      *Project

	inconsistent *Problem // what compose-go says of references between the parts
	undefined    bool     // such a thing was found here, with its line
}

// Load reads the files and says each service as a command line. Files are read
// with the rights of the process; nothing else is touched and the network is
// not used.
//
// An error about what stands in the files is a *fail.Error of kind Usage that
// wraps Problems: all there are, in all files. Kind NotFound: there are no files.
func Load(ctx context.Context, o Options) (p *Project, err error) {
	if !filepath.IsAbs(o.Dir) {
		return nil, fail.New(fail.Usage, "the working directory %s is not absolute", quote(o.Dir))
	}
	if dir := o.ProfileDir; dir != "" {
		if info, err := os.Stat(within1(o.Dir, dir)); err != nil || !info.IsDir() {
			return nil, fail.New(fail.NotFound, "there is no directory %s of profiles", quote(dir))
		}
	}
	l := &loading{o: o, keys: keyTree()}
	// The loader takes the types of values for granted in places its schema
	// does not cover.
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, fail.New(fail.Usage, "the compose files cannot be read: %s", printable(fmt.Sprint(r)))
		}
	}()
	if err := l.begin(); err != nil {
		return nil, err
	}
	warnings := captured(func() { err = l.load(ctx) })
	for _, w := range warnings {
		l.warning(w)
	}
	if err != nil {
		return nil, err
	}
	return l.out, nil
}

// begin finds the files and the variables for them.
func (l *loading) begin() error {
	l.env = types.Mapping{}
	for _, v := range l.o.Environ {
		if name, value, ok := strings.Cut(v, "="); ok && name != "" {
			l.env[name] = value
		}
	}
	if err := l.envFiles(l.o.Dir); err != nil {
		return err
	}
	files, err := l.find()
	if err != nil {
		return err
	}
	l.dir = filepath.Dir(files[0])
	if l.dir != l.o.Dir && len(l.o.EnvFiles) == 0 {
		if err := l.envFiles(l.dir); err != nil {
			return err
		}
	}
	l.profiles = slices.Clone(l.o.Profiles)
	if len(l.profiles) == 0 {
		for p := range strings.SplitSeq(l.env["COMPOSE_PROFILES"], ",") {
			if p = strings.TrimSpace(p); p != "" {
				l.profiles = append(l.profiles, p)
			}
		}
	}
	for _, f := range files {
		l.discover(f, l.dir, l.env, Place{}, nil)
	}
	return l.problems.err()
}

// envFiles adds the variables of --env-file, or of .env in dir. What is set
// already stays.
func (l *loading) envFiles(dir string) error {
	files := slices.Clone(l.o.EnvFiles)
	for i, f := range files {
		if !filepath.IsAbs(f) {
			files[i] = filepath.Join(l.o.Dir, f)
		}
	}
	off, _ := strconv.ParseBool(l.env["COMPOSE_DISABLE_ENV_FILE"])
	if len(files) == 0 && (off || !exists(filepath.Join(dir, ".env"))) {
		return nil
	}
	if len(files) == 0 {
		files = []string{filepath.Join(dir, ".env")}
	}
	vars, err := readEnv(files, l.env)
	if err == nil {
		l.env.Merge(vars)
	}
	return err
}

// readEnv reads files of NAME=VALUE lines as compose does, with variables.
func readEnv(files []string, env types.Mapping) (types.Mapping, error) {
	if len(files) > maxFiles {
		return nil, fail.New(fail.Usage, "there are more than %d env files", maxFiles)
	}
	vars := map[string]string{}
	for _, f := range files {
		data, err := readFile(f)
		if err != nil {
			return nil, err
		}
		if err := dotenv.ParseWithFormat(bytes.NewReader(data), filepath.Base(f), vars, both(env, vars), ""); err != nil {
			return nil, fail.New(fail.Usage, "%s: %s", quote(f), printable(err.Error()))
		}
	}
	return vars, nil
}

// both looks a variable up in two maps.
func both(a, b map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		if v, ok := a[name]; ok {
			return v, true
		}
		v, ok := b[name]
		return v, ok
	}
}

// load has compose-go merge the files, and makes the project of them.
func (l *loading) load(ctx context.Context) error {
	l.unknownKeys()
	if slices.ContainsFunc(l.problems, func(p Problem) bool {
		return slices.Contains([]string{noSuchKey, givenTwice, tooLarge, tooMany}, p.Text)
	}) {
		return l.problems.err()
	}
	early := l.problems
	l.problems = nil // they come again, of the services that are on and after all merging
	details := types.ConfigDetails{WorkingDir: l.dir, Environment: l.env}
	for _, s := range l.sources {
		if s.own {
			details.ConfigFiles = append(details.ConfigFiles, types.ConfigFile{Filename: s.path, Content: s.text})
		}
	}
	name, explicit := l.o.ProjectName, true
	if name == "" {
		name = l.env["COMPOSE_PROJECT_NAME"]
	}
	if name == "" {
		name, explicit = loader.NormalizeProjectName(filepath.Base(l.dir)), false
	}
	options := func(o *loader.Options) {
		o.SkipResolveEnvironment, o.SkipResolveLabels = true, true // the files are read here, where they are bounded
		o.Profiles = l.profiles
		o.ResourceLoaders = []loader.ResourceLoader{l.guard()}
		o.SetProjectName(name, explicit)
	}
	model, err := loader.LoadModelWithContext(ctx, details, options)
	if err != nil {
		l.problems = early
		return l.loaderError(err)
	}
	name, _ = model["name"].(string)
	sameLimits(model)
	l.model = clone(model).(map[string]any)
	named := func(o *loader.Options) { o.SetProjectName(name, true) }
	l.project, err = loader.ModelToProject(model, loader.ToOptions(&details, []func(*loader.Options){options, named}), details)
	if err != nil {
		inconsistent := l.loaderProblem(err)
		l.inconsistent = &inconsistent
		// It says the first thing alone; what else is wrong is told with it.
		loose := func(o *loader.Options) { o.SkipConsistencyCheck = true }
		again := clone(l.model).(map[string]any)
		l.project, err = loader.ModelToProject(again, loader.ToOptions(&details, []func(*loader.Options){options, named, loose}), details)
		if err != nil {
			l.problem(inconsistent)
			return l.problems.err()
		}
	}
	l.project = l.project.WithoutUnnecessaryResources()
	return l.build()
}

// sameLimits says limits that stand in one of their two places in the other
// too: compose-go compares the two, and takes an absent one for none.
func sameLimits(model map[string]any) {
	services, _ := model["services"].(map[string]any)
	for _, v := range services {
		s, _ := v.(map[string]any)
		deploy, _ := s["deploy"].(map[string]any)
		resources, _ := deploy["resources"].(map[string]any)
		for _, c := range [][3]string{
			{"limits", "cpus", "cpus"},
			{"limits", "memory", "mem_limit"},
			{"limits", "pids", "pids_limit"},
			{"reservations", "memory", "mem_reservation"},
		} {
			group, _ := resources[c[0]].(map[string]any)
			if flat, set := s[c[2]]; set && group != nil && group[c[1]] == nil {
				group[c[1]] = flat
			}
		}
	}
}

// clone copies a model.
func clone(v any) any {
	switch x := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(x))
		for k, e := range x {
			m[k] = clone(e)
		}
		return m
	case []any:
		a := make([]any, len(x))
		for i, e := range x {
			a[i] = clone(e)
		}
		return a
	}
	return v
}

// guarded refuses what compose-go would read and nobody has looked at: remote
// files, and any the search for files has missed.
type guarded struct{ known map[string]bool }

func (l *loading) guard() guarded {
	g := guarded{map[string]bool{}}
	for _, s := range slices.Concat(l.sources, l.bases) {
		g.known[filepath.Base(s.path)] = true
	}
	return g
}

func (g guarded) Accept(path string) bool { return remote(path) || !g.known[filepath.Base(path)] }

func (g guarded) Load(_ context.Context, path string) (string, error) {
	return "", fmt.Errorf("%s is not read: %w", quote(path), errNotLocal)
}

func (g guarded) Dir(path string) string { return filepath.Dir(path) }

var errNotLocal = errors.New("include and extends take files of this host alone")
