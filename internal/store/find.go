package store

import (
	"os"
	"path/filepath"
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
	return names(filepath.Join(s.Root, "containers"))
}

// Live lists all containers that have or had a supervisor since boot.
func (s *Store) Live() ([]string, error) {
	return names(filepath.Join(s.Run, "live"))
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
