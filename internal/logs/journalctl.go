package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/safe-run/safe-run/internal/fail"
)

// journalArgs are the arguments of journalctl for a query. Only entries of
// root are read: whoever can log could claim to be the container.
func journalArgs(q Query, id string) []string {
	args := []string{"--output=json", "--all", "--no-pager", "--quiet"}
	if q.Follow {
		args = append(args, "--follow")
	}
	if q.Tail >= 0 {
		args = append(args, "--lines="+strconv.Itoa(q.Tail))
	} else {
		args = append(args, "--no-tail")
	}
	if !q.Since.IsZero() {
		args = append(args, "--since=@"+strconv.FormatInt(q.Since.Unix(), 10))
	}
	if !q.Until.IsZero() && !q.Follow {
		args = append(args, "--until=@"+strconv.FormatInt(q.Until.Unix()+1, 10))
	}
	if !q.Details {
		args = append(args, "--output-fields=MESSAGE,PRIORITY,SYSLOG_TIMESTAMP,CONTAINER_PARTIAL_MESSAGE")
	}
	return append(args, "_UID=0", "CONTAINER_ID_FULL="+id)
}

func (c Config) readJournal(ctx context.Context, p *printer, alive func() bool) error {
	// The death signal comes when the thread ends that started the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/usr/bin/journalctl", journalArgs(p.q, c.ID)...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	r, w, err := os.Pipe()
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "journal")
	}
	defer r.Close()
	var said firstBytes
	cmd.Stdout, cmd.Stderr = w, &said
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "journalctl")
	}
	ended, err := c.journalLines(ctx, p, r, alive)
	if !ended {
		_ = cmd.Process.Kill()
	}
	if e := cmd.Wait(); err == nil && ended && e != nil {
		return fail.Wrap(fail.HostCannot, e, "journalctl: %s", strings.TrimSpace(said.String()))
	}
	return err
}

// journalLines prints what journalctl writes. It tells whether journalctl has
// ended by itself.
func (c Config) journalLines(ctx context.Context, p *printer, r *os.File, alive func() bool) (ended bool, err error) {
	var lines liner
	var e entry
	src := &untilIdle{f: r}
	for idle := 0; ctx.Err() == nil; {
		living := p.q.Follow && alive()
		some := false
		for {
			line, more, err := lines.next(src)
			if err != nil && !errors.Is(err, io.EOF) {
				return false, fail.Wrap(fail.HostCannot, err, "journal")
			}
			if !more {
				ended = err != nil
				break
			}
			some = true
			if !e.decodeJournal(line, p.q.Details) {
				continue
			}
			if p.past(e.time) {
				return false, nil
			}
			if err := p.print(&e); err != nil {
				return false, err
			}
		}
		if err := p.flush(); err != nil || ended {
			return ended, err
		}
		if hungUp(pollNow(p.outputs())) {
			return false, errGone
		}
		// What the container printed last may be on its way through the journal.
		if idle++; some || living || !p.q.Follow {
			idle = 0
		}
		if idle == 2 || (p.q.Follow && p.past(time.Now())) {
			return false, nil
		}
	}
	return false, nil
}

// untilIdle reads a pipe; when nothing comes within poll it reads nothing.
type untilIdle struct{ f *os.File }

func (u *untilIdle) Read(b []byte) (int, error) {
	_ = u.f.SetReadDeadline(time.Now().Add(poll))
	n, err := u.f.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return n, err
}

// firstBytes keeps the start of what a program says.
type firstBytes struct{ bytes.Buffer }

func (f *firstBytes) Write(b []byte) (int, error) {
	_, _ = f.Buffer.Write(b[:min(len(b), max(0, 1024-f.Len()))])
	return len(b), nil
}

// decodeJournal reads an entry as journalctl writes it
// (https://systemd.io/JOURNAL_EXPORT_FORMATS/#journal-json-format).
func (e *entry) decodeJournal(line []byte, details bool) bool {
	var fields map[string]json.RawMessage
	if json.Unmarshal(line, &fields) != nil {
		return false
	}
	text := func(name string) string {
		b, _ := journalValue(fields[name])
		return string(b)
	}
	var ok bool
	if e.text, ok = journalValue(fields["MESSAGE"]); !ok {
		return false
	}
	if text("CONTAINER_PARTIAL_MESSAGE") != "true" {
		e.text = append(e.text, '\n')
	}
	e.stream = Stdout
	if text("PRIORITY") == "3" {
		e.stream = Stderr
	}
	t, err := time.Parse(time.RFC3339Nano, text("SYSLOG_TIMESTAMP"))
	if err != nil {
		micro, err := strconv.ParseInt(text("__REALTIME_TIMESTAMP"), 10, 64)
		if err != nil {
			return false
		}
		t = time.UnixMicro(micro)
	}
	e.time, e.attrs = t.UTC(), nil
	if details {
		e.attrs = journalAttrs(fields)
	}
	return true
}

// journalAttrs are the fields that are not the driver's or the journal's own.
func journalAttrs(fields map[string]json.RawMessage) []byte {
	attrs := map[string]string{}
	for k, v := range fields {
		switch k {
		case "MESSAGE", "PRIORITY", "SYSLOG_TIMESTAMP", "SYSLOG_IDENTIFIER", "CONTAINER_PARTIAL_MESSAGE",
			"CONTAINER_ID", "CONTAINER_ID_FULL", "CONTAINER_NAME", "CONTAINER_TAG", "IMAGE_NAME":
			continue
		}
		if b, ok := journalValue(v); ok && !strings.HasPrefix(k, "_") {
			attrs[k] = string(b)
		}
	}
	b, _ := json.Marshal(attrs) // a map of strings
	return b
}

// journalValue is the value of a field: a string, or numbers if it is none.
func journalValue(v json.RawMessage) ([]byte, bool) {
	var s string
	if json.Unmarshal(v, &s) == nil && string(v) != "null" {
		return []byte(s), true
	}
	var numbers []number
	if json.Unmarshal(v, &numbers) != nil || numbers == nil {
		return nil, false
	}
	b := make([]byte, len(numbers))
	for i, n := range numbers {
		b[i] = byte(n)
	}
	return b, true
}

// number keeps encoding/json from reading bytes as base64.
type number uint16
