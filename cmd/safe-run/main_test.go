package main

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/fail"
)

// TestNoVerbIsAnImage: a word that is or will be a verb must not be fetched
// from a registry and run.
func TestNoVerbIsAnImage(t *testing.T) {
	root := verbs()
	for _, word := range []string{
		"run", "ps", "logs", "stop", "kill", "rm", "exec", "inspect", "wait", "start", "restart", "port", "pull", "load",
		"images", "rmi", "audit", "check", "doctor", "learn", "profile", "export", "import", "compose", "policy", "version", "help",
	} {
		if word != "run" && !verbNamed(root, word) {
			t.Errorf("%s is no verb", word)
		}
	}
	for _, word := range noImages {
		if lacked[word] == "" || dispatch([]string{word, "--memory", "2g", "x"}) != 125 {
			t.Errorf("%s is taken for an image", word)
		}
	}
}

// TestMisuse: a wrong use of a verb is an error with the next step.
func TestMisuse(t *testing.T) {
	for _, args := range [][]string{
		{"pull"},
		{"pull", "a", "b"},
		{"rm"},
		{"ps", "x"},
		{"ps", "--bogus"},
		{"policy", "bogus"},
		{"engine", "bogus"},
		{"policy", "check", "a", "b"},
		{"help", "bogus"},
		{"help", "policy", "bogus"},
	} {
		root := verbs()
		root.SetArgs(args)
		err := root.Execute()
		var e *fail.Error
		if !errors.As(err, &e) || e.Kind != fail.Usage && e.Kind != fail.NoStatus || e.Next == "" && !strings.Contains(err.Error(), "--help") {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func TestCIDFileNeedsItsDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := checkCIDFile(filepath.Join(dir, "id"), nil); err != nil {
		t.Error(err)
	}
	if err := checkCIDFile(filepath.Join(dir, "missing", "id"), nil); fail.KindOf(err) != fail.Usage {
		t.Errorf("missing directory: %v", err)
	}
}
