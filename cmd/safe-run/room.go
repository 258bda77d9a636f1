package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// leastRoom is what a file system needs to have free to count as not full:
// less than that holds no container's records.
const (
	leastBytes  = 64 << 10
	leastInodes = 8
)

// roomHint says which file system safe-run writes to is full, if an error may
// come from that: containerd's errors are text, which does not tell. It is ""
// if there is room, or the error is of another kind.
func roomHint(kind fail.Kind) string {
	if kind != fail.Internal && kind != fail.HostCannot {
		return ""
	}
	root, state := place()
	for _, dir := range []string{root, state} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) != nil {
			continue
		}
		prune := ""
		if dir == root {
			prune = "; safe-run system prune removes what no container uses"
		}
		switch {
		case st.Blocks > 0 && st.Bavail*uint64(st.Bsize) < leastBytes:
			return fmt.Sprintf("the file system of %q is full%s", dir, prune)
		case st.Files > 0 && st.Ffree < leastInodes:
			return fmt.Sprintf("the file system of %q has no inodes left (df -i)%s", dir, prune)
		}
	}
	return ""
}
