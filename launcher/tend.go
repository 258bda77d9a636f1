package launcher

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/health"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/internal/systemd"
	"github.com/safe-run/safe-run/spec"
)

// tend looks after a running program: tells systemd how it is, and checks its
// health.
func (r *run) tend(ctx context.Context, ready <-chan struct{}) {
	select {
	case <-ready:
	case <-ctx.Done():
		return
	}
	check, checked := spec.HealthOf(r.Workload, r.Image)
	to := r.notifier()
	when := r.Workload.SDNotify
	text := "running"
	if checked {
		text = "running, health: starting"
	}
	if when == "" || when == spec.NotifyStarted || when == spec.NotifyHealthy && !checked {
		_ = to.Ready(text)
	} else if when == spec.NotifyHealthy {
		_ = to.Status(text)
	}
	if r.Unit != nil && r.Unit.WatchdogInterval > 0 && when != spec.NotifyContainer {
		go to.Watch(ctx, r.Unit.WatchdogInterval, func() bool { return !checked || r.healthy() })
	}
	if !checked {
		return
	}
	_ = r.Store.SaveHealth(r.rec.ID, store.Health{Status: store.HealthStarting})
	started := time.Now()
	if when == spec.NotifyHealthy {
		go r.extend(ctx, to, check)
	}
	m := health.Monitor{
		Check: check,
		Probe: func(ctx context.Context) (int, []byte, error) {
			code, out, err := r.Probe(ctx, r.record(), check.Args(r.Image.Shell), health.MaxOutput+1)
			if err != nil && status.Code(err) == codes.Unavailable { // that says nothing of the container
				r.revive(ctx)
				code, out, err = r.Probe(ctx, r.record(), check.Args(r.Image.Shell), health.MaxOutput+1)
			}
			return code, out, err
		},
		Paused:  func() bool { return r.record().Paused },
		Changed: func(h store.Health, turned bool) { r.checked(ctx, h, turned, to) },
	}
	m.Run(ctx, started)
}

// notifier is the way to systemd; it leads nowhere outside of a unit.
func (r *run) notifier() *systemd.Notifier {
	if r.Unit == nil || r.Workload.SDNotify == spec.NotifyIgnore {
		return systemd.NewNotifier("")
	}
	return systemd.NewNotifier(r.Unit.NotifySocket)
}

// healthy says whether the last checks did not find the container unhealthy.
func (r *run) healthy() bool {
	h, err := r.Store.LoadHealth(r.rec.ID)
	return err != nil || h.Status != store.HealthUnhealthy
}

// extend keeps systemd waiting for as long as a start may take: the start
// period, and the checks that decide.
func (r *run) extend(ctx context.Context, to *systemd.Notifier, check spec.Healthcheck) {
	const ahead = 30 * time.Second
	last := time.Now().Add(check.StartPeriod + time.Duration(check.Retries)*(check.Interval+check.Timeout))
	for time.Now().Before(last) {
		h, err := r.Store.LoadHealth(r.rec.ID)
		if err == nil && h.Status != store.HealthStarting {
			return
		}
		_ = to.ExtendTimeout(ahead)
		select {
		case <-time.After(ahead / 2):
		case <-ctx.Done():
			return
		}
	}
}

// checked notes what a check has found, and acts on it.
func (r *run) checked(ctx context.Context, h store.Health, turned bool, to *systemd.Notifier) {
	if ctx.Err() != nil {
		return // of a program that has ended
	}
	_ = r.Store.SaveHealth(r.rec.ID, h)
	if !turned {
		return
	}
	r.event("health_status: " + h.Status)
	if h.Status == store.HealthHealthy && r.Workload.SDNotify == spec.NotifyHealthy {
		_ = to.Ready("running, health: " + h.Status)
	} else if r.Workload.SDNotify != spec.NotifyContainer {
		_ = to.Status("running, health: " + h.Status)
	}
	if h.Status != store.HealthUnhealthy {
		return
	}
	switch r.Workload.HealthOnFailure {
	case spec.OnFailureKill:
		_ = r.kill(ctx, r.rec.ID, unix.SIGKILL)
	case spec.OnFailureStop:
		r.state.quit()
		_ = r.change(func(rec *store.Record) { rec.Stopped = true })
		go r.terminate(context.WithoutCancel(ctx), r.state.process(), unix.Signal(r.rec.StopSignal), r.rec.StopAfter)
	case spec.OnFailureRestart:
		r.state.set(func() { r.state.restart = true })
		go r.terminate(context.WithoutCancel(ctx), r.state.process(), unix.Signal(r.rec.StopSignal), r.rec.StopAfter)
	}
}

// oomKilled says whether the kernel killed something in a cgroup for want of
// memory.
func oomKilled(cgroup string) bool {
	for _, f := range []string{
		filepath.Join(cgroupfs, cgroup, "memory.events"),
		filepath.Join(cgroupfs, "memory", cgroup, "memory.oom_control"),
	} {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for line := range bytes.Lines(b) {
			if n, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "oom_kill "); ok && n != "0" {
				return true
			}
		}
	}
	return false
}

// extras are what a life has besides its mounts and streams.
type extras struct {
	notify   *systemd.NotifyProxy
	activate *systemd.Activator
}

func (e *extras) close() {
	if e.notify != nil {
		e.notify.Close()
	}
	if e.activate != nil {
		e.activate.Close()
	}
	*e = extras{}
}

// The names of extras in the directory of the container's FIFOs. The first
// begins as those of mounts do: it is one.
const (
	secretsDir     = "mount-secrets"
	notifySocket   = "notify"
	activateSocket = "activate"
)

// makeExtras makes the files and sockets of a container that is a service:
// its secrets, the way to systemd, the sockets it is to listen on.
func (r *run) makeExtras() (err error) {
	if err := r.makeSecrets(); err != nil {
		return err
	}
	u := r.spec.Process.User
	uid, gid := int(r.rec.Block.HostUID+u.UID), int(r.rec.Block.HostGID+u.GID)
	if r.passesNotify() {
		p := filepath.Join(r.entry.IO, notifySocket)
		if r.extras.notify, err = systemd.Proxy(p, r.notifier(), uid, gid); err != nil {
			return err
		}
	}
	if r.activated() {
		p := filepath.Join(r.entry.IO, activateSocket)
		r.extras.activate, err = systemd.Activation(p, r.Unit.Listen, r.Unit.ListenNames)
	}
	return err
}

func (r *run) passesNotify() bool {
	return r.Unit != nil && r.Unit.NotifySocket != "" && r.Workload.SDNotify == spec.NotifyContainer
}

func (r *run) activated() bool { return r.Unit != nil && len(r.Unit.Listen) > 0 }

// fenced says whether the sockets passed on are of the host's network. A
// program can make a connection of a listening socket, and so leave the
// network it was given, unless it is kept from it.
func (r *run) fenced() (bool, error) {
	for _, f := range r.Unit.Listen {
		family, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err != nil {
			return false, fail.Wrap(fail.HostCannot, err, "socket activation")
		}
		if family == unix.AF_UNIX {
			continue
		}
		if !systemd.CanFence() {
			return false, fail.New(fail.HostCannot, "socket activation with TCP needs Linux 6.7: before that nothing keeps the program from reaching the host's network through the socket").
				Hint("let the unit listen on a UNIX socket, or publish a port with -p")
		}
		return true, nil
	}
	return false, nil
}

// makeSecrets writes the secrets into a file system in memory that only the
// container has mounted, once the runtime has bound it.
func (r *run) makeSecrets() error {
	if len(r.Workload.Secrets) == 0 {
		return nil
	}
	dir := filepath.Join(r.entry.IO, secretsDir)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fail.Wrap(fail.HostCannot, err, "secrets")
	}
	size := 4096 * (len(r.Secrets) + 1)
	for _, b := range r.Secrets {
		size += (len(b) + 4095) / 4096 * 4096
	}
	opts := "mode=0755,size=" + strconv.Itoa(size)
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	err := unix.Mount("tmpfs", dir, "tmpfs", flags, opts+",noswap")
	if errors.Is(err, unix.EINVAL) { // before Linux 6.4
		err = unix.Mount("tmpfs", dir, "tmpfs", flags, opts)
	}
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "secrets")
	}
	for i, s := range r.Workload.Secrets {
		uid, gid := r.spec.Process.User.UID, r.spec.Process.User.GID
		if s.Owned {
			uid, gid = s.UID, s.GID
		}
		mode := s.Mode
		if mode == 0 {
			mode = 0o400
		}
		p := filepath.Join(dir, s.ID)
		err := os.WriteFile(p, r.Secrets[i], 0o400)
		if err == nil {
			err = os.Lchown(p, int(r.rec.Block.HostUID+uid), int(r.rec.Block.HostGID+gid))
		}
		if err == nil {
			err = os.Chmod(p, os.FileMode(mode))
		}
		if err != nil {
			return fail.Wrap(fail.HostCannot, err, "secret %s", s.ID)
		}
	}
	return fail.Wrap(fail.HostCannot, unix.Mount("", dir, "", unix.MS_REMOUNT|flags|unix.MS_RDONLY, opts), "secrets")
}
