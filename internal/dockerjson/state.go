package dockerjson

import (
	"fmt"
	"time"

	"github.com/docker/go-units"

	"github.com/safe-run/safe-run/internal/store"
)

// The states of a container, docker's.
const (
	Created    = "created"
	Running    = "running"
	Paused     = "paused"
	Restarting = "restarting"
	Removing   = "removing"
	Exited     = "exited"
	Dead       = "dead"
)

// StateOf gives the state of a container by its record, and by whether a
// living process supervises it. Dead is one that has lost its supervisor and
// was neither adopted nor cleaned up.
func StateOf(r store.Record, supervised bool) string {
	switch {
	// What goes with its supervisor has no phase of its own while it runs.
	case r.Phase == store.PhaseCreating && (!supervised || r.PID == 0):
		return Created
	case r.Phase == store.PhaseExited:
		return Exited
	case !supervised && r.Phase == store.PhaseRestarting:
		return Exited
	case !supervised:
		return Dead
	case r.Phase == store.PhaseRestarting:
		return Restarting
	case r.Paused:
		return Paused
	}
	return Running
}

// IsRunning says whether a state is one that ps lists without --all.
func IsRunning(state string) bool {
	return state == Running || state == Paused || state == Restarting
}

// Name is what a container is called. One that was given no name answers to
// the first digits of its id.
func Name(r store.Record) string {
	if r.Name == "" && len(r.ID) > 12 {
		return r.ID[:12]
	}
	return r.Name
}

// Status is the state in docker's words for people, such as "Up 5 minutes
// (healthy)". health is "" for a container without checks.
func Status(r store.Record, state, health string, now time.Time) string {
	switch state {
	case Running:
		up := "Up " + units.HumanDuration(now.Sub(started(r)))
		switch health {
		case "":
			return up
		case store.HealthStarting:
			return up + " (health: starting)"
		}
		return up + " (" + health + ")"
	case Paused:
		return "Up " + units.HumanDuration(now.Sub(started(r))) + " (Paused)"
	case Restarting:
		return fmt.Sprintf("Restarting (%d) %s ago", r.ExitCode, units.HumanDuration(now.Sub(r.Finished)))
	case Exited:
		if r.Finished.IsZero() {
			return fmt.Sprintf("Exited (%d)", r.ExitCode)
		}
		return fmt.Sprintf("Exited (%d) %s ago", r.ExitCode, units.HumanDuration(now.Sub(r.Finished)))
	case Created:
		return "Created"
	case Removing:
		return "Removal In Progress"
	}
	return "Dead"
}

func started(r store.Record) time.Time {
	if r.Started.IsZero() {
		return r.Created
	}
	return r.Started
}

func stateOf(s Source) *State {
	r := s.Record
	st := &State{
		Status: StateOf(r, s.Supervised), ExitCode: r.ExitCode, OOMKilled: r.OOMKilled, Error: r.Error,
		StartedAt: instant(r.Started), FinishedAt: instant(r.Finished),
	}
	st.Running = IsRunning(st.Status)
	st.Paused, st.Restarting, st.Dead = st.Status == Paused, st.Status == Restarting, st.Status == Dead
	if st.Status == Running || st.Status == Paused {
		st.Pid, st.ExitCode = r.PID, 0 // not that of the run before
	}
	if !r.Checked {
		return st
	}
	st.Health = &Health{Status: store.HealthStarting, Log: []HealthResult{}}
	if h := s.Health; h != nil {
		st.Health.Status, st.Health.FailingStreak = h.Status, h.FailingStreak
		for _, l := range h.Log {
			st.Health.Log = append(st.Health.Log, HealthResult{Start: instant(l.Start), End: instant(l.End), ExitCode: l.ExitCode, Output: l.Output})
		}
	}
	return st
}

// instant is a time as docker writes it.
func instant(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
