package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	const progress = "fuzz: elapsed: 0s, gathering baseline coverage: 0/180 completed\n" +
		"fuzz: elapsed: 3s, execs: 12763 (4205/sec), new interesting: 11 (total: 191)\n" +
		"fuzz: elapsed: 6s, execs: 209500 (6435/sec), new interesting: 93 (total: 273)\n"
	for _, tc := range []struct {
		name, out string
		ok        bool
		want      state
		text      string // part of what is shown
	}{
		{"passed", progress + "PASS\nok  \tx\t6s\n", true, passed, ""},
		{"found", progress + "--- FAIL: FuzzX (0.10s)\n    --- FAIL: FuzzX (0.00s)\n        x_test.go:1: bad\n    Failing input written to testdata/fuzz/FuzzX/0123\nFAIL\n", false, found, "x_test.go:1: bad"},
		{"a seed fails", "failure while testing seed corpus entry: FuzzX/seed#16\n--- FAIL: FuzzX (0.54s)\nFAIL\n", false, found, "seed#16"},
		{"time was up", progress + "--- FAIL: FuzzX (6.10s)\n    context deadline exceeded\nFAIL\nexit status 1\nFAIL\tx\t6s\n", false, passed, ""},
		{"time was up and more", progress + "--- FAIL: FuzzX (6.10s)\n    x_test.go:2: bad\n    context deadline exceeded\nFAIL\n", false, broken, "x_test.go:2"},
		{"never began", "--- FAIL: FuzzX (6.10s)\n    context deadline exceeded\nFAIL\n", false, broken, "deadline"},
		{"not built", "x_test.go:5:2: \"strings\" imported and not used\nFAIL\tx [build failed]\n", false, broken, "not used"},
		{"killed", progress, false, broken, ""},
	} {
		r := read([]byte(tc.out), tc.ok)
		if r.state != tc.want || !strings.Contains(r.text, tc.text) || tc.want == passed && r.text != "" {
			t.Errorf("%s: %s %q", tc.name, r.state, r.text)
		}
		if strings.HasPrefix(tc.out, progress) && (r.executions != 209500 || r.inputs != 93 || r.known != 273) {
			t.Errorf("%s: %+v", tc.name, r)
		}
	}
}

// What has to be fuzzed has a target.
func TestTargets(t *testing.T) {
	all, err := find(t.Context(), "../../...", regexp.MustCompile("."))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, target := range all {
		names = append(names, target.String())
	}
	for _, n := range []string{
		"tests/properties/FuzzLaunch", "tests/properties/FuzzArgv", "profiles/FuzzParse", "policy/FuzzParseSite", "policy/FuzzPattern", "internal/cli/FuzzEnvFile",
		"internal/images/FuzzNormalize", "profiles/FuzzParseSeccomp", "spec/FuzzResolveUser", "spec/FuzzVerify", "internal/resolver/FuzzConf", "audit/FuzzParseMountinfo",
	} {
		if !slices.Contains(names, n) {
			t.Errorf("%s is not there", n)
		}
	}
	one, err := find(t.Context(), "../../internal/cli", regexp.MustCompile("FuzzEnv"))
	if err != nil || len(one) != 1 || one[0].pkg != "github.com/safe-run/safe-run/internal/cli" {
		t.Errorf("%v, %v", one, err)
	}
}
