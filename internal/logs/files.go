package logs

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/bits"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

const (
	// flushAt is how many bytes are written at once: more gains nothing, and
	// 200 supervisors have a buffer each.
	flushAt = 64 << 10
	// entrySize is the longest entry: a line of which each byte takes six,
	// attributes, and the rest.
	entrySize = 6*maxLine + attrsSize + 256

	entryHead = `{"log":"`
)

// files is the sink of json-file: docker's format, one JSON object on a line.
type files struct {
	c     Config
	drops *drops

	fd   int   // -1: not open
	size int64 // of the open file
	torn bool  // the file does not end with the end of an entry
	buf  []byte

	middle [2][]byte // per stream: from the end of the line to the time
	tail   []byte    // all that follows a line's text, for the chunk at hand
}

func newFiles(c Config, m Meta, d *drops) (*files, error) {
	attrs, err := c.attributes(m)
	if err != nil {
		return nil, err
	}
	if c.Tag != "" {
		if attrs["tag"], err = m.expandTag(c.Tag); err != nil {
			return nil, err
		}
	}
	var noted []byte
	if len(attrs) > 0 {
		b, err := json.Marshal(attrs)
		if err != nil || len(b) > attrsSize {
			return nil, fail.New(fail.Usage, "log opts: more is to be noted with each line of output than %d bytes hold", attrsSize)
		}
		noted = append([]byte(`,"attrs":`), b...)
	}
	f := &files{c: c, drops: d, fd: -1}
	for i, name := range []string{"stdout", "stderr"} {
		f.middle[i] = append([]byte(`\n","stream":"`+name+`"`), noted...)
		f.middle[i] = append(f.middle[i], `,"time":"`...)
	}
	return f, nil
}

func (f *files) begin(stream byte, now time.Time) {
	if f.buf == nil {
		f.buf = make([]byte, 0, flushAt+entrySize)
	}
	f.tail = append(f.tail[:0], f.middle[stream-1]...)
	f.tail = now.UTC().AppendFormat(f.tail, time.RFC3339Nano)
	f.tail = append(f.tail, "\"}\n"...)
	if f.fd < 0 {
		f.open()
	}
	if f.torn && len(f.buf) == 0 {
		f.buf = append(f.buf, '\n')
	}
}

func (f *files) lines(_ byte, p []byte) int {
	all := len(p)
	for len(p) > 0 {
		p = p[f.plainLines(p):]
		limit := min(len(p), maxLine+1)
		if i := bytes.IndexByte(p[:limit], '\n'); i >= 0 {
			f.entry(0, p[:i], false)
			p = p[i+1:]
			continue
		}
		if len(p) <= maxLine {
			break
		}
		n := cut(p[:maxLine])
		f.entry(0, p[:n], true)
		p = p[n:]
	}
	return all - len(p)
}

// plainLines takes the lines at the start of p that nothing in needs
// escaping, and that the buffer and the file have room for, and tells how much
// it took. Floods are of such lines: this loop is the speed of a log.
func (f *files) plainLines(p []byte) int {
	full := int(min(flushAt, f.c.MaxSize-f.size))
	all, b, tail := len(p), f.buf, f.tail
	for len(p) >= 8 {
		first := binary.LittleEndian.Uint64(p)
		n := bits.TrailingZeros64(special(first)) >> 3 // 8 if there is none
		if n == 8 {
			n += plainRun(p[8:min(len(p), maxLine+1)])
		}
		end := len(b) + len(entryHead) + n + len(tail)
		if n == len(p) || p[n] != '\n' || n > maxLine || end > full {
			break
		}
		to := b[len(b):end]
		copy(to, entryHead)
		binary.LittleEndian.PutUint64(to[len(entryHead):], first) // the tail is longer than what this writes too much
		if n > 8 {
			copy(to[len(entryHead):], p[:n])
		}
		copy(to[len(entryHead)+n:], tail)
		b, p = b[:end], p[n+1:]
	}
	f.buf = b
	return all - len(p)
}

func (f *files) entry(_ byte, p []byte, part bool) {
	start, tail := len(f.buf), f.tail
	if part {
		tail = tail[len(`\n`):]
	}
	b := append(f.buf, entryHead...)
	b = appendEscaped(b, p)
	f.buf = append(b, tail...)
	f.added(start)
}

// added does what a new entry at start of the buffer makes necessary.
func (f *files) added(start int) {
	if f.size+int64(len(f.buf)) > f.c.MaxSize && f.size+int64(start) > 0 {
		f.turn(start)
	}
	if len(f.buf) >= flushAt {
		f.end()
	}
}

// turn writes what stands before the newest entry, and starts a file with it.
func (f *files) turn(start int) {
	newest := f.buf[start:]
	f.buf = f.buf[:start]
	f.end()
	if f.size > 0 {
		if err := f.rotate(); err != nil {
			f.drops.add(1, err)
			return
		}
	}
	// The buffer has not moved: newest is still where it was.
	f.buf = append(f.buf[:0], newest...)
}

// end writes the buffer. The entries of it that cannot be written are lost.
func (f *files) end() {
	b := f.buf
	f.buf = f.buf[:0]
	for len(b) > 0 && f.fd >= 0 {
		n, err := unix.Write(f.fd, b)
		if n > 0 {
			f.size += int64(n)
			f.torn = b[n-1] != '\n'
			b = b[n:]
		}
		if err == nil || errors.Is(err, unix.EINTR) {
			continue
		}
		f.drops.add(entriesIn(b), &os.PathError{Op: "write", Path: f.c.File(), Err: err})
		if f.torn {
			f.buf = append(f.buf, '\n')
		}
		return
	}
	// If anything is left the file is not open, and open has said why.
	f.drops.entries += uint64(entriesIn(b))
}

// entriesIn counts the entries that end in b. An end at its start belongs to
// what has been written already.
func entriesIn(b []byte) int {
	return bytes.Count(bytes.TrimPrefix(b, []byte{'\n'}), []byte{'\n'})
}

// open opens the newest file to append to it, and makes it if there is none.
func (f *files) open() {
	f.size, f.torn = 0, false
	err := os.Mkdir(f.c.Dir, 0o700)
	if err == nil || errors.Is(err, os.ErrExist) {
		err = f.openFile()
	}
	if err != nil {
		f.drops.add(0, err)
	}
}

func (f *files) openFile() error {
	name := f.c.File()
	// Not O_WRONLY: the last byte is read.
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_APPEND|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		unix.Close(fd)
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	f.fd, f.size = fd, st.Size
	if st.Size > 0 {
		var last [1]byte
		n, _ := unix.Pread(fd, last[:], st.Size-1)
		f.torn = n != 1 || last[0] != '\n'
	}
	return nil
}

// rotate renames the files and starts a new one. The oldest is lost.
func (f *files) rotate() error {
	f.close()
	var err error
	if f.c.MaxFile == 1 {
		err = os.Remove(f.c.File())
	}
	for i := f.c.MaxFile - 1; i > 0 && err == nil; i-- {
		if err = os.Rename(f.c.file(i-1), f.c.file(i)); errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	}
	if err == nil {
		err = f.openFile()
	}
	if err != nil {
		// What is there counts against the bound still: try again at the next entry.
		_ = f.openFile()
	}
	return err
}

func (f *files) close() {
	if f.fd >= 0 {
		unix.Close(f.fd)
		f.fd = -1
	}
	f.size, f.torn = 0, false
}
