package store

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/internal/fail"
)

// Find gives the record for a name, an id or a unique prefix of an id.
func (s *Store) Find(ref string) (Record, error) {
	if ref == "" || strings.ContainsAny(ref, "/\x00") || strings.HasPrefix(ref, ".") {
		return Record{}, fail.New(fail.NotFound, "No such container: %.128s", ref)
	}
	if id, err := os.Readlink(filepath.Join(s.Root, "names", ref)); err == nil {
		return s.Load(id)
	}
	if len(ref) == 64 {
		return s.Load(ref)
	}
	ids, err := s.IDs()
	if err != nil {
		return Record{}, err
	}
	var found []string
	for _, id := range ids {
		if strings.HasPrefix(id, ref) {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 1:
		return s.Load(found[0])
	case 0:
		return Record{}, fail.New(fail.NotFound, "No such container: %.128s", ref)
	}
	return Record{}, fail.New(fail.NotFound, "%q is the start of %d container ids", ref, len(found)).Hint("give more of the id, or the name")
}

// IDs lists all containers that have a directory.
func (s *Store) IDs() ([]string, error) {
	return ids(filepath.Join(s.Root, "containers"))
}

// Live lists all containers that have or had a supervisor since boot.
func (s *Store) Live() ([]string, error) {
	return ids(filepath.Join(s.Run, "live"))
}

// ids are the entries of a directory that are ids of containers. On a disk of
// its own there is lost+found too.
func ids(dir string) ([]string, error) {
	all, err := names(dir)
	return slices.DeleteFunc(all, func(name string) bool { return !isID(name) }), err
}

// isID tells whether a name has the form of an id: 64 hexadecimal digits.
func isID(name string) bool {
	return len(name) == 64 && strings.Trim(name, "0123456789abcdef") == ""
}

func names(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "state")
	}
	defer f.Close()
	n, err := f.Readdirnames(-1)
	return n, fail.Wrap(fail.HostCannot, err, "state")
}
