package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// logged is how docker is asked for the log safe-run keeps by itself.
func logged() []string {
	return []string{"--log-driver", "json-file", "--log-opt", "max-size=10m", "--log-opt", "max-file=3"}
}

// logs: a container that writes as fast as it can.
func logs(p plan, here place) error {
	times := min(3, p.runs)
	all := speakers(here)
	var rows [][]string
	for _, kind := range []struct {
		name  string
		bytes int64
		line  int
		flags []string
	}{
		{"lines of 80 bytes", p.logBytes, 80, logged()},
		{"lines of 2 bytes", p.logBytes / shortLines, 2, logged()},
		{"lines of 80 bytes, --log-driver none", p.logBytes, 80, []string{"--log-driver", "none"}},
	} {
		took, kept := make([][]time.Duration, len(all)), make([]string, len(all))
		for range times {
			for i, s := range all {
				d, n, err := wrote(s, append(append([]string{}, kind.flags...), "busybox", "sh", "-c", talk(kind.bytes, kind.line)))
				if err != nil {
					return fmt.Errorf("%s: %w", kind.name, err)
				}
				took[i], kept[i] = append(took[i], d), mib(n>>10)
			}
		}
		ours := median(took[0])
		row := []string{mib(kind.bytes>>10) + " in " + kind.name, rate(kind.bytes, ours), ms(ours), kept[0], "-", "-", "-"}
		if len(all) > 1 {
			theirs := median(took[1])
			row[4], row[5], row[6] = ms(theirs), kept[1], ratio(ours, theirs)
		}
		rows = append(rows, row)
	}
	table(fmt.Sprintf("Output of a container in the background, until `wait` returns, medians of %d", times),
		[]string{"output", "safe-run", "wall", "on disk", "docker, wall", "on disk", "safe-run to docker"}, rows)
	unmeasured(here)
	return nil
}

// shortLines is how much less is written in lines of 2 bytes: a log of them is
// 35 times their size, and takes as much longer.
const shortLines = 32

func rate(bytes int64, d time.Duration) string {
	return fmt.Sprintf("%.1f MiB/s", float64(bytes)/(1<<20)/d.Seconds())
}

// wrote is how long a container in the background took to end, and the size of
// its log.
func wrote(s speaker, args []string) (took time.Duration, kept int64, err error) {
	id, started, err := s.detach(args...)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = s.remove(id) }()
	code, ended, err := s.timed("wait", id)
	if n, bad := strconv.Atoi(code); err == nil && (bad != nil || n != 0) {
		err = fmt.Errorf("%s wait: %q", s.name, code)
	}
	if err != nil {
		return 0, 0, err
	}
	files, err := filepath.Glob(filepath.Join(fmt.Sprintf(s.logs, id), "*.log*"))
	if err != nil {
		return 0, 0, err
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			return 0, 0, err
		}
		kept += info.Size()
	}
	return started + ended, kept, nil
}
