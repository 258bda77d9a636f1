package launcher

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/safe-run/safe-run/audit"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/internal/threads"
	"github.com/safe-run/safe-run/spec"
)

// execution is a further process in a running container.
type execution struct {
	*Launcher
	rec     store.Record
	base    *specs.Spec    // the container's
	process *specs.Process // ours
	initPID uint32
	init    initProcess // the container's first process
	root    *os.File    // the container's files as it sees them
	dir     *execDir    // nil: nobody reads its output
	id      string      // containerd's name of it in the container
	pid     uint32
	first   initProcess // the process itself
	made    bool        // containerd knows of it
}

// newExec finds the running container and builds the process: nothing is made
// yet. The caller closes it.
func (l *Launcher) newExec(ctx context.Context, rec store.Record, rq ExecRequest) (x *execution, err error) {
	x = &execution{Launcher: l, rec: rec, id: newID()[:32], init: initProcess{fd: -1}, first: initProcess{fd: -1}}
	defer func() {
		if err != nil {
			x.close(ctx)
		}
	}()
	if err := x.find(ctx); err != nil {
		return x, err
	}
	u, err := x.user(ctx, rq.User)
	if err != nil {
		return x, err
	}
	x.process, err = spec.ExecProcess(x.base.Process, spec.Exec{
		Args: rq.Args, Env: rq.Env, User: u, Workdir: rq.Workdir, TTY: rq.TTY, ConsoleSize: rq.consoleSize(),
	})
	if err != nil {
		return x, err
	}
	return x, x.checkCwd()
}

// find holds on to the container's first process, and reads what the
// container was made with.
func (x *execution) find(ctx context.Context) error {
	stopped := fail.New(fail.NoStatus, "container %s is not running", x.rec.ID)
	t, err := x.tasks.Get(ctx, &tasksapi.GetRequest{ContainerID: x.rec.ID})
	if isNotFound(err) {
		return stopped
	}
	if err != nil {
		return engineError(err, "looking for the container")
	}
	switch t.GetProcess().GetStatus() {
	case tasktypes.Status_RUNNING:
	case tasktypes.Status_PAUSED, tasktypes.Status_PAUSING:
		return fail.New(fail.NoStatus, "container %s is paused, unpause the container before exec", x.rec.ID)
	default:
		return stopped
	}
	x.initPID = t.GetProcess().GetPid()
	x.init = holdInit(x.initPID)
	if x.init.leaderless() {
		return errLeaderless(fail.NoStatus, "nothing can be executed in", x.rec.ID)
	}
	root, err := openDirAt(fmt.Sprintf("/proc/%d/root", x.initPID))
	if err != nil || !x.init.runs() {
		if err == nil {
			root.Close()
		}
		return stopped
	}
	x.root = root
	c, err := x.containers.Get(ctx, x.rec.ID)
	if isNotFound(err) {
		return stopped
	}
	if err != nil {
		return engineError(err, "reading the container's specification")
	}
	x.base = &specs.Spec{}
	if c.Spec == nil || json.Unmarshal(c.Spec.GetValue(), x.base) != nil || x.base.Process == nil || x.base.Linux == nil {
		return fail.New(fail.Internal, "containerd's specification of container %s is damaged", x.rec.ID)
	}
	return nil
}

// user resolves a name in the image's own files, as the container's was: not
// in the running container's, which a program in it may have changed.
func (x *execution) user(ctx context.Context, name string) (*spec.User, error) {
	if name == "" {
		return nil, nil // nil is the container's own
	}
	asked, err := x.Store.LoadAsked(x.rec.ID)
	var f facts
	if spec.NeedsFiles(name, asked.Workload.GroupAdd) {
		if err == nil {
			f, err = factsFor(filepath.Join(x.Store.Root, "cache"), asked.Image.ChainID, nil, func() (*os.File, error) {
				return x.viewImage(ctx, asked.Image.ChainID)
			})
		}
		if err != nil {
			return nil, err
		}
	}
	u, err := spec.ResolveUser(name, asked.Workload.GroupAdd, f.Passwd, f.Group)
	return &u, fail.Wrap(fail.CmdNotExec, err, "exec") // as docker, 126
}

// viewImage opens the files of an image; containerd's garbage collection takes
// what is left of it if this process dies.
func (x *execution) viewImage(ctx context.Context, chainID string) (*os.File, error) {
	key := x.id + "-exec"
	ms, err := x.snapshots.View(ctx, key, chainID, snapshots.WithLabels(map[string]string{
		"containerd.io/gc.expire": time.Now().Add(time.Minute).UTC().Format(time.RFC3339), gcRoot: "exec",
	}))
	if err != nil {
		return nil, engineError(err, "looking at the image")
	}
	defer func() {
		dctx, cancel := x.detached(ctx)
		defer cancel()
		_ = x.snapshots.Remove(dctx, key)
	}()
	return view(ms)
}

// checkCwd refuses a directory that leads into the kernel's file systems as
// the container sees it now. The runtime looks again, once it is there.
func (x *execution) checkCwd() error {
	dir := x.process.Cwd
	to, err := lead(x.root, dir)
	if err != nil {
		return err
	}
	for _, k := range []string{"/proc", "/sys", "/dev"} {
		if (to == k || strings.HasPrefix(to, k+"/")) && !strings.HasPrefix(to+"/", "/dev/shm/") {
			return fail.New(fail.Refused, "the working directory %.128q leads to %.128q: directories below %s are refused", dir, to, k)
		}
	}
	return nil
}

// start makes the process and lets it run. containerd is not left in the
// middle of it when ctx ends: nobody would know what became of the process.
func (x *execution) start(ctx context.Context, stdin, stdout, stderr string) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	ctx, cancel := x.detached(ctx)
	defer cancel()
	encoded, err := typeurl.MarshalAny(x.process)
	if err != nil {
		return fail.Wrap(fail.Internal, err, "encoding the process")
	}
	_, err = x.tasks.Exec(ctx, &tasksapi.ExecProcessRequest{
		ContainerID: x.rec.ID, ExecID: x.id, Stdin: stdin, Stdout: stdout, Stderr: stderr, Terminal: x.process.Terminal,
		Spec: &anypb.Any{TypeUrl: encoded.GetTypeUrl(), Value: encoded.GetValue()},
	})
	if err != nil {
		return x.explain(engineError(err, "executing in the container"))
	}
	x.made = true
	started, err := x.tasks.Start(ctx, &tasksapi.StartRequest{ContainerID: x.rec.ID, ExecID: x.id})
	if err != nil {
		return x.explain(engineError(err, "executing in the container"))
	}
	x.pid = started.GetPid()
	x.first = holdInit(x.pid)
	return nil
}

// attest compares what the kernel enforces on the process with what it was
// made with, and its namespaces with the container's own.
func (x *execution) attest() error {
	s, linux := *x.base, *x.base.Linux
	s.Process, s.Linux = x.process, &linux
	linux.Namespaces = nil
	at := threads.Dir(int(x.initPID))
	for _, n := range x.base.Linux.Namespaces {
		file := string(n.Type)
		switch n.Type {
		case specs.NetworkNamespace:
			file = "net"
		case specs.MountNamespace:
			file = "mnt"
		}
		linux.Namespaces = append(linux.Namespaces, specs.LinuxNamespace{Type: n.Type, Path: at + "/ns/" + file})
	}
	err := audit.Attest(int(x.pid), &s, audit.Want{Phase: audit.Started})
	if err != nil && !x.init.runs() {
		return nil // the container has ended, and with it what could be compared
	}
	return err
}

// await waits for the end of the process and gives its status. A containerd
// that is restarted is asked again.
func (x *execution) await(ctx context.Context) (uint32, error) {
	var gone time.Time
	for {
		resp, err := x.tasks.Wait(ctx, &tasksapi.WaitRequest{ContainerID: x.rec.ID, ExecID: x.id})
		switch {
		case err == nil:
			return resp.ExitStatus, nil
		case ctx.Err() != nil:
			return 0, err
		case x.first.runs():
		case isNotFound(err): // removed with the container
			return 128 + uint32(unix.SIGKILL), nil
		case gone.IsZero():
			gone = time.Now()
		case time.Since(gone) > stopTimeout:
			return 0, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// signal sends a signal to the process and to all that belongs to its
// session: what it started in the foreground or the background, but for what
// made a session of its own.
func (x *execution) signal(s syscall.Signal) {
	if x.pid == 0 {
		return
	}
	if x.first.runs() {
		_ = x.first.signal(s)
	}
	session := func(pid int) bool {
		sid, err := unix.Getsid(pid)
		return err == nil && sid == int(x.pid)
	}
	for _, pid := range Processes(x.rec.Cgroup) {
		if pid == int(x.pid) || !session(pid) {
			continue
		}
		// Looked at again once the number cannot come to mean another process.
		p := holdInit(uint32(pid))
		if p.runs() && session(pid) {
			_ = p.signal(s)
		}
		p.close()
	}
}

// deleteTimeout is how long the shim may wait for output of processes that
// outlive the one that started them.
const deleteTimeout = 250 * time.Millisecond

// close has containerd forget the process, which has ended or was never
// started, and removes what was made for it.
func (x *execution) close(ctx context.Context) {
	if x.made {
		ctx, cancel := context.WithTimeout(x.context(context.WithoutCancel(ctx)), deleteTimeout)
		defer cancel()
		_, _ = x.tasks.DeleteProcess(ctx, &tasksapi.DeleteProcessRequest{ContainerID: x.rec.ID, ExecID: x.id})
	}
	if x.dir != nil {
		x.dir.remove()
	}
	if x.root != nil {
		x.root.Close()
	}
	x.init.close()
	x.first.close()
}
