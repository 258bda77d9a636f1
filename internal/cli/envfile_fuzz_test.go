package cli

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/safe-run/safe-run/spec"
)

// FuzzEnvFile: a file of any bytes is an error that shows nothing of it, or
// lines that are in it as they are taken and are read back from what they say;
// nothing else comes to the container as its environment or labels.
func FuzzEnvFile(f *testing.F) {
	f.Add([]byte("\xef\xbb\xbfA=1\n#c\n B = 2\nC"))
	f.Add([]byte("HOME\nEMPTY\nNOTIFY_SOCKET\n"))
	f.Add([]byte("HOME=/\r\nA==b=\u2028\n\u00a0\u0085B=\v\n\x1b=\n"))
	f.Add([]byte("A=1\nA=2\nA\n=\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		lines, err := parseKV(data)
		if err != nil {
			if len(err.Error()) > 100 || clean(err.Error()) != nil {
				t.Fatalf("%q", err)
			}
			// No piece of the file that cannot be there by chance.
			for _, word := range strings.Fields(string(data)) {
				if len(word) > 12 && strings.Contains(err.Error(), word) {
					t.Fatalf("%q shows %q", err, word)
				}
			}
		}
		var text strings.Builder
		for _, l := range lines {
			if l.key == "" || strings.ContainsAny(l.key, "= \t\n\x00") || clean(l.key) != nil || strings.ContainsAny(l.value, "\n\x00") || !utf8.ValidString(l.value) {
				t.Fatalf("%+v", l)
			}
			line := l.key
			if l.hasValue {
				line += "=" + l.value
			} else if l.value != "" {
				t.Fatalf("%+v", l)
			}
			if !strings.Contains(string(data), line) {
				t.Fatalf("%q is not in the file", line)
			}
			text.WriteString(line + "\n")
		}
		again, err2 := parseKV([]byte(text.String()))
		for i := range again {
			if err2 == nil && i < len(lines) {
				again[i].n = lines[i].n
			}
		}
		if err == nil && (err2 != nil || !reflect.DeepEqual(lines, again)) {
			t.Fatalf("%q is read as %+v, %v", text.String(), again, err2)
		}
		asFiles(t, data, lines, err)
	})
}

// asFiles gives the same bytes to --env-file and --label-file.
func asFiles(t *testing.T, data []byte, lines []kvLine, bad error) {
	t.Helper()
	ctx := testContext
	ctx.ReadFile = func(string, int64) ([]byte, error) { return data, nil }
	env := map[string]string{}
	labels := map[string]string{}
	service := false
	for _, l := range lines {
		v, set := l.value, l.hasValue
		if set {
			labels[l.key] = v
		} else {
			service = service || spec.ServiceVariable(l.key)
			v, set = ctx.LookupEnv(l.key)
		}
		if set {
			env[l.key] = v
		}
	}
	inv, err := Parse([]string{"--env-file=f", "img"}, ctx)
	if bad != nil || service {
		if err == nil {
			t.Fatalf("taken, but %v", bad)
		}
	} else if got := last(inv, err); err != nil || fmt.Sprint(got) != fmt.Sprint(env) {
		t.Fatalf("%q: the environment is %q, want %q: %v", data, got, env, err)
	}
	if inv, err = Parse([]string{"--label-file=f", "img"}, ctx); (err == nil) != (bad == nil) {
		t.Fatalf("%q: %v, but %v", data, err, bad)
	} else if err == nil && fmt.Sprint(inv.Workload.Labels) != fmt.Sprint(labels) {
		t.Fatalf("%q: the labels are %q, want %q", data, inv.Workload.Labels, labels)
	}
}

// last gives of each variable the value that counts.
func last(inv *Invocation, err error) map[string]string {
	got := map[string]string{}
	if err == nil {
		for _, e := range inv.Workload.Env {
			got[e.Name] = *e.Value
		}
	}
	return got
}
