package main

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"slices"
	"strings"
)

// number: a constant in a comparison, a list or a value is one more.
func (f *finder) number(e ast.Expr) bool {
	tv := f.pkg.info.Types[e]
	if tv.Value == nil || tv.Value.Kind() != constant.Int {
		return false
	}
	b, ok := tv.Type.Underlying().(*types.Basic)
	if !ok || b.Info()&types.IsInteger == 0 || b.Info()&types.IsUntyped != 0 || tv.Type != types.Type(b) {
		return false
	}
	switch p := f.parent().(type) {
	case *ast.BinaryExpr:
		switch p.Op {
		case token.EQL, token.NEQ, token.LSS, token.LEQ, token.GTR, token.GEQ:
		default:
			return false
		}
	case *ast.CompositeLit, *ast.KeyValueExpr, *ast.AssignStmt, *ast.ValueSpec, *ast.ReturnStmt:
	case *ast.CallExpr:
		if id, ok := p.Fun.(*ast.Ident); !ok || id.Name != "min" && id.Name != "max" {
			return false
		}
	default:
		return false
	}
	if tv.Value.ExactString() == "-1" || f.limit(tv.Value, b) {
		return false
	}
	id := f.add(e, short(f.text(f.parent()))+": "+f.text(e)+" + 1")
	f.site(e, func(string) string { return fmt.Sprintf("mutantMore(%d, %s(%s))", id, b.Name(), f.text(e)) })
	return true
}

// limit says whether a constant is the largest of its type.
func (f *finder) limit(v constant.Value, b *types.Basic) bool {
	bits := uint(f.pkg.sizes.Sizeof(b)) * 8
	if b.Info()&types.IsUnsigned == 0 {
		bits--
	}
	end := constant.Shift(constant.MakeInt64(1), token.SHL, bits)
	return constant.Compare(constant.BinaryOp(v, token.ADD, constant.MakeInt64(1)), token.GEQ, end)
}

// caseWord: a word of a case matches nothing.
func (f *finder) caseWord(e ast.Expr) bool {
	c, ok := f.parent().(*ast.CaseClause)
	if !ok || !slices.Contains(c.List, e) {
		return false
	}
	tv := f.pkg.info.Types[e]
	b, ok := tv.Type.Underlying().(*types.Basic)
	if tv.Value == nil || !ok || b.Info()&(types.IsString|types.IsInteger) == 0 {
		return false
	}
	none := `"\x00none"`
	if b.Info()&types.IsInteger != 0 {
		none = "99"
	}
	typ := f.typeName(tv.Type)
	if typ == "" {
		return false
	}
	id := f.add(e, "case "+f.text(e)+" dropped")
	f.site(e, func(string) string {
		return fmt.Sprintf("mutantOr(%d, %s(%s), %s(%s))", id, typ, f.text(e), typ, none)
	})
	return true
}

// list: each entry of a slice or map is left out.
func (f *finder) list(c *ast.CompositeLit) {
	t := f.pkg.info.Types[c].Type
	prefix := ""
	if c.Type == nil {
		if prefix = f.typeName(t); prefix == "" {
			return
		}
	}
	if len(c.Elts) == 0 {
		return
	}
	first := *f.next + 1
	switch t.Underlying().(type) {
	case *types.Slice:
		for _, e := range c.Elts {
			if _, keyed := e.(*ast.KeyValueExpr); keyed {
				return
			}
		}
		for _, e := range c.Elts {
			f.add(e, "entry dropped: "+short(f.text(e)))
		}
		f.site(c, func(inner string) string { return fmt.Sprintf("mutantDrop(%d, %s%s)", first, prefix, inner) })
	case *types.Map:
		var keys []string
		for _, e := range c.Elts {
			kv, ok := e.(*ast.KeyValueExpr)
			if !ok || f.pkg.info.Types[kv.Key].Value == nil {
				return
			}
			f.add(e, "entry dropped: "+short(f.text(e)))
			keys = append(keys, f.text(kv.Key))
		}
		f.site(c, func(inner string) string {
			return fmt.Sprintf("mutantDropKey(%d, %s%s, %s)", first, prefix, inner, strings.Join(keys, ", "))
		})
	}
}

// field: a field of a structure is left out. Words and functions are not
// taken: one is for people, without the other nothing runs.
func (f *finder) field(e ast.Expr) {
	kv, ok := f.parent().(*ast.KeyValueExpr)
	if !ok || len(f.stack) < 2 {
		return
	}
	c, ok := f.stack[len(f.stack)-2].(*ast.CompositeLit)
	if !ok {
		return
	}
	ct := f.pkg.info.Types[c].Type
	if p, ok := ct.Underlying().(*types.Pointer); ok {
		ct = p.Elem()
	}
	if _, ok := ct.Underlying().(*types.Struct); !ok {
		return
	}
	tv := f.pkg.info.Types[e]
	if tv.Value != nil || tv.IsNil() {
		return
	}
	switch t := tv.Type.Underlying().(type) {
	case *types.Signature, *types.Tuple:
		return
	case *types.Basic:
		if t.Info()&types.IsString != 0 {
			return
		}
	}
	id := f.add(kv, "field dropped: "+short(f.text(kv)))
	f.site(e, func(inner string) string { return fmt.Sprintf("mutantZero(%d, %s)", id, inner) })
}
