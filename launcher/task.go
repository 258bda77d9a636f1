package launcher

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
)

// createContainer writes containerd's record. The image's labels stay out of it.
func (r *run) createContainer(ctx context.Context) error {
	specAny, err := typeurl.MarshalAny(r.spec)
	if err != nil {
		return fail.Wrap(fail.Internal, err, "encoding the spec")
	}
	opts, err := typeurl.MarshalAny(&runcoptions.Options{Root: r.RuncRoot})
	if err != nil {
		return fail.Wrap(fail.Internal, err, "encoding runtime options")
	}
	c := containers.Container{
		ID: r.rec.ID, Image: r.Image.Name, SnapshotKey: r.rec.ID, Snapshotter: snapshotter,
		Labels:  map[string]string{labelPrefix + "digest": r.Image.Digest},
		Runtime: containers.RuntimeInfo{Name: runtimeName, Options: opts},
		Spec:    specAny,
	}
	err = r.make(ctx, func(ctx context.Context) error {
		if r.rec.Phase == store.PhaseRestarting { // there is one
			_, err := r.containers.Update(ctx, c, "spec")
			if !isNotFound(err) {
				return err
			}
		}
		_, err := r.containers.Create(ctx, c)
		return err
	})
	if err != nil {
		return engineError(err, "creating the container")
	}
	return fault("container")
}

// createTask has the runtime set the container up, compares what the kernel
// enforces with the spec, and starts the user's program.
func (r *run) createTask(ctx context.Context) (err error) {
	if err := r.holdAppArmor(ctx); err != nil {
		return err
	}
	uid, gid := r.ioOwner()
	opts, err := typeurl.MarshalAny(&runcoptions.Options{IoUid: uid, IoGid: gid, Root: r.RuncRoot})
	if err != nil {
		return fail.Wrap(fail.Internal, err, "encoding task options")
	}
	req := &tasksapi.CreateTaskRequest{
		ContainerID: r.rec.ID, Stdin: r.io.in, Stdout: r.io.out, Stderr: r.io.err,
		Terminal: r.Workload.TTY,
		Options:  &anypb.Any{TypeUrl: opts.GetTypeUrl(), Value: opts.GetValue()},
	}
	rootfs, err := r.mapLayers()
	if err != nil {
		return err
	}
	for _, m := range rootfs {
		req.Rootfs = append(req.Rootfs, &types.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	err = r.make(ctx, func(ctx context.Context) error {
		resp, err := r.tasks.Create(ctx, req)
		r.pid = resp.GetPid()
		return err
	})
	if err != nil {
		return r.explain(engineError(err, "creating the container"))
	}
	if err := fault("task"); err != nil {
		return err
	}
	if err := r.connect(ctx); err != nil {
		return err
	}
	if err := dropSources(r.entry.IO); err != nil {
		return err
	}
	if err := fault("attest"); err != nil {
		return err
	}
	if r.Workload.TTY {
		r.tty = newTerminal(r.Launcher, r.rec.ID, r.Streams)
		r.tty.resize(ctx)
		if err := r.tty.raw(); err != nil {
			return err
		}
	}
	// Not before the terminal is raw: until then ctrl-d would be an end of input.
	if err := r.io.start(r.Streams, r.DetachKeys, func() { r.closeStdin(context.WithoutCancel(ctx), r.rec.ID) }); err != nil {
		return err
	}
	err = r.change(func(rec *store.Record) {
		rec.Phase = store.PhaseRunning
		rec.PID, rec.Started, rec.Error = int(r.pid), time.Now().UTC(), ""
		rec.OOMKilled, rec.Command = false, store.CommandLine(r.spec.Process.Args)
	})
	if err != nil {
		return err
	}
	if err := r.Store.ForgetHealth(r.rec.ID); err != nil {
		return err
	}
	if err := r.guard(); err != nil {
		return err
	}
	if err := fault("wait"); err != nil {
		return err
	}
	if err := r.observe(); err != nil {
		return err
	}
	err = r.make(ctx, func(ctx context.Context) error {
		_, err := r.tasks.Start(ctx, &tasksapi.StartRequest{ContainerID: r.rec.ID})
		return err
	})
	if err != nil && !(status.Code(err) == codes.Unavailable && hasStarted(r.pid)) {
		return r.explain(engineError(err, "starting the container"))
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return fault("start")
}

// hasStarted says whether a container runs its own program, not the runtime's
// init any longer: containerd may go away before it answers, and the program
// starts all the same.
func hasStarted(pid uint32) bool {
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil {
			return false
		}
		if !strings.HasPrefix(string(comm), "runc:[") {
			return true
		}
	}
	return false
}

// ioOwner is the host id that must own the shim's pipes, so that the
// container's user can open /dev/stdout again.
func (r *run) ioOwner() (uid, gid uint32) {
	u := r.spec.Process.User
	return r.rec.Block.HostUID + u.UID, r.rec.Block.HostGID + u.GID
}
