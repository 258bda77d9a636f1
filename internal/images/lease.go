package images

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"

	"github.com/safe-run/safe-run/internal/fail"
)

const (
	// leaseOwner labels our leases with the process they serve, so that those
	// of a killed one can be told apart.
	leaseOwner = "safe-run.images.owner"
	leaseTime  = 24 * time.Hour // containerd drops it then, whatever happens
	cleanTime  = 30 * time.Second
)

// hold protects all content and snapshots made with the returned context from
// the garbage collector until release. release(err) with an error also
// collects what was made, before it returns; it works after ctx has ended. It
// gives back the error, as Interrupted if the end of ctx is what it came from
// (gRPC reports that in several ways).
func (s *Store) hold(ctx context.Context) (context.Context, func(error) error, error) {
	ctx = quiet(ctx)
	ls := s.Client.LeasesService()
	l, err := ls.Create(ctx, leases.WithRandomID(), leases.WithExpiration(leaseTime),
		leases.WithLabels(map[string]string{leaseOwner: ownerID(os.Getpid())}))
	if err != nil {
		return nil, nil, wrap(fail.Internal, err, "create a lease")
	}
	release := func(failed error) error {
		if failed != nil && ctx.Err() != nil && fail.KindOf(failed) != fail.Interrupted {
			failed = &fail.Error{Kind: fail.Interrupted, Msg: "interrupted", Err: context.Cause(ctx)}
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
		defer cancel()
		var opts []leases.DeleteOpt
		if failed != nil {
			opts = append(opts, leases.SynchronousDelete)
		}
		// If this fails the lease ends by itself, or with the next Sweep.
		_ = ls.Delete(ctx, l, opts...)
		return failed
	}
	return leases.WithLease(ctx, l.ID), release, nil
}

// Sweep removes the leases of earlier calls whose process was killed, and with
// them the content and snapshots nobody else uses. It never touches the lease
// of a living process.
func (s *Store) Sweep(ctx context.Context) error {
	ls := s.Client.LeasesService()
	list, err := ls.List(ctx, fmt.Sprintf("labels.%q", leaseOwner))
	if err != nil {
		return wrap(fail.Internal, err, "list leases")
	}
	for _, l := range list {
		owner := strings.Fields(l.Labels[leaseOwner])
		if len(owner) == 4 && owner[2] == bootID() && owner[3] != pidNamespace() {
			continue // a process that cannot be seen from here
		}
		if n, err := strconv.Atoi(firstOf(owner)); err == nil && ownerID(n) == l.Labels[leaseOwner] {
			continue
		}
		if err := ls.Delete(ctx, l, leases.SynchronousDelete); err != nil && !errdefs.IsNotFound(err) {
			return wrap(fail.Internal, err, "remove the lease %q of an ended process", l.ID)
		}
	}
	return nil
}

// ownerID names a process for good: its pid, its start time, the boot, and the
// pid namespace the pid counts in. It is "" if there is no such process.
func ownerID(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The command name, in parentheses, may hold anything; fields are counted
	// after it. starttime is field 22, the 20th after the name (proc_pid_stat(5)).
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return ""
	}
	return strings.Join([]string{strconv.Itoa(pid), fields[19], bootID(), pidNamespace()}, " ")
}

func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

func pidNamespace() string {
	ns, _ := os.Readlink("/proc/self/ns/pid")
	return ns
}

func firstOf(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return words[0]
}
