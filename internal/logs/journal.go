package logs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// journalSocket takes datagrams of https://systemd.io/JOURNAL_NATIVE_PROTOCOL/.
const journalSocket = "/run/systemd/journal/socket"

// journal is the sink of journald, with the fields docker's has
// (daemon/logger/journald).
type journal struct {
	drops   *drops
	fd      int // -1: not open
	to      *unix.SockaddrUnix
	failing bool   // the last datagram was not taken
	buf     []byte // fields that never change, then those of an entry
	fixed   int    // length of the former
	stamp   []byte
}

func newJournal(c Config, m Meta, socket string, d *drops) (*journal, error) {
	if _, err := os.Stat(socket); err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "the journal of systemd is not there")
	}
	attrs, err := c.attributes(m)
	if err != nil {
		return nil, err
	}
	tag := c.Tag
	if tag == "" {
		tag = "{{.ID}}"
	}
	if tag, err = m.expandTag(tag); err != nil {
		return nil, err
	}
	fields := map[string]string{
		"CONTAINER_ID": short(m.ID), "CONTAINER_ID_FULL": m.ID, "CONTAINER_NAME": m.Name,
		"CONTAINER_TAG": tag, "IMAGE_NAME": m.Image, "SYSLOG_IDENTIFIER": tag,
	}
	own := []string{"MESSAGE", "PRIORITY", "SYSLOG_TIMESTAMP", "CONTAINER_PARTIAL_MESSAGE"}
	for k, v := range attrs {
		// An image's label must not pass for another container's output.
		k = fieldName(k)
		if _, taken := fields[k]; k != "" && !taken && !slices.Contains(own, k) {
			fields[k] = v
		}
	}
	j := &journal{drops: d, fd: -1, to: &unix.SockaddrUnix{Name: socket}}
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		j.buf = appendField(j.buf, k, fields[k])
	}
	j.fixed = len(j.buf)
	j.buf = slices.Grow(j.buf, maxLine+256)
	return j, nil
}

// fieldName makes the name of a field of any name, as docker does: capital
// letters, digits and underscores. journald takes 64 bytes, the first a letter.
func fieldName(s string) string {
	n := strings.TrimLeft(strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case ('A' > r || r > 'Z') && ('0' > r || r > '9'):
			return '_'
		}
		return r
	}, s), "_0123456789")
	return n[:min(64, len(n))]
}

func appendField(b []byte, name, value string) []byte {
	b = append(append(b, name...), '\n')
	b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	return append(append(b, value...), '\n')
}

func (j *journal) begin(_ byte, now time.Time) {
	j.stamp = now.UTC().AppendFormat(j.stamp[:0], time.RFC3339Nano)
}

func (j *journal) lines(stream byte, p []byte) int {
	all := len(p)
	for len(p) > 0 {
		n := bytes.IndexByte(p[:min(len(p), maxLine+1)], '\n')
		if n >= 0 {
			j.entry(stream, p[:n], false)
			p = p[n+1:]
			continue
		}
		if len(p) <= maxLine {
			break
		}
		n = cut(p[:maxLine])
		j.entry(stream, p[:n], true)
		p = p[n:]
	}
	return all - len(p)
}

func (j *journal) entry(stream byte, p []byte, part bool) {
	b := j.buf[:j.fixed]
	if stream == Stderr {
		b = append(b, "PRIORITY=3\n"...)
	} else {
		b = append(b, "PRIORITY=6\n"...)
	}
	b = append(append(append(b, "SYSLOG_TIMESTAMP="...), j.stamp...), '\n')
	if part {
		b = append(b, "CONTAINER_PARTIAL_MESSAGE=true\n"...)
	}
	b = append(b, "MESSAGE\n"...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(p)))
	b = append(append(b, p...), '\n')
	j.buf = b
	if err := j.send(b); err != nil {
		j.drops.add(1, &os.PathError{Op: "send", Path: j.to.Name, Err: err})
	}
}

// patience is how long a journal that takes nothing holds up the container,
// once.
const patience = 2 * time.Second

func (j *journal) send(b []byte) error {
	if j.fd < 0 {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		limit := unix.NsecToTimeval(patience.Nanoseconds())
		// Best effort: the limits are for a journal that hangs and for big datagrams.
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit)
		j.fd = fd
	}
	flags := unix.MSG_NOSIGNAL
	if j.failing {
		flags |= unix.MSG_DONTWAIT
	}
	for {
		err := unix.Sendto(j.fd, b, flags, j.to)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		j.failing = err != nil
		return err
	}
}

func (j *journal) end() {}

func (j *journal) close() {
	if j.fd >= 0 {
		unix.Close(j.fd)
		j.fd = -1
	}
}
