package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"
)

// Mutant is one way to break a rule.
type Mutant struct {
	ID   int
	File string // relative to the module
	Line int
	Func string // function, method or variable it is in
	What string // "was -> now", from the source text
	Nth  int    // which one of the same File, Func and What, from 1
}

// Key names a mutant by its content, so that it stays the same when lines move.
func (m Mutant) Key() string {
	k := m.File + " " + m.Func + ": " + m.What
	if m.Nth > 1 {
		k += fmt.Sprintf(" #%d", m.Nth)
	}
	return k
}

// alternative is what stands for an expression when a mutant is active. Text is
// a Go expression, or statement for statements.
type alternative struct {
	id   int
	text string
}

// site is a node of the syntax tree that has mutants.
type site struct {
	node  ast.Node
	wrap  func(inner string) string
	first int // order of sites at the same place: the outer one has the smaller
}

// finder collects the mutants of one file.
type finder struct {
	pkg     *pkg
	file    *ast.File
	name    string // relative to the module
	src     []byte
	stack   []ast.Node
	fn      string
	next    *int
	found   []Mutant
	sites   []site
	imports map[string]string // import path to the name in this file
	seen    map[string]int
}

func (f *finder) text(n ast.Node) string {
	return string(f.src[f.pkg.fset.Position(n.Pos()).Offset:f.pkg.fset.Position(n.End()).Offset])
}

// short is source text on one line, as the list shows it.
func short(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 90 {
		s = s[:60] + " ... " + s[len(s)-25:]
	}
	return s
}

// add notes a mutant and gives its number.
func (f *finder) add(n ast.Node, what string) int {
	*f.next++
	m := Mutant{ID: *f.next, File: f.name, Line: f.pkg.fset.Position(n.Pos()).Line, Func: f.fn, What: what}
	k := m.Key()
	f.seen[k]++
	m.Nth = f.seen[k]
	f.found = append(f.found, m)
	return m.ID
}

func (f *finder) site(n ast.Node, wrap func(inner string) string) {
	f.sites = append(f.sites, site{n, wrap, len(f.sites)})
}

// decl finds the mutants of a function or of package variables.
func (f *finder) decl(d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		f.fn = d.Name.Name
		if d.Body != nil {
			f.walk(d.Body)
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			if v, ok := s.(*ast.ValueSpec); ok && d.Tok == token.VAR {
				f.fn = v.Names[0].Name
				for _, value := range v.Values {
					f.walk(value)
				}
			}
		}
	}
}

func (f *finder) walk(root ast.Node) {
	f.stack = f.stack[:0]
	ast.Inspect(root, func(n ast.Node) bool {
		if n == nil {
			f.stack = f.stack[:len(f.stack)-1]
			return true
		}
		f.visit(n)
		f.stack = append(f.stack, n)
		return true
	})
}

func (f *finder) parent() ast.Node {
	if len(f.stack) == 0 {
		return nil
	}
	return f.stack[len(f.stack)-1]
}

func (f *finder) visit(n ast.Node) {
	if s, ok := n.(ast.Stmt); ok {
		f.statement(s)
		return
	}
	e, ok := n.(ast.Expr)
	if !ok || !f.isValue(e) {
		return
	}
	if f.caseWord(e) || f.condition(e) || f.number(e) {
		return
	}
	if c, ok := e.(*ast.CompositeLit); ok {
		f.list(c)
	}
	f.field(e)
}

func (f *finder) isValue(e ast.Expr) bool {
	tv, ok := f.pkg.info.Types[e]
	if !ok || !tv.IsValue() || tv.Type == nil {
		return false
	}
	switch p := f.parent().(type) {
	case *ast.AssignStmt:
		if slices.Contains(p.Lhs, e) {
			return false
		}
	case *ast.RangeStmt:
		if p.Key == e || p.Value == e {
			return false
		}
	case *ast.IncDecStmt, *ast.ExprStmt:
		return false
	case *ast.UnaryExpr:
		if p.Op == token.AND {
			return false
		}
	case *ast.SelectorExpr:
		return false
	case *ast.KeyValueExpr:
		return p.Key != e
	case *ast.CallExpr:
		return p.Fun != e
	}
	return true
}

// condition: each boolean is made true and false, "and" becomes "or", and a
// bound includes what it left out.
func (f *finder) condition(e ast.Expr) bool {
	tv := f.pkg.info.Types[e]
	b, ok := tv.Type.Underlying().(*types.Basic)
	if !ok || b.Info()&types.IsBoolean == 0 {
		return false
	}
	if tv.Value != nil {
		if id, ok := e.(*ast.Ident); ok && (id.Name == "true" || id.Name == "false") {
			other := map[string]string{"true": "false", "false": "true"}[id.Name]
			f.replace(e, []string{other}, []string{f.context() + " -> " + other})
			return true
		}
		return false
	}
	text := f.text(e)
	var now []string
	switch p := f.parent().(type) {
	case *ast.ParenExpr:
	case *ast.UnaryExpr:
	case *ast.BinaryExpr:
		same, ok := e.(*ast.BinaryExpr)
		switch {
		case ok && same.Op == p.Op: // a chain of three; its members have mutants
		case p.Op == token.LAND:
			now = []string{"true"}
		case p.Op == token.LOR:
			now = []string{"false"}
		default:
			now = []string{"true", "false"}
		}
	case *ast.ForStmt:
		now = []string{"false"} // true would not end
	default:
		now = []string{"true", "false"}
	}
	if b, ok := e.(*ast.BinaryExpr); ok {
		other := map[token.Token]string{
			token.LAND: "||", token.LOR: "&&", token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">",
		}[b.Op]
		if other != "" {
			now = append(now, f.text(b.X)+" "+other+" "+f.text(b.Y))
		}
	}
	if len(now) == 0 {
		return false // its parent has the mutants; go on inside
	}
	var what []string
	for _, n := range now {
		if n == "true" || n == "false" {
			what = append(what, short(text)+" -> "+n)
		} else {
			what = append(what, short(text)+" -> "+short(n))
		}
	}
	f.replace(e, now, what)
	return true
}

// context is what a bare true or false stands in.
func (f *finder) context() string { return short(f.text(f.parent())) }

// replace lets each text stand for an expression while its mutant is active.
func (f *finder) replace(e ast.Expr, texts, what []string) {
	var alts []alternative
	for i := range texts {
		alts = append(alts, alternative{f.add(e, what[i]), texts[i]})
	}
	f.site(e, func(inner string) string {
		var s, none strings.Builder
		for _, a := range alts {
			fmt.Fprintf(&s, "mutantOn(%d) && (%s) || ", a.id, a.text)
			fmt.Fprintf(&none, "!mutantOn(%d) && ", a.id)
		}
		return "(" + s.String() + none.String() + "(" + inner + "))"
	})
}

// statement: an assignment, a call or a jump is left out.
func (f *finder) statement(s ast.Stmt) {
	switch f.parent().(type) {
	case *ast.BlockStmt, *ast.CaseClause:
	default:
		return
	}
	switch s := s.(type) {
	case *ast.AssignStmt:
		if s.Tok == token.DEFINE {
			return
		}
	case *ast.ExprStmt, *ast.IncDecStmt:
	case *ast.BranchStmt:
		if s.Tok != token.CONTINUE {
			return
		}
	default:
		return
	}
	id := f.add(s, "dropped: "+short(f.text(s)))
	f.site(s, func(inner string) string { return fmt.Sprintf("if !mutantOn(%d) { %s }", id, inner) })
}

// typeName writes a type as this file can, "" if it cannot.
func (f *finder) typeName(t types.Type) string {
	ok := true
	name := types.TypeString(t, func(p *types.Package) string {
		if p == f.pkg.types {
			return ""
		}
		n, imported := f.imports[p.Path()]
		ok = ok && imported
		return n
	})
	if !ok || strings.Contains(name, "untyped") {
		return ""
	}
	return name
}
