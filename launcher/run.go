package launcher

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"syscall"
	"time"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/internal/volumes"
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
	// Aside is work that need not delay the container; Run waits for it.
	Aside func(ctx context.Context) error
	// Background hands the container over to another process when the user
	// detaches from it.
	Background func(e *store.Entry, id string) error
}

// run is one container being launched by this process.
type run struct {
	*Launcher
	Request
	entry *store.Entry
	rec   store.Record
	spec  *specs.Spec
	io    *stdio
	tty   *terminal
	pid   uint32

	snapMounts []mount.Mount // valid once prepared is closed
	snapErr    error
	prepared   chan struct{}            // nil until prepare was called
	userns     func() (*os.File, error) // see userNS; nil until the ids are known
	imageDirs  []string
}

// Run launches the container, stays until it ends, and gives its exit code.
// If it fails nothing of the container is left.
func (l *Launcher) Run(ctx context.Context, rq Request) (int, error) {
	ctx, cancel := context.WithCancelCause(l.context(ctx))
	defer cancel(nil)
	signals := catch()
	early := make(chan []os.Signal)
	started := make(chan struct{})
	go func() { // until the container runs, a signal ends the launch or waits
		var waiting []os.Signal
		for {
			select {
			case s := <-signals:
				waiting = append(waiting, s)
				if fatal(s) {
					cancel(interrupted(s))
				}
			case <-started:
				early <- waiting
				return
			}
		}
	}()

	r := &run{Launcher: l, Request: rq}
	err := r.launch(ctx)
	close(started)
	waiting := <-early
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		r.undo(ctx)
		return 0, err
	}
	// A signal that came too late to end the launch is the container's.
	code, err := r.supervise(l.context(context.WithoutCancel(ctx)), waiting, signals)
	if errors.Is(err, errHandedOver) {
		return 0, nil
	}
	return code, err
}

// undo removes what a failed launch made. What cannot be removed now is
// removed by the next command.
func (r *run) undo(ctx context.Context) {
	if r.tty != nil {
		r.tty.restore()
	}
	if r.io != nil {
		r.io.close()
	}
	if r.prepared != nil {
		<-r.prepared
	}
	if r.entry != nil {
		_ = r.Launcher.remove(ctx, r.entry, r.rec)
	}
}

// launch does every step up to the start of the user's program.
func (r *run) launch(ctx context.Context) (err error) {
	if err := r.register(); err != nil {
		return err
	}
	// The snapshot is two synced transactions of containerd's: they run while
	// everything is done that does not need it.
	r.prepared = make(chan struct{})
	go r.prepare(ctx)
	r.userns = r.makeUserNS()
	defer r.closeUserNS()
	go func() { _, _ = r.userNS() }()
	f, err := r.facts(ctx)
	if err != nil {
		return err
	}
	if err := r.mountImages(ctx); err != nil {
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

// attachments makes what the runtime will connect the container with: the
// sources of its mounts, and the FIFOs of its streams.
func (r *run) attachments() (err error) {
	if err := r.mountSources(); err != nil {
		return err
	}
	if err := fault("mounts"); err != nil {
		return err
	}
	if r.io, err = newStdio(r.entry.IO, r.Streams, r.Workload.TTY); err != nil {
		return err
	}
	return fault("fifos")
}

// register gives the container its id, lock, record, name and ids.
func (r *run) register() (err error) {
	v := r.Reservation
	if v == nil {
		v = r.Reserve()
	}
	<-v.done
	r.entry = v.entry
	r.rec = store.Record{
		ID: v.id, Block: v.block, Name: r.Workload.Name, Labels: r.labels(), Image: r.Image.Name, Digest: r.Image.Digest,
		Keep: !r.Workload.Remove, Phase: store.PhaseCreating, Created: time.Now().UTC(),
		Namespace: r.Namespace, Address: r.Address,
	}
	r.rec.Cgroup = cgroupPath(r.Workload.CgroupParent, r.rec.ID)
	if v.err != nil {
		return v.err
	}
	if r.Grants.HostUserNS {
		if err := r.IDs.Release(v.block, v.id); err != nil {
			return err
		}
		r.rec.Block = spec.IDBlock{}
	}
	// The record is there before the name, the ids and the volumes it speaks
	// of, so that whoever cleans up after a crash knows them.
	r.completeVolumes()
	if err := r.Store.Save(r.rec); err != nil {
		return err
	}
	if r.rec.Name != "" {
		holder, err := r.entry.TakeName(r.rec.Name)
		if err != nil {
			if holder == "" || !r.freeName(holder) {
				return err
			}
			if _, err = r.entry.TakeName(r.rec.Name); err != nil {
				return err
			}
		}
	}
	if err := fault("name"); err != nil {
		return err
	}
	return nil
}

// labels are the image's and those of the command line, which win. They stay
// in safe-run's own record: containerd acts on some labels (CVE-2026-53488).
func (r *run) labels() map[string]string {
	all := maps.Clone(r.Image.Labels)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, r.Workload.Labels)
	return all
}

// freeName buries a dead launcher's container so that its name can be used.
func (r *run) freeName(id string) bool {
	if r.Store.Supervised(id) {
		return false
	}
	rec, err := r.Store.Load(id)
	if err == nil && rec.Keep && rec.Phase != store.PhaseCreating {
		return false
	}
	e := r.Store.Capture(id)
	return e != nil && r.bury(context.Background(), e, rec) == nil
}

// completeVolumes completes the mounts: the image's volumes become anonymous
// ones. None of them exists yet.
func (r *run) completeVolumes() {
	for i := range r.Workload.Mounts {
		m := &r.Workload.Mounts[i]
		if m.Type == spec.MountVolume && m.Source == "" {
			m.Source = volumes.Anonymous()
			r.rec.Anonymous = append(r.rec.Anonymous, m.Source)
		}
	}
	for _, v := range r.Image.Volumes {
		if r.mountAt(v) {
			continue
		}
		m := spec.Mount{Origin: "image VOLUME", Type: spec.MountVolume, Source: volumes.Anonymous(), Target: v}
		r.Workload.Mounts = append(r.Workload.Mounts, m)
		r.rec.Anonymous = append(r.rec.Anonymous, m.Source)
	}
}

func (r *run) mountAt(target string) bool {
	for _, m := range r.Workload.Mounts {
		if m.Target == target {
			return true
		}
	}
	return false
}

// askedPaths are the paths inside the image that this launch depends on.
func (r *run) askedPaths() []string {
	var ask []string
	if wd := r.workdir(); wd != "" && wd != "/" {
		ask = append(ask, wd)
	}
	for _, m := range r.Workload.Mounts {
		ask = append(ask, m.Target)
	}
	return append(ask, "/var/tmp")
}

func (r *run) workdir() string {
	if r.Workload.Workdir != "" {
		return r.Workload.Workdir
	}
	return r.Image.Workdir
}

// prepare makes the snapshot that is the container's root file system.
func (r *run) prepare(ctx context.Context) {
	defer close(r.prepared)
	var opts []snapshots.Opt
	if b := r.rec.Block; b.Size != 0 {
		opts = append(opts, containerd.WithRemapperLabels(0, b.HostUID, 0, b.HostGID, b.Size))
	}
	opts = append(opts, snapshots.WithLabels(map[string]string{gcRoot: r.rec.Created.Format(time.RFC3339)}))
	r.snapMounts, r.snapErr = r.snapshots.Prepare(ctx, r.rec.ID, r.Image.ChainID, opts...)
	if isNotFound(r.snapErr) && r.Unpack != nil { // the layers were collected, or never unpacked
		if r.snapErr = r.Unpack(ctx); r.snapErr == nil {
			r.snapMounts, r.snapErr = r.snapshots.Prepare(ctx, r.rec.ID, r.Image.ChainID, opts...)
		}
	}
	if r.snapErr != nil {
		r.snapErr = engineError(r.snapErr, "preparing the root file system")
		return
	}
	r.snapErr = fault("prepare")
}

// rootfs waits for the snapshot.
func (r *run) rootfs() ([]mount.Mount, error) {
	<-r.prepared
	return r.snapMounts, r.snapErr
}

// facts reads what must be known of the image's files and refuses what they
// would redirect; new volumes are filled from them.
func (r *run) facts(ctx context.Context) (facts, error) {
	open := func() (*os.File, error) {
		ms, err := r.rootfs()
		if err != nil {
			return nil, err
		}
		return view(ms)
	}
	ask := r.askedPaths()
	f, err := factsFor(filepath.Join(r.Store.Root, "cache"), r.Image.ChainID, ask, open)
	if err != nil {
		return f, err
	}
	if err := f.check(ask); err != nil {
		return f, err
	}
	if err := r.fillVolumes(ctx, open); err != nil {
		return f, err
	}
	return f, fault("facts")
}

// fillVolumes makes the volumes that do not exist yet and copies the image's
// content into new ones.
func (r *run) fillVolumes(ctx context.Context, open func() (*os.File, error)) error {
	vs := volumes.In(r.Store.Root)
	for _, m := range r.Workload.Mounts {
		if m.Type != spec.MountVolume {
			continue
		}
		err := vs.Ensure(ctx, m.Source, func(dir string) error {
			if m.NoCopy {
				return nil
			}
			root, err := open()
			if err != nil {
				return err
			}
			defer root.Close()
			return errors.Join(copyUp(ctx, root, m.Target, dir), fault("volumes"))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func copyUp(ctx context.Context, root *os.File, target, volume string) error {
	src, err := openIn(root, target, unix.O_PATH)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fail.Wrap(fail.Refused, err, "the image's content for the volume at %s", target)
	}
	defer src.Close()
	return volumes.CopyUp(ctx, src, volume)
}

// plan builds the OCI spec and passes it through the last gate.
func (r *run) plan(f facts) error {
	files := filesIn(r.entry.Dir)
	in, err := r.input(f, files)
	if err != nil {
		return err
	}
	if err := writeFiles(files, r.Workload, r.hostname(), r.rec.Block); err != nil {
		return err
	}
	if err := fault("files"); err != nil {
		return err
	}
	r.spec, err = assemble(in)
	return err
}

// input is all the spec is built from.
func (r *run) input(f facts, files spec.HostFiles) (spec.Input, error) {
	w := r.Workload
	user := w.User
	if user == "" {
		user = r.Image.User
	}
	u, err := spec.ResolveUser(user, w.GroupAdd, f.Passwd, f.Group)
	if err != nil {
		return spec.Input{}, err
	}
	if w.Init != nil && *w.Init {
		if r.InitPath == "" {
			return spec.Input{}, fail.New(fail.HostCannot, "--init needs a static tini or catatonit").Hint("install the package tini, or catatonit")
		}
		files.Init = r.InitPath
	}
	return spec.Input{
		ID: r.rec.ID, Workload: w, Image: r.Image, User: u, IDs: r.rec.Block,
		Host: r.Host, Limits: r.Limits, Grants: r.Grants, Mounts: r.resolvedMounts(), Files: files, DeviceSources: r.deviceSources(), BlockDevices: r.BlockDevices,
		AppArmorProfile: r.AppArmorProfile, SELinuxLabel: r.SELinuxLabel, SELinuxMountLabel: r.SELinuxMountLabel,
	}, nil
}

func (r *run) hostname() string {
	if r.Workload.Hostname != "" {
		return r.Workload.Hostname
	}
	return r.rec.ID[:12]
}

// resolvedMounts gives each mount its place on the host.
func (r *run) resolvedMounts() []spec.ResolvedMount {
	var out []spec.ResolvedMount
	images := 0
	for i, m := range r.Workload.Mounts {
		rm := spec.ResolvedMount{Mount: m}
		switch m.Type {
		case spec.MountBind, spec.MountVolume:
			rm.HostPath = filepath.Join(r.Store.Run, "io", r.rec.ID, mountName(i))
			rm.Mapped = r.rec.Block.Size != 0
			rm.IsFile = m.Type == spec.MountBind && !r.Sources[i].Mode.IsDir()
		case spec.MountImage:
			rm.HostPath = imageDir(filepath.Join(r.Store.Root, "containers", r.rec.ID), images)
			if m.Subpath != "" {
				rm.HostPath = filepath.Join(r.Store.Run, "io", r.rec.ID, mountName(i))
			}
			images++
		}
		out = append(out, rm)
	}
	return out
}

// mapped are the sources mountSources idmapped.
func (r *run) mapped() (sources []string) {
	for _, m := range r.resolvedMounts() {
		if m.Mapped {
			sources = append(sources, m.HostPath)
		}
	}
	return sources
}

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
	_, err = r.containers.Create(ctx, containers.Container{
		ID: r.rec.ID, Image: r.Image.Name, SnapshotKey: r.rec.ID, Snapshotter: snapshotter,
		Labels:  map[string]string{labelPrefix + "digest": r.Image.Digest},
		Runtime: containers.RuntimeInfo{Name: runtimeName, Options: opts},
		Spec:    specAny,
	})
	if err != nil {
		return engineError(err, "creating the container")
	}
	return fault("container")
}

// createTask has the runtime set the container up, compares what the kernel
// enforces with the spec, and starts the user's program.
func (r *run) createTask(ctx context.Context) (err error) {
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
	resp, err := r.tasks.Create(ctx, req)
	if err != nil {
		return r.explain(engineError(err, "creating the container"))
	}
	r.pid = resp.Pid
	if err := fault("task"); err != nil {
		return err
	}
	if r.Attest != nil {
		if err := r.Attest(int(r.pid), r.spec, r.mapped(), false); err != nil {
			return err
		}
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
	if r.rec.Keep {
		r.rec.Phase = store.PhaseRunning
		if err := r.Store.Save(r.rec); err != nil {
			return err
		}
	}
	if err := fault("wait"); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if _, err := r.tasks.Start(ctx, &tasksapi.StartRequest{ContainerID: r.rec.ID}); err != nil {
		return r.explain(engineError(err, "starting the container"))
	}
	return fault("start")
}

// ioOwner is the host id that must own the shim's pipes, so that the
// container's user can open /dev/stdout again.
func (r *run) ioOwner() (uid, gid uint32) {
	u := r.spec.Process.User
	return r.rec.Block.HostUID + u.UID, r.rec.Block.HostGID + u.GID
}

var errHandedOver = errors.New("handed over")

// supervise stays with the running container: signals in, streams through,
// exit code out, clean-up last.
func (r *run) supervise(ctx context.Context, waiting []os.Signal, signals <-chan os.Signal) (int, error) {
	type end struct {
		code uint32
		err  error
	}
	exited := make(chan end, 1)
	first := holdInit(r.pid)
	go func() {
		code, err := r.await(ctx, r.rec.ID, first, stopTimeout)
		exited <- end{code, err}
	}()
	aside := make(chan error, 1)
	go func() { aside <- r.aside(ctx); close(aside) }()
	settled := time.AfterFunc(settleAfter, settle)
	defer settled.Stop()

	for _, s := range waiting {
		if done, err := r.deliver(ctx, first, s); done {
			return 0, err
		}
	}
	broken, watch := r.io.broken, (<-chan error)(aside)
	for {
		select {
		case e := <-exited:
			if e.err != nil {
				if r.tty != nil {
					r.tty.restore()
				}
				return 0, engineError(e.err, "waiting for the container")
			}
			return int(e.code), errors.Join(r.finish(ctx, int(e.code), signals), <-aside)
		case err, open := <-watch:
			if !open {
				watch = nil
				continue
			}
			if err != nil {
				_ = r.kill(ctx, r.rec.ID, unix.SIGKILL)
				<-exited
				return 0, errors.Join(err, r.finish(ctx, 137, signals))
			}
		case <-r.io.detach:
			return 0, r.handOver()
		case <-broken:
			// Like any program in a pipeline whose reader has gone.
			broken = nil
			_ = r.kill(ctx, r.rec.ID, unix.SIGKILL)
			<-exited
			return 128 + int(unix.SIGPIPE), r.finish(ctx, 128+int(unix.SIGPIPE), signals)
		case s := <-signals:
			if done, err := r.deliver(ctx, first, s); done {
				return 0, err
			}
		}
	}
}

// deliver passes a signal on to the container. done says that the container
// was left to itself instead.
func (r *run) deliver(ctx context.Context, first initProcess, s os.Signal) (done bool, err error) {
	n, _ := s.(syscall.Signal)
	switch {
	case n == unix.SIGWINCH:
		if r.tty != nil {
			r.tty.resize(ctx)
		}
	case r.Workload.SigProxy:
		if err := r.kill(ctx, r.rec.ID, n); err != nil && !isNotFound(err) {
			_ = first.signal(n) // containerd is away
		}
	case fatal(s):
		if err := r.handOver(); !errors.Is(err, errHandedOver) {
			return true, err
		}
		return true, interrupted(s)
	}
	return false, nil
}

// aside is what must happen but need not delay the container: the second
// attestation, and what the caller adds.
func (r *run) aside(ctx context.Context) error {
	if r.Attest != nil {
		if err := r.Attest(int(r.pid), r.spec, r.mapped(), true); err != nil {
			return err
		}
	}
	if err := fault("running"); err != nil {
		return err
	}
	if r.Aside != nil {
		return r.Aside(ctx)
	}
	return nil
}

// settleAfter is how long a container must run before the launcher gives
// back the memory only its start needed: for short ones that is wasted work.
const settleAfter = 300 * time.Millisecond

// finish passes on the rest of the output and removes the container, or keeps
// its record if it was not to be removed. The output comes first: with the
// task the shim goes, and what it still holds.
func (r *run) finish(ctx context.Context, code int, signals <-chan os.Signal) error {
	if err := fault("exited"); err != nil {
		return err
	}
	lost := r.io.drain(stopTimeout, signals)
	if r.tty != nil {
		r.tty.restore()
	}
	r.io.close()
	if !r.rec.Keep {
		return errors.Join(lost, r.Launcher.remove(ctx, r.entry, r.rec))
	}
	return errors.Join(lost, r.end(ctx, r.entry, r.rec, code))
}

// handOver leaves the container to a supervisor in the background.
func (r *run) handOver() error {
	if r.tty != nil {
		r.tty.restore()
	}
	if r.Background == nil {
		return fail.New(fail.Internal, "no background supervisor")
	}
	// The supervisor knows what the record says: with --rm it has no ids yet.
	if err := r.Store.Save(r.rec); err != nil {
		return err
	}
	if err := r.Background(r.entry, r.rec.ID); err != nil {
		return err
	}
	return errHandedOver
}
