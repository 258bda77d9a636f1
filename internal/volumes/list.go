package volumes

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// Limits of what is noted with a volume.
const (
	maxLabels    = 256
	maxLabelText = 4096    // bytes of one label
	maxMeta      = 4 << 20 // bytes of the file
)

// metaFile lies beside a volume's data. A volume that a container's launch
// made has none.
const metaFile = "volume.json"

type meta struct {
	Created   time.Time         `json:"created"`
	Labels    map[string]string `json:"labels,omitempty"`
	Anonymous bool              `json:"anonymous,omitempty"`
}

func (m *meta) write(dir string) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, metaFile), b, 0o600)
}

func readMeta(dir string) (m meta, err error) {
	f, err := os.OpenFile(filepath.Join(dir, metaFile), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return m, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxMeta))
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(b, &m)
}

// Volume is what is known about one.
type Volume struct {
	Name      string
	Path      string // of the data
	Created   time.Time
	Labels    map[string]string // nil: none
	Anonymous bool              // nobody chose its name
}

// Create makes an empty volume with labels. Without a name it gets one as
// anonymous volumes have. One that exists already is given as it is.
func (v Volumes) Create(ctx context.Context, name string, labels map[string]string) (Volume, error) {
	m := meta{Created: time.Now().UTC().Truncate(time.Second), Labels: labels, Anonymous: name == ""}
	if len(labels) > maxLabels {
		return Volume{}, fail.New(fail.Usage, "%d labels are too many (at most %d)", len(labels), maxLabels)
	}
	for k, l := range labels {
		if k == "" || len(k)+len(l) > maxLabelText || strings.ContainsRune(k+l, 0) {
			return Volume{}, fail.New(fail.Usage, "label %.80q: a label is KEY=VALUE, at most %d bytes", k, maxLabelText)
		}
	}
	if name == "" {
		name = Anonymous()
	}
	if _, err := v.ensure(ctx, name, &m, func(string) error { return nil }); err != nil {
		return Volume{}, err
	}
	return v.Load(name)
}

// Load gives what is known about a volume.
//
// Errors: NotFound if there is no such volume.
func (v Volumes) Load(name string) (Volume, error) {
	vol := Volume{Name: name, Path: v.Path(name)}
	if checkName(name) != nil {
		return vol, fail.New(fail.NotFound, "no such volume: %.80q", name)
	}
	if _, err := os.Lstat(vol.Path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return vol, fail.New(fail.NotFound, "no such volume: %s", name)
		}
		return vol, fail.Wrap(fail.HostCannot, err, "volume %s", name)
	}
	m, err := readMeta(v.dir(name))
	switch {
	case err == nil:
		vol.Created, vol.Labels, vol.Anonymous = m.Created, m.Labels, m.Anonymous
		return vol, nil
	case !errors.Is(err, fs.ErrNotExist):
		return vol, fail.Wrap(fail.Internal, err, "what is noted with volume %s", name)
	}
	// The directory changed last when the data came into it.
	st, err := os.Lstat(v.dir(name))
	if err != nil {
		return vol, fail.Wrap(fail.HostCannot, err, "volume %s", name)
	}
	vol.Created = st.ModTime()
	vol.Anonymous = len(name) == 64 && strings.Trim(name, "0123456789abcdef") == ""
	return vol, nil
}

// List gives all volumes by name, and an error about those that cannot be
// read.
func (v Volumes) List() ([]Volume, error) {
	entries, err := os.ReadDir(string(v))
	if err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "volumes")
	}
	var all []Volume
	var errs error
	for _, e := range entries {
		vol, err := v.Load(e.Name())
		switch {
		case err == nil:
			all = append(all, vol)
		case fail.KindOf(err) != fail.NotFound: // not one, or not any more
			errs = errors.Join(errs, err)
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all, errs
}
