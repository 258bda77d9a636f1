package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// Caller is the user on whose behalf files named on the command line are
// opened. Under sudo that is who called sudo: a rule that lets somebody start
// containers must not let them read root's files through --env-file.
//
// A nil *Caller is the process itself.
type Caller struct {
	UID, GID uint32
	Groups   []uint32 // supplementary groups
}

// CallerOf finds the caller of a process with the effective user id euid:
// nil, or the user sudo names in SUDO_UID and SUDO_GID. Variables that cannot
// be understood are an error, not a reason to open files as root.
func CallerOf(euid int, lookup func(string) (string, bool)) (*Caller, error) {
	rawUID, ok := lookup("SUDO_UID")
	if euid != 0 || !ok {
		return nil, nil // nil is the process itself
	}
	rawGID, _ := lookup("SUDO_GID")
	uid, err1 := strconv.ParseUint(rawUID, 10, 32)
	gid, err2 := strconv.ParseUint(rawGID, 10, 32)
	// (uid_t)-1 means "no change" to setresuid, which would leave us root.
	if err1 != nil || err2 != nil || uid == 1<<32-1 || gid == 1<<32-1 {
		return nil, fail.New(fail.Usage, "SUDO_UID=%s and SUDO_GID=%s do not name a user", quote(rawUID), quote(rawGID)).
			Hint("run it through sudo again, or unset both in a root shell")
	}
	if uid == 0 {
		return nil, nil // root called sudo
	}
	c := &Caller{UID: uint32(uid), GID: uint32(gid)}
	u, err := user.LookupId(rawUID)
	if err != nil {
		return c, nil // a user without an entry has no further groups
	}
	ids, err := u.GroupIds()
	if err != nil {
		return c, nil // fewer groups than the user has: can only deny more
	}
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil && n != 1<<32-1 {
			c.Groups = append(c.Groups, uint32(n))
		}
	}
	return c, nil
}

// Do runs f with the rights of the caller. f must open what it
// needs and return; the rights end with it. The credentials are set on a
// thread that ends with f, so there is no way back to get wrong.
func (c *Caller) Do(f func() error) error {
	if c == nil {
		return f()
	}
	done := make(chan error, 1)
	go c.onThread(f, done)
	return <-done
}

func (c *Caller) onThread(f func() error, done chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The runtime cannot end the main thread, and /proc shows its
		// identity as the process's: hold it while another thread does it.
		defer runtime.UnlockOSThread()
		other := make(chan error, 1)
		go c.onThread(f, other)
		done <- <-other
		return
	}
	// Not unlocked from here: the thread dies with its credentials.
	if err := c.become(); err != nil {
		done <- err
		return
	}
	done <- f()
}

// become changes the identity of this thread. Leaving uid 0 empties the
// effective set of capabilities (capabilities(7)), so the mode bits count. The
// file system identity alone would not do: of /proc/sys the kernel asks the
// effective one (test_perm, fs/proc/proc_sysctl.c), and it would keep
// capabilities other files of /proc ask for.
func (c *Caller) become() error {
	groups := c.Groups
	if len(groups) == 0 {
		groups = []uint32{c.GID}
	}
	if err := setgroupsThread(groups); err != nil {
		return fmt.Errorf("taking the caller's groups: %w", err)
	}
	if err := setIDThread(unix.SYS_SETRESGID, c.GID); err != nil {
		return fmt.Errorf("taking the caller's group id: %w", err)
	}
	if err := setIDThread(unix.SYS_SETRESUID, c.UID); err != nil {
		return fmt.Errorf("taking the caller's user id: %w", err)
	}
	return nil
}

// ReadFile reads a whole regular file of at most max bytes with the caller's
// rights. A FIFO, a terminal or a device is refused before it is opened, so
// nothing can block or be set off. Errors never repeat the content.
func (c *Caller) ReadFile(path string, max int64) ([]byte, error) {
	var data []byte
	err := c.Do(func() error {
		// O_PATH first: opening a device has effects, looking at it has none.
		at, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(at)
		var st unix.Stat_t
		if err := unix.Fstat(at, &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFREG {
			return errNotRegular
		}
		fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(at), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), "file")
		defer f.Close()
		// Some regular files of the kernel (/proc/kmsg, trace_pipe) wait for more.
		_ = f.SetReadDeadline(time.Now().Add(patience))
		data, err = io.ReadAll(io.LimitReader(f, max+1))
		if err != nil {
			return err
		}
		if int64(len(data)) > max {
			data = nil
			return fmt.Errorf("it is larger than %d KiB", max>>10)
		}
		return nil
	})
	switch {
	case err == nil:
		return data, nil
	case errors.Is(err, unix.ENOENT):
		return nil, fail.New(fail.NotFound, "%s: no such file", quote(path))
	case errors.Is(err, errNotRegular):
		return nil, fail.New(fail.Usage, "%s: %s", quote(path), err).Hint("write the content to a file first")
	case errors.Is(err, unix.EACCES) && c != nil:
		return nil, fail.New(fail.Usage, "%s: permission denied for uid %d, who called sudo", quote(path), c.UID).
			Hint("files on the command line are read with the rights of the caller; make it readable for that user")
	default:
		return nil, fail.New(fail.Usage, "%s: %s", quote(path), err)
	}
}

// patience is how long a file may make its reader wait.
const patience = 2 * time.Second

var errNotRegular = errors.New("not a regular file")
