package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// safeRunOn launches on the site: flags, image, command.
func safeRunOn(here place, name string, args ...string) contender {
	return contender{name: name, in: &here.site.host, args: func() []string {
		return append([]string{here.safeRun, "--rm"}, args...)
	}}
}

// networkLaunches is what a network adds to a launch.
func networkLaunches(p plan, here place) error {
	kinds := []struct {
		name  string
		flags []string
	}{
		{"none", []string{"--network", "none"}},
		{"bridge", nil},
		{"bridge, a published port", []string{"-p", "127.0.0.1:18090:80"}},
	}
	all := func(suffix string) []contender {
		var cs []contender
		for _, k := range kinds {
			args := append(append([]string{}, k.flags...), "busybox", "true")
			cs = append(cs, safeRunOn(here, "safe-run, "+k.name+suffix, args...))
			if here.docker != nil {
				cs = append(cs, here.docker.contender("docker, "+k.name+suffix, args...))
			}
		}
		return cs
	}
	costs, err := inTurns(p.runs, all(""))
	if err != nil {
		return err
	}
	// docker's bridge is always there; safe-run's only while a container uses it.
	const beside = ", beside another container"
	stop, err := serve(safeRunOn(here, "neighbour", "--init", "busybox", "sleep", "3600"), bridgeUp(here))
	if err != nil {
		return err
	}
	besides, err := inTurns(p.runs, []contender{safeRunOn(here, "safe-run, bridge"+beside, "busybox", "true"), all("")[0]})
	if err := errors.Join(err, stop()); err != nil {
		return err
	}
	costs["safe-run, bridge"+beside] = besides["safe-run, bridge"+beside]

	var rows [][]string
	row := func(name string, base []cost) {
		w := walls(costs[name])
		rows = append(rows, []string{name, ms(w), ms(w - walls(base))})
	}
	row("safe-run, none", costs["safe-run, none"])
	row("safe-run, bridge", costs["safe-run, none"])
	row("safe-run, bridge"+beside, besides["safe-run, none"])
	row("safe-run, bridge, a published port", costs["safe-run, none"])
	if here.docker != nil {
		for _, k := range kinds {
			row("docker, "+k.name, costs["docker, none"])
		}
	}
	table("One launch with a network", []string{"launch of `true`", "wall", "more than none"}, rows)
	return nil
}

// bridgeUp waits until the site has an interface beyond lo and its uplink.
func bridgeUp(here place) func() error {
	return func() error {
		cmd := exec.Command("cat", "/proc/net/dev")
		out, err := outputIn(&here.site.host, cmd)
		if err == nil && strings.Count(out, ":") < 4 {
			err = errors.New("no bridge")
		}
		return err
	}
}

// addresses: launches at once get addresses of their own.
func addresses(p plan, here place) error {
	const times = 5
	var with, without []time.Duration
	least := p.atOnce
	for range times {
		d, _, err := together(p.atOnce, safeRunOn(here, "none", "--network", "none", "--init", "busybox", "sh", "-c", "echo up; exec sleep 3600"))
		if err != nil {
			return err
		}
		without = append(without, d)
		const script = `ip -4 -o addr show dev eth0 | awk '{print $4}'; exec sleep 3600`
		d, lines, err := together(p.atOnce, safeRunOn(here, "bridge", "--init", "busybox", "sh", "-c", script))
		if err != nil {
			return err
		}
		with = append(with, d)
		distinct := map[netip.Prefix]bool{}
		for _, l := range lines {
			addr, err := netip.ParsePrefix(l)
			if err != nil {
				return err
			}
			distinct[addr] = true
		}
		least = min(least, len(distinct))
	}
	table(fmt.Sprintf("%d launches at once, all containers running together", p.atOnce),
		[]string{"network", "until the last runs", "each", "addresses"}, [][]string{
			{"none", ms(median(without)), ms(median(without) / time.Duration(p.atOnce)), "-"},
			{"bridge", ms(median(with)), ms(median(with) / time.Duration(p.atOnce)), fmt.Sprint(least)},
		})
	return nil
}

// together starts n containers and gives the time until each has written a
// line, and the lines. Then it ends them.
func together(n int, c contender) (time.Duration, []string, error) {
	lines, errs := make([]string, n), make([]error, n)
	all := make(chan struct{})
	var begun, ended sync.WaitGroup
	begun.Add(n)
	start := time.Now()
	for i := range n {
		ended.Go(func() {
			cmd := c.command()
			var notes bytes.Buffer
			cmd.Stderr = &notes
			out, err := cmd.StdoutPipe()
			if err := errors.Join(err, startIn(c.in, cmd)); err != nil {
				errs[i] = err
				begun.Done()
				return
			}
			line, err := bufio.NewReader(out).ReadString('\n')
			begun.Done()
			<-all
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
			lines[i] = strings.TrimSpace(line)
			if err != nil {
				errs[i] = fmt.Errorf("%s: %w\n%s", c.name, err, notes.Bytes())
			}
		})
	}
	begun.Wait()
	took := time.Since(start)
	close(all)
	ended.Wait()
	return took, lines, errors.Join(errs...)
}
