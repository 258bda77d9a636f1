package control

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// dial connects to the supervisor at path and sends the request.
func dial(ctx context.Context, path string, rq Request) (*net.UnixConn, error) {
	var u *net.UnixConn
	dir, name := filepath.Split(filepath.Clean(path))
	err := through(dir, name, func(_ int, addr string) error {
		c, err := (&net.Dialer{}).DialContext(ctx, "unix", addr)
		if err == nil {
			u = c.(*net.UnixConn)
		}
		return err
	})
	if ctx.Err() != nil && err != nil {
		return nil, ctx.Err()
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, gone(err)
	}
	if err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "control socket of the container")
	}
	if err := ours(u); err != nil {
		u.Close()
		return nil, err
	}
	// A server that has no place for us replies without reading this.
	var op *net.OpError
	if err := writeJSON(u, frameRequest, rq); err != nil && !errors.As(err, &op) {
		u.Close()
		return nil, fail.Wrap(fail.Internal, err, "request to the container's supervisor")
	}
	return u, nil
}

// Call asks the supervisor at path and waits for its reply. An error in the
// reply is given as *fail.Error, beside the reply. See NotThere for those that
// mean that nobody answered; if ctx ends first, the error is its.
func Call(ctx context.Context, path string, rq Request) (Reply, error) {
	u, err := dial(ctx, path, rq)
	if err != nil {
		return Reply{}, err
	}
	defer u.Close()
	defer context.AfterFunc(ctx, func() { u.Close() })()
	var r Reply
	if err := readJSON(u, frameReply, &r); err != nil {
		return Reply{}, broken(ctx, err)
	}
	return r, r.Err()
}

// broken is the error of a connection that failed before there was a reply.
func broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var op *net.OpError
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &op) {
		return gone(err)
	}
	return fail.Wrap(fail.Internal, err, "reply of the container's supervisor")
}

// Attach asks for a session and carries its streams: in (nil: none) goes to
// the container, its output to stdout and stderr. It returns when the
// container ends: ended is true and code its exit code. That is also so if the
// supervisor answers without a session, with the code of its reply.
//
// ended is false if the session ends otherwise: because ctx ends (err is nil
// then), because the supervisor ends it without an exit code (nil), because of
// an error of the supervisor, stdout, stderr, or of in. The last is given as
// it is: a reader that finds detach keys may say so by its error. The end of
// in, io.EOF, ends the container's input and not the session.
//
// in may be in a call of Read that never returns, and stdout in one of Write
// when ctx or in ends the session: these are left behind.
func Attach(ctx context.Context, path string, rq Request, in io.Reader, stdout, stderr io.Writer) (code int, ended bool, err error) {
	u, err := dial(ctx, path, rq)
	if err != nil {
		return 0, false, err
	}
	defer u.Close()
	defer context.AfterFunc(ctx, func() { u.Close() })()

	r := bufio.NewReaderSize(u, chunkMax+headerSize)
	var h [headerSize]byte
	typ, n, err := readHeader(r, &h)
	if err != nil {
		return 0, false, broken(ctx, err)
	}
	if typ == frameReply {
		var a Reply
		if err := readPayload(r, n, &a); err != nil {
			return 0, false, broken(ctx, err)
		}
		return a.Code, a.Error == nil, a.Err()
	}
	if typ != frameAttached {
		return 0, false, fail.New(fail.Internal, "the container's supervisor answers with a frame of type %d", typ)
	}

	type outcome struct {
		code  int
		ended bool
		err   error
	}
	done := make(chan outcome, 1)
	over := make(chan struct{})
	defer close(over)
	taken := make(chan bool, 1)
	go func() {
		code, ended, err := receive(r, stdout, stderr, taken)
		done <- outcome{code, ended, err}
	}()
	var failed chan error
	if in != nil {
		failed = make(chan error, 1)
		go func() {
			if err := send(u, in, taken, over); err != nil {
				failed <- err
			}
		}()
	}
	select {
	case <-ctx.Done():
		return 0, false, nil
	case err := <-failed:
		return 0, false, err
	case o := <-done:
		if ctx.Err() != nil && !o.ended {
			return 0, false, nil
		}
		return o.code, o.ended, o.err
	}
}

// receive takes what the supervisor sends until the session ends.
func receive(r *bufio.Reader, stdout, stderr io.Writer, taken chan<- bool) (code int, ended bool, err error) {
	var h [headerSize]byte
	buf := make([]byte, chunkMax)
	for {
		typ, n, err := readHeader(r, &h)
		if err == nil && typ != frameReply {
			_, err = io.ReadFull(r, buf[:min(n, chunkMax)])
		}
		if err != nil {
			var op *net.OpError
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &op) {
				return 0, false, nil
			}
			return 0, false, fail.Wrap(fail.Internal, err, "attached session")
		}
		switch typ {
		case frameStdout:
			_, err = stdout.Write(buf[:n])
		case frameStderr:
			_, err = stderr.Write(buf[:n])
		case frameTaken:
			select {
			case taken <- n == 0:
			default:
			}
		case frameExit:
			if n == 4 {
				return int(int32(binary.BigEndian.Uint32(buf))), true, nil
			}
			return 0, false, fail.New(fail.Internal, "attached session: exit code of %d bytes", n)
		case frameReply:
			var a Reply
			if err := readPayload(r, n, &a); err != nil {
				return 0, false, fail.Wrap(fail.Internal, err, "attached session")
			}
			return a.Code, a.Error == nil, a.Err()
		default:
			return 0, false, fail.New(fail.Internal, "attached session: frame of type %d", typ)
		}
		if err != nil {
			return 0, false, err
		}
	}
}

// send passes in on, chunk by chunk, until the session is over, the container
// wants no more, or in ends; io.EOF of in is not an error.
func send(u *net.UnixConn, in io.Reader, taken <-chan bool, over <-chan struct{}) error {
	buf := make([]byte, headerSize+chunkMax)
	for {
		n, err := in.Read(buf[headerSize:])
		if n > 0 {
			header((*[headerSize]byte)(buf), frameStdin, n)
			if _, err := u.Write(buf[:headerSize+n]); err != nil {
				return nil // the receiving side sees why
			}
			select {
			case <-over:
				return nil
			case more := <-taken:
				if !more {
					return nil
				}
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			var h [headerSize]byte
			header(&h, frameStdinEOF, 0)
			_, _ = u.Write(h[:])
			return nil
		case err != nil:
			return err
		}
	}
}
