// Command fuzz runs every fuzz target of the module for a while, prints a line
// for each, and ends with 1 if one found something. A failing input is left in
// testdata/fuzz of its package, where `go test` tries it from then on; inputs
// that only reach new code stay in Go's cache, for the next time.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	each := flag.Duration("time", 10*time.Minute, "how long each target runs")
	jobs := flag.Int("jobs", 2, "how many run at a time")
	match := flag.String("match", ".", "the targets, as a regular expression on folder/Name")
	list := flag.Bool("list", false, "print the targets, run none")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	found, err := run(ctx, *each, max(*jobs, 1), *match, *list)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
	}
	if found || err != nil {
		os.Exit(1)
	}
}

// run runs the targets that match, and says whether one failed.
func run(ctx context.Context, each time.Duration, jobs int, match string, listOnly bool) (bool, error) {
	re, err := regexp.Compile(match)
	if err != nil {
		return false, err
	}
	targets, err := find(ctx, "./...", re)
	if err != nil {
		return false, err
	}
	if len(targets) == 0 {
		return false, fmt.Errorf("no target matches %s", match)
	}
	if listOnly {
		for _, t := range targets {
			fmt.Println(t)
		}
		return false, nil
	}
	rounds := (len(targets) + jobs - 1) / jobs
	fmt.Fprintf(os.Stderr, "%d targets, %d at a time, %s each: about %s\n", len(targets), jobs, each, time.Duration(rounds)*each)

	var (
		wait   sync.WaitGroup
		next   = make(chan target)
		one    sync.Mutex
		failed bool
	)
	for range jobs {
		wait.Go(func() {
			for t := range next {
				r := t.fuzz(ctx, each)
				if ctx.Err() != nil && r.state != found {
					continue
				}
				one.Lock()
				fmt.Println(r)
				failed = failed || r.state != passed
				one.Unlock()
			}
		})
	}
	for _, t := range targets {
		if ctx.Err() != nil {
			break
		}
		next <- t
	}
	close(next)
	wait.Wait()
	return failed, ctx.Err()
}

// fuzz runs one target with one worker. The inputs found earlier are tried
// first, within its time. Inputs are made small only for some seconds: where a
// map or a clock decides which code runs, Go would try for a minute each.
func (t target) fuzz(ctx context.Context, each time.Duration) result {
	ctx, cancel := context.WithTimeout(ctx, each+20*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-run=^$", "-fuzz=^"+t.name+"$", "-fuzztime="+each.String(), "-fuzzminimizetime=5s", "-parallel=1", t.pkg)
	// go test has children of its own: the test, and its worker.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	start := time.Now()
	out, err := cmd.CombinedOutput()
	r := read(out, err == nil)
	r.target, r.took = t, time.Since(start)
	return r
}
