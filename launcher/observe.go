package launcher

import (
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

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
	// On disk the ids are the host's in Upper, and the image's in Lower.
	Upper string
	Lower []string
	// Unlisted are names the program looked up that its egress list lacks, up
	// to now. They are its choice.
	Unlisted []string
}

func (r *run) watched() Life {
	l := Life{ID: r.rec.ID, PID: r.pid, Cgroup: r.rec.Cgroup, Spec: r.spec, Unlisted: r.net.Unlisted()}
	if len(r.snapMounts) != 1 {
		return l
	}
	for _, o := range r.snapMounts[0].Options {
		switch key, value, _ := strings.Cut(o, "="); key {
		case "upperdir":
			l.Upper = value
		case "lowerdir":
			l.Lower = strings.Split(value, ":")
		}
	}
	return l
}

func (r *run) observe() error {
	if r.Observer == nil {
		return nil
	}
	return r.Observer.Begin(r.watched())
}

func (r *run) observed(code int, oom bool) {
	if r.Observer != nil {
		r.Observer.End(r.watched(), code, oom)
	}
}
