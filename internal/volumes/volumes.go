// Package volumes keeps named and anonymous volumes: directories under one
// root, filled from the image once, with the ids the container sees.
package volumes

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/lazyre"
)

// Volumes is the directory all volumes lie in, each as NAME/_data.
type Volumes string

// In gives the volumes of a state root.
func In(root string) Volumes { return Volumes(filepath.Join(root, "volumes")) }

// names are docker's: at least two characters, none of them a separator.
var names = lazyre.New(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}$`)

// Path is the data directory of a volume.
func (v Volumes) Path(name string) string { return filepath.Join(string(v), name, "_data") }

// Ensure makes a volume if it does not exist. created says that it is new and
// empty, so that the image's content may be copied in.
func (v Volumes) Ensure(name string) (path string, created bool, err error) {
	if !names().MatchString(name) {
		return "", false, fail.New(fail.Usage, "volume name %q: use letters, digits, '_', '.' and '-', at least two, the first a letter or digit", name)
	}
	path = v.Path(name)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", false, fail.Wrap(fail.HostCannot, err, "volume %s", name)
	}
	err = os.Mkdir(path, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return path, false, nil
	}
	return path, err == nil, fail.Wrap(fail.HostCannot, err, "volume %s", name)
}

// Anonymous gives a name for a volume nobody named, as docker does: 64 hex digits.
func Anonymous() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Remove deletes a volume and its data. A missing volume is no error.
func (v Volumes) Remove(name string) error {
	if !names().MatchString(name) {
		return fail.New(fail.Usage, "volume name %q", name)
	}
	return fail.Wrap(fail.HostCannot, os.RemoveAll(filepath.Join(string(v), name)), "removing volume %s", name)
}
