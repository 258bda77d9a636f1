// Bench measures what a hardened launch costs beside the plain ones, on this
// machine, in one go, and prints the tables of docs/performance.md.
//
// All contenders of a table run in turns, so that whatever else the machine
// does meets them alike; figures are medians. It needs root and the files
// `make build engine images` makes.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// plan is how much is measured.
type plan struct {
	runs    int // of each contender
	running int // containers that run in the background for the second half of a comparison
	atOnce  int // simultaneous launches
	loads   int // of each kind of requests, a second each
	ports   int // published in the background

	logBytes int64         // of output to a log
	checked  time.Duration // of health checks
}

// place is where the programs and the state are.
type place struct {
	safeRun, ctr, runc, mkimage string
	dir                         string // temporary, of this run
	socket                      string // of the engine both launchers use
	site                        *site  // where containers with a network run
	docker                      *docker
	noDocker                    error // why docker is nil
}

const image = "docker.io/library/busybox:latest"

func main() {
	var p plan
	flag.IntVar(&p.runs, "runs", 20, "runs of each contender")
	flag.IntVar(&p.running, "running", 200, "containers running in the background")
	flag.IntVar(&p.atOnce, "at-once", 32, "launches at once")
	flag.IntVar(&p.loads, "loads", 9, "runs of each load on a published port")
	flag.IntVar(&p.ports, "ports", 500, "ports published in the background")
	flag.Int64Var(&p.logBytes, "logbytes", 1<<30, "bytes a container writes to its log")
	flag.DurationVar(&p.checked, "checked", 30*time.Second, "how long a container's health is checked each second")
	only := flag.String("only", "", "parts to measure, by name, joined by commas (default all)")
	flag.Parse()
	if err := bench(p, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// part is one table, or some that belong together.
type part struct {
	name    string
	measure func(plan, place) error
}

func parts() []part {
	return []part{
		{"launches", launches},
		{"memory", memory},
		{"images", images},
		{"crowd", crowd},
		{"at-once", atOnce},
		{"refusals", refusals},
		{"network", networkLaunches},
		{"addresses", addresses},
		{"requests", requests},
		{"ports", manyPorts},
		{"detached", detached},
		{"supervisor", supervisor},
		{"many", many},
		{"logs", logs},
		{"exec", verbs},
		{"learn", recorder},
	}
}

// chosen picks parts by name.
func chosen(only string) ([]part, error) {
	if only == "" {
		return parts(), nil
	}
	var some []part
	for _, name := range strings.Split(only, ",") {
		all := parts()
		i := slices.IndexFunc(all, func(p part) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no part %q", name)
		}
		some = append(some, all[i])
	}
	return some, nil
}

func bench(p plan, only string) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("needs root: it runs containers")
	}
	some, err := chosen(only)
	if err != nil {
		return err
	}
	here, err := setUp()
	if err != nil {
		return err
	}
	defer func() {
		// A supervisor would start its engine again.
		_ = speakers(here)[0].clear()
		_ = exec.Command(here.safeRun, "engine", "stop", "--force").Run()
		here.docker.stop()
		here.site.close()
		err = errors.Join(err, os.RemoveAll(here.dir))
	}()
	describe(p, here)
	for _, s := range some {
		if err := s.measure(p, here); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func setUp() (place, error) {
	build, err := filepath.Abs("build")
	if err != nil {
		return place{}, err
	}
	dir, err := os.MkdirTemp("", "safe-run-bench-")
	if err != nil {
		return place{}, err
	}
	// Temporary directories are their maker's only; containers must reach their files below.
	if err := os.Chmod(dir, 0o755); err != nil {
		return place{}, err
	}
	here := place{
		safeRun: filepath.Join(build, "safe-run"), ctr: filepath.Join(build, "engine/ctr"),
		runc: filepath.Join(build, "engine/runc"), mkimage: filepath.Join(build, "mkimage"), dir: dir,
	}
	for k, v := range map[string]string{"SAFE_RUN_ROOT": filepath.Join(dir, "root"), "SAFE_RUN_STATE": filepath.Join(dir, "state")} {
		if err := os.Setenv(k, v); err != nil {
			return place{}, err
		}
	}
	os.Unsetenv("CONTAINERD_ADDRESS")
	// Pages of a program just built are dirty until they are on the disk; they
	// would count as the memory of who runs it.
	syscall.Sync()
	out, err := output(here.safeRun, "engine", "start")
	if err != nil {
		return place{}, err
	}
	here.socket = strings.TrimSpace(out)
	for _, i := range []string{"busybox", "nginx"} {
		if _, err := output(here.safeRun, "load", "-q", "-i", filepath.Join(build, "images", i+".tar")); err != nil {
			return place{}, err
		}
	}
	if _, err := output(here.ctr, "--address", here.socket, "images", "import", filepath.Join(build, "images/busybox.tar")); err != nil {
		return place{}, err
	}
	if here.site, err = newSite(); err != nil {
		return place{}, err
	}
	here.docker, here.noDocker = startDocker(here)
	return here, nil
}

// output runs a command that must succeed.
func output(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// describe says on what the figures were measured.
func describe(p plan, here place) {
	model := "?"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(b), "model name\t: "); ok {
			model, _, _ = strings.Cut(rest, "\n")
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	cgroups := "v1"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		cgroups = "v2"
	}
	fmt.Printf("Measured %s: Linux %s, cgroup %s, %d CPUs (%s), %s; medians of %d runs in turns.\n",
		time.Now().Format(time.DateOnly), strings.TrimSpace(string(kernel)), cgroups, runtime.NumCPU(), model, runtime.GOARCH, p.runs)
	if here.docker != nil {
		fmt.Printf("docker is %s, on a network of its own like safe-run's.\n", here.docker.version)
	}
}

// safeRunArgs is the hardened launch of the main table.
func safeRunArgs(here place, image string, command ...string) []string {
	return append([]string{here.safeRun, "--rm", "--network", "none", image}, command...)
}

// ctrArgs is the plain launch everything is compared to. Each needs a name
// of its own.
func ctrArgs(here place, command ...string) []string {
	name := fmt.Sprintf("bench-%d", time.Now().UnixNano())
	return append([]string{here.ctr, "--address", here.socket, "run", "--rm", image, name}, command...)
}
