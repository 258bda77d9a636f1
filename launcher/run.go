package launcher

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/logs"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/internal/systemd"
	"github.com/safe-run/safe-run/network"
	"github.com/safe-run/safe-run/spec"
)

// Request is a reviewed workload: what the policy let through, with the facts
// and grants it was judged by.
type Request struct {
	Reservation *Reservation // nil: Run makes its own

	Workload spec.Workload
	Image    spec.Image
	Host     spec.Features
	Limits   spec.Limits
	Grants   spec.Grants
	Sources  map[int]spec.Source // by index into Workload.Mounts, held open by the caller
	// BlockDevices are the device numbers of the throttle flags' paths.
	BlockDevices map[string]uint64
	InitPath     string // static init on the host, for --init

	AppArmorProfile                 string
	SELinuxLabel, SELinuxMountLabel string

	Streams    Streams
	DetachKeys []byte
	// ResolveImage gives the image of a type=image mount.
	ResolveImage func(ctx context.Context, ref string) (spec.Image, error)
	// Unpack makes the snapshots of the image's layers; called if they are missing.
	Unpack func(ctx context.Context) error
	// Created is called with the id once the container exists and before it
	// starts; an error undoes everything.
	Created func(id string) error
	// Attest compares what the kernel enforces on a process with the spec:
	// before the user's program runs, and again (started) after. The sources
	// in mapped were idmapped before the runtime got them.
	Attest func(pid int, s *specs.Spec, mapped []string, started bool) error
	// PublishDefault is the address of published ports that name none; zero is
	// all of the host's.
	PublishDefault netip.Addr
	// Notice tells the user something in one line; nil: nobody is told.
	Notice func(string)
	// Aside is work that need not delay the container; Run waits for it.
	Aside func(ctx context.Context) error
	// Caller is whose rights open the files the workload names; nil is root.
	Caller *store.Caller
	// Log says where output is kept.
	Log logs.Config
	// Secrets are the contents of Workload.Secrets, in their order.
	Secrets [][]byte
	// Unit is the systemd unit this process is the service of, nil if none.
	Unit *systemd.Unit
	// ActivatePath is the static program that passes sockets on, on the host.
	ActivatePath string
	// Started is called once the program runs.
	Started func()
	// Observer watches the container from outside; nil: nobody does.
	Observer Observer
	// Advice gives a hint for a program that has failed, "" for none; nil: there is none.
	Advice func() string
	// Close gives back what the request holds open; called when the container
	// has started or failed to.
	Close func()
}

// run is the container this process supervises: from its launch over all of
// its restarts to the end.
type run struct {
	*Launcher
	Request
	entry *store.Entry
	asked store.Asked
	log   *logs.Log
	state state

	mu        sync.Mutex // of what follows, once the control socket is there
	rec       store.Record
	concluded bool // nothing is written to the record any more

	life
}

// life is what a run has from one start of the program to its end.
type life struct {
	spec *specs.Spec
	io   *stdio
	tty  *terminal
	pid  uint32

	snapMounts []mount.Mount // valid once prepared is closed
	snapErr    error
	prepared   chan struct{}            // nil until prepare was called
	userns     func() (*os.File, error) // see userNS; nil until the ids are known
	imageDirs  []string
	abandoned  *atomic.Bool // containerd may still make what was asked of it
	net        *network.Endpoint
	joined     *joined // with --network container:REF
	extras     extras
	resumed    bool // an earlier supervisor started it
}

func newLife() life { return life{abandoned: new(atomic.Bool)} }

// Run launches the container, stays until it ends, and gives its exit code.
// If it fails nothing of the container is left.
func (l *Launcher) Run(ctx context.Context, rq Request) (int, error) {
	ctx, cancel := context.WithCancelCause(l.context(ctx))
	defer cancel(nil)
	signals, settled := guard(cancel)
	r := &run{Launcher: l, Request: rq, life: newLife()}
	err := r.launch(ctx)
	r.release()
	waiting := settled()
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		r.undo(ctx)
		return 0, err
	}
	// A signal that came too late to end the launch is the container's.
	return r.lives(l.context(context.WithoutCancel(ctx)), waiting, signals)
}

// release gives back what only the launch needed.
func (r *run) release() {
	if r.Close != nil {
		r.Close()
		r.Close = nil
	}
}

// undo removes what a failed launch made. What cannot be removed now is
// removed by the next command.
func (r *run) undo(ctx context.Context) {
	defer r.state.close()
	r.dismantle()
	defer r.freeNetwork()
	if r.entry == nil {
		return
	}
	if r.rec.Phase != store.PhaseCreating { // or else the next command would keep it
		r.rec.Phase = store.PhaseCreating
		_ = r.Store.Save(r.rec)
	}
	if r.abandoned.Load() {
		r.entry.Release()
		return
	}
	if r.pid != 0 {
		// Of a task that was not started the shim would wait for the end of its
		// output first, 10 seconds, and only then end it.
		ctx, cancel := r.detached(ctx)
		defer cancel()
		_ = r.kill(ctx, unix.SIGKILL)
	}
	_ = r.Launcher.remove(ctx, r.entry, r.rec)
}

// dismantle lets go of what this process holds of a life.
func (r *run) dismantle() {
	if r.tty != nil {
		r.tty.restore()
	}
	if r.io != nil {
		r.io.close()
	}
	if r.net != nil {
		r.net.Close()
	}
	r.joined.close()
	r.extras.close()
	if r.prepared != nil {
		<-r.prepared
	}
}

// freeNetwork gives the addresses up, once the container has ended.
func (r *run) freeNetwork() {
	if r.net != nil {
		r.net.Free()
	}
}

// patience is how long after a signal a request is still waited for.
const patience = 10 * time.Second

var errPatience = errors.New("containerd did not answer in time")

// make sends a request that makes something at containerd, and does not
// abandon it for a signal: containerd might do it all the same, after undo has
// found nothing to remove.
func (r *run) make(ctx context.Context, request func(context.Context) error) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	asked, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() {
		select {
		case <-asked.Done():
		case <-time.After(patience):
			cancel(errPatience)
		}
	})()
	err := request(asked)
	if err != nil && errors.Is(context.Cause(asked), errPatience) {
		r.abandoned.Store(true)
	}
	return err
}

// launch does every step up to the start of the user's program.
func (r *run) launch(ctx context.Context) (err error) {
	if err := r.register(); err != nil {
		return err
	}
	return r.begin(ctx)
}

// begin sets a registered container up and starts it.
func (r *run) begin(ctx context.Context) error {
	// The snapshot is two synced transactions of containerd's: they run while
	// everything is done that does not need it.
	r.prepared = make(chan struct{})
	go r.prepare(ctx)
	r.userns = r.makeUserNS()
	defer r.closeUserNS()
	go func() { _, _ = r.userNS() }()
	if err := r.reserveNetwork(ctx); err != nil {
		return err
	}
	f, err := r.facts(ctx)
	if err != nil {
		return err
	}
	if err := r.mountImages(ctx); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := r.plan(f); err != nil {
		return err
	}
	// containerd writes its record while this process makes what is its own.
	recorded := make(chan error, 1)
	go func() { recorded <- r.createContainer(ctx) }()
	err = r.attachments()
	if rerr := <-recorded; err == nil {
		err = rerr
	}
	if err != nil {
		return err
	}
	if r.rec.Phase == store.PhaseCreating {
		r.event("create")
	}
	if r.Created != nil {
		if err := r.Created(r.rec.ID); err != nil {
			return err
		}
	}
	if err := fault("cidfile"); err != nil {
		return err
	}
	if _, err := r.rootfs(); err != nil {
		return err
	}
	return r.createTask(ctx)
}
