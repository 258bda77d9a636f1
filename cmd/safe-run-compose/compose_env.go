package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/safe-run/safe-run/compose"
	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
)

// unseen takes the variables out of the flags of a service and gives a file of
// them: a command line can be read by everybody on the host for as long as it
// waits, for an image say. What a line of such a file cannot say stays a flag.
func unseen(flags []compose.Flag) (rest []compose.Flag, file string) {
	if slices.ContainsFunc(flags, func(f compose.Flag) bool { return strings.HasPrefix(f.Word, "--profile=") }) {
		return flags, "" // whose variables would win over those of a file
	}
	var b strings.Builder
	for _, f := range flags {
		v, is := strings.CutPrefix(f.Word, "--env=")
		name, value, valued := strings.Cut(v, "=")
		plainName := name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == ""
		if is && valued && plainName && !strings.ContainsAny(value, "\r\n\x00\u0085\u2028\u2029") && strings.TrimSpace(value) == value && utf8.ValidString(value) {
			b.WriteString(v + "\n")
			continue
		}
		rest = append(rest, f)
	}
	return rest, b.String()
}

// envFile keeps the text where the caller, with whose rights run opens it, can
// read it, until remove is called.
func envFile(text string) (path string, remove func(), err error) {
	defer func() { err = fail.Wrap(fail.HostCannot, err, "the variables of a service") }()
	dir := filepath.Dir(contentDir(""))
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return "", nil, err
	}
	f, err := os.CreateTemp(dir, ".env-") // mode 0600, no project's name
	if err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.Remove(f.Name()) }
	_, err = f.WriteString(text)
	caller, cerr := cli.CallerOf(os.Geteuid(), os.LookupEnv)
	if caller != nil {
		cerr = f.Chown(int(caller.UID), int(caller.GID))
	}
	if err = errors.Join(err, cerr, f.Close()); err != nil {
		remove()
	}
	return f.Name(), remove, err
}
