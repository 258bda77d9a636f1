package policy

import (
	"strings"
	"testing"

	"github.com/safe-run/safe-run/spec"
)

func logs(pairs ...string) func(*Request) {
	return work(func(w *spec.Workload) {
		w.LogOpts = map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			w.LogOpts[pairs[i]] = pairs[i+1]
		}
	})
}

func TestLogLimitInFile(t *testing.T) {
	for file, want := range map[string]string{
		"limits: {default: {log: 40m}}": "no default",
		"limits: {max: {log: 29m}}":     "at least 30m",
		"limits: {max: {log: -1}}":      "not a size",
	} {
		if _, err := ParseSite([]byte("version: 1\n"+file), "t"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", file, err)
		}
	}
}
