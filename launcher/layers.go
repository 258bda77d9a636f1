package launcher

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/mount"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// layersName is where, in a container's directory, the image's layers are
// attached with the container's ids until the runtime has mounted its root.
const layersName = "mount-layers"

// userNS gives a user namespace with the container's ids, for idmapped
// mounts: nil if the container has none of its own. It is made once, by the
// first call, which takes a process; launch makes that call beside the rest.
func (r *run) userNS() (*os.File, error) { return r.userns() }

// makeUserNS is the function userNS calls.
func (r *run) makeUserNS() func() (*os.File, error) {
	return sync.OnceValues(func() (*os.File, error) {
		b := r.rec.Block
		if b.Size == 0 {
			return nil, nil
		}
		f, err := mount.GetUsernsFD(mapping(b.HostUID, b.Size), mapping(b.HostGID, b.Size))
		return f, fail.Wrap(fail.HostCannot, err, "user namespace for idmapped mounts")
	})
}

// closeUserNS lets the namespace go, if it was made.
func (r *run) closeUserNS() {
	if r.userns == nil {
		return
	}
	if f, err := r.userns(); err == nil && f != nil {
		f.Close()
	}
}

// mapLayers gives the mounts of the root file system with their layers
// idmapped already. The snapshotter's mounts leave that to the shim, which
// needs another process for it while the launch waits; here the namespace is
// at hand. Mounts of another shape are left to the shim.
func (r *run) mapLayers() ([]mount.Mount, error) {
	ms := r.snapMounts
	if len(ms) != 1 || ms[0].Type != "overlay" {
		return ms, nil
	}
	// The runtime lets every container have the devices it takes for harmless,
	// tun among them; an image could bring their nodes.
	ms = slices.Clone(ms)
	ms[0].Options = slices.Concat(ms[0].Options, []string{"nodev"})
	if r.rec.Block.Size == 0 {
		return ms, nil
	}
	var lower []string
	var options []string
	for _, o := range ms[0].Options {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "lowerdir":
			lower = strings.Split(value, ":")
		case "uidmap", "gidmap":
		default:
			options = append(options, o)
		}
	}
	if len(lower) == 0 {
		return ms, nil
	}
	// The snapshotter keeps each layer as DIR/NUMBER/fs.
	base := filepath.Dir(filepath.Dir(lower[0]))
	at := filepath.Join(r.entry.IO, layersName)
	mapped := make([]string, len(lower))
	for i, d := range lower {
		rel, err := filepath.Rel(base, d)
		if err != nil || strings.HasPrefix(rel, "..") {
			return ms, nil
		}
		mapped[i] = filepath.Join(at, rel)
	}
	userns, err := r.userNS()
	if err != nil {
		return nil, err
	}
	if err := attach(base, at, spec.Mount{Target: "/", ReadOnly: true, Exec: true, NonRecursive: true}, userns); err != nil {
		return nil, err
	}
	m := ms[0]
	m.Options = slices.Concat(options, []string{"lowerdir=" + strings.Join(mapped, ":")})
	return []mount.Mount{m}, nil
}
