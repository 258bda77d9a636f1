package control

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// Everything on a connection is a frame: a byte of type, the payload's length
// as four bytes in network order, the payload.
//
// The client begins with a request. The server answers with a reply, or with
// attached: then output follows, and at last the exit code, or a reply that
// carries an error. Attached clients may send input, the next chunk only when
// the one before was taken: so the server's reader never has to wait for the
// container and sees at once that a client went away.
const (
	frameRequest  byte = iota + 1 // JSON
	frameReply                    // JSON
	frameAttached                 // empty
	frameStdout
	frameStderr
	frameExit // four bytes: the exit code
	frameStdin
	frameStdinEOF // empty
	frameTaken    // empty; or one byte: no more input is of use
)

// Limits of payloads, in bytes.
const (
	headerSize = 5
	requestMax = 64 << 10
	replyMax   = 1 << 20
	chunkMax   = 32 << 10
)

// limit is how long the payload of a type may be; -1 for an unknown type.
func limit(typ byte) int {
	switch typ {
	case frameRequest:
		return requestMax
	case frameReply:
		return replyMax
	case frameStdout, frameStderr, frameStdin:
		return chunkMax
	case frameExit:
		return 4
	case frameTaken:
		return 1
	case frameAttached, frameStdinEOF:
		return 0
	}
	return -1
}

func header(h *[headerSize]byte, typ byte, n int) {
	h[0] = typ
	binary.BigEndian.PutUint32(h[1:], uint32(n))
}

// readHeader reads the head of a frame into h and checks it; io.EOF only at
// the border of two frames.
func readHeader(r io.Reader, h *[headerSize]byte) (typ byte, n int, err error) {
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, 0, err
	}
	size := binary.BigEndian.Uint32(h[1:])
	if m := limit(h[0]); m < 0 || int64(size) > int64(m) {
		return 0, 0, fmt.Errorf("not a frame of the control socket: type %d, %d bytes", h[0], size)
	}
	return h[0], int(size), nil
}

// readJSON reads a frame of the type want into v.
func readJSON(r io.Reader, want byte, v any) error {
	var h [headerSize]byte
	typ, n, err := readHeader(r, &h)
	if err != nil {
		return err
	}
	if typ != want {
		return fmt.Errorf("frame of type %d instead of %d", typ, want)
	}
	return readPayload(r, n, v)
}

func readPayload(r io.Reader, n int, v any) error {
	// The length is the other side's word: memory grows with what comes.
	b, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err != nil {
		return err
	}
	if len(b) < n {
		return io.ErrUnexpectedEOF
	}
	return json.Unmarshal(b, v)
}

// writeJSON writes v as one frame.
func writeJSON(w io.Writer, typ byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > limit(typ) {
		return fmt.Errorf("%d bytes, more than the %d of a frame", len(b), limit(typ))
	}
	f := make([]byte, headerSize, headerSize+len(b))
	header((*[headerSize]byte)(f), typ, len(b))
	_, err = w.Write(append(f, b...))
	return err
}
