package kubernetes

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/converttest"
	"github.com/safe-run/safe-run/internal/argv/argvtest"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/plain"
)

// FuzzExport: of any command line that is taken, the export is a clear error, or
// documents that are decoded strictly, read as the same, and are the same when
// they are written again. Words are separated by NUL.
func FuzzExport(f *testing.F) {
	for _, l := range argvtest.Lines() {
		f.Add(strings.ReplaceAll(strings.ReplaceAll(l, " ", "\x00"), "~", " "), uint8(4))
	}
	for _, h := range hostile() {
		f.Add("--label=a="+h+"\x00-e\x00A="+h+"\x00img\x00"+h, uint8(5))
		f.Add("--name="+h+"\x00--tmpfs=/"+h+"\x00--publish=90-92:90-92\x00img:"+h, uint8(6))
	}
	f.Fuzz(func(t *testing.T, text string, how uint8) {
		o := lineOptions()
		o.RuntimeDefaultSeccomp = how&4 != 0
		w, err := parse(strings.Split(text, "\x00"), o)
		if err != nil {
			return
		}
		format := Format([]string{"", "deployment", "job", "pod"}[how%4])
		p := convert.Project{Containers: []convert.Container{{Name: "web", Workload: w}}}
		files, _, err := convert.Export(format, p, o)
		if err != nil {
			if fail.KindOf(err) == fail.Internal || strings.ContainsFunc(err.Error(), plain.Hidden) {
				t.Fatalf("%q: %q", text, err)
			}
			return
		}
		if bytes.ContainsFunc(files[0].Data, func(r rune) bool { return r != '\n' && plain.Hidden(r) }) {
			t.Fatalf("%q: not fit for a terminal: %q", text, files[0].Data)
		}
		check(t, decode(t, files[0].Data))
		first, second := again(t, format, p, o)
		if !sameFiles(first, second) || !sameFiles(first, files) {
			t.Fatalf("%q:\n%s\n%s", text, first[0].Data, second[0].Data)
		}
	})
}

// FuzzRead: whatever stands in a file, reading it ends, and what is told of it is
// fit for a terminal and bounded.
func FuzzRead(f *testing.F) {
	small := lineOptions()
	small.RuntimeDefaultSeccomp = true
	for _, c := range append(converttest.Workloads(f)[:6], lines(f)[:30]...) {
		files, _, err := convert.Export(Format(""), convert.Project{Containers: []convert.Container{c}}, small)
		if err == nil {
			f.Add(files[0].Data)
		}
	}
	for _, text := range foreign() {
		f.Add([]byte(text))
	}
	for _, base := range bases() {
		data, err := json.Marshal(base())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		files := []convert.File{{Name: "x.yaml", Data: data}}
		o := lineOptions()
		found, losses, err := Format("").Read(files, o)
		if err != nil {
			if fail.KindOf(err) != fail.Usage || strings.ContainsFunc(err.Error(), plain.Hidden) || len(err.Error()) > 4*maxShown {
				t.Fatalf("%q", err)
			}
			return
		}
		if len(losses) > maxLosses+maxObjects {
			t.Fatalf("%d losses", len(losses))
		}
		for _, l := range losses {
			if strings.ContainsFunc(l.String(), plain.Hidden) || len(l.String()) > 4*maxShown {
				t.Fatalf("%q", l.String())
			}
		}
		names := map[string]bool{}
		for _, c := range found {
			if names[c.Name] || c.Name == "" || len(c.Name) > 63 {
				t.Fatalf("the name %q", c.Name)
			}
			names[c.Name] = true
			for _, w := range c.Flags {
				if !strings.HasPrefix(w, "--") {
					t.Fatalf("%q is not a flag", w)
				}
			}
			if back, err := c.Container(o); err == nil {
				// What can be run can be exported.
				_, _, err := convert.Export(Format(""), convert.Project{Containers: []convert.Container{back}}, o)
				if err != nil && fail.KindOf(err) == fail.Internal {
					t.Fatalf("%q: %v", c.Flags, err)
				}
			}
		}
		if _, err := Verdict(files); err != nil {
			t.Fatal(err)
		}
	})
}
