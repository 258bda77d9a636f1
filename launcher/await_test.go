package launcher

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/spec"
)

// absent is a containerd that is away until back is closed.
type absent struct {
	tasksapi.TasksClient
	back chan struct{}
}

func (a absent) answer() error {
	select {
	case <-a.back:
		return nil
	default:
		return status.Error(codes.Unavailable, "error reading from server: EOF")
	}
}

func (a absent) Wait(context.Context, *tasksapi.WaitRequest, ...grpc.CallOption) (*tasksapi.WaitResponse, error) {
	return &tasksapi.WaitResponse{ExitStatus: 5}, a.answer()
}

func (a absent) Kill(context.Context, *tasksapi.KillRequest, ...grpc.CallOption) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, a.answer()
}

func (absent) Delete(context.Context, *tasksapi.DeleteTaskRequest, ...grpc.CallOption) (*tasksapi.DeleteResponse, error) {
	return nil, status.Error(codes.NotFound, "no task")
}

// deceived is a containerd whose runtime takes the container for dead.
type deceived struct{ tasksapi.TasksClient }

func (deceived) Kill(context.Context, *tasksapi.KillRequest, ...grpc.CallOption) (*emptypb.Empty, error) {
	return nil, status.Error(codes.NotFound, "process already finished: not found")
}

// A program whose first thread has ended is dead to the runtime. It is killed
// all the same: nothing a program does keeps it from being stopped.
func TestKillDeceived(t *testing.T) {
	c := sleeper(t)
	r := &run{Launcher: &Launcher{tasks: deceived{}}, rec: store.Record{ID: "id"}}
	first := holdInit(uint32(c.Process.Pid))
	defer first.close()
	r.state.begin(first)
	if err := r.kill(context.Background(), unix.SIGKILL); err != nil {
		t.Error(err)
	}
	_ = c.Wait()
	if ws := c.ProcessState.String(); ws != "signal: killed" {
		t.Errorf("the container's first process: %s", ws)
	}
}

func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	c := exec.Command("sleep", "60")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	return c
}

// A containerd that is restarted takes no container with it: its end is
// waited for, and signals reach it meanwhile.
func TestAwaitOutlivesContainerd(t *testing.T) {
	c := sleeper(t)
	a := absent{back: make(chan struct{})}
	r := &run{Launcher: &Launcher{tasks: a}, Request: Request{Workload: spec.Workload{SigProxy: true}}}
	first := holdInit(uint32(c.Process.Pid))
	time.AfterFunc(300*time.Millisecond, func() { close(a.back) })
	if code, err := r.await(context.Background(), "id", first, 0); err != nil || code != 5 {
		t.Errorf("status %d, %v", code, err)
	}

	r.tasks = absent{back: make(chan struct{})} // away for good
	over := r.state.begin(first)
	if _, err := r.deliver(context.Background(), unix.SIGTERM); err != nil {
		t.Error(err)
	}
	_ = c.Wait()
	if ws := c.ProcessState.String(); ws != "signal: terminated" {
		t.Errorf("the container's first process: %s", ws)
	}
	over(0)
	if err := r.kill(context.Background(), unix.SIGTERM); err == nil {
		t.Error("a program that has ended was sent a signal")
	}
	if _, err := r.await(context.Background(), "id", first, 0); err == nil {
		t.Error("the wait for a container that has ended, of a containerd that does not come back, succeeded")
	}
}

func begun(t *testing.T) (*Launcher, *store.Entry) {
	t.Helper()
	dir := t.TempDir()
	s, err := store.Open(filepath.Join(dir, "root"), filepath.Join(dir, "run"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.Begin(newID())
	if err != nil {
		t.Fatal(err)
	}
	return &Launcher{Store: s, tasks: absent{}}, e
}

// The supervisor in the background gives back what the record says the
// container has: its ids are in it by then.
func TestHandOverRecordsTheIDs(t *testing.T) {
	l, e := begun(t)
	block := spec.IDBlock{HostUID: 1 << 20, HostGID: 1 << 20, Size: 1 << 16}
	r := &run{Launcher: l, entry: e, rec: store.Record{ID: e.ID, Block: block, Phase: store.PhaseCreating}}
	var seen store.Record
	l.Adopt = func(e *store.Entry) (err error) {
		seen, err = l.Store.Load(e.ID)
		return err
	}
	if err := r.handOver(); err != nil {
		t.Fatal(err)
	}
	if seen.Block != block {
		t.Errorf("the record has the ids %+v", seen.Block)
	}
}

// What could not be ended completely is found by the next command.
func TestEndKeepsTheLockFileOnFailure(t *testing.T) {
	l, e := begun(t)
	rec := store.Record{ID: e.ID, Keep: true, Phase: store.PhaseRunning}
	if err := os.RemoveAll(e.Dir); err != nil {
		t.Fatal(err)
	}
	if err := l.end(context.Background(), e, rec, 0); err == nil {
		t.Fatal("no error")
	}
	if live, err := l.Store.Live(); err != nil || len(live) != 1 {
		t.Errorf("lock files: %v, %v", live, err)
	}
}
