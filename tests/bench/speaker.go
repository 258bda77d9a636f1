package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// speaker is a program with docker's command line. Its containers here have
// no network, so it runs in no particular namespace.
type speaker struct {
	name, program string
	env           []string // what the program needs to find its engine
	logs          string   // directory of a container's log, %s for its id
}

// speakers are safe-run, and docker where it works.
func speakers(here place) []speaker {
	all := []speaker{{name: "safe-run", program: here.safeRun, logs: filepath.Join(here.dir, "root/containers/%s/log")}}
	if d := here.docker; d != nil {
		all = append(all, speaker{name: "docker", program: d.client, env: d.env, logs: filepath.Join(here.dir, "docker/data/containers/%s")})
	}
	return all
}

// unmeasured says why docker is not in the table above.
func unmeasured(here place) {
	if here.docker == nil {
		fmt.Println("\nNot measured:", here.noDocker)
	}
}

func (s speaker) contender(name string, args ...string) contender {
	return contender{name: name, env: s.env, args: func() []string { return append([]string{s.program}, args...) }}
}

// timed runs a command that must succeed: its output, and its time on the
// clock.
func (s speaker) timed(args ...string) (string, time.Duration, error) {
	cmd := s.contender(s.name, args...).command()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	start := time.Now()
	out, err := cmd.Output()
	took := time.Since(start)
	if err != nil {
		return "", 0, fmt.Errorf("%s %s: %w\n%s", s.name, args[0], err, bytes.TrimSpace(errs.Bytes()))
	}
	return strings.TrimSpace(string(out)), took, nil
}

// detach starts a container without a network in the background: flags,
// image, command. It gives its id.
func (s speaker) detach(args ...string) (id string, took time.Duration, err error) {
	return s.timed(append([]string{"run", "-d", "--network", "none"}, args...)...)
}

// remove removes containers, whatever they do.
func (s speaker) remove(ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	_, _, err := s.timed(append([]string{"rm", "-f"}, ids...)...)
	return err
}

// clear removes all containers.
func (s speaker) clear() error {
	ids, _, err := s.timed("ps", "-aq")
	if err != nil {
		return err
	}
	return s.remove(strings.Fields(ids)...)
}

// crew starts n containers in the background, some at a time, and gives their
// ids.
func (s speaker) crew(n, atATime int, args ...string) ([]string, time.Duration, error) {
	ids, errs := make([]string, n), make([]error, n)
	turns := make(chan int)
	var wg sync.WaitGroup
	start := time.Now()
	for range atATime {
		wg.Go(func() {
			for i := range turns {
				ids[i], _, errs[i] = s.detach(args...)
			}
		})
	}
	for i := range n {
		turns <- i
	}
	close(turns)
	wg.Wait()
	return slices.DeleteFunc(ids, func(id string) bool { return id == "" }), time.Since(start), errors.Join(errs...)
}

// supervisors are the processes that stay with the containers in the
// background of this run.
func supervisors(here place) ([]int, error) {
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, dir := range all {
		args, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		if !bytes.HasPrefix(args, []byte("safe-run\x00__supervise\x00")) {
			continue
		}
		env, _ := os.ReadFile(filepath.Join(dir, "environ"))
		if !slices.Contains(strings.Split(string(env), "\x00"), "SAFE_RUN_STATE="+filepath.Join(here.dir, "state")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// smaps reads the fields of a process's smaps_rollup, in KiB.
func smaps(pid int) (map[string]int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return nil, err
	}
	m := map[string]int64{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) == 3 && f[2] == "kB" {
			m[strings.TrimSuffix(f[0], ":")], _ = strconv.ParseInt(f[1], 10, 64)
		}
	}
	return m, nil
}

func mib(kib int64) string { return fmt.Sprintf("%.1f MiB", float64(kib)/1024) }

// leftovers are the traces of containers that are gone.
func leftovers(here place) ([]string, error) {
	pids, err := supervisors(here)
	if err != nil {
		return nil, err
	}
	var all []string
	note := func(n int, what string) {
		if n > 0 {
			all = append(all, fmt.Sprint(n, " ", what))
		}
	}
	note(len(pids), "supervisors")
	for what, dir := range map[string]string{
		"locks": "state/live", "sockets and FIFOs": "state/io", "records": "root/containers", "names": "root/names",
	} {
		entries, err := os.ReadDir(filepath.Join(here.dir, dir))
		if err != nil {
			return nil, err
		}
		note(len(entries), what)
	}
	// Committed ones are the layers of images.
	for what, ls := range map[string][]string{"snapshots": {"snapshots", "ls"}, "containers": {"containers", "ls"}, "leases": {"leases", "ls"}} {
		out, err := exec.Command(here.ctr, append([]string{"--address", here.socket, "--namespace", "safe-run"}, ls...)...).Output()
		if err != nil {
			return nil, fmt.Errorf("ctr %s: %w", ls[0], err)
		}
		n := -1 // the head of the table
		for line := range strings.Lines(string(out)) {
			if !strings.Contains(line, "Committed") {
				n++
			}
		}
		note(n, what)
	}
	return all, nil
}
