package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/logs"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/spec"
)

// The log of a container that has ended is read from the disk alone.
func TestLogsVerb(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SAFE_RUN_ROOT", filepath.Join(dir, "root"))
	t.Setenv("SAFE_RUN_STATE", filepath.Join(dir, "run"))
	st, err := store.Open(place())
	if err != nil {
		t.Fatal(err)
	}
	id := strings.Repeat("ab", 32)
	e, err := st.Begin(id)
	if err != nil {
		t.Fatal(err)
	}
	rec := store.Record{ID: id, LogDriver: logs.JSONFile, Phase: store.PhaseRunning}
	if err := st.Save(rec); err != nil {
		t.Fatal(err)
	}
	if err := st.SaveAsked(id, store.Asked{Workload: spec.Workload{LogOpts: map[string]string{"max-file": "2"}}}); err != nil {
		t.Fatal(err)
	}
	conf, err := logConfig(st, rec)
	if err != nil || conf.MaxFile != 2 || conf.Dir != st.LogDir(id) {
		t.Fatal(conf, err)
	}
	l, err := logs.Open(conf, logs.Meta{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Write(logs.Stdout, []byte("one\ntwo\n"))
	out := func(args ...string) (string, error) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		old := os.Stdout
		os.Stdout = w
		c := logsVerb()
		c.SilenceErrors, c.SilenceUsage = true, true
		c.SetArgs(args)
		err = c.ExecuteContext(t.Context())
		os.Stdout = old
		w.Close()
		b, _ := io.ReadAll(r)
		return string(b), err
	}
	for args, want := range map[string]string{
		"abab":                  "one\ntwo\n",
		"-n 1 " + id:            "two\n",
		"--tail=all abab":       "one\ntwo\n",
		"--tail=-1 abab":        "one\ntwo\n",
		"--since 1h abab":       "one\ntwo\n",
		"--until 1h abab":       "",
		"--since 2999-01-01 ab": "",
	} {
		if got, err := out(strings.Fields(args)...); err != nil || got != want {
			t.Errorf("%s: %q %v", args, got, err)
		}
	}
	for args, kind := range map[string]fail.Kind{
		"--since yesterday ab": fail.NoStatus,
		"--tail some ab":       fail.NoStatus,
		"cd":                   fail.NotFound,
	} {
		if _, err := out(strings.Fields(args)...); fail.KindOf(err) != kind {
			t.Errorf("%s: %v", args, err)
		}
	}
	// Following ends with the supervisor, whatever the record says.
	go func() {
		time.Sleep(50 * time.Millisecond)
		_ = l.Write(logs.Stdout, []byte("three\n"))
		l.Close()
		e.Release()
	}()
	if got, err := out("-f", id); err != nil || got != "one\ntwo\nthree\n" {
		t.Errorf("%q %v", got, err)
	}
}
