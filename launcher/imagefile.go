package launcher

import (
	"context"
	"crypto/rand"
	"errors"
	"path"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// ImageFile reads a small file of an image by its absolute path, without a
// container: links are followed inside the image only. unpack makes the
// snapshots of its layers; called if they are missing. The content is hostile.
// Errors: NotFound, or Refused for what is no regular file of at most 10 MiB.
func (l *Launcher) ImageFile(ctx context.Context, img spec.Image, file string, unpack func(context.Context) error) ([]byte, error) {
	if !path.IsAbs(file) || path.Clean(file) != file {
		return nil, fail.New(fail.Usage, "%.200q is not a clean absolute path", file)
	}
	ctx = l.context(ctx)
	// Without a root it is containerd's to collect, should nobody remove it.
	key := "file-" + rand.Text()
	ms, err := l.snapshots.View(ctx, key, img.ChainID)
	if isNotFound(err) {
		if err := unpack(ctx); err != nil {
			return nil, err
		}
		ms, err = l.snapshots.View(ctx, key, img.ChainID)
	}
	if err != nil {
		return nil, engineError(err, "reading the image")
	}
	defer func() {
		ctx, cancel := l.detached(ctx)
		defer cancel()
		_ = l.snapshots.Remove(ctx, key)
	}()
	root, err := view(ms)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	b, err := readIn(root, file)
	if err == nil && b == nil {
		err = errors.New("there is no such file")
		return nil, fail.Wrap(fail.NotFound, err, "%.200q in the image %s", file, img.Name)
	}
	return b, err
}
