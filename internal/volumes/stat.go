package volumes

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// unixStat is what os.FileInfo.Sys gives on Linux.
type unixStat = syscall.Stat_t

func statOf(s *unixStat) *unix.Stat_t {
	return &unix.Stat_t{Mode: s.Mode, Uid: s.Uid, Gid: s.Gid, Mtim: unix.Timespec(s.Mtim)}
}
