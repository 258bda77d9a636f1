package logs

import (
	"bytes"
	"io"
)

// lineSize is the longest line that is read: no entry is longer.
const lineSize = 256 << 10

// liner finds lines in what is read, in bounded memory.
type liner struct {
	buf      []byte
	r, w     int
	overlong bool // what is read belongs to a line that is too long
}

// next gives the next whole line without its end, good until the next call;
// false if src has no more, for now. Lines that are too long are left out.
func (l *liner) next(src io.Reader) ([]byte, bool, error) {
	for searched := l.r; ; {
		if i := bytes.IndexByte(l.buf[searched:l.w], '\n'); i >= 0 {
			line := l.buf[l.r : searched+i]
			l.r = searched + i + 1
			searched = l.r
			if l.overlong {
				l.overlong = false
				continue
			}
			return line, true, nil
		}
		if l.buf == nil {
			l.buf = make([]byte, lineSize)
		}
		if l.r > 0 {
			l.w = copy(l.buf, l.buf[l.r:l.w])
			l.r = 0
		}
		if l.w == len(l.buf) {
			l.w, l.overlong = 0, true
		}
		searched = l.w
		n, err := src.Read(l.buf[l.w:])
		if n == 0 || err != nil {
			return nil, false, err
		}
		l.w += n
	}
}

// drop forgets what was read and not yet asked for.
func (l *liner) drop() { l.r, l.w, l.overlong = 0, 0, false }
