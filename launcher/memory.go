package launcher

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// settle gives back what only the launch needed, for the long time in which
// the launcher does nothing but wait: free heap, and those pages of the
// program's own file that are mapped but clean. The kernel reads them again
// from its cache should they be needed.
func settle() {
	debug.FreeOSMemory()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer maps.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to uintptr
		var perms string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &perms); err != nil || !strings.HasSuffix(lines.Text(), exe) {
			continue
		}
		// Only what can never have been written to: dropping a changed page would undo the change.
		if len(perms) > 1 && perms[1] != 'w' {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED)
		}
	}
}
