package launcher

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/systemd"
	"github.com/safe-run/safe-run/spec"
)

// extras are what a life has besides its mounts and streams.
type extras struct {
	notify   *systemd.NotifyProxy
	activate *systemd.Activator
	guard    *os.File // a byte into it dismisses the guard
}

func (e *extras) close() {
	if e.notify != nil {
		e.notify.Close()
	}
	if e.activate != nil {
		e.activate.Close()
	}
	if e.guard != nil {
		_, _ = e.guard.Write([]byte{1})
		e.guard.Close()
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
