package audit

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Severity is how much a weakness gives away.
type Severity int

// From harmless to the host being in the container's hands.
const (
	OK       Severity = iota
	Info              // worth knowing, not counted
	Low               // a layer is missing that others stand before
	Medium            // what an attacker builds on
	High              // one bug, or one wrong setting more, away from the host
	Critical          // the host, or another container, is the container's already
)

// severities are the words for them, by number.
func severities() []string { return []string{"ok", "info", "low", "medium", "high", "critical"} }

func (s Severity) String() string {
	if all := severities(); s >= 0 && int(s) < len(all) {
		return all[s]
	}
	return fmt.Sprintf("severity %d", int(s))
}

// MarshalText writes the word: "ok", "info", "low", "medium", "high",
// "critical".
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes, in any case.
func (s *Severity) UnmarshalText(b []byte) error {
	i := slices.Index(severities(), strings.ToLower(string(b)))
	if i < 0 {
		return fmt.Errorf("%.20q is no severity; there are %s", b, strings.Join(severities(), ", "))
	}
	*s = Severity(i)
	return nil
}

// Finding is the verdict on one thing the kernel was asked about.
type Finding struct {
	ID       string   `json:"id"`    // stable: "capabilities", "user-namespace"; some come more than once
	Title    string   `json:"title"` // what was looked at
	Severity Severity `json:"severity"`
	Fact     string   `json:"fact"`            // what the kernel says, in one line
	Fix      string   `json:"fix,omitempty"`   // what to do about it; empty if OK
	Drift    bool     `json:"drift,omitempty"` // the specification says something else than the kernel does
}

// Subject is the container that is asked about.
type Subject struct {
	Engine    string `json:"engine"`    // address of its containerd
	Namespace string `json:"namespace"` // containerd's: safe-run, moby, k8s.io, default
	ID        string `json:"id"`
	Name      string `json:"name,omitempty"`
	Image     string `json:"image,omitempty"`
	PID       int    `json:"pid"` // of its first process, on the host
}

// Report is all that is said of one container.
type Report struct {
	Subject  Subject   `json:"subject"`
	Time     time.Time `json:"time"`
	Kernel   string    `json:"kernel"`
	Facts    *Facts    `json:"facts"`
	Findings []Finding `json:"findings"` // the worst first
	Score    int       `json:"score"`    // 100: nothing to be said against it; 0: it has the host
}
