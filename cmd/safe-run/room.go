package main

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// A file system with less than that free holds no container's records: it
// counts as full.
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
	volumes, containers := filepath.Join(root, "volumes"), filepath.Join(root, "containers") // may be disks of their own
	for _, dir := range []string{root, state, volumes, containers} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) != nil {
			continue
		}
		prune := ""
		switch dir {
		case root:
			prune = "; safe-run system prune removes what no container uses"
		case volumes:
			prune = "; safe-run volume prune removes those that no container uses"
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

// leastFiles is how many files a launch holds open at the same time, and some.
const leastFiles = 64

// enoughFiles refuses to begin where it would end half-way, in whatever needs
// one file too many. Go has raised the soft limit to the hard one.
func enoughFiles() error {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil || limit.Cur >= leastFiles {
		return nil
	}
	return fail.New(fail.HostCannot, "this process may open no more than %d files (RLIMIT_NOFILE), and safe-run needs %d", limit.Cur, leastFiles).
		Hint("ulimit -n 1024, or LimitNOFILE= of the unit it is started from")
}
