package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
)

// observed is a way to run a container.
type observed struct {
	name  string
	flags []string
	goal  float64 // of the wall of a server with its requests, to that of the first
}

func observations() []observed {
	return []observed{
		{name: "plain"},
		{name: "--explain", flags: []string{"--explain"}, goal: 1.05},
		{name: "--complain, the recording handed on", flags: []string{"--complain", "--record-fd", "3"}, goal: 1.5},
	}
}

// recorder is what it costs to watch a container.
func recorder(p plan, here place) error {
	for _, measure := range []func(plan, place) error{watchedServer, watchedLaunch, watchedMemory} {
		if err := measure(p, here); err != nil {
			return err
		}
	}
	return nil
}

const (
	clients   = 20 // connections, kept alive
	perClient = 500
)

// visit is one server from its start to the last answer.
type visit struct {
	first time.Duration // from the start of the command to the first answer
	rest  time.Duration // from then to the last
}

// watchedServer starts nginx and asks it 10,000 times.
func watchedServer(p plan, here place) error {
	args, err := webArgs(here)
	if err != nil {
		return err
	}
	all := observations()
	visits := make([][]visit, len(all))
	for round := range p.runs + 1 {
		for i, o := range all {
			v, err := visitServer(here, o, args)
			if err != nil {
				return fmt.Errorf("%s: %w", o.name, err)
			}
			if round > 0 {
				visits[i] = append(visits[i], v)
			}
		}
	}
	of := func(i int, get func(visit) time.Duration) time.Duration {
		var ds []time.Duration
		for _, v := range visits[i] {
			ds = append(ds, get(v))
		}
		return median(ds)
	}
	total := func(v visit) time.Duration { return v.first + v.rest }
	var rows [][]string
	for i, o := range all {
		goal := "-"
		if o.goal != 0 {
			goal = fmt.Sprintf("%.2f", o.goal)
		}
		rows = append(rows, []string{
			o.name, ms(of(i, total)), ratio(of(i, total), of(0, total)), goal,
			ms(of(i, func(v visit) time.Duration { return v.first })), ms(of(i, func(v visit) time.Duration { return v.rest })),
		})
	}
	table(fmt.Sprintf("nginx and %d requests on %d connections, from another host", clients*perClient, clients),
		[]string{"run", "from the start of the command to the last answer", "to plain", "goal", "to the first answer", "from then to the last"}, rows)
	return nil
}

func visitServer(here place, o observed, args []string) (v visit, err error) {
	cmd := exec.Command(here.safeRun, append(append([]string{"--rm"}, o.flags...), args...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return v, err
	}
	defer null.Close()
	cmd.ExtraFiles = []*os.File{null} // the recording
	start := time.Now()
	if err := startIn(&here.site.host, cmd); err != nil {
		return v, err
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, errs.Bytes())
		}
	}()
	conns := make([]net.Conn, clients)
	defer func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close()
			}
		}
	}()
	length, err := dialIn(here.site.peer, conns, start.Add(30*time.Second))
	if err != nil {
		return v, err
	}
	v.first = time.Since(start)
	failures := make([]error, clients)
	var wg sync.WaitGroup
	for i, c := range conns {
		wg.Go(func() {
			n := perClient
			if i == 0 {
				n-- // one is answered already
			}
			failures[i] = ask(c, n, length)
		})
	}
	wg.Wait()
	v.rest = time.Since(start) - v.first
	return v, errors.Join(failures...)
}

// dialIn connects from a network namespace. The first connection is tried
// until it has an answer, whose length in bytes is given.
func dialIn(ns netns.NsHandle, conns []net.Conn, deadline time.Time) (length int, err error) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and ends with the goroutine
		done <- func() error {
			if err := netns.Set(ns); err != nil {
				return err
			}
			for i := range conns {
				for {
					c, err := dial(deadline)
					if err == nil && i == 0 {
						length, err = firstAnswer(c)
					}
					if err == nil {
						conns[i] = c
						break
					}
					if c != nil {
						_ = c.Close()
					}
					if i > 0 || time.Now().After(deadline) {
						return err
					}
					time.Sleep(time.Millisecond)
				}
			}
			return nil
		}()
	}()
	return length, <-done
}

// dial connects in the thread it is called on: package net would try several
// addresses on several.
func dial(deadline time.Time) (net.Conn, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "connection")
	defer f.Close()
	to := &syscall.SockaddrInet4{Port: port}
	copy(to.Addr[:], net.ParseIP(hostAddress).To4())
	// A connection that nobody answers yet must not wait for the next try of the kernel's.
	short := syscall.NsecToTimeval((100 * time.Millisecond).Nanoseconds())
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &short); err != nil {
		return nil, err
	}
	if err := syscall.Connect(fd, to); err != nil {
		return nil, err
	}
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(deadline)
}

const request = "GET / HTTP/1.1\r\nHost: server\r\n\r\n"

// firstAnswer gives the bytes of an answer.
func firstAnswer(c net.Conn) (int, error) {
	if _, err := io.WriteString(c, request); err != nil {
		return 0, err
	}
	var answer []byte
	buf := make([]byte, 4096)
	for !bytes.HasSuffix(answer, []byte("It serves.\n")) {
		n, err := c.Read(buf)
		if err != nil {
			return 0, fmt.Errorf("%w after %q", err, answer)
		}
		answer = append(answer, buf[:n]...)
	}
	if !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") {
		return 0, fmt.Errorf("answer %q", answer)
	}
	return len(answer), nil
}

// ask asks n times. All answers have the same length.
func ask(c net.Conn, n, length int) error {
	buf := make([]byte, length)
	for range n {
		if _, err := io.WriteString(c, request); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			return err
		}
		if !bytes.HasPrefix(buf, []byte("HTTP/1.1 200 ")) || !bytes.HasSuffix(buf, []byte("It serves.\n")) {
			return fmt.Errorf("answer %q", buf)
		}
	}
	return nil
}

// watchedLaunch is what watching adds to the shortest run.
func watchedLaunch(p plan, here place) error {
	var all []contender
	for _, o := range observations() {
		all = append(all, watching(here, o, "busybox", "true"))
	}
	costs, err := inTurns(p.runs, all)
	if err != nil {
		return err
	}
	base := costs[all[0].name]
	var rows [][]string
	for _, c := range all {
		x := costs[c.name]
		rows = append(rows, []string{c.name, ms(walls(x)), ms(walls(x) - walls(base)), ms(cpus(x)), ms(cpus(x) - cpus(base))})
	}
	table("One launch of `true`, watched", []string{"run", "wall", "more than plain", "its own CPU", "more than plain"}, rows)
	return nil
}

// watching is a run without a network. A recording is thrown away.
func watching(here place, o observed, words ...string) contender {
	return contender{name: o.name, args: func() []string {
		args := append(append([]string{here.safeRun, "--rm", "--network", "none"}, o.flags...), words...)
		return append([]string{"sh", "-c", `exec "$@" 3>/dev/null`, "sh"}, args...)
	}}
}

// watchedMemory is what the launcher holds while it watches.
func watchedMemory(_ plan, here place) error {
	const times = 5
	var rows [][]string
	for _, o := range observations() {
		row, err := asleep(watching(here, o, "busybox", "sh", "-c", "echo ready; exec sleep 600"), times)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	table("Memory of the launcher that watches, while the container sleeps", []string{"run", "resident", "private dirty"}, rows)
	return nil
}
