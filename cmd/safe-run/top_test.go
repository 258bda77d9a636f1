package main

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/safe-run/safe-run/launcher"
)

func TestProcessTable(t *testing.T) {
	for _, c := range []struct{ name, list, want, err string }{
		{"some of them", "UID PID CMD\nroot 1 init\nroot 7 sh -c  x y\nroot 77 no\n", "UID PID CMD|root 7 sh -c x y", ""},
		{"pid last", "CMD PID\nsh 7\n", "CMD PID|sh 7", ""},
		{"threads", "PID LWP CMD\n7 - sh\n- 8 sh\n9 - no\n- 10 no\n", "PID LWP CMD|7 - sh|- 8 sh", ""},
		{"short line", "UID PID CMD\nroot\n", "UID PID CMD", ""},
		{"no pid", "UID CMD\nroot 7\n", "", "PID field"},
		{"nothing", "", "", "PID field"},
		{"no number", "PID\nx\n", "", "Unexpected pid"},
	} {
		rows, err := processTable([]byte(c.list), []int{7})
		var got []string
		for _, r := range rows {
			got = append(got, strings.Join(r, " "))
		}
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v", c.name, err)
			}
		} else if err != nil || strings.Join(got, "|") != c.want {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
}

// The name of a program cannot steer the terminal, nor move the columns.
func TestProcessesArePrintable(t *testing.T) {
	var b bytes.Buffer
	if err := printProcesses(&b, [][]string{{"PID", "CMD"}, {"7", "a\x1b[2J\tb\nc"}}); err != nil {
		t.Fatal(err)
	}
	if s := b.String(); strings.ContainsAny(s, "\x1b\t") || strings.Count(s, "\n") != 2 {
		t.Errorf("%q", s)
	}
}

func TestProcessListOfThisProcess(t *testing.T) {
	for _, options := range [][]string{nil, {"-o", "pid,args"}, {"-o pid"}, {"aux"}} {
		list, err := processList(context.Background(), options, []int{os.Getpid()})
		if err != nil {
			t.Fatal(err)
		}
		if rows, err := processTable(list, []int{os.Getpid()}); err != nil || len(rows) != 2 {
			t.Errorf("%q: %q, %v", options, rows, err)
		}
	}
	if _, err := processList(context.Background(), []string{"--no-such-option"}, []int{1}); err == nil {
		t.Error("an unknown option: no error")
	}
}

func TestStatsOf(t *testing.T) {
	at := time.Unix(100, 0)
	u := launcher.Usage{
		At: at.Add(2 * time.Second), CPU: 4 * time.Second, Memory: 3 << 19, MemoryLimit: 512 << 20,
		NetReceived: 1234, NetSent: 5, BlockRead: 4096, BlockWrite: 5_000_000, PIDs: 3,
	}
	want := statsRow{CPUPerc: "150.00%", MemUsage: "1.5MiB / 512MiB", MemPerc: "0.29%", NetIO: "1.23kB / 5B", BlockIO: "4.1kB / 5MB", PIDs: "3"}
	if got := statsOf(u, launcher.Usage{At: at, CPU: time.Second}); got != want {
		t.Errorf("%+v", got)
	}
	want = statsRow{CPUPerc: "0.00%", MemUsage: "0B / 0B", MemPerc: "0.00%", NetIO: "0B / 0B", BlockIO: "0B / 0B", PIDs: "0"}
	if got := statsOf(launcher.Usage{}, launcher.Usage{}); got != want {
		t.Errorf("not running: %+v", got)
	}
}

// The flags end at the container's name: the rest is the command's.
func TestExecFlagsEndAtTheName(t *testing.T) {
	c := execVerb()
	if err := c.ParseFlags([]string{"-u", "1", "web", "sh", "-c", "-t"}); err != nil {
		t.Fatal(err)
	}
	if got := c.Flags().Args(); !slices.Equal(got, []string{"web", "sh", "-c", "-t"}) {
		t.Errorf("%q", got)
	}
}
