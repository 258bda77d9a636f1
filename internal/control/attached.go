package control

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// The streams of Client.Write.
const (
	Stdout = frameStdout
	Stderr = frameStderr
)

// sendBuffer is what the kernel keeps for a client that does not read, in
// bytes. There is no other buffer.
const sendBuffer = 256 << 10

// Client is an attached client, as the supervisor sees it.
type Client struct {
	c          *Conn
	stdin      io.Writer
	closeStdin func()
	patience   time.Duration // without any progress of a write, until the client is cut off

	start   sync.Once
	pending atomic.Bool
	in      chan int // the size of what is in buf; -1 is the end of input
	buf     []byte   // the reader's, or while pending the feeder's

	mu    sync.Mutex // guards what is below
	ended bool
	head  [headerSize]byte
	parts [2][]byte
	vec   net.Buffers
}

// Attached turns the connection into an attached session. Input of the client
// is written to stdin (nil: thrown away) by a goroutine; at its end closeStdin
// (or nil) is called, but not if the client just goes away. If several clients
// share an input that may block, make it an Input.
//
// The handler keeps running for as long as the session lasts: it waits for its
// context to end, which it does when the client has gone, was cut off, or was
// ended with End.
func (c *Conn) Attached(stdin io.Writer, closeStdin func()) *Client {
	k := &Client{c: c, stdin: stdin, closeStdin: closeStdin, patience: c.patience, in: make(chan int, 1)}
	k.sendBuffer()
	c.client.Store(k)
	k.mu.Lock()
	defer k.mu.Unlock()
	_ = k.send(frameAttached, nil)
	return k
}

func (k *Client) sendBuffer() {
	raw, err := k.c.u.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		// The second is bounded by net.core.wmem_max.
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
		}
	})
}

// Write sends output of the container: stream is Stdout or Stderr. It waits
// for a client that is slow. One that takes nothing at all for ten seconds is
// cut off; Write then gives an error, as it does for a client that has gone.
func (k *Client) Write(stream byte, p []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(p) > 0 {
		n := min(len(p), chunkMax)
		if err := k.send(stream, p[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// End sends the exit code, after all output, and ends the session.
func (k *Client) End(code int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(int32(code)))
	_ = k.send(frameExit, b[:])
	k.ended = true
	k.c.cancel()
}

// over tells a client why its session ends, if it is for an error.
func (k *Client) over(r Reply) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended || r.Error == nil {
		return
	}
	_ = k.c.u.SetWriteDeadline(time.Now().Add(k.patience))
	_ = writeJSON(k.c.u, frameReply, r)
	k.ended = true
}

// send writes one frame; mu is held. It does not allocate.
func (k *Client) send(typ byte, p []byte) error {
	if k.ended {
		return net.ErrClosed
	}
	header(&k.head, typ, len(p))
	k.parts = [2][]byte{k.head[:], p}
	k.vec = k.parts[:]
	defer func() { k.parts = [2][]byte{} }()

	// A socket is writable again only when most of its buffer is free, so a
	// slow reader's progress shows in the queue, not in what can be written.
	const looks = 5
	queued, still := -1, 0
	for {
		_ = k.c.u.SetWriteDeadline(time.Now().Add(k.patience / looks))
		n, err := k.vec.WriteTo(k.c.u)
		if err == nil {
			return nil
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			q := k.queued()
			if still++; n > 0 || q < queued {
				still = 0
			}
			queued = q
			if still < looks {
				continue
			}
		}
		k.ended = true
		k.c.cancel()
		k.c.u.Close()
		return err
	}
}

// queued is how much the client has not read, in the kernel's bytes.
func (k *Client) queued() (n int) {
	raw, err := k.c.u.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return n
}

// receive takes the head of a frame from the client, and reads the rest;
// false ends the connection.
func (k *Client) receive(typ byte, n int) bool {
	if k.pending.Swap(true) {
		return false // the last one was not taken yet, and buf is in use
	}
	switch typ {
	case frameStdin:
		if k.buf == nil {
			k.buf = make([]byte, chunkMax)
		}
		if _, err := io.ReadFull(k.c.u, k.buf[:n]); err != nil {
			return false
		}
	case frameStdinEOF:
		n = -1
	default:
		return false
	}
	k.start.Do(func() { go k.feed() })
	k.in <- n // has room: nothing is pending
	return true
}

// feed writes the client's input. It may wait in Write for longer than the
// client lives: nothing but the container can end that.
func (k *Client) feed() {
	for {
		var n int
		select {
		case <-k.c.ctx.Done():
			return
		case n = <-k.in:
		}
		if n < 0 {
			if k.closeStdin != nil {
				k.closeStdin()
			}
			return
		}
		var answer []byte
		if err := k.put(k.buf[:n]); err != nil {
			answer = []byte{1}
		}
		k.pending.Store(false)
		k.mu.Lock()
		err := k.send(frameTaken, answer)
		k.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (k *Client) put(p []byte) (err error) {
	switch w := k.stdin.(type) {
	case nil:
	case *Input:
		err = w.put(k.c.ctx, p)
	default:
		_, err = w.Write(p)
	}
	return err
}

// Input is the input of a container as several clients share it: one writes
// at a time. Of those who wait while the container takes nothing, all but the
// one that writes can leave.
type Input struct {
	w    io.Writer
	turn chan struct{}
}

// NewInput makes an Input of w.
func NewInput(w io.Writer) *Input { return &Input{w: w, turn: make(chan struct{}, 1)} }

// Write writes p when it is its turn.
func (i *Input) Write(p []byte) (int, error) {
	return len(p), i.put(context.Background(), p)
}

func (i *Input) put(ctx context.Context, p []byte) error {
	select {
	case i.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-i.turn }()
	_, err := i.w.Write(p)
	return err
}
