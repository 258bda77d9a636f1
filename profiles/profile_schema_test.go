package profiles

import (
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// schema is the part of JSON Schema that docs/profile.schema.json uses.
type schema struct {
	Ref         string            `json:"$ref"`
	Type        any               `json:"type"` // a name or a list of names
	Const       any               `json:"const"`
	Description string            `json:"description"`
	Properties  map[string]schema `json:"properties"`
	Additional  *bool             `json:"additionalProperties"`
	Required    []string          `json:"required"`
	Items       *schema           `json:"items"`
	AnyOf       []schema          `json:"anyOf"`
	Defs        map[string]schema `json:"$defs"`
}

func readSchema(t *testing.T) schema {
	t.Helper()
	data, err := os.ReadFile("../docs/profile.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s schema) types() []string {
	switch v := s.Type.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, x := range v {
			out = append(out, x.(string))
		}
		return out
	}
	return nil
}

func (s schema) follow(root schema) schema {
	if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok {
		return root.Defs[name]
	}
	return s
}

// The schema has the keys and types the program reads, and no others.
func TestSchemaIsTheFormat(t *testing.T) {
	root := readSchema(t)
	compare(t, root, root, reflect.TypeFor[Profile](), "profile")
}

func compare(t *testing.T, root, s schema, v reflect.Type, at string) {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	s = s.follow(root)
	has := func(name string) {
		t.Helper()
		if s.Const == nil && !slices.Contains(s.types(), name) {
			t.Errorf("%s: has type %v, not %s", at, s.Type, name)
		}
	}
	if s.Description == "" {
		t.Errorf("%s: no description", at)
	}
	switch v.Kind() {
	case reflect.Struct:
		if v == reflect.TypeFor[time.Time]() {
			has("string")
			return
		}
		has("object")
		if s.Additional == nil || *s.Additional {
			t.Errorf("%s: takes unknown keys", at)
		}
		keys := map[string]bool{}
		for f := range v.Fields() {
			key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			keys[key] = true
			p, ok := s.Properties[key]
			if !ok {
				t.Errorf("%s: no %s in the schema", at, key)
				continue
			}
			if needed := !strings.Contains(options, "omitempty"); needed != slices.Contains(s.Required, key) {
				t.Errorf("%s.%s: required in one of both only", at, key)
			}
			compare(t, root, p, f.Type, at+"."+key)
		}
		for key := range s.Properties {
			if !keys[key] {
				t.Errorf("%s: the schema has %s", at, key)
			}
		}
	case reflect.Slice:
		has("array")
		if s.Items == nil {
			t.Fatalf("%s: no items", at)
		}
		if v.Elem().Kind() != reflect.Struct {
			return
		}
		item, short := *s.Items, false
		if len(item.AnyOf) == 2 {
			item, short = item.AnyOf[1], true
		}
		isShort := false
		for f := range v.Elem().Fields() {
			isShort = isShort || strings.HasSuffix(f.Tag.Get("yaml"), ",short")
		}
		if short != isShort {
			t.Errorf("%s: short form in one of both only", at)
		}
		compare(t, root, item, v.Elem(), at+"[]")
	case reflect.String:
		has("string")
	case reflect.Bool:
		has("boolean")
	case reflect.Float64:
		has("number")
	default:
		has("integer")
	}
}

// Embedded profiles, and the example of all there is, satisfy the schema.
func TestSchemaTakesProfiles(t *testing.T) {
	root := readSchema(t)
	files := map[string]string{"everything": everything}
	for _, name := range Embedded() {
		data, err := embedded.ReadFile("embedded/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(data)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		var v any
		if err := yaml.Unmarshal([]byte(files[name]), &v); err != nil {
			t.Fatal(err)
		}
		if why := root.refuses(root, v, name); why != "" {
			t.Error(why)
		}
	}
	var v any
	if err := yaml.Unmarshal([]byte("version: 1\ncapabilities: [{nam: x}]"), &v); err != nil || root.refuses(root, v, "") == "" {
		t.Error("an unknown key is taken")
	}
}

func (s schema) refuses(root schema, v any, at string) string {
	s = s.follow(root)
	if len(s.AnyOf) > 0 {
		why := ""
		for _, one := range s.AnyOf {
			if why = one.refuses(root, v, at); why == "" {
				return ""
			}
		}
		return why
	}
	is := ""
	switch v := v.(type) {
	case map[string]any:
		is = "object"
		for _, key := range s.Required {
			if _, ok := v[key]; !ok {
				return at + ": no " + key
			}
		}
		for key, value := range v {
			p, ok := s.Properties[key]
			if !ok {
				return at + ": unknown key " + key
			}
			if why := p.refuses(root, value, at+"."+key); why != "" {
				return why
			}
		}
	case []any:
		is = "array"
		for _, item := range v {
			if s.Items == nil {
				return at + ": a list"
			}
			if why := s.Items.refuses(root, item, at+"[]"); why != "" {
				return why
			}
		}
	case string:
		is = "string"
	case bool:
		is = "boolean"
	case float64:
		is = "number"
	default:
		is = "integer"
	}
	types := s.types()
	if s.Const == nil && !slices.Contains(types, is) && !(is == "integer" && slices.Contains(types, "number")) {
		return at + ": is " + is
	}
	return ""
}
