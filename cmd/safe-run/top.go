package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/launcher"
)

func topVerb() *cobra.Command {
	c := &cobra.Command{
		Use: "top CONTAINER [ps OPTIONS]", Short: "Show the processes of a container", Args: atLeast(1),
		Long: `Show the processes of a container, as ps(1) of the host prints them; process and
user ids are the host's.`,
		Example: `  safe-run top web
  safe-run top web -o pid,user,args`,
		RunE: func(c *cobra.Command, args []string) error {
			root, run := place()
			st, err := store.Open(root, run)
			if err != nil {
				return err
			}
			rec, err := st.Find(args[0])
			if err != nil {
				return err
			}
			pids := launcher.Processes(rec.Cgroup)
			if len(pids) == 0 || !st.Supervised(rec.ID) && rec.Phase != store.PhaseRunning {
				return fail.New(fail.NoStatus, "container %s is not running", rec.ID)
			}
			list, err := processList(c.Context(), args[1:], pids)
			if err != nil {
				return err
			}
			rows, err := processTable(list, pids)
			if err != nil {
				return err
			}
			return printProcesses(os.Stdout, rows)
		},
	}
	c.Flags().SetInterspersed(false)
	return c
}

// maxProcessList bounds what ps may say, in bytes.
const maxProcessList = 32 << 20

// processList asks ps with docker's options: one word may hold several. It is
// told the processes first, as without it some options select by terminal or
// user; with others, such as -e, it cannot be told.
func processList(ctx context.Context, options []string, pids []int) ([]byte, error) {
	if len(options) == 0 {
		options = []string{"-ef"}
	}
	options = strings.Fields(strings.Join(options, " "))
	var chosen []string
	for _, pid := range pids[:min(len(pids), 4096)] {
		chosen = append(chosen, strconv.Itoa(pid))
	}
	if len(chosen) == len(pids) {
		if out, err := ps(ctx, append(slices.Clone(options), "-q"+strings.Join(chosen, ","))); err == nil {
			return out, nil
		}
	}
	return ps(ctx, options)
}

// ps runs the host's ps: by an absolute path, without the caller's
// environment, and without a shell.
func ps(ctx context.Context, options []string) ([]byte, error) {
	program, err := findSystem("ps")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var out, said bytes.Buffer
	c := exec.CommandContext(ctx, program, options...)
	c.Env = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	c.Dir = "/"
	c.Stdout, c.Stderr = &bounded{&out, maxProcessList}, &bounded{&said, 4 << 10}
	if err := c.Run(); err != nil {
		if text := strings.TrimSpace(said.String()); text != "" {
			err = errors.New(text)
		}
		return nil, fail.Wrap(fail.NoStatus, err, "Error running ps")
	}
	return out.Bytes(), nil
}

// bounded takes up to room bytes, and fails at more.
type bounded struct {
	to   io.Writer
	room int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.room -= len(p); b.room < 0 {
		return 0, errors.New("too much output")
	}
	return b.to.Write(p)
}

// processTable takes the lines of ps's output whose PID is one of pids (which
// are sorted) apart, the titles first. The last column may have blanks.
func processTable(list []byte, pids []int) ([][]string, error) {
	lines := strings.Split(strings.TrimRight(string(list), "\n"), "\n")
	titles := strings.Fields(lines[0])
	at := slices.Index(titles, "PID")
	if at < 0 {
		return nil, fail.New(fail.NoStatus, "Couldn't find PID field in ps output").Hint("let the options show it, as -o pid,cmd does")
	}
	rows := [][]string{titles}
	before := false // the line above was one of the container's
	for _, line := range lines[1:] {
		f := strings.Fields(line)
		if len(f) <= at {
			continue
		}
		if f[at] == "-" { // a thread, with the options that show them
			if before {
				rows = append(rows, columnsOf(f, len(titles)))
			}
			continue
		}
		pid, err := strconv.Atoi(f[at])
		if err != nil {
			return nil, fail.New(fail.NoStatus, "Unexpected pid %.32q in ps output", f[at])
		}
		if _, before = slices.BinarySearch(pids, pid); before {
			rows = append(rows, columnsOf(f, len(titles)))
		}
	}
	return rows, nil
}

// columnsOf joins what is too many fields in the last column.
func columnsOf(f []string, n int) []string {
	if len(f) <= n {
		return f
	}
	return append(slices.Clone(f[:n-1]), strings.Join(f[n-1:], " "))
}

func printProcesses(out io.Writer, rows [][]string) error {
	w := tabwriter.NewWriter(out, 20, 1, 3, ' ', 0)
	for _, r := range rows {
		// Programs choose what they are called.
		fmt.Fprintln(w, oneLineCells(r))
	}
	return fail.Wrap(fail.Internal, w.Flush(), "printing")
}

func oneLineCells(cells []string) string {
	for i, c := range cells {
		cells[i] = strings.NewReplacer("\t", " ", "\n", " ").Replace(printable(c))
	}
	return strings.Join(cells, "\t")
}
