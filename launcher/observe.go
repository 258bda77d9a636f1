package launcher

import specs "github.com/opencontainers/runtime-spec/specs-go"

// Observer watches each life of a container.
type Observer interface {
	// Begin is called when the runtime has set the container up and its own
	// program has not been executed yet. An error ends the launch.
	Begin(Life) error
	// End is called when the program has ended, while the container's cgroup
	// and root file system are still there.
	End(l Life, code int, oom bool)
}

// Life is one run of a container's program.
type Life struct {
	ID     string
	PID    uint32 // the first process, on the host
	Cgroup string // below the root of each hierarchy
	Spec   *specs.Spec
	// Upper and Lower are the directories of the overlay that is the root file
	// system: what was written, and the layers of the image, the topmost first.
	// On disk, ids are the image's.
	Upper string
	Lower []string
}
