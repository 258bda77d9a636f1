package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	xterm "golang.org/x/term"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/launcher"
)

const (
	// statsPeriod is the time between two rounds; the CPU is that of the last one.
	statsPeriod = time.Second
	// statsOnce is how long --no-stream looks at the CPU.
	statsOnce = 500 * time.Millisecond

	statsColumns = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}"
)

// statsRow is what stats shows of a container; the fields are docker's.
type statsRow struct {
	BlockIO, CPUPerc, Container, ID, MemPerc, MemUsage, Name, NetIO, PIDs string
}

func statsVerb() *cobra.Command {
	var all, once, noTrunc bool
	var format string
	c := &cobra.Command{Use: "stats [OPTIONS] [CONTAINER...]", Short: "Show what containers use", RunE: func(c *cobra.Command, args []string) error {
		root, run := place()
		st, err := store.Open(root, run)
		if err != nil {
			return err
		}
		w := &watch{st: st, refs: args, all: all, noTrunc: noTrunc, before: map[string]launcher.Usage{}}
		if _, err := w.round(); err != nil {
			return err
		}
		period := statsPeriod
		if once {
			period = statsOnce
		}
		for {
			if err := sleep(c.Context(), period); err != nil {
				return err
			}
			rows, err := w.round()
			if err != nil {
				return err
			}
			if err := showStats(format, rows, !once && xterm.IsTerminal(int(os.Stdout.Fd()))); err != nil || once {
				return err
			}
		}
	}}
	c.Long = `Show what containers use of processor time, memory, network and disks, again and
again until Ctrl-C.`
	c.Example = `  safe-run stats
  safe-run stats --no-stream --format '{{.Name}} {{.MemUsage}} {{.PIDs}}'`
	f := c.Flags()
	f.BoolVarP(&all, "all", "a", false, "also those that do not run")
	f.BoolVar(&once, "no-stream", false, "only once")
	f.BoolVar(&noTrunc, "no-trunc", false, "full ids")
	f.StringVar(&format, "format", "", "table, table TEMPLATE, json, or a Go template")
	return c
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// showStats prints a round in one write; on a terminal it takes the place of
// the one before.
func showStats(format string, rows []statsRow, over bool) error {
	var b bytes.Buffer
	if over {
		b.WriteString("\x1b[H\x1b[J")
	}
	err := renderTable(&b, listing(format, statsColumns), headings{
		"Container": "CONTAINER", "ID": "CONTAINER ID", "Name": "NAME", "CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT",
		"MemPerc": "MEM %", "NetIO": "NET I/O", "BlockIO": "BLOCK I/O", "PIDs": "PIDS",
	}, rows)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(b.Bytes())
	return fail.Wrap(fail.Internal, err, "printing")
}

// watch measures containers again and again.
type watch struct {
	st           *store.Store
	refs         []string // none: all that run
	all, noTrunc bool
	before       map[string]launcher.Usage // by id, of the round before
}

// round measures all containers, those that were made last first.
func (w *watch) round() ([]statsRow, error) {
	recs, err := w.records()
	if err != nil {
		return nil, err
	}
	now := map[string]launcher.Usage{}
	rows := make([]statsRow, 0, len(recs))
	for i, rec := range recs {
		u, ok := launcher.Measure(rec.Cgroup)
		if !ok && !w.all && len(w.refs) == 0 {
			continue
		}
		row := statsOf(u, w.before[rec.ID])
		row.ID, row.Name = rec.ID, cmp.Or(rec.Name, rec.ID[:12])
		if !w.noTrunc {
			row.ID = rec.ID[:12]
		}
		if row.Container = row.ID; len(w.refs) > 0 {
			row.Container = w.refs[i]
		}
		rows = append(rows, row)
		if ok {
			now[rec.ID] = u
		}
	}
	w.before = now
	return rows, nil
}

func (w *watch) records() (recs []store.Record, err error) {
	for _, ref := range w.refs {
		r, err := w.st.Find(ref)
		if err != nil {
			return nil, err
		}
		recs = append(recs, r)
	}
	if len(w.refs) > 0 {
		return recs, nil
	}
	ids, err := w.st.IDs()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if r, err := w.st.Load(id); err == nil {
			recs = append(recs, r)
		}
	}
	slices.SortFunc(recs, func(a, b store.Record) int { return b.Created.Compare(a.Created) })
	return recs, nil
}

// statsOf gives the figures in docker's form; the CPU is that since before, of
// one CPU.
func statsOf(u, before launcher.Usage) statsRow {
	var cpu, memory float64
	if over := u.At.Sub(before.At); !before.At.IsZero() && over > 0 && u.CPU > before.CPU {
		cpu = float64(u.CPU-before.CPU) / float64(over) * 100
	}
	if u.MemoryLimit > 0 {
		memory = float64(u.Memory) / float64(u.MemoryLimit) * 100
	}
	both := func(size func(float64) string, a, b uint64) string {
		return size(float64(a)) + " / " + size(float64(b))
	}
	short := func(n float64) string { return units.HumanSizeWithPrecision(n, 3) }
	return statsRow{
		CPUPerc: fmt.Sprintf("%.2f%%", cpu), MemPerc: fmt.Sprintf("%.2f%%", memory),
		MemUsage: both(units.BytesSize, u.Memory, u.MemoryLimit),
		NetIO:    both(short, u.NetReceived, u.NetSent), BlockIO: both(short, u.BlockRead, u.BlockWrite),
		PIDs: strconv.FormatUint(u.PIDs, 10),
	}
}
