package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/safe-run/safe-run/internal/dockerjson"
	"github.com/safe-run/safe-run/internal/images"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/network"
	"github.com/safe-run/safe-run/spec"
)

// psRow is a container as a template of ps sees it: docker's fields are its
// methods, so that only files are read whose content is asked for. What it
// gives is safe within a line.
type psRow struct {
	st      *store.Store
	rec     store.Record
	noTrunc bool
	now     time.Time
	seen    *seen
}

// seen is what was found out about a container, each at its first use.
type seen struct {
	state    string
	health   string
	asked    *askedPart
	network  *network.Settings
	rw, root int64 // bytes
}

// askedPart is the part of store.Asked that ps shows: reading the whole takes
// several times as long.
type askedPart struct {
	Workload struct {
		Image    string
		Mounts   []struct{ Type, Source, Target, Origin string }
		Networks []struct{ Name string }
		Expose   []spec.PortRange
	} `json:"workload"`
	Image struct {
		Target  string
		Exposed []spec.PortRange
	} `json:"image"`
}

func (r psRow) asked() *askedPart {
	if r.seen.asked == nil {
		r.seen.asked = &askedPart{}
		r.read("asked.json", r.seen.asked)
	}
	return r.seen.asked
}

// read takes a part of a file of the container. What cannot be read is not
// shown.
func (r psRow) read(name string, into any) {
	if b, err := os.ReadFile(filepath.Join(r.st.Dir(r.rec.ID), name)); err == nil {
		_ = json.Unmarshal(b, into)
	}
}

func (r psRow) settings() *network.Settings {
	if r.seen.network == nil {
		s, _ := network.ReadSettings(r.st.Dir(r.rec.ID)) // what cannot be read is not shown
		r.seen.network = &s
	}
	return r.seen.network
}

// ID is shortened unless ps was told not to.
func (r psRow) ID() string {
	if r.noTrunc || len(r.rec.ID) < 12 {
		return r.rec.ID
	}
	return r.rec.ID[:12]
}

// Names is the name, or the short id of one without.
func (r psRow) Names() string { return oneLine(dockerjson.Name(r.rec)) }

// Image is as it was typed.
func (r psRow) Image() string {
	name := r.asked().Workload.Image
	if name == "" {
		name = images.Familiar(r.rec.Image)
	}
	if short, pinned, ok := strings.Cut(name, "@sha256:"); ok && !r.noTrunc && len(pinned) == 64 {
		name = short
	}
	return oneLine(name)
}

// Command is quoted, and shortened as the id is.
func (r psRow) Command() string {
	words := r.rec.Command
	if words == "" {
		words = store.CommandLine(r.rec.Args)
	}
	if !r.noTrunc {
		words = ellipsis(words, 20)
	}
	return strconv.Quote(words)
}

// CreatedAt is local time.
func (r psRow) CreatedAt() string {
	return time.Unix(r.rec.Created.Unix(), 0).Format("2006-01-02 15:04:05 -0700 MST")
}

// RunningFor is the time since it was created.
func (r psRow) RunningFor() string {
	return units.HumanDuration(r.now.Sub(r.rec.Created)) + " ago"
}

// State is one of docker's words for it.
func (r psRow) State() string {
	if r.seen.state == "" {
		r.seen.state = stateOf(r.st, r.rec)
	}
	return r.seen.state
}

// HealthStatus is "" without checks.
func (r psRow) HealthStatus() string {
	if r.rec.Checked && r.seen.health == "" {
		var h struct{ Status string }
		r.read("health.json", &h)
		r.seen.health = oneLine(or(h.Status, store.HealthStarting))
	}
	return r.seen.health
}

// Status is the state in words.
func (r psRow) Status() string {
	return dockerjson.Status(r.rec, r.State(), r.HealthStatus(), r.now)
}

// Size is that of what the container wrote, and of the whole with its image.
func (r psRow) Size() string {
	rw := units.HumanSizeWithPrecision(float64(r.seen.rw), 3)
	if r.seen.root == 0 {
		return rw
	}
	return rw + " (virtual " + units.HumanSizeWithPrecision(float64(r.seen.root), 3) + ")"
}

// Labels are all, in order.
func (r psRow) Labels() string { return oneLine(keyValues(r.rec.Labels)) }

// Label is one of them.
func (r psRow) Label(name string) string { return oneLine(r.rec.Labels[name]) }

// Mounts are names of volumes, or else sources on the host.
func (r psRow) Mounts() string {
	var out []string
	for _, m := range r.asked().Workload.Mounts {
		if m.Type == string(spec.MountTmpfs) {
			continue
		}
		name := m.Source
		if !r.noTrunc {
			name = ellipsis(name, 15)
		}
		out = append(out, name)
	}
	return oneLine(strings.Join(out, ","))
}

// LocalVolumes is their number.
func (r psRow) LocalVolumes() string {
	n := 0
	for _, m := range r.asked().Workload.Mounts {
		if m.Type == string(spec.MountVolume) {
			n++
		}
	}
	return strconv.Itoa(n)
}

func (r psRow) exposed() []spec.PortRange {
	return slices.Concat(r.asked().Image.Exposed, r.asked().Workload.Expose)
}

func (r psRow) networks() []string {
	var out []string
	for _, n := range r.asked().Workload.Networks {
		out = append(out, n.Name)
	}
	if out == nil {
		for _, l := range r.settings().Leases {
			out = append(out, l.Network)
		}
	}
	return out
}

// Networks are their names.
func (r psRow) Networks() string { return oneLine(strings.Join(r.networks(), ",")) }

// Ports are those of a running container: published ones with their places on
// the host, and exposed ones.
func (r psRow) Ports() string {
	if s := r.State(); s != dockerjson.Running && s != dockerjson.Paused {
		return ""
	}
	return dockerjson.Ports(published(r.settings()), r.exposed())
}

// ellipsis shortens a text to n characters.
func ellipsis(s string, n int) string {
	r := []rune(s[:min(len(s), 4*n+4)]) // a character has up to four bytes
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}
