package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// launches is the main table: one `true`, hardened and not.
func launches(p plan, here place) error {
	all := []contender{
		{name: "ctr run --rm IMAGE true (not hardened)", args: func() []string { return ctrArgs(here, "true") }},
		{name: "safe-run --rm --network none IMAGE true", args: func() []string { return safeRunArgs(here, "busybox", "true") }},
	}
	var notes []string
	for _, other := range []func(place) (contender, error){runcOfSameSpec, dockerNone, podman} {
		c, err := other(here)
		if err != nil {
			notes = append(notes, err.Error())
			continue
		}
		all = append(all, c)
	}
	costs, err := inTurns(p.runs, all)
	if err != nil {
		return err
	}
	base := costs[all[0].name]
	var rows [][]string
	for _, c := range all {
		x := costs[c.name]
		rows = append(rows, []string{c.name, ms(walls(x)), ratio(walls(x), walls(base)), ms(cpus(x)), ratio(cpus(x), cpus(base))})
	}
	table("One launch", []string{"launcher", "wall", "to ctr", "its own CPU", "to ctr"}, rows)
	for _, n := range notes {
		fmt.Println("\nNot measured:", n)
	}
	return nil
}

// dockerNone and podman are measured where they answer.
func dockerNone(here place) (contender, error) {
	if here.docker == nil {
		return contender{}, here.noDocker
	}
	c := here.docker.contender("docker run --rm --network none IMAGE true", "--network", "none", "busybox", "true")
	_, err := c.run()
	return c, err
}

func podman(place) (contender, error) {
	path, err := exec.LookPath("podman")
	if err != nil {
		return contender{}, errors.New("podman is not installed")
	}
	for _, args := range [][]string{{"info"}, {"load", "-i", "build/images/busybox.tar"}} {
		if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
			return contender{}, fmt.Errorf("podman %s: %s", args[0], lastLine(out))
		}
	}
	c := contender{name: "podman run --rm --network none IMAGE true", args: func() []string {
		return []string{path, "run", "--rm", "--network", "none", "busybox:latest", "true"}
	}}
	_, err = c.run()
	return c, err
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

// memory is what a launcher in the foreground holds while its container
// sleeps.
func memory(p plan, here place) error {
	const times = 5
	var rows [][]string
	for _, c := range []contender{
		{name: "ctr", args: func() []string { return ctrArgs(here, "sh", "-c", "echo ready; exec sleep 600") }},
		{name: "safe-run", args: func() []string {
			return safeRunArgs(here, "busybox", "sh", "-c", "echo ready; exec sleep 600")
		}},
	} {
		row, err := asleep(c, times)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	table("Memory of the launcher while the container sleeps", []string{"launcher", "resident", "private dirty"}, rows)
	return nil
}

// asleep is a row of how much memory a launcher holds while its container
// sleeps, medians of so many times.
func asleep(c contender, times int) ([]string, error) {
	fields := map[string][]int64{}
	for range times {
		m, err := sleeping(c)
		if err != nil {
			return nil, err
		}
		for k, v := range m {
			fields[k] = append(fields[k], v)
		}
	}
	return []string{c.name, mib(median(fields["Rss"])), mib(median(fields["Private_Dirty"]))}, nil
}

// sleeping starts a container, waits until it says it is ready and the
// launcher has come to rest, and reads smaps_rollup, in KiB.
func sleeping(c contender) (map[string]int64, error) {
	args := c.args()
	cmd := exec.Command(args[0], args[1:]...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() { _ = cmd.Wait() }()
	defer stopContainer(cmd, c)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return nil, fmt.Errorf("%s: %q: %w", c.name, line, err)
	}
	time.Sleep(time.Second)
	return smaps(cmd.Process.Pid)
}

// stopContainer ends a sleeping container: its shell is pid 1 and sleep has
// no handler, so only KILL works, and ctr must be told by the engine.
func stopContainer(cmd *exec.Cmd, c contender) {
	if c.name == "ctr" {
		_ = exec.Command(cmd.Args[0], cmd.Args[1], cmd.Args[2], "tasks", "kill", "-s", "SIGKILL", cmd.Args[6]).Run()
		return
	}
	// safe-run takes its container with it at the next command.
	_ = cmd.Process.Signal(syscall.SIGKILL)
	_ = exec.Command(cmd.Args[0], "images", "-q").Run()
}

// images: the cost of a start must not grow with the image.
func images(p plan, here place) error {
	var all []contender
	for _, n := range []int{1, 10_000, 100_000} {
		name := fmt.Sprintf("files-%d", n)
		archive := filepath.Join(here.dir, name+".tar")
		if _, err := output(here.mkimage, "-o", archive, "-name", name+":latest", "files", "-n", strconv.Itoa(n)); err != nil {
			return err
		}
		if _, err := output(here.safeRun, "load", "-q", "-i", archive); err != nil {
			return err
		}
		_ = os.Remove(archive)
		all = append(all, contender{name: name, args: func() []string { return safeRunArgs(here, name, "true") }})
	}
	costs, err := inTurns(p.runs, all)
	if err != nil {
		return err
	}
	base := walls(costs[all[0].name])
	var rows [][]string
	for _, c := range all {
		w := walls(costs[c.name])
		rows = append(rows, []string{strings.TrimPrefix(c.name, "files-"), ms(w), ratio(w, base)})
	}
	table("Files in the image", []string{"files", "wall", "to one file"}, rows)
	return nil
}

// crowd: nor with the number of containers that run.
func crowd(p plan, here place) error {
	all := []contender{
		{name: "ctr", args: func() []string { return ctrArgs(here, "true") }},
		{name: "safe-run", args: func() []string { return safeRunArgs(here, "busybox", "true") }},
	}
	alone, err := inTurns(p.runs, all)
	if err != nil {
		return err
	}
	background := make([]*exec.Cmd, p.running)
	defer func() {
		for _, c := range background {
			if c != nil {
				_ = c.Process.Signal(syscall.SIGINT)
			}
		}
		for _, c := range background {
			if c != nil {
				_ = c.Wait()
			}
		}
	}()
	for i := range background {
		args := append([]string{here.safeRun, "--rm", "--network", "none", "--init"}, "busybox", "sh", "-c", "echo ready; exec sleep 3600")
		cmd := exec.Command(args[0], args[1:]...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		background[i] = cmd
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			return fmt.Errorf("container %d of %d: %q: %w", i+1, p.running, line, err)
		}
	}
	among, err := inTurns(p.runs, all)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, c := range all {
		a, b := walls(alone[c.name]), walls(among[c.name])
		rows = append(rows, []string{c.name, ms(a), ms(b), ratio(b, a)})
	}
	table(fmt.Sprintf("Among %d running containers", p.running), []string{"launcher", "0 running", fmt.Sprint(p.running, " running"), "ratio"}, rows)
	return nil
}

// atOnce starts many together and waits for the last.
func atOnce(p plan, here place) error {
	const times = 5
	all := []contender{
		{name: "ctr", args: func() []string { return ctrArgs(here, "true") }},
		{name: "safe-run", args: func() []string { return safeRunArgs(here, "busybox", "true") }},
	}
	total := map[string][]time.Duration{}
	for range times {
		for _, c := range all {
			start := time.Now()
			errs := make([]error, p.atOnce)
			var wg sync.WaitGroup
			for i := range p.atOnce {
				wg.Go(func() { _, errs[i] = c.run() })
			}
			wg.Wait()
			if err := errors.Join(errs...); err != nil {
				return err
			}
			total[c.name] = append(total[c.name], time.Since(start))
		}
	}
	base := median(total[all[0].name])
	var rows [][]string
	for _, c := range all {
		w := median(total[c.name])
		rows = append(rows, []string{c.name, ms(w), ms(w / time.Duration(p.atOnce)), ratio(w, base)})
	}
	table(fmt.Sprintf("%d launches at once", p.atOnce), []string{"launcher", "until the last has ended", "each", "to ctr"}, rows)
	return nil
}

// refusals: what needs no container needs no time.
func refusals(p plan, here place) error {
	all := []contender{
		{name: "safe-run --help", args: func() []string { return []string{here.safeRun, "--help"} }},
		{name: "safe-run --privileged -v /:/host IMAGE", code: 125, args: func() []string {
			return []string{here.safeRun, "--rm", "--privileged", "-v", "/:/host", "busybox", "true"}
		}},
	}
	costs, err := inTurns(p.runs, all)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, c := range all {
		rows = append(rows, []string{c.name, ms(walls(costs[c.name])), ms(cpus(costs[c.name]))})
	}
	table("Without a container", []string{"command", "wall", "CPU"}, rows)
	return nil
}
