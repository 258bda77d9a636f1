package logs

import (
	"bytes"
	"encoding/binary"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// fields reads a datagram of the journal's native protocol.
func fields(t *testing.T, b []byte) map[string]string {
	t.Helper()
	m := map[string]string{}
	for len(b) > 0 {
		line, rest, _ := bytes.Cut(b, []byte{'\n'})
		if k, v, ok := bytes.Cut(line, []byte{'='}); ok {
			m[string(k)], b = string(v), rest
			continue
		}
		n := binary.LittleEndian.Uint64(rest)
		m[string(line)] = string(rest[8 : 8+n])
		b = rest[8+n+1:]
	}
	return m
}

func TestJournal(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "socket")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c, err := Parse(Journald, map[string]string{"labels": "a.b,message,container-name,_9x"})
	if err != nil {
		t.Fatal(err)
	}
	id := strings.Repeat("ab", 32)
	m := Meta{ID: id, Name: "web", Image: "nginx", Labels: map[string]string{"a.b": "1\nPRIORITY=0", "message": "forged", "container-name": "other", "_9x": "y"}}
	var d drops
	d.notice = func(err error) { t.Log(err) }
	j, err := newJournal(c, m, socket, &d)
	if err != nil {
		t.Fatal(err)
	}
	l := &Log{sink: j}
	receive := func() map[string]string {
		b := make([]byte, 64<<10)
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, err := conn.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return fields(t, b[:n])
	}
	common := map[string]string{"CONTAINER_ID": id[:12], "CONTAINER_ID_FULL": id, "CONTAINER_NAME": "web", "CONTAINER_TAG": id[:12], "IMAGE_NAME": "nginx", "SYSLOG_IDENTIFIER": id[:12], "A_B": "1\nPRIORITY=0", "X": "y"}
	check := func(add map[string]string) {
		t.Helper()
		got := receive()
		if _, err := time.Parse(time.RFC3339Nano, got["SYSLOG_TIMESTAMP"]); err != nil {
			t.Error(err)
		}
		delete(got, "SYSLOG_TIMESTAMP")
		maps.Copy(add, common)
		if !maps.Equal(got, add) {
			t.Errorf("%.400q, want %.400q", got, add)
		}
	}
	_ = l.Write(Stdout, []byte("one\nMESSAGE="))
	_ = l.Write(Stderr, append(bytes.Repeat([]byte{0xff}, maxLine+2), '\n'))
	check(map[string]string{"MESSAGE": "one", "PRIORITY": "6"})
	check(map[string]string{"MESSAGE": strings.Repeat("\xff", maxLine), "PRIORITY": "3", "CONTAINER_PARTIAL_MESSAGE": "true"})
	check(map[string]string{"MESSAGE": "\xff\xff", "PRIORITY": "3"})
	line := []byte("x\n")
	if n := testing.AllocsPerRun(1, func() { _ = l.Write(Stdout, line) }); n > 0 {
		t.Errorf("%v allocations for a line", n)
	}

	// Nobody receives: after some patience, once, output is dropped.
	begun := time.Now()
	for range 2000 {
		_ = l.Write(Stdout, line)
	}
	if took := time.Since(begun); d.entries == 0 || took > patience+10*time.Second {
		t.Error(d.entries, took)
	}
	conn.Close()
	l.Close()
	if d.entries == 0 {
		t.Error("nothing was counted")
	}
}

func TestDecodeJournal(t *testing.T) {
	for line, want := range map[string]string{
		`{"MESSAGE":"a \u001b é","PRIORITY":"6","SYSLOG_TIMESTAMP":"2026-01-02T03:04:05.6Z","__REALTIME_TIMESTAMP":"1"}`: "1 2026-01-02T03:04:05.6Z a \x1b é\n ",
		`{"MESSAGE":[255,10,0],"PRIORITY":"3","__REALTIME_TIMESTAMP":"1500000"}`:                                         "2 1970-01-01T00:00:01.5Z \xff\n\x00\n ",
		`{"MESSAGE":"part","CONTAINER_PARTIAL_MESSAGE":"true","__REALTIME_TIMESTAMP":"1","A":"b","_PID":"1"}`:            `1 1970-01-01T00:00:00.000001Z part {"A":"b"}`,
		`{"MESSAGE":"","__REALTIME_TIMESTAMP":"1"}`:                                                                      "1 1970-01-01T00:00:00.000001Z \n ",
	} {
		var e entry
		if !e.decodeJournal([]byte(line), strings.Contains(want, "{")) {
			t.Error(line)
			continue
		}
		if got := string('0'+rune(e.stream)) + " " + e.time.Format(time.RFC3339Nano) + " " + string(e.text) + " " + string(e.attrs); strings.TrimSuffix(got, " ") != strings.TrimSuffix(want, " ") {
			t.Errorf("%s: %q", line, got)
		}
	}
	for _, line := range []string{"", "{}", "[]", `{"MESSAGE":null,"__REALTIME_TIMESTAMP":"1"}`, `{"MESSAGE":"x"}`, `{"MESSAGE":{"a":1},"__REALTIME_TIMESTAMP":"1"}`, `{"MESSAGE":["a","b"],"__REALTIME_TIMESTAMP":"1"}`} {
		if (&entry{}).decodeJournal([]byte(line), false) {
			t.Error(line)
		}
	}
}

func TestJournalArgs(t *testing.T) {
	q := everything()
	q.Follow, q.Tail, q.Since, q.Until = true, 3, time.Unix(5, 6), time.Unix(7, 8)
	got := strings.Join(journalArgs(q, "ID"), " ")
	if want := "--follow --lines=3 --since=@5 --output-fields=MESSAGE,PRIORITY,SYSLOG_TIMESTAMP,CONTAINER_PARTIAL_MESSAGE _UID=0 CONTAINER_ID_FULL=ID"; !strings.HasSuffix(got, want) {
		t.Error(got)
	}
	q.Follow, q.Details, q.Tail = false, true, -1
	if args := journalArgs(q, "ID"); !slices.Contains(args, "--until=@8") || !slices.Contains(args, "--no-tail") {
		t.Error(args)
	}
}
