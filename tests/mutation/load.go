package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// pkg is a package whose rules are broken.
type pkg struct {
	dir     string // relative to the module, "policy"
	name    string
	fset    *token.FileSet
	files   []*ast.File
	names   []string // of files, relative to the module
	sources [][]byte
	info    *types.Info
	types   *types.Package
	sizes   types.Sizes
}

// listed is what go list says of a package.
type listed struct {
	ImportPath, Export, Dir, Name string
	GoFiles                       []string
	DepOnly                       bool
}

// load reads and type-checks the packages in directories of the module at
// root. Dependencies come from the build cache.
func load(root string, dirs []string) ([]*pkg, error) {
	args := []string{"list", "-export", "-deps", "-json=ImportPath,Export,Dir,Name,GoFiles,DepOnly"}
	for _, d := range dirs {
		args = append(args, "./"+filepath.Clean(d))
	}
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	exports := map[string]string{}
	var wanted []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var l listed
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		exports[l.ImportPath] = l.Export
		if !l.DepOnly {
			wanted = append(wanted, l)
		}
	}
	var pkgs []*pkg
	for _, l := range wanted {
		p, err := check(root, l, exports)
		if err != nil {
			return nil, err
		}
		pkgs = append(pkgs, p)
	}
	slices.SortFunc(pkgs, func(a, b *pkg) int { return order(dirs, a) - order(dirs, b) })
	return pkgs, nil
}

func order(dirs []string, p *pkg) int {
	return slices.IndexFunc(dirs, func(d string) bool { return filepath.Clean(d) == p.dir })
}

func check(root string, l listed, exports map[string]string) (*pkg, error) {
	dir, err := filepath.Rel(root, l.Dir)
	if err != nil {
		return nil, err
	}
	p := &pkg{dir: dir, name: l.Name, fset: token.NewFileSet(), sizes: types.SizesFor("gc", "amd64")}
	for _, name := range l.GoFiles {
		src, err := os.ReadFile(filepath.Join(l.Dir, name))
		if err != nil {
			return nil, err
		}
		f, err := parser.ParseFile(p.fset, filepath.Join(dir, name), src, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		p.files, p.sources, p.names = append(p.files, f), append(p.sources, src), append(p.names, filepath.Join(dir, name))
	}
	p.info = &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
	conf := types.Config{Sizes: p.sizes, Importer: importer.ForCompiler(p.fset, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})}
	p.types, err = conf.Check(l.ImportPath, p.fset, p.files, p.info)
	return p, err
}

// reached gives the declarations that the roots need, themselves included: the
// functions and the variables of the package they name, and so on.
func (p *pkg) reached(roots ...string) map[ast.Decl]bool {
	of := map[types.Object]ast.Decl{}
	for _, f := range p.files {
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				of[p.info.Defs[d.Name]] = d
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if v, ok := s.(*ast.ValueSpec); ok {
						for _, n := range v.Names {
							of[p.info.Defs[n]] = d
						}
					}
				}
			}
		}
	}
	found := map[ast.Decl]bool{}
	var visit func(ast.Decl)
	visit = func(d ast.Decl) {
		if d == nil || found[d] {
			return
		}
		found[d] = true
		ast.Inspect(d, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				if next, ok := of[p.info.Uses[id]]; ok {
					visit(next)
				}
			}
			return true
		})
	}
	for o, d := range of {
		if slices.Contains(roots, o.Name()) {
			visit(d)
		}
	}
	return found
}

// mutated is a package with all its mutants built in, each switched on by its
// number.
type mutated struct {
	mutants []Mutant
	files   map[string][]byte // by name, relative to the module; new ones among them
}

// mutate finds the mutants of a package. next is the last number given.
func (p *pkg) mutate(s scope, next *int) mutated {
	out := mutated{files: map[string][]byte{}}
	var within map[ast.Decl]bool
	if len(s.roots) > 0 {
		within = p.reached(s.roots...)
	}
	for i, file := range p.files {
		if s.skip(filepath.Base(p.names[i])) {
			continue
		}
		f := &finder{pkg: p, file: file, name: p.names[i], src: p.sources[i], next: next, imports: map[string]string{}, seen: map[string]int{}}
		for _, im := range file.Imports {
			path := strings.Trim(im.Path.Value, `"`)
			f.imports[path] = importName(p, im, path)
		}
		for _, d := range file.Decls {
			if within == nil || within[d] {
				f.decl(d)
			}
		}
		if len(f.sites) == 0 {
			continue
		}
		out.mutants = append(out.mutants, f.found...)
		out.files[p.names[i]] = f.render()
	}
	out.files[filepath.Join(p.dir, "zz_mutants.go")] = []byte("package " + p.name + switchSource)
	return out
}

func importName(p *pkg, im *ast.ImportSpec, path string) string {
	if im.Name != nil {
		return im.Name.Name
	}
	for _, dep := range p.types.Imports() {
		if dep.Path() == path {
			return dep.Name()
		}
	}
	return filepath.Base(path)
}

// render writes the file with the mutants in it, on the same lines.
func (f *finder) render() []byte {
	offset := func(pos token.Pos) int { return f.pkg.fset.Position(pos).Offset }
	// The outer site of two comes first.
	slices.SortStableFunc(f.sites, func(a, b site) int {
		if d := offset(a.node.Pos()) - offset(b.node.Pos()); d != 0 {
			return d
		}
		if d := offset(b.node.End()) - offset(a.node.End()); d != 0 {
			return d
		}
		return a.first - b.first
	})
	next := 0
	var upTo func(from, to int) string
	upTo = func(from, to int) string {
		var b strings.Builder
		for next < len(f.sites) && offset(f.sites[next].node.Pos()) < to {
			s := f.sites[next]
			next++
			b.Write(f.src[from:offset(s.node.Pos())])
			inner := upTo(offset(s.node.Pos()), offset(s.node.End()))
			b.WriteString(s.wrap(inner))
			from = offset(s.node.End())
		}
		b.Write(f.src[from:to])
		return b.String()
	}
	return []byte(upTo(0, len(f.src)))
}

// switchSource follows the package clause of a file that says which mutant is
// on. With a file to trace to, it notes there which were asked for.
const switchSource = `

import (
	"os"
	"strconv"
	"sync"
)

var mutantNow, mutantTrace = func() (int, *os.File) {
	n, err := strconv.Atoi(os.Getenv("MUTANT"))
	if err != nil {
		n = -1
	}
	name := os.Getenv("MUTANT_TRACE")
	if name == "" {
		return n, nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		panic(err)
	}
	return n, f
}()

var (
	mutantLock sync.Mutex
	mutantSeen = map[int]bool{}
)

func mutantNote(id int) {
	mutantLock.Lock()
	defer mutantLock.Unlock()
	if !mutantSeen[id] {
		mutantSeen[id] = true
		_, _ = mutantTrace.WriteString(strconv.Itoa(id) + "\n")
	}
}

func mutantOn(id int) bool {
	if mutantTrace != nil {
		mutantNote(id)
	}
	return mutantNow == id
}

func mutantMore[T ~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64](id int, n T) T {
	if mutantOn(id) {
		return n + 1
	}
	return n
}

func mutantOr[T any](id int, a, b T) T {
	if mutantOn(id) {
		return b
	}
	return a
}

func mutantZero[T any](id int, a T) T {
	if mutantOn(id) {
		var zero T
		return zero
	}
	return a
}

func mutantDrop[S ~[]E, E any](first int, list S) S {
	for i := range list {
		if mutantOn(first + i) {
			return append(list[:i:i], list[i+1:]...)
		}
	}
	return list
}

func mutantDropKey[M ~map[K]V, K comparable, V any](first int, m M, keys ...K) M {
	for i, k := range keys {
		if mutantOn(first + i) {
			delete(m, k)
		}
	}
	return m
}
`
