package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
)

// publisher is an engine as seen by the loads: how to start a container that
// goes on, and where its ports are.
type publisher struct {
	name string
	site *site
	// run starts a container of the given arguments and gives what ends it.
	run func(ready func() error, args ...string) (stop func() error, err error)
}

func publishers(here place) []publisher {
	all := []publisher{{"safe-run", here.site, func(ready func() error, args ...string) (func() error, error) {
		return serve(safeRunOn(here, "safe-run", args...), ready)
	}}}
	if d := here.docker; d != nil {
		all = append(all, publisher{"docker", d.site, func(ready func() error, args ...string) (func() error, error) {
			id, err := d.output(append([]string{"run", "--rm", "-d"}, args...)...)
			if err != nil {
				return nil, err
			}
			stop := func() error {
				_, err := d.output("stop", "-t", "5", strings.TrimSpace(id))
				return err
			}
			return stop, orStop(wait(ready), stop)
		}})
	}
	return all
}

// serve starts a container in the foreground, waits until ready gives nil,
// and gives what ends it.
func serve(c contender, ready func() error) (stop func() error, err error) {
	args := c.args()
	cmd := exec.Command(args[0], args[1:]...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := startIn(c.in, cmd); err != nil {
		return nil, err
	}
	stop = func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		return nil
	}
	if err := orStop(wait(ready), stop); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", c.name, err, errs.Bytes())
	}
	return stop, nil
}

func orStop(err error, stop func() error) error {
	if err != nil {
		err = errors.Join(err, stop())
	}
	return err
}

func wait(ready func() error) error {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := ready()
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// outputIn runs a command that must succeed in a network namespace.
func outputIn(ns *netns.NsHandle, cmd *exec.Cmd) (string, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := startIn(ns, cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out.Bytes())
	}
	return out.String(), nil
}

// load is one way to ask the server.
type load struct {
	name, unit string
	neighbour  bool // from the host's neighbour, not from the host by its loopback address
	path       string
	header     string
}

const (
	small = "/"
	large = "/mebibyte"
	again = "Connection: keep-alive"
	once  = "Connection: close"
	port  = 18080
)

// run gives answers per second.
func (l load) run(s *site) (float64, error) {
	ns, addr := &s.host, "127.0.0.1"
	if l.neighbour {
		ns, addr = &s.peer, hostAddress
	}
	url := fmt.Sprintf("http://%s:%d%s", addr, port, l.path)
	out, err := outputIn(ns, exec.Command("wrk", "-t", "2", "-c", "32", "-d", "1s", "-H", l.header, url))
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`).FindStringSubmatch(out)
	if m == nil || strings.Contains(out, "Non-2xx") || strings.Contains(out, "connect ") && !strings.Contains(out, "connect 0,") {
		return 0, fmt.Errorf("wrk %s: %s", url, out)
	}
	return strconv.ParseFloat(m[1], 64)
}

// web is the server of the loads.
func web(here place, p publisher) (stop func() error, err error) {
	args, err := webArgs(here)
	if err != nil {
		return nil, err
	}
	answers := func() error {
		_, err := outputIn(&p.site.peer, exec.Command("curl", "-sS", "-f", "-m", "5", fmt.Sprintf("http://%s:%d/", hostAddress, port)))
		return err
	}
	return p.run(answers, args...)
}

// webArgs are flags and image of Debian's nginx with its published port, the
// same image, configuration and pages for all. It logs nothing, since what
// is measured is the way to it.
func webArgs(here place) ([]string, error) {
	dir := filepath.Join(here.dir, "web")
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.MkdirAll(filepath.Join(dir, "html"), 0o755); err != nil {
		return nil, err
	}
	for name, body := range map[string][]byte{
		conf: []byte(`user www-data; worker_processes 2; pid /run/nginx.pid; error_log /dev/null crit;
events { worker_connections 1024; }
http { access_log off; sendfile on; keepalive_requests 1000000000; server { listen 80; root /html; } }
`),
		filepath.Join(dir, "html/index.html"): []byte("It serves.\n"),
		filepath.Join(dir, "html", large):     make([]byte, 1<<20),
	} {
		if err := os.WriteFile(name, body, 0o644); err != nil {
			return nil, err
		}
	}
	return []string{
		"--cap-add", "CHOWN", "--cap-add", "SETUID", "--cap-add", "SETGID", "--cap-add", "NET_BIND_SERVICE",
		"--memory", "512m", "--read-only", "--tmpfs", "/run", "--tmpfs", "/var/lib/nginx",
		"-v", conf + ":/etc/nginx/nginx.conf:ro", "-v", filepath.Join(dir, "html") + ":/html:ro",
		"-p", fmt.Sprintf("%d:80", port), "nginx",
	}, nil
}

// requests compares the way through a published port.
func requests(p plan, here place) error {
	loads := []load{
		{"requests, from another host", "1/s", true, small, again},
		{"requests, each on a connection of its own, from another host", "1/s", true, small, once},
		{"1 MiB files, from another host", "MiB/s", true, large, again},
		{"requests, from the host by 127.0.0.1", "1/s", false, small, again},
		{"requests, each on a connection of its own, by 127.0.0.1", "1/s", false, small, once},
		{"1 MiB files, by 127.0.0.1", "MiB/s", false, large, again},
	}
	all := publishers(here)
	rates := make([]map[string][]float64, len(all))
	for i, pub := range all {
		rates[i] = map[string][]float64{}
		stop, err := web(here, pub)
		if err != nil {
			return err
		}
		defer func() { _ = stop() }()
	}
	for range p.loads {
		for _, l := range loads {
			for i, pub := range all {
				r, err := l.run(pub.site)
				if err != nil {
					return fmt.Errorf("%s: %w", pub.name, err)
				}
				rates[i][l.name] = append(rates[i][l.name], r)
			}
		}
	}
	var rows [][]string
	for _, l := range loads {
		row := []string{l.name, fmt.Sprintf("%.0f %s", median(rates[0][l.name]), l.unit), "-", "-"}
		if len(all) > 1 {
			a, b := median(rates[0][l.name]), median(rates[1][l.name])
			row[2], row[3] = fmt.Sprintf("%.0f %s", b, l.unit), fmt.Sprintf("%.2f", a/b)
		}
		rows = append(rows, row)
	}
	table("nginx behind a published port", []string{"load", "safe-run", "docker", "safe-run to docker"}, rows)
	if here.docker == nil {
		fmt.Println("\nNot measured:", here.noDocker)
	}
	return nil
}

// manyPorts: ports that others publish cost neither a launch nor a packet.
func manyPorts(p plan, here place) error {
	loads := []load{
		{"requests", "1/s", true, small, again},
		{"requests, each on a connection of its own", "1/s", true, small, once},
	}
	const each = 3 // runs of a load while the same containers run
	rounds := max(1, p.loads/each)
	counts := []int{1, p.ports}
	var rows [][]string
	for _, pub := range publishers(here) {
		rates := map[string][2][]float64{}
		var launch [2][]cost
		for range rounds {
			for i, n := range counts {
				if err := amongPorts(here, pub, n, func() error {
					for k := range each * len(loads) {
						l := loads[k%len(loads)]
						r, err := l.run(pub.site)
						if err != nil {
							return err
						}
						both := rates[l.name]
						both[i] = append(both[i], r)
						rates[l.name] = both
					}
					args := []string{"-p", "127.0.0.1:18090:80", "busybox", "true"}
					c := safeRunOn(here, "safe-run", args...)
					if pub.name != "safe-run" {
						c = here.docker.contender(pub.name, args...)
					}
					costs, err := inTurns(max(1, p.runs/rounds), []contender{c})
					launch[i] = append(launch[i], costs[c.name]...)
					return err
				}); err != nil {
					return fmt.Errorf("%s, %d ports: %w", pub.name, n, err)
				}
			}
		}
		rows = append(rows, []string{pub.name, "launch with a published port", ms(walls(launch[0])), ms(walls(launch[1])), ratio(walls(launch[1]), walls(launch[0]))})
		for _, l := range loads {
			a, b := median(rates[l.name][0]), median(rates[l.name][1])
			rows = append(rows, []string{pub.name, l.name, fmt.Sprintf("%.0f %s", a, l.unit), fmt.Sprintf("%.0f %s", b, l.unit), fmt.Sprintf("%.2f", b/a)})
		}
	}
	table(fmt.Sprintf("Among %d published ports, from another host", p.ports),
		[]string{"", "", "1 other port", fmt.Sprint(p.ports, " other ports"), "ratio"}, rows)
	return nil
}

// amongPorts publishes n ports, then the server's, so that a list of rules
// has the server's at its end.
func amongPorts(here place, pub publisher, n int, measure func() error) error {
	const first = 20001
	// The last of a range is published like the others, when that one is.
	ready := func() error {
		return pub.published(first + n - 1)
	}
	ports := fmt.Sprintf("%d-%d", first, first+n-1)
	stop, err := pub.run(ready, "--init", "-p", ports+":"+ports, "busybox", "sleep", "3600")
	if err != nil {
		return err
	}
	defer func() { _ = stop() }()
	stopWeb, err := web(here, pub)
	if err != nil {
		return err
	}
	defer func() { _ = stopWeb() }()
	return measure()
}

// published asks whether somebody holds the port on the host.
func (p publisher) published(port int) error {
	out, err := outputIn(&p.site.host, exec.Command("cat", "/proc/net/tcp", "/proc/net/tcp6"))
	if err == nil && !strings.Contains(out, fmt.Sprintf(":%04X ", port)) {
		err = fmt.Errorf("port %d is not published", port)
	}
	return err
}
