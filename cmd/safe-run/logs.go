package main

import (
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/logs"
	"github.com/safe-run/safe-run/internal/store"
)

func logsVerb() *cobra.Command {
	q := logs.Query{Stdout: true, Stderr: true}
	var since, until, tail string
	c := &cobra.Command{Use: "logs [OPTIONS] CONTAINER", Short: "Print the output of a container", Args: exactly(1), RunE: func(c *cobra.Command, args []string) error {
		now := time.Now()
		var err error
		if q.Since, err = logs.ParseTime(since, now); err != nil {
			return fail.Wrap(fail.NoStatus, err, "invalid value for \"since\"")
		}
		if q.Until, err = logs.ParseTime(until, now); err != nil {
			return fail.Wrap(fail.NoStatus, err, "invalid value for \"until\"")
		}
		if q.Tail, err = tailLines(tail); err != nil {
			return err
		}
		st, err := store.Open(place())
		if err != nil {
			return err
		}
		rec, err := st.Find(args[0])
		if err != nil {
			return err
		}
		conf, err := logConfig(st, rec)
		if err != nil {
			return err
		}
		alive := func() bool { return st.Supervised(rec.ID) }
		return logs.Read(c.Context(), conf, q, alive, os.Stdout, os.Stderr)
	}}
	c.Long = `Print what a container has written, standard output and error apart. What the
log driver does not keep (none, passthrough) cannot be printed.`
	c.Example = `  safe-run logs -f --tail 100 web
  safe-run logs -t --since 10m web`
	f := c.Flags()
	f.BoolVarP(&q.Follow, "follow", "f", false, "go on until the container ends")
	f.StringVar(&since, "since", "", "only from a time on (2013-01-02T13:23:37Z, or 42m ago)")
	f.StringVar(&until, "until", "", "only up to a time (2013-01-02T13:23:37Z, or 42m ago)")
	f.StringVarP(&tail, "tail", "n", "all", "number of lines from the end")
	f.BoolVarP(&q.Timestamps, "timestamps", "t", false, "with the time before each line")
	f.BoolVar(&q.Details, "details", false, "with the labels and variables noted by --log-opt")
	return c
}

// tailLines reads --tail. Docker takes less than nothing for all.
func tailLines(v string) (int, error) {
	if v == "" || v == "all" {
		return -1, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return 0, fail.New(fail.NoStatus, "invalid value for \"tail\": %.80q is not a number", v)
	}
	return n, nil
}

// logConfig is where the output of a container is kept. The record knows the
// driver it was started with: without a flag that depends on where.
func logConfig(st *store.Store, rec store.Record) (logs.Config, error) {
	asked, err := st.LoadAsked(rec.ID)
	if err != nil && fail.KindOf(err) != fail.NotFound {
		return logs.Config{}, err
	}
	driver := rec.LogDriver
	if driver == "" {
		driver = asked.Workload.LogDriver
	}
	conf, err := logs.Parse(driver, asked.Workload.LogOpts)
	conf.Dir, conf.ID, conf.Unit = st.LogDir(rec.ID), rec.ID, rec.Unit
	return conf, err
}
