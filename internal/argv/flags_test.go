package argv

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/argv/argvtest"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

func TestRoundTrip(t *testing.T) {
	seen := map[string]bool{}
	for _, l := range argvtest.Lines() {
		args := strings.Fields(l)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "~", " ")
		}
		w := argvtest.Parse(t, args...)
		words, err := Flags(w)
		if err != nil {
			t.Errorf("%s: %v", l, err)
			continue
		}
		again := argvtest.Parse(t, words...)
		if !reflect.DeepEqual(w, again) {
			t.Errorf("%s\nis written as %q\n%+v\n%+v", l, words, w, again)
		}
		pairs, _, err := cli.Split(args)
		if err != nil {
			t.Errorf("%s: %v", l, err)
		}
		for _, p := range pairs {
			seen[p.Long] = true
		}
	}
	notWorkload := []string{"help", "env-file", "label-file", "dry-run", "refusals", "address", "namespace", "explain", "complain", "record-fd"}
	for _, f := range append(cli.Own(), cli.Table()...) {
		if (f.Disposition == cli.Honoured || f.Disposition == cli.PolicyChecked) && f.AliasOf == "" && !seen[f.Long] && !slices.Contains(notWorkload, f.Long) {
			t.Errorf("--%s is not tested", f.Long)
		}
	}
}

// Every field that holds something is said, or is named by an error: a field
// added later must not be lost.
func TestNoFieldIsLost(t *testing.T) {
	typ := reflect.TypeFor[spec.Workload]()
	for i := range typ.NumField() {
		w := spec.Workload{Image: "img", SigProxy: true, Networks: []spec.NetworkUse{{Name: "bridge"}}}
		name := typ.Field(i).Name
		if name == "NetworkSet" || name == "Image" || name == "SigProxy" {
			continue
		}
		fill(reflect.ValueOf(&w).Elem().Field(i))
		words, err := Flags(w)
		if err == nil && len(words) == 1 {
			t.Errorf("%s = %+v is not said", name, reflect.ValueOf(w).Field(i))
		}
	}
	for _, tc := range []struct {
		text string
		f    func(*spec.Workload)
	}{
		{"Seccomp", func(w *spec.Workload) { w.Seccomp = &spec.SeccompFile{Path: "/x", JSON: []byte("{}")} }},
		{"absolute path", func(w *spec.Workload) {
			w.SecurityOpts = []string{"seccomp=x"}
			w.Seccomp = &spec.SeccompFile{Path: "x", JSON: []byte("{}")}
		}},
		{"health check of the form", func(w *spec.Workload) { w.Health.Test = []string{"ELSE", "x"} }},
		{"Resources", func(w *spec.Workload) { w.Resources.KernelMemory = new(int64(1)) }},
		{"Mounts", func(w *spec.Workload) {
			w.Mounts = []spec.Mount{{Type: spec.MountVolume, Target: "/x", Labels: map[string]string{"a": "b"}}}
		}},
		{"a=b", func(w *spec.Workload) {
			w.Image = "img"
			w.Mounts = []spec.Mount{{Type: "x", Source: "a=b", Target: "y"}}
		}},
		{"driver options", func(w *spec.Workload) { w.Networks[0].DriverOpts = []string{"a=b"} }},
	} {
		w := spec.Workload{Image: "img", SigProxy: true, Networks: []spec.NetworkUse{{Name: "bridge"}}}
		tc.f(&w)
		if _, err := Flags(w); err == nil || !strings.Contains(err.Error(), tc.text) || fail.KindOf(err) != fail.Usage {
			t.Errorf("%s: %v", tc.text, err)
		}
	}
}

// fill puts something into every part of v.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("x1")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(7)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"k": "v"}))
	case reflect.Struct:
		if !strings.HasPrefix(v.Type().PkgPath(), "net/") {
			for i := range v.NumField() {
				fill(v.Field(i))
			}
		}
	}
}

// What comes back from JSON has empty lists for missing ones.
func TestEmptyIsNotGiven(t *testing.T) {
	w := argvtest.Parse(t, "--volume=/a:/b", "img")
	w.Labels, w.Env, w.Args = map[string]string{}, []spec.EnvVar{}, []string{}
	w.Mounts[0].Labels, w.Networks[0].Aliases = map[string]string{}, []string{}
	w.Mounts = append(w.Mounts, spec.Mount{Origin: "image VOLUME", Type: spec.MountVolume, Source: strings.Repeat("a", 64), Target: "/data"})
	words, err := Flags(w)
	if want := []string{"--volume=/a:/b", "--volume=" + strings.Repeat("a", 64) + ":/data", "img"}; err != nil || !slices.Equal(words, want) {
		t.Errorf("%q %v", words, err)
	}
}
