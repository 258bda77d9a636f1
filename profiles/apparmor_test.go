package profiles

import (
	"bufio"
	"os"
	"strings"
	"testing"
)

func TestAppArmorText(t *testing.T) {
	text := AppArmor("box")
	if strings.Contains(text, "NAME") || !strings.Contains(text, "profile box flags=(") {
		t.Error(text)
	}
	if n := AppArmorName(); !strings.HasPrefix(n, "safe-run-") || len(n) != len("safe-run-")+8 {
		t.Error(n)
	}
	accepted(t, text)
	if strings.Count(text, anyFile) != 1 {
		t.Error("there must be one place for narrower rules")
	}
}

// accepted has the parser check and compile a profile. It does that also where
// the kernel has no AppArmor.
func accepted(t *testing.T, text string) {
	t.Helper()
	parser := os.Getenv("APPARMOR_PARSER")
	for _, p := range apparmorParser {
		if _, err := os.Stat(p); err == nil && parser == "" {
			parser = p
		}
	}
	if parser == "" {
		t.Fatal("no apparmor_parser; run make deps")
	}
	if out, err := runParser(t.Context(), parser, text, "-Q", "-K", "--preprocess"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := runParser(t.Context(), parser, text, "-Q", "-K", "-S"); err != nil || len(out) == 0 {
		t.Errorf("not compiled: %v\n%.500s", err, out)
	}
}

func TestAppArmorMode(t *testing.T) {
	const list = "docker-default (enforce)\nsafe-run-1234 (complain)\nsafe-run-12 (enforce)\nname with blanks (kill)\n"
	for name, want := range map[string]string{
		"docker-default": "enforce", "safe-run-1234": "complain", "safe-run-12": "enforce", "safe-run-1": "", "name with blanks": "kill", "name": "",
	} {
		got, err := modeIn(bufio.NewScanner(strings.NewReader(list)), name)
		if err != nil || got != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
