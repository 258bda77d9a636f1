package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/audit"
	"github.com/safe-run/safe-run/internal/engine"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/launcher"
)

// engineSockets are where containerds listen: the system's, docker's own if it
// does not use that, and those of k3s.
func engineSockets() []string {
	return []string{engine.SystemAddress, "/run/docker/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock"}
}

// Bounds of what one containerd may take to answer.
const (
	answersAt  = 5 * time.Second  // the first question
	answersAll = 30 * time.Second // all of them; one about a dead shim takes it 2 s
)

// candidate is a container of this host.
type candidate struct {
	audit.Subject
	names []string // it is found by these beside its id
	group string   // containers with the same one share namespaces on purpose (a pod)
	live  bool
	asked time.Duration // since boot, when its engine said which process it is; 0: not by an engine
	raw   []byte        // its specification as JSON; nil if nobody knows it
	met   *audit.Neighbour
}

// census is all containers of this host that somebody answers for.
type census struct {
	all     []candidate
	unasked []error // engines that are there and did not answer
	silent  []error // those of them that may have containers nobody has counted
}

// takeCensus asks all engines, beside each other, and what safe-run keeps on
// disk. Nothing is started. asked is an address that must answer, or "".
func takeCensus(ctx context.Context, asked string) (census, error) {
	root, run := place()
	st := &store.Store{Root: root, Run: run} // not opened: that would make its directories
	ours := records(st)
	addresses, err := addressesOf(asked, run, ours)
	if err != nil {
		return census{}, err
	}
	found, errs := make([][]candidate, len(addresses)), make([]error, len(addresses))
	var all sync.WaitGroup
	for i, a := range addresses {
		all.Go(func() { found[i], errs[i] = inventory(ctx, a) })
	}
	all.Wait()
	var c census
	for i, err := range errs {
		c.all = append(c.all, found[i]...)
		switch {
		case err == nil || errors.Is(err, fs.ErrNotExist) && addresses[i] != asked:
		case addresses[i] == asked:
			return census{}, fail.Wrap(fail.HostCannot, err, "containerd at %q", asked)
		default:
			err = fail.Wrap(fail.HostCannot, err, "the containerd at %q was not asked", addresses[i])
			c.unasked = append(c.unasked, err)
			if !errors.Is(err, syscall.ECONNREFUSED) {
				c.silent = append(c.silent, err)
			}
		}
	}
	c.own(ours)
	return c, nil
}

// addressesOf gives each socket once, whatever paths lead to it.
func addressesOf(asked, run string, ours []store.Record) ([]string, error) {
	candidates := append([]string{embedded(run)}, engineSockets()...)
	// The variable is the caller's under sudo, not root's (threat L5).
	if _, sudo := os.LookupEnv("SUDO_UID"); !sudo {
		candidates = append(candidates, os.Getenv("CONTAINERD_ADDRESS"))
	}
	for _, r := range ours {
		candidates = append(candidates, r.Address)
	}
	if asked != "" {
		if !filepath.IsAbs(asked) {
			return nil, fail.New(fail.Usage, "--address %.200q is not an absolute path of a socket", asked)
		}
		candidates = append([]string{asked}, candidates...)
	}
	type file struct{ dev, ino uint64 }
	seen, out := map[file]bool{}, []string{}
	for _, a := range candidates {
		if !filepath.IsAbs(a) || slices.Contains(out, a) {
			continue
		}
		var st unix.Stat_t
		if unix.Stat(a, &st) == nil {
			if seen[file{st.Dev, st.Ino}] {
				continue
			}
			seen[file{st.Dev, st.Ino}] = true
		} else if a != asked {
			continue
		}
		out = append(out, a)
	}
	return out, nil
}

// inventory lists the containers of all namespaces of one containerd.
func inventory(ctx context.Context, address string) ([]candidate, error) {
	if err := reachable(ctx, address); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, answersAll)
	defer cancel()
	client, err := dial(address, "default")
	if err != nil {
		return nil, err
	}
	defer client.Close()
	first, cancelFirst := context.WithTimeout(ctx, answersAt)
	defer cancelFirst()
	spaces, err := client.NamespaceService().List(first)
	if errors.Is(err, context.DeadlineExceeded) || errdefs.IsDeadlineExceeded(err) {
		return nil, fmt.Errorf("no answer within %s", answersAt)
	}
	if err != nil {
		return nil, err
	}
	var out []candidate
	for _, ns := range spaces {
		ctx := namespaces.WithNamespace(ctx, ns)
		tasks, err := client.TaskService().List(ctx, &tasksapi.ListTasksRequest{})
		if err != nil {
			return nil, fmt.Errorf("namespace %.80q: %w", ns, err)
		}
		pids := map[string]int{}
		asked := sinceBoot()
		for _, t := range tasks.Tasks {
			switch t.Status {
			case task.Status_RUNNING, task.Status_PAUSED, task.Status_PAUSING:
				pids[t.ID] = int(t.Pid)
			}
		}
		listed, err := client.ContainerService().List(ctx)
		if err != nil {
			return nil, fmt.Errorf("namespace %.80q: %w", ns, err)
		}
		for _, c := range listed {
			one := candidateOf(address, ns, c, pids[c.ID])
			one.asked = asked
			out = append(out, one)
		}
	}
	return out, nil
}

// sinceBoot is now by the clock that the start of processes is told in.
func sinceBoot() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// reachable says whether a containerd of root's listens there, and counts
// processes as this one does: its numbers would mean others otherwise.
func reachable(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, answersAt)
	defer cancel()
	c, err := engine.Dial(ctx, address)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return err
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	if e := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil || e != nil {
		return errors.Join(err, e)
	}
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", cred.Pid))
	own, err2 := os.Readlink("/proc/self/ns/pid")
	if err != nil || err2 != nil || theirs != own {
		return errors.New("it is in another process namespace, so the numbers of its processes mean others here")
	}
	return nil
}

// candidateOf reads what a containerd keeps of a container. The labels are
// those by which its callers know it again.
func candidateOf(address, ns string, c containers.Container, pid int) candidate {
	out := candidate{
		Subject: audit.Subject{Engine: address, Namespace: ns, ID: c.ID, Image: c.Image, PID: pid},
		live:    pid > 0,
	}
	if c.Spec != nil {
		out.raw = c.Spec.GetValue()
	}
	l := c.Labels
	pod, in := l["io.kubernetes.pod.name"], l["io.kubernetes.pod.namespace"]
	switch {
	case l["nerdctl/name"] != "":
		out.names = []string{l["nerdctl/name"]}
	case pod != "":
		name := l["io.kubernetes.container.name"]
		if name == "" { // the sandbox, which holds the namespaces
			name = "POD"
		}
		out.names = []string{in + "/" + pod + "/" + name, pod + "/" + name, name}
		out.group = l["io.kubernetes.pod.uid"]
	case ns == "moby":
		if name, image := dockerName(dockerRoot, c.ID); name != "" {
			out.names, out.Image = []string{name}, image
		}
	}
	if len(out.names) > 0 {
		out.Name = out.names[0]
	}
	return out
}

// records are safe-run's containers.
func records(st *store.Store) (out []store.Record) {
	ids, err := st.IDs()
	if err != nil { // no state: safe-run was never used here
		return nil
	}
	for _, id := range ids {
		if r, err := st.Load(id); err == nil { // else it is being made or removed
			out = append(out, r)
		}
	}
	return out
}

// own names safe-run's containers, and adds those whose containerd does not
// run: they do without.
func (c *census) own(ours []store.Record) {
	for _, r := range ours {
		i := slices.IndexFunc(c.all, func(o candidate) bool { return o.ID == r.ID && o.Namespace == r.Namespace })
		if i < 0 {
			i = len(c.all)
			n := candidate{Subject: audit.Subject{Engine: r.Address, Namespace: r.Namespace, ID: r.ID}}
			// A number from before a reboot may be anybody's by now.
			if n.live = r.PID > 0 && slices.Contains(launcher.Processes(r.Cgroup), r.PID); n.live {
				n.PID = r.PID
				n.raw = bundleSpec(filepath.Dir(r.Address), r.Namespace, r.ID)
			}
			c.all = append(c.all, n)
		}
		c.all[i].Name, c.all[i].Image = r.Name, r.Image
		if r.Name != "" {
			c.all[i].names = []string{r.Name}
		}
	}
}
