package main

import (
	"fmt"
	"strings"
	"time"
)

// oneLine is a container that says it runs, and sleeps until it is stopped.
func oneLine(flags ...string) []string {
	return append(append([]string{"--network", "none", "--init"}, flags...), "busybox", "sh", "-c", "echo up; exec sleep 3600")
}

// detached: to leave a container in the background takes no longer than to
// see it begin in the foreground.
func detached(p plan, here place) error {
	var rows [][]string
	all := speakers(here)
	front, back := make([][]time.Duration, len(all)), make([][]time.Duration, len(all))
	for round := range p.runs + 1 {
		for i, s := range all {
			f, _, err := together(1, s.contender(s.name, append([]string{"run", "--rm"}, oneLine()...)...))
			if err != nil {
				return err
			}
			id, b, err := s.timed(append([]string{"run"}, oneLine("--rm", "-d")...)...)
			if err != nil {
				return err
			}
			if err := s.remove(id); err != nil {
				return err
			}
			if round > 0 {
				front[i], back[i] = append(front[i], f), append(back[i], b)
			}
		}
	}
	for i, s := range all {
		f, b := median(front[i]), median(back[i])
		rows = append(rows,
			[]string{s.name + " run, until the first output", ms(f), ratio(f, f)},
			[]string{s.name + " run -d, until it returns", ms(b), ratio(b, f)})
	}
	table("In the background", []string{"launch", "wall", "to the foreground"}, rows)
	unmeasured(here)
	return nil
}

// lineOf is a line of so many bytes, its end among them.
func lineOf(n int) string { return strings.Repeat("0123456789", n/10+1)[:n-1] }

// talk writes so many bytes in lines of a length.
func talk(bytes int64, line int) string {
	return fmt.Sprintf("yes %s | head -c %d", lineOf(line), bytes)
}

// verbs: what is asked about a container, and done in it.
func verbs(p plan, here place) error {
	// More than the log of 3 files of 10 MiB keeps.
	const written = 24 << 20
	verbs := []struct {
		name string
		args func(id string) []string
	}{
		{"exec CONTAINER true", func(id string) []string { return []string{"exec", id, "true"} }},
		{"logs --tail 10 CONTAINER, of a full log", func(id string) []string { return []string{"logs", "--tail", "10", id} }},
		{"ps", func(string) []string { return []string{"ps"} }},
		{"inspect CONTAINER", func(id string) []string { return []string{"inspect", id} }},
	}
	all := speakers(here)
	var contenders []contender
	for _, s := range all {
		id, _, err := s.detach(append(logged(), "--init", "busybox", "sh", "-c", talk(written, 80)+"; echo; echo all of it; exec sleep 3600")...)
		if err != nil {
			return err
		}
		defer func() { _ = s.remove(id) }()
		if err := wait(func() error {
			last, _, err := s.timed("logs", "--tail", "1", id)
			if err == nil && last != "all of it" {
				err = fmt.Errorf("%s: the log ends with %.40q", s.name, last)
			}
			return err
		}); err != nil {
			return err
		}
		for _, v := range verbs {
			contenders = append(contenders, s.contender(s.name+" "+v.name, v.args(id)...))
		}
	}
	costs, err := inTurns(p.runs, contenders)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, v := range verbs {
		ours := walls(costs["safe-run "+v.name])
		row := []string{v.name, ms(ours), "-", "-"}
		if here.docker != nil {
			theirs := walls(costs["docker "+v.name])
			row[2], row[3] = ms(theirs), ratio(ours, theirs)
		}
		rows = append(rows, row)
	}
	table("Commands to one container that runs", []string{"command", "safe-run", "docker", "safe-run to docker"}, rows)
	unmeasured(here)
	return nil
}
