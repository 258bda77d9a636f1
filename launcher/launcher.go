// Package launcher turns a verified OCI spec into a running container on
// containerd, stays with it to its end, and cleans up after it: image
// content, snapshot, container record, task, streams, signals.
package launcher

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"time"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc/status"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/idmap"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/internal/systemd"
	"github.com/safe-run/safe-run/network"
)

const (
	snapshotter = "overlayfs"
	// DefaultNamespace is the containerd namespace of safe-run's containers
	// and images: of its own, so that other clients do not meet them by chance.
	DefaultNamespace = "safe-run"
	runtimeName      = "io.containerd.runc.v2"

	// labelPrefix is the only prefix of labels this project sets; labels of
	// images never become labels of containers (CVE-2026-53488).
	labelPrefix = "safe-run/"
	// gcRoot keeps a snapshot from containerd's garbage collection while no
	// container record refers to it yet. It spares the two transactions of a
	// lease; what a crash leaves is removed by its id at the next command.
	gcRoot = "containerd.io/gc.root"
)

// Launcher starts containers on one containerd. The zero value is not usable.
type Launcher struct {
	Client    *containerd.Client
	Address   string // of containerd, for the record
	Namespace string
	RuncRoot  string // where runc keeps its state, "" for its default
	Store     *store.Store
	IDs       *idmap.Pool
	Networks  *network.Host

	// Renew judges a stored workload by the policy of today and makes a request
	// of it. Notices and errors of it are told to nobody but the record.
	Renew func(ctx context.Context, rec store.Record, asked store.Asked, unit *systemd.Unit) (Request, error)
	// Revive sees to it that containerd answers again, if that is ours to do.
	Revive func(ctx context.Context) error
	// Adopt starts a supervisor in the background for a container whose lock
	// this process holds, and passes the lock on.
	Adopt func(e *store.Entry) error

	tasks      tasksapi.TasksClient
	containers containers.Store
	snapshots  snapshots.Snapshotter
}

// New wires a Launcher to a containerd client whose default namespace is ns.
func New(c *containerd.Client, address, ns string, s *store.Store, ids *idmap.Pool) *Launcher {
	return &Launcher{
		Client: c, Address: address, Namespace: ns, Store: s, IDs: ids, Networks: network.Open(s.Root, s.Run),
		tasks:      c.TaskService(),
		containers: c.ContainerService(),
		snapshots:  c.SnapshotService(snapshotter),
	}
}

func (l *Launcher) context(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, l.Namespace)
}

// detached is a context for cleaning up: it outlives the cancellation of ctx,
// but not for ever.
func (l *Launcher) detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(l.context(context.WithoutCancel(ctx)), 30*time.Second)
}

// newID makes a container id: 64 hex digits, as docker's.
func newID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand crashes the program instead
	return hex.EncodeToString(b[:])
}

// engineError turns an error of containerd into one of ours, keeping its kind.
func engineError(err error, doing string) error {
	if err == nil {
		return nil
	}
	var own *fail.Error
	if errors.As(err, &own) {
		return err
	}
	n := native(err)
	switch {
	case errdefs.IsNotFound(n):
		return fail.Wrap(fail.NotFound, n, "%s", doing)
	case errdefs.IsAlreadyExists(n):
		return fail.Wrap(fail.Conflict, n, "%s", doing)
	}
	return fail.Wrap(fail.Internal, n, "%s", doing)
}

func isNotFound(err error) bool { return err != nil && errdefs.IsNotFound(native(err)) }

// native gives an error of containerd its kind. Some of the client's services
// have done so already, and doing it again would lose it.
func native(err error) error {
	if _, ok := status.FromError(err); ok {
		return errgrpc.ToNative(err)
	}
	return err
}
