package profiles

import (
	"bufio"
	"os"
	"os/exec"
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
	// The parser checks the syntax also where the kernel has no AppArmor.
	parser := os.Getenv("APPARMOR_PARSER")
	if parser == "" {
		for _, p := range apparmorParser {
			if _, err := os.Stat(p); err == nil {
				parser = p
			}
		}
	}
	if parser == "" {
		t.Fatal("no apparmor_parser; run make deps")
	}
	c := exec.Command(parser, "--skip-kernel-load", "--skip-cache", "--preprocess")
	c.Stdin = strings.NewReader(text)
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	c = exec.Command(parser, "--skip-kernel-load", "--skip-cache", "--stdout")
	c.Stdin = strings.NewReader(text)
	if out, err := c.Output(); err != nil || len(out) == 0 {
		t.Errorf("not compiled: %v", err)
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
