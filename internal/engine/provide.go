package engine

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// spare is the space kept for a database to grow in. The records of a
// container take some KiB of it.
const spare = 1 << 20

// provide gives containerd's databases their disk space ahead of need. They
// are sparse files: on a full disk even a removal, which would make room, needs
// pages that were never written. What the file system does not do, or has no
// space for, is left out.
func (e *Engine) provide() {
	for _, p := range []string{"io.containerd.metadata.v1.bolt/meta.db", "io.containerd.snapshotter.v1.overlayfs/metadata.db"} {
		p = filepath.Join(e.root, p)
		var st unix.Stat_t
		if unix.Lstat(p, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Blocks*512 >= st.Size+spare/2 {
			continue
		}
		f, err := os.OpenFile(p, os.O_WRONLY|unix.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, st.Size+spare)
		_ = f.Close()
	}
}
