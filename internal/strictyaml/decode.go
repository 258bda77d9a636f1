package strictyaml

import (
	"encoding"
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// maxEntries is the longest list taken.
const maxEntries = 512

// Decode reads the document into a struct. Fields have the keys of their tags,
// yaml:"KEY"; a key without a field, a key given twice, and a value of another
// type are errors. The errors are *Error.
//
// A string is the text that stands in the file: 0755 is not the number 493.
// A struct with a field of the tag yaml:"KEY,short" may also be written as
// that field's value alone. Types with UnmarshalText read their text by it.
func (d *Document) Decode(into any) error {
	if err := decode(d.root, reflect.ValueOf(into).Elem(), ""); err != nil {
		return err
	}
	return nil
}

func decode(n ast.Node, v reflect.Value, at string) *Error {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		return decode(n, v.Elem(), at)
	}
	if at == "" {
		at = "the file"
	}
	if t, ok := v.Addr().Interface().(*time.Time); ok {
		return decodeTime(n, t, at)
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		s, ok := text(n)
		if !ok {
			return wrong(line(n), "%s: takes a single value", at)
		}
		if err := u.UnmarshalText([]byte(s)); err != nil {
			return wrong(line(n), "%s: %s", at, err)
		}
		return nil
	}
	switch v.Kind() {
	case reflect.Struct:
		return decodeStruct(n, v, at)
	case reflect.Slice:
		return decodeList(n, v, at)
	}
	return decodeScalar(n, v, at)
}

func decodeStruct(n ast.Node, v reflect.Value, at string) *Error {
	fields, short := fieldsOf(v.Type())
	pairs, ok := entries(n)
	if !ok {
		if _, single := text(n); single && short != "" {
			return decode(n, v.Field(fields[short]), at)
		}
		return wrong(line(n), "%s: takes keys and values", at)
	}
	seen := map[string]bool{}
	for _, p := range pairs {
		key, ok := keyName(p.Key)
		if !ok {
			return wrong(line(p.Key), "%s: a key that is not a word", at)
		}
		i, known := fields[key]
		switch {
		case !known:
			return wrong(line(p.Key), "unknown field %.80q", key)
		case seen[key]:
			return wrong(line(p.Key), "the key %s is there twice", key)
		}
		seen[key] = true
		if err := decode(p.Value, v.Field(i), key); err != nil {
			return err
		}
	}
	return nil
}

func decodeList(n ast.Node, v reflect.Value, at string) *Error {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		return wrong(line(n), "%s: takes a list", at)
	}
	if len(seq.Values) > maxEntries {
		return wrong(line(seq.Values[maxEntries]), "%s: more than %d entries", at, maxEntries)
	}
	list := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, item := range seq.Values {
		if err := decode(item, list.Index(i), at); err != nil {
			return err
		}
	}
	if len(seq.Values) == 0 {
		list = reflect.Zero(v.Type())
	}
	v.Set(list)
	return nil
}

func decodeScalar(n ast.Node, v reflect.Value, at string) *Error {
	s, ok := text(n)
	if !ok {
		return wrong(line(n), "%s: takes a single value", at)
	}
	var err error
	expected := ""
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Bool:
		expected = "true or false"
		b, is := n.(*ast.BoolNode)
		if is {
			v.SetBool(b.Value)
		} else {
			err = errors.ErrUnsupported
		}
	case reflect.Int, reflect.Int64:
		expected = "a whole number"
		var i int64
		if i, err = strconv.ParseInt(s, 10, 64); err == nil && !v.OverflowInt(i) && unquoted(n) {
			v.SetInt(i)
			return nil
		}
		err = errors.ErrUnsupported
	case reflect.Uint32, reflect.Uint64:
		expected = "a whole number from 0"
		var u uint64
		if u, err = strconv.ParseUint(s, 10, 64); err == nil && !v.OverflowUint(u) && unquoted(n) {
			v.SetUint(u)
			return nil
		}
		err = errors.ErrUnsupported
	case reflect.Float64:
		expected = "a number"
		var f float64
		if f, err = strconv.ParseFloat(s, 64); err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) && unquoted(n) {
			v.SetFloat(f)
			return nil
		}
		err = errors.ErrUnsupported
	default:
		return wrong(line(n), "%s: cannot be read into a %s", at, v.Type())
	}
	if err != nil {
		return wrong(line(n), "%s: takes %s, not %.80q", at, expected, s)
	}
	return nil
}

func decodeTime(n ast.Node, to *time.Time, at string) *Error {
	s, ok := text(n)
	if !ok {
		return wrong(line(n), "%s: takes a date", at)
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			*to = t.UTC()
			return nil
		}
	}
	return wrong(line(n), "%s: takes a date, as 2006-01-02 or 2006-01-02T15:04:05Z, not %.40q", at, s)
}

// unquoted: "1" in quotes is text, 1 is a number.
func unquoted(n ast.Node) bool {
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		return true
	}
	return false
}

// text gives the text of a scalar as the file has it.
func text(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		if tok := n.GetToken(); tok != nil {
			return strings.TrimSpace(tok.Value), true
		}
	}
	return "", false
}

func entries(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

func keyName(k ast.MapKeyNode) (string, bool) {
	s, ok := k.(*ast.StringNode)
	if !ok {
		return "", false
	}
	return s.Value, true
}

// fieldsOf gives the fields of a struct by their keys, and the key of the
// short form, "" if there is none.
func fieldsOf(t reflect.Type) (fields map[string]int, short string) {
	fields = map[string]int{}
	for i := range t.NumField() {
		key, options, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		if key == "" || key == "-" {
			continue
		}
		fields[key] = i
		if strings.Contains(options, "short") {
			short = key
		}
	}
	return fields, short
}
