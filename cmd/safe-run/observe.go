package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/argv"
	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/launcher"
	"github.com/safe-run/safe-run/learn"
	"github.com/safe-run/safe-run/policy"
	"github.com/safe-run/safe-run/spec"
)

// observer is what --explain and --complain look at a container with.
type observer struct {
	load     func() error // waits until the recorder is loaded
	recorder *learn.Recorder
	mode     learn.Mode
	out      *os.File // for the recording as JSON; nil: nobody wants it
	failure  error

	mu        sync.Mutex
	first     *os.File // pidfd of the first process; nil: there is none
	life      launcher.Life
	watch     *learn.Watch
	recording learn.Recording
	had       learn.Had
	pids      uint64 // the most seen
}

// watches says what of a workload no spec tells.
func (o *observer) watches(w *spec.Workload, img spec.Image) {
	o.had.Image = img.Name
	if img.Digest != "" && !strings.Contains(img.Name, "@") {
		o.had.Image += "@" + img.Digest
	}
	o.had.OwnSeccomp, o.had.Egress = w.Seccomp != nil, w.Egress.Mode != spec.EgressAll
}

// observe loads the recorder, if the command line asks for one.
func observe(inv *cli.Invocation) (*observer, error) {
	o := &observer{mode: learn.Denials}
	switch {
	case inv.Complain:
		o.mode = learn.Everything
	case !inv.Explain && inv.RecordFD != 0:
		return nil, fail.New(fail.Usage, "--record-fd needs --explain or --complain")
	case !inv.Explain:
		return nil, nil // nobody asked
	}
	if inv.RecordFD != 0 {
		flags, err := unix.FcntlInt(uintptr(inv.RecordFD), unix.F_GETFL, 0)
		// One that is closed in programs that are started was not inherited: it
		// is ours, a socket of containerd perhaps.
		own, err2 := unix.FcntlInt(uintptr(inv.RecordFD), unix.F_GETFD, 0)
		if err != nil || err2 != nil || own&unix.FD_CLOEXEC != 0 || flags&unix.O_ACCMODE == unix.O_RDONLY {
			return nil, fail.New(fail.Usage, "--record-fd %d is not a descriptor that can be written to", inv.RecordFD)
		}
		unix.CloseOnExec(inv.RecordFD)
		o.out = os.NewFile(uintptr(inv.RecordFD), "recording")
	}
	// Beside all that is done until the container is made.
	o.load = sync.OnceValue(func() (err error) {
		o.recorder, err = learn.Open(o.mode)
		return err
	})
	go o.load()
	return o, nil
}

// close lets the recorder go.
func (o *observer) close() {
	if o != nil && o.load() == nil {
		_ = o.recorder.Close()
	}
}

// How often what no event tells is looked at.
const (
	closeLook = 100 * time.Millisecond
	looseLook = time.Second
)

// Begin implements launcher.Observer.
func (o *observer) Begin(l launcher.Life) error {
	if err := o.load(); err != nil {
		return err
	}
	if err := o.recorder.Follow(int(l.PID)); err != nil {
		return err
	}
	var tmpfs []string
	for _, m := range l.Spec.Mounts {
		if m.Type == "tmpfs" && m.Destination != "/dev" {
			tmpfs = append(tmpfs, m.Destination)
		}
	}
	every, upper := looseLook, ""
	if o.mode == learn.Everything {
		every, upper = closeLook, l.Upper
	}
	first, err := unix.PidfdOpen(int(l.PID), 0)
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "watching the container")
	}
	o.unwatch() // a start that failed has no end
	o.mu.Lock()
	defer o.mu.Unlock()
	o.life, o.first = l, os.NewFile(uintptr(first), "process")
	if o.out != nil {
		go o.untilUnread()
	}
	o.had.Capabilities, o.had.Mounts = l.Spec.Process.Capabilities.Bounding, l.Spec.Mounts
	if m := l.Spec.Linux.Resources.Memory; m != nil && m.Limit != nil {
		o.had.Memory = max(0, *m.Limit)
	}
	if p := l.Spec.Linux.Resources.Pids; p != nil && p.Limit != nil {
		o.had.Pids = max(0, *p.Limit)
	}
	if o.recording.Started.IsZero() {
		o.recording.Started = time.Now().UTC()
	}
	o.watch = learn.StartWatch(int(l.PID), tmpfs, upper, every, func(err error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.failure = err
		o.kill()
	}, func() {
		if _, pids := launcher.Peak(l.Cgroup); pids > 0 {
			o.mu.Lock()
			o.pids = max(o.pids, pids)
			o.mu.Unlock()
		}
	})
	return nil
}

// unwatch ends what Begin has begun.
func (o *observer) unwatch() {
	o.mu.Lock()
	w, first := o.watch, o.first
	o.first = nil
	o.mu.Unlock()
	if first != nil {
		w.Stop()
		_ = first.Close()
	}
}

// kill ends the container; the caller holds mu.
func (o *observer) kill() {
	if o.first != nil {
		_ = unix.PidfdSendSignal(int(o.first.Fd()), unix.SIGKILL, nil, 0)
	}
}

// untilUnread ends a container whose recording nobody is there to read: the
// command that started this one was killed.
func (o *observer) untilUnread() {
	for {
		fds := []unix.PollFd{{Fd: int32(o.out.Fd())}}
		n, err := unix.Poll(fds, int(looseLook.Milliseconds()))
		unread := err == nil && n > 0 && fds[0].Revents&unix.POLLERR != 0
		o.mu.Lock()
		ended := o.first == nil
		if unread {
			o.kill()
		}
		o.mu.Unlock()
		if ended || unread {
			return
		}
	}
}

// End implements launcher.Observer.
func (o *observer) End(l launcher.Life, code int, oom bool) {
	o.unwatch()
	memory, pids := launcher.Peak(l.Cgroup)
	o.mu.Lock()
	defer o.mu.Unlock()
	seen, err := o.recorder.Read()
	o.failure = errors.Join(o.failure, err)
	seen.Had = o.had
	if code != 0 {
		seen.Had.Hidden, _ = learn.Hidden(l.Lower) // a guess at most
	}
	seen.Started, seen.Ended, seen.Exit = o.recording.Started, time.Now().UTC(), code
	seen.Peak = learn.Peak{Memory: int64(memory), Pids: int64(max(o.pids, pids)), Tmpfs: o.watch.Tmpfs()}
	seen.Limits = learn.Reached{Memory: oom, Pids: launcher.PidsReached(l.Cgroup), Tmpfs: learn.FullTmpfs(seen, o.watch.Full())}
	seen.Unlisted = l.Unlisted
	if o.mode == learn.Everything && l.Upper != "" {
		written, err := learn.Scratch(l.Upper, l.Lower)
		o.failure = errors.Join(o.failure, err)
		seen.Written, seen.Links = written, learn.Links(seen, l.Upper, l.Lower)
	}
	o.recording = seen
}

// soFar is what has been seen of a container that still runs.
func (o *observer) soFar() (learn.Recording, launcher.Life, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.first == nil {
		return o.recording, o.life, o.failure
	}
	seen, err := o.recorder.Read()
	seen.Had = o.had
	return seen, o.life, err
}

// impatience is how long after a Ctrl-C a container may take to end before
// what is known by then is told.
const impatience = 2 * time.Second

// onInterrupt tells, after a Ctrl-C that does not end the container, what is
// known so far. The result ends that.
func (o *observer) onInterrupt(tell func()) (stop func()) {
	interrupts, done, gone := make(chan os.Signal, 1), make(chan struct{}), make(chan struct{})
	signal.Notify(interrupts, os.Interrupt)
	go func() {
		defer close(gone)
		for {
			select {
			case <-done:
				return
			case <-interrupts:
			}
			select {
			case <-done:
				return
			case <-time.After(impatience):
				tell()
			}
		}
	}()
	return func() {
		signal.Stop(interrupts)
		close(done)
		<-gone
	}
}

// save writes the recording for whoever asked for it.
func (o *observer) save() error {
	if o.out == nil {
		return nil
	}
	defer o.out.Close()
	return fail.Wrap(fail.Internal, json.NewEncoder(o.out).Encode(o.recording), "writing the recording")
}

// tellFailure tells why a recording is not whole.
func (o *observer) tellFailure() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failure != nil {
		notice("recording: " + o.failure.Error())
	}
}

// explain tells what was refused and which flag would have allowed it.
func (o *observer) explain(j *judgement) {
	o.tell("nothing was refused", func(seen learn.Recording) []string { return learn.Explain(seen, j.context(seen.Had)) })
}

// complained tells what the workload used that it had not asked for.
func (o *observer) complained(asked spec.Workload, j *judgement) {
	o.tell("it needs no more than it asked for", func(seen learn.Recording) []string { return used(seen, asked, j) })
}

// tell prints what there is to say of the container so far; none if that is
// nothing.
func (o *observer) tell(none string, of func(learn.Recording) []string) {
	seen, life, err := o.soFar()
	if err != nil {
		notice("recording: " + err.Error())
	}
	if life.Spec == nil {
		return // it never started
	}
	lines := of(seen)
	if len(lines) == 0 {
		notice(none)
	}
	for _, l := range lines {
		notice(l)
	}
	tellLost(seen)
}

func tellLost(seen learn.Recording) {
	if seen.Lost > 0 {
		notice(fmt.Sprintf("%d events came faster than they could be kept: there may be more", seen.Lost))
	}
}

// context is what advice about a container depends on.
func (j *judgement) context(had learn.Had) learn.Context { return adviceContext(had, j.rq) }

func adviceContext(had learn.Had, rq policy.Request) learn.Context {
	granted := policy.GrantableCapabilities(rq)
	return learn.Context{
		Capabilities: had.Capabilities, Mounts: had.Mounts, Memory: had.Memory, Pids: had.Pids,
		OwnSeccomp: had.OwnSeccomp, Egress: had.Egress,
		Granted:  func(name string) bool { return slices.Contains(granted, name) },
		HostOnly: policy.HostCapability,
	}
}

// used tells what a recording shows beyond what was asked for, with the flag
// that asks for it, and what was refused all the same.
func used(seen learn.Recording, asked spec.Workload, j *judgement) (lines []string) {
	base, _ := argv.Profile(nil, asked)
	context := j.context(seen.Had)
	result := learn.Candidate(seen, base, learn.Options{Grantable: context.Granted, Held: seen.Had.Capabilities, Covered: targets(seen.Had.Mounts)})
	lines = learn.Beyond(result.Profile, base)
	for _, u := range result.Unmet {
		lines = append(lines, u.String())
	}
	return append(lines, learn.Explain(seen, context)...)
}

// targets are the places of mounts.
func targets(mounts []specs.Mount) (at []string) {
	for _, m := range mounts {
		at = append(at, m.Destination)
	}
	return at
}

// widen gives a workload what the site's policy lets it have, for one run
// that shows what it needs. The root file system is a throw-away one, bounded
// while it is written to.
func (j *judgement) widen(img spec.Image) {
	rq := j.rq
	rq.Image, rq.Provisional = img, false
	w := &j.rq.Workload
	for _, name := range policy.GrantableCapabilities(rq) {
		if !slices.Contains(w.CapAdd, name) {
			w.CapAdd = append(slices.Clone(w.CapAdd), name)
		}
	}
	if slices.Contains(w.SecurityOpts, cli.ProfileSeccomp) {
		w.Seccomp = nil
		w.SecurityOpts = slices.DeleteFunc(slices.Clone(w.SecurityOpts), func(s string) bool { return s == cli.ProfileSeccomp })
	}
	w.AppArmor = nil
	*j.w = *w
}

// open makes the root file system of a widened workload writable, once it has
// been reviewed.
func (j *judgement) open(grants *spec.Grants) {
	no := false
	j.w.ReadOnly, j.rq.Workload.ReadOnly = &no, &no
	grants.WritableRootfs = true
}
