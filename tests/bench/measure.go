package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netns"
)

// cost is what one launch took: the time on the clock, and the processor time
// of the launcher itself (the engine's and the container's are others').
type cost struct {
	wall, cpu time.Duration
}

// contender is one way to launch.
type contender struct {
	name string
	args func() []string
	code int // the exit code of success
	env  []string
	in   *netns.NsHandle // nil: the network namespace of this process
}

func (c contender) command() *exec.Cmd {
	args := c.args()
	cmd := exec.Command(args[0], args[1:]...)
	if c.env != nil {
		cmd.Env = append(cmd.Environ(), c.env...)
	}
	return cmd
}

func (c contender) run() (cost, error) {
	cmd := c.command()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	start := time.Now()
	if err := startIn(c.in, cmd); err != nil {
		return cost{}, fmt.Errorf("%s: %w", c.name, err)
	}
	_ = cmd.Wait()
	wall := time.Since(start)
	if cmd.ProcessState.ExitCode() != c.code {
		return cost{}, fmt.Errorf("%s: %s: %v, wanted exit %d\n%s", c.name, strings.Join(cmd.Args, " "), cmd.ProcessState, c.code, errs.String())
	}
	return cost{wall, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}, nil
}

// inTurns runs every contender n times, one after the other in each round,
// after one round that does not count.
func inTurns(n int, all []contender) (map[string][]cost, error) {
	costs := map[string][]cost{}
	for round := range n + 1 {
		for _, c := range all {
			x, err := c.run()
			if err != nil {
				return nil, err
			}
			if round > 0 {
				costs[c.name] = append(costs[c.name], x)
			}
		}
	}
	return costs, nil
}

func median[T int64 | float64 | time.Duration](xs []T) T {
	if len(xs) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(xs))
	if len(s)%2 == 0 {
		return (s[len(s)/2-1] + s[len(s)/2]) / 2
	}
	return s[len(s)/2]
}

func walls(xs []cost) time.Duration {
	var all []time.Duration
	for _, x := range xs {
		all = append(all, x.wall)
	}
	return median(all)
}

func cpus(xs []cost) time.Duration {
	var all []time.Duration
	for _, x := range xs {
		all = append(all, x.cpu)
	}
	return median(all)
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

func ratio(a, b time.Duration) string {
	if b == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", float64(a)/float64(b))
}

// table prints Markdown.
func table(title string, head []string, rows [][]string) {
	fmt.Printf("\n%s\n\n", title)
	line := func(cells []string) { fmt.Println("| " + strings.Join(cells, " | ") + " |") }
	line(head)
	dashes := make([]string, len(head))
	for i := range dashes {
		dashes[i] = "---"
	}
	line(dashes)
	for _, r := range rows {
		line(r)
	}
}
