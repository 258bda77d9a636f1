package ctar

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// Container is the container's end, seen from the host. It serves one copy.
type Container struct {
	Name string // for messages, as the user wrote it

	cmd     *exec.Cmd
	said    bytes.Buffer
	control *os.File
	replies *json.Decoder
	in, out *os.File // streams to it and from it
}

// Start starts the process that is the container's end: this program again,
// with args, which must call Serve. root is the container's root directory
// and stays the caller's; ids are the container's. The end of ctx ends it.
func Start(ctx context.Context, args []string, root *os.File, ids spec.IDBlock, name string) (*Container, error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fail.Wrap(fail.Internal, err, "control socket")
	}
	theirs := os.NewFile(uintptr(ends[1]), "control")
	defer theirs.Close()
	c := &Container{Name: name, control: os.NewFile(uintptr(ends[0]), "control")}
	c.replies = json.NewDecoder(io.LimitReader(c.control, maxReply))
	in, cin, err := os.Pipe()
	if err != nil {
		c.control.Close()
		return nil, fail.Wrap(fail.Internal, err, "pipe")
	}
	defer in.Close()
	c.in = cin
	cout, out, err := os.Pipe()
	if err != nil {
		c.control.Close()
		c.in.Close()
		return nil, fail.Wrap(fail.Internal, err, "pipe")
	}
	defer out.Close()
	c.out = cout
	// Not by a path: the directories on the way may be closed to the container's ids.
	c.cmd = exec.CommandContext(ctx, "/proc/self/exe", args...)
	c.cmd.Args[0] = "safe-run"
	c.cmd.Env = []string{} // nil would be ours
	c.cmd.Dir = "/"
	c.cmd.ExtraFiles = []*os.File{root, theirs, in, out}
	c.cmd.Stderr = &limited{&c.said, 4 << 10}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us to pass on
	if ids.Size != 0 {
		c.cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		c.cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(ids.HostUID), Size: int(ids.Size)}}
		c.cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(ids.HostGID), Size: int(ids.Size)}}
		c.cmd.SysProcAttr.GidMappingsEnableSetgroups = true
		c.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 0, Gid: 0}
	}
	if err := c.cmd.Start(); err != nil {
		c.control.Close()
		c.in.Close()
		c.out.Close()
		return nil, fail.Wrap(fail.HostCannot, err, "starting a process with the container's ids")
	}
	return c, nil
}

// limited forgets what is too much.
type limited struct {
	to   *bytes.Buffer
	room int
}

func (l *limited) Write(p []byte) (int, error) {
	l.to.Write(p[:min(len(p), max(0, l.room-l.to.Len()))])
	return len(p), nil
}

// Close ends the container's end, whatever it does.
func (c *Container) Close() {
	c.control.Close()
	c.in.Close()
	c.out.Close()
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// ask waits for the answer; how says what to make of an error number.
func (c *Container) ask(rq request) (reply, error) {
	var re reply
	err := json.NewEncoder(c.control).Encode(rq)
	if err == nil {
		err = c.replies.Decode(&re)
	}
	if err != nil {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		if text := strings.TrimSpace(c.said.String()); text != "" {
			return re, fail.New(fail.HostCannot, "the container's end of the copy: %s", text)
		}
		return re, fail.Wrap(fail.Internal, err, "the container's end of the copy")
	}
	return re, c.errorOf(rq, re)
}

// errorOf has docker's words where docker has some.
func (c *Container) errorOf(rq request, re reply) error {
	switch errno := unix.Errno(re.Errno); {
	case re.Error == "":
		return nil
	case errno == unix.EROFS && re.Volume:
		return fail.New(fail.NoStatus, "mounted volume is marked read-only")
	case errno == unix.EROFS:
		return fail.New(fail.NoStatus, "container rootfs is marked read-only").
			Hint("name the directories that must be written when it is started: --tmpfs /DIR, or -v NAME:/DIR to keep the data")
	case errno == unix.ENOENT && re.Error == errno.Error():
		return fail.New(fail.NotFound, "Could not find the file %s in container %s", rq.Path, c.Name)
	case re.Error == errno.Error():
		return fail.Wrap(fail.NoStatus, errno, "%s in container %s", rq.Path, c.Name)
	}
	return fail.New(fail.NoStatus, "%s", re.Error)
}

// Source says what a path leads to; the last link is followed if asked to.
func (c *Container) Source(p string, follow bool) (Info, error) {
	re, err := c.ask(request{Op: opSource, Path: p, Follow: follow})
	return re.Info, err
}

// Destination says what a path leads to, or would.
func (c *Container) Destination(p string) (Info, error) {
	re, err := c.ask(request{Op: opDestination, Path: p})
	return re.Info, err
}

// Pack gives what is at a path as a tar stream to take, under the given name
// at its top. Ids are those inside.
func (c *Container) Pack(p string, follow bool, name string, take func(io.Reader) (Problems, error)) (Problems, error) {
	taken := make(chan error, 1)
	var theirs Problems
	go func() {
		var err error
		theirs, err = take(c.out)
		if err == nil {
			_, err = io.Copy(io.Discard, c.out) // tar pads its end
		}
		c.out.Close()
		taken <- err
	}()
	re, err := c.ask(request{Op: opPack, Path: p, Follow: follow, Name: name})
	if err != nil && re.Errno != int(unix.EPIPE) {
		c.out.Close()
		<-taken
		return re.Problems, err
	}
	if terr := <-taken; terr != nil {
		err = terr
	}
	re.Problems.Join(theirs)
	return re.Problems, err
}

// Unpack creates the files of the stream that give writes below the directory
// dir: only those with the given name at the top, or all if it is "". They
// belong to the container's root, or to whom the stream says.
func (c *Container) Unpack(dir, only string, owners bool, give func(io.Writer) (Problems, error)) (Problems, error) {
	given := make(chan error, 1)
	var theirs Problems
	go func() {
		var err error
		theirs, err = give(c.in)
		c.in.Close()
		given <- err
	}()
	re, err := c.ask(request{Op: opUnpack, Path: dir, Rules: rules{Only: only, Owners: owners}})
	if err != nil {
		c.in.Close()
		return re.Problems, err // what gives may wait for input for ever
	}
	if gerr := <-given; gerr != nil && !errors.Is(gerr, unix.EPIPE) {
		err = gerr
	}
	re.Problems.Join(theirs)
	return re.Problems, err
}
