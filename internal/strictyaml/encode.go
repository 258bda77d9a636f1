package strictyaml

import (
	"bytes"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/safe-run/safe-run/internal/lazyre"
)

// lineLength is where lists of words are broken.
const lineLength = 100

// Marshal writes a struct so that Decode reads the same: keys in the order of
// the fields, zero values of fields with omitempty left out. Strings must be
// printable; Decode's caller checks that anyway.
func Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	if err := encodeStruct(&b, reflect.ValueOf(v), "", ""); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// encodeStruct writes the fields, each on a line that begins with indent; the
// first line begins with first instead.
func encodeStruct(b *bytes.Buffer, v reflect.Value, first, indent string) error {
	begin, some := first, false
	for i := range v.NumField() {
		key, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		f := v.Field(i)
		if key == "" || key == "-" || strings.Contains(options, "omitempty") && f.IsZero() {
			continue
		}
		if f.Kind() == reflect.Slice && f.Len() == 0 {
			continue
		}
		b.WriteString(begin + key + ":")
		begin, some = indent, true
		if err := encodeValue(b, f, indent, len(key)+1); err != nil {
			return err
		}
	}
	if !some {
		b.WriteString(first + "{}\n")
	}
	return nil
}

func encodeValue(b *bytes.Buffer, v reflect.Value, indent string, used int) error {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if s, ok := scalar(v); ok {
		b.WriteString(" " + s + "\n")
		return nil
	}
	switch v.Kind() {
	case reflect.Struct:
		if v.IsZero() {
			b.WriteString(" {}\n")
			return nil
		}
		b.WriteString("\n")
		return encodeStruct(b, v, indent+"  ", indent+"  ")
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.String {
			encodeWords(b, v, indent, used)
			return nil
		}
		b.WriteString("\n")
		for i := range v.Len() {
			if s, ok := short(v.Index(i)); ok {
				b.WriteString(indent + "  - " + s + "\n")
			} else if err := encodeStruct(b, v.Index(i), indent+"  - ", indent+"    "); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("cannot write a %s", v.Type())
}

// encodeWords writes a list of strings in brackets, over several lines if it
// is long.
func encodeWords(b *bytes.Buffer, v reflect.Value, indent string, used int) {
	column := len(indent) + used + 2
	b.WriteString(" [")
	for i := range v.Len() {
		s := quoted(v.Index(i).String(), true)
		if i > 0 {
			b.WriteString(",")
			column += 2
			if column+len(s) > lineLength {
				b.WriteString("\n" + indent + "  ")
				column = len(indent) + 2
			} else {
				b.WriteString(" ")
			}
		}
		b.WriteString(s)
		column += len(s)
	}
	b.WriteString("]\n")
}

// short gives the short form of an entry of which nothing else is set.
func short(v reflect.Value) (string, bool) {
	fields, key := fieldsOf(v.Type())
	if key == "" {
		return "", false
	}
	for name, i := range fields {
		if name != key && !v.Field(i).IsZero() {
			return "", false
		}
	}
	return scalar(v.Field(fields[key]))
}

func scalar(v reflect.Value) (string, bool) {
	if t, ok := v.Interface().(time.Time); ok {
		return t.UTC().Format(time.RFC3339Nano), true
	}
	switch v.Kind() {
	case reflect.String:
		return quoted(v.String(), false), true
	case reflect.Bool:
		return strconv.FormatBool(v.Bool()), true
	case reflect.Int, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10), true
	case reflect.Uint32, reflect.Uint64:
		return strconv.FormatUint(v.Uint(), 10), true
	case reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'f', -1, 64), true
	}
	return "", false
}

// quoted writes a string plainly where nothing in it means anything to YAML,
// else in double quotes. Between brackets a comma ends a word.
func quoted(s string, inBrackets bool) string {
	if plain(s) && len(s) < lineLength && !(inBrackets && strings.ContainsAny(s, ", ()")) {
		return s
	}
	return strconv.Quote(s)
}

// plain says whether a string can stand without quotes: words that begin with
// a letter or slash and are none of YAML's own, and sizes.
func plain(s string) bool {
	switch strings.ToLower(s) {
	case "null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf":
		return false
	}
	return plainWords().MatchString(s)
}

var plainWords = lazyre.New(`^([A-Za-z/]([A-Za-z0-9_./()-]|,? [A-Za-z0-9/(])*|[0-9]+[kmgs])$`)

// Tree gives a struct as maps, lists and scalars under the keys of its file,
// for other ways of writing it, as JSON.
func Tree(v any) any { return tree(reflect.ValueOf(v)) }

func tree(v reflect.Value) any {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if _, ok := v.Interface().(time.Time); ok {
		return v.Interface()
	}
	switch v.Kind() {
	case reflect.Struct:
		out := map[string]any{}
		for i := range v.NumField() {
			key, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
			if key != "" && key != "-" && !(strings.Contains(options, "omitempty") && v.Field(i).IsZero()) {
				out[key] = tree(v.Field(i))
			}
		}
		return out
	case reflect.Slice:
		out := make([]any, v.Len())
		for i := range out {
			out[i] = tree(v.Index(i))
		}
		return out
	}
	return v.Interface()
}
