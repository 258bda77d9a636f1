package spec

import "time"

// The names of restart policies, docker's.
const (
	RestartNo            = "no"
	RestartOnFailure     = "on-failure"
	RestartAlways        = "always"
	RestartUnlessStopped = "unless-stopped"
)

// RestartPolicy says when a container that ended is started again. The zero
// value is never.
type RestartPolicy struct {
	Name string `json:"name,omitempty"` // "" is RestartNo
	Max  int    `json:"max,omitempty"`  // of RestartOnFailure: how often; 0 is without end
}

// Restarts says whether the policy ever starts a container again.
func (p RestartPolicy) Restarts() bool { return p.Name != "" && p.Name != RestartNo }

// Healthcheck is a health check as asked for by an image or by flags. Zero
// values are not given.
type Healthcheck struct {
	// Test is the command: nil is not given, ["NONE"] none, ["CMD", ARG...] a
	// program, ["CMD-SHELL", COMMAND] a line for the image's shell.
	Test          []string      `json:"test,omitempty"`
	Interval      time.Duration `json:"interval,omitempty"`      // from the end of a check to the next
	Timeout       time.Duration `json:"timeout,omitempty"`       // of one check
	StartPeriod   time.Duration `json:"startPeriod,omitempty"`   // in which failures do not count
	StartInterval time.Duration `json:"startInterval,omitempty"` // instead of Interval, in that time
	Retries       int           `json:"retries,omitempty"`       // failures in a row until it is unhealthy
}

// What becomes of a container that turns unhealthy; podman's names.
const (
	OnFailureNone    = "none"
	OnFailureKill    = "kill"
	OnFailureRestart = "restart"
	OnFailureStop    = "stop"
)

// When systemd is told that a service is ready.
const (
	NotifyStarted   = "started"   // once the program has started; the default
	NotifyHealthy   = "healthy"   // at the first check that succeeds
	NotifyContainer = "container" // when the program says so itself
	NotifyIgnore    = "ignore"    // never
)

// Secret is a file that is given to the container on a memory file system of
// its own. Its content is in no record, specification or log.
type Secret struct {
	ID     string `json:"id"`               // name of the file below /run/secrets
	Source string `json:"source,omitempty"` // absolute path; "": the credential ID of the systemd unit
	UID    uint32 `json:"uid"`              // owner inside
	GID    uint32 `json:"gid"`
	Owned  bool   `json:"owned,omitempty"` // UID and GID were given; else it is the container's user
	Mode   uint32 `json:"mode,omitempty"`  // permission bits; 0 is 0400
}
