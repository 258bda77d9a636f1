// Package threads finds a process in procfs whose first thread has ended while
// others run on. The kernel shows such a process as a zombie, without a root,
// mounts and namespaces, which its other threads still have (proc(5)).
package threads

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
)

// most bounds the search for a thread that runs.
const most = 1 << 14

// Dir is where procfs shows a process: at a thread that runs, if the first one
// has ended and there is another, else /proc/PID.
func Dir(pid int) string {
	dir := "/proc/" + strconv.Itoa(pid)
	if !Ended(dir) {
		return dir
	}
	tasks, err := os.Open(dir + "/task")
	if err != nil {
		return dir
	}
	defer tasks.Close()
	names, _ := tasks.Readdirnames(most)
	for _, name := range names {
		if t := filepath.Join(dir, "task", name); !Ended(t) {
			return t
		}
	}
	return dir
}

// Ended tells whether the thread at /proc/PID or /proc/PID/task/TID has ended.
// One that is not there has.
func Ended(dir string) bool {
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return true
	}
	// The name, which comes before, may have anything in it.
	state := stat[bytes.LastIndexByte(stat, ')')+1:]
	return bytes.HasPrefix(state, []byte(" Z ")) || bytes.HasPrefix(state, []byte(" X "))
}
