package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/safe-run/safe-run/spec"
)

const (
	maxSecrets = 64
	// maxSecretID keeps the ID a file name.
	maxSecretID = 255
	// maxSecretUID is the last id of a container's block.
	maxSecretUID = 65535
)

// setSecret takes ID, a credential of the systemd unit; ID=FILE; or the
// comma-separated form of docker build and podman. Files are not opened here.
func (p *parser) setSecret(v string) error {
	if err := cleanWord(v); err != nil {
		return err
	}
	if len(p.w.Secrets) >= maxSecrets {
		return fmt.Errorf("there are more than %d", maxSecrets)
	}
	var s spec.Secret
	var err error
	first, file, paired := strings.Cut(v, "=")
	switch {
	case strings.Contains(first, ",") || slices.Contains(secretKeys, first):
		err = p.secretFields(&s, v)
	case paired:
		s.ID = first
		s.Source, err = p.secretSource(file)
	default:
		s.ID = v
	}
	if err != nil {
		return err
	}
	if err := checkSecretID(s.ID); err != nil {
		return err
	}
	if slices.ContainsFunc(p.w.Secrets, func(o spec.Secret) bool { return o.ID == s.ID }) {
		return fmt.Errorf("the secret %s is given twice", s.ID)
	}
	p.w.Secrets = append(p.w.Secrets, s)
	return nil
}

// secretKeys begin the comma-separated form; a secret with one of these names
// is written id=NAME,src=FILE.
var secretKeys = []string{"id", "src", "source", "uid", "gid", "mode", "type", "target", "dst", "destination", "env"}

func (p *parser) secretFields(s *spec.Secret, v string) error {
	fields, err := csv.NewReader(strings.NewReader(v)).Read()
	if err != nil {
		return errors.New("it is not a list of KEY=VALUE separated by commas")
	}
	seen := map[string]bool{}
	for i, field := range fields {
		key, val, ok := strings.Cut(field, "=")
		if i == 0 && !ok {
			// podman's NAME,KEY=VALUE,...
			key, val, ok = "id", field, true
		}
		if key == "source" {
			key = "src"
		}
		if !ok || val == "" {
			return fmt.Errorf("%s has no value", quote(key))
		}
		if seen[key] {
			return fmt.Errorf("%s is given twice", quote(key))
		}
		seen[key] = true
		if err := p.secretField(s, key, val); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) secretField(s *spec.Secret, key, val string) (err error) {
	switch key {
	case "id":
		s.ID = val
	case "src":
		s.Source, err = p.secretSource(val)
	case "uid":
		s.Owned = true
		s.UID, err = secretOwner(val)
	case "gid":
		s.Owned = true
		s.GID, err = secretOwner(val)
	case "mode":
		s.Mode, err = secretMode(val)
	case "type":
		if val != "file" && val != "mount" {
			err = errors.New("a secret is a file; variables are seen by every child process and in /proc")
		}
	case "env":
		err = errors.New("a secret comes from a file; variables are seen by every child process and in /proc")
	case "target", "dst", "destination":
		err = errors.New("the file of a secret is always /run/secrets/ID; choose the ID, or make a link in the image")
	default:
		err = fmt.Errorf("it has no key %s; there are id, src, uid, gid and mode", quote(key))
	}
	return err
}

func (p *parser) secretSource(v string) (string, error) {
	switch {
	case v == "":
		return "", errors.New("the file is empty")
	case strings.HasPrefix(v, "~"):
		return "", errors.New("the file begins with ~, which only the shell expands, and only at the start of a word; write $HOME")
	}
	v = filepath.Clean(p.abs(v))
	return v, clean(v)
}

func secretOwner(v string) (uint32, error) {
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil || n > maxSecretUID {
		return 0, fmt.Errorf("uid and gid are numbers from 0 to %d", maxSecretUID)
	}
	return uint32(n), nil
}

// secretMode: write bits beyond the owner's and setuid bits have no use on a
// file nobody can write.
func secretMode(v string) (uint32, error) {
	n, err := strconv.ParseUint(v, 8, 32)
	if err != nil || n == 0 || n&^0o755 != 0 {
		return 0, errors.New("the mode is an octal number such as 0400 or 0444, with no right to write for group and others")
	}
	return uint32(n), nil
}

// checkSecretID keeps an ID a plain file name below /run/secrets and below
// the unit's directory of credentials.
func checkSecretID(id string) error {
	if len(id) > maxSecretID || !only(id, "_.-") || !only(id[:1], "") {
		return fmt.Errorf("%s is not the ID of a secret: it takes up to %d letters, digits, \"_\", \".\" and \"-\", and starts with a letter or digit", quote(id), maxSecretID)
	}
	return nil
}
