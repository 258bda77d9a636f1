package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/threads"
)

// A program can end its first thread and go on in others. The kernel shows the
// process as a zombie then, without a root and namespaces, and the runtime
// takes the container for dead: it neither executes in it, nor freezes it, nor
// kills it.

// leaderless says whether the process runs and its first thread has ended.
func (p initProcess) leaderless() bool {
	return threads.Ended(fmt.Sprintf("/proc/%d", p.pid)) && p.runs()
}

// leaderless says so of the running program.
func (s *state) leaderless() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running && s.first.leaderless()
}

// errLeaderless is why something cannot be done with such a container.
func errLeaderless(kind fail.Kind, what, name string) error {
	return fail.New(kind, "%s container %s: the first thread of its program has ended, and the runtime takes it for dead", what, name)
}

// thaw lets the processes of a cgroup go on that the runtime does not.
func thaw(cgroup string) error {
	dirs, err := cgroupDirs(cgroup)
	for _, d := range dirs {
		for name, goOn := range map[string]string{"cgroup.freeze": "0", "freezer.state": "THAWED"} {
			if f := filepath.Join(d, name); exists(f) {
				err = errors.Join(err, os.WriteFile(f, []byte(goOn), 0))
			}
		}
	}
	return fail.Wrap(fail.Internal, err, "unpause")
}

// killFirst kills the first process of a container, whatever the runtime takes
// it for. It is held, and found in the container's cgroup, so its number means
// no other process.
func (l *Launcher) killFirst(ctx context.Context, id string) {
	t, err := l.tasks.Get(ctx, &tasksapi.GetRequest{ContainerID: id})
	pid := t.GetProcess().GetPid()
	if err != nil || pid == 0 {
		return
	}
	p := holdInit(pid)
	defer p.close()
	groups, err := os.ReadFile(threads.Dir(int(pid)) + "/cgroup") // v1 shows the root's for a thread that ends
	if err == nil && strings.Contains(string(groups), id) && p.runs() {
		_ = p.signal(unix.SIGKILL)
	}
}
