package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// supervisor is what the process holds that stays with a container in the
// background.
func supervisor(p plan, here place) error {
	const logged = 16 << 20
	times := min(5, p.runs)
	safeRun := speakers(here)[0]
	var rows [][]string
	for _, kind := range []struct {
		name  string
		flags []string
		run   string // before it sleeps
		after time.Duration
	}{
		{"sleeps", nil, "true", 2 * time.Second},
		{
			fmt.Sprintf("sleeps, its health checked each second for %s", p.checked),
			[]string{"--health-cmd", "true", "--health-interval", "1s"},
			"true", p.checked,
		},
		{fmt.Sprintf("has written %d MiB to its log", logged>>20), nil, talk(logged, 80), 2 * time.Second},
	} {
		args := append(append([]string{}, kind.flags...), "--init", "busybox", "sh", "-c", kind.run+"; : >/tmp/ready; exec sleep 3600")
		fields, err := supervising(here, safeRun, times, kind.after, args...)
		if err != nil {
			return fmt.Errorf("%s: %w", kind.name, err)
		}
		rows = append(rows, []string{
			kind.name, mib(median(fields["Rss"])), mib(median(fields["Private_Dirty"])), mib(slices.Max(fields["Private_Dirty"])),
		})
	}
	table(fmt.Sprintf("Memory of the supervisor of a container in the background, medians of %d", times),
		[]string{"container", "resident", "private dirty", "at most"}, rows)
	return nil
}

// supervising starts containers, and reads the memory of their supervisors,
// in KiB, so long after each has made /tmp/ready.
func supervising(here place, s speaker, n int, after time.Duration, args ...string) (map[string][]int64, error) {
	ids, _, err := s.crew(n, 1, args...)
	defer func() { _ = s.remove(ids...) }()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if err := wait(func() error {
			_, _, err := s.timed("exec", id, "test", "-e", "/tmp/ready")
			return err
		}); err != nil {
			return nil, err
		}
	}
	time.Sleep(after)
	pids, err := supervisors(here)
	if err != nil {
		return nil, err
	}
	if len(pids) != n {
		return nil, fmt.Errorf("%d supervisors of %d containers", len(pids), n)
	}
	fields := map[string][]int64{}
	for _, pid := range pids {
		m, err := smaps(pid)
		if err != nil {
			return nil, err
		}
		for k, v := range m {
			fields[k] = append(fields[k], v)
		}
	}
	return fields, nil
}

// many: a crowd in the background is started, listed, stopped and removed.
func many(p plan, here place) error {
	const atATime = 8
	// A first process without a handler ignores SIGTERM.
	const script = `trap "exit 0" TERM; sleep 3600 & wait`
	type figures struct {
		start, ps, quiet, stop, remove time.Duration
	}
	all := speakers(here)
	var of []figures
	memory, left := "-", "-"
	for _, s := range all {
		f, err := func() (f figures, err error) {
			ids, took, err := s.crew(p.running, atATime, "busybox", "sh", "-c", script)
			defer func() {
				if err != nil {
					_ = s.remove(ids...)
				}
			}()
			f.start = took
			if err != nil {
				return f, err
			}
			costs, err := inTurns(p.runs, []contender{s.contender("ps", "ps"), s.contender("ps -q", "ps", "-q")})
			if err != nil {
				return f, err
			}
			f.ps, f.quiet = walls(costs["ps"]), walls(costs["ps -q"])
			out, _, err := s.timed("ps", "-q")
			if n := len(strings.Fields(out)); err == nil && n != p.running {
				err = fmt.Errorf("%s ps: %d of %d containers run", s.name, n, p.running)
			}
			if err != nil {
				return f, err
			}
			if s.name == "safe-run" {
				if memory, err = dirty(here, p.running); err != nil {
					return f, err
				}
			}
			if _, f.stop, err = s.timed(append([]string{"stop", "-t", "1"}, ids...)...); err != nil {
				return f, err
			}
			_, f.remove, err = s.timed(append([]string{"rm"}, ids...)...)
			return f, err
		}()
		if err != nil {
			return err
		}
		if s.name == "safe-run" {
			if left, err = whatIsLeft(here); err != nil {
				return err
			}
		}
		of = append(of, f)
	}
	var rows [][]string
	row := func(name string, each bool, get func(figures) time.Duration) {
		r := []string{name}
		for _, f := range of {
			d := get(f)
			r = append(r, ms(d))
			if each {
				r = append(r, ms(d/time.Duration(p.running)))
			} else {
				r = append(r, "-")
			}
		}
		for len(r) < 5 {
			r = append(r, "-")
		}
		rows = append(rows, r)
	}
	row(fmt.Sprintf("run -d, %d at a time, until the last has returned", atATime), true, func(f figures) time.Duration { return f.start })
	row("ps", false, func(f figures) time.Duration { return f.ps })
	row("ps -q", false, func(f figures) time.Duration { return f.quiet })
	row("stop, in one command", true, func(f figures) time.Duration { return f.stop })
	row("rm, in one command", true, func(f figures) time.Duration { return f.remove })
	table(fmt.Sprintf("%d containers in the background", p.running), []string{"", "safe-run", "each", "docker", "each"}, rows)
	fmt.Printf("\nPrivate dirty memory of their supervisors of safe-run: %s. Left behind after rm: %s.\n", memory, left)
	unmeasured(here)
	return nil
}

// dirty is the memory of the supervisors of n containers.
func dirty(here place, n int) (string, error) {
	pids, err := supervisors(here)
	if err != nil {
		return "", err
	}
	if len(pids) != n {
		return "", fmt.Errorf("%d supervisors of %d containers", len(pids), n)
	}
	var sum, most int64
	for _, pid := range pids {
		m, err := smaps(pid)
		if err != nil {
			return "", err
		}
		sum, most = sum+m["Private_Dirty"], max(most, m["Private_Dirty"])
	}
	return fmt.Sprintf("%s, %s each, %s at most", mib(sum), mib(sum/int64(n)), mib(most)), nil
}

// whatIsLeft gives what goes away by itself the time to.
func whatIsLeft(here place) (string, error) {
	var all []string
	err := wait(func() (err error) {
		if all, err = leftovers(here); err == nil && len(all) > 0 {
			err = errors.New("not all is gone")
		}
		return err
	})
	switch {
	case err == nil:
		return "nothing", nil
	case len(all) > 0:
		slices.Sort(all)
		return strings.Join(all, ", "), nil
	}
	return "", err
}
