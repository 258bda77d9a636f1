package policy

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/go-units"

	"github.com/safe-run/safe-run/internal/lazyre"
	"github.com/safe-run/safe-run/spec"
)

// Site is the site's policy: the content of its file, checked. The zero value
// is the built-in policy, which grants nothing.
type Site struct {
	Version         int         `yaml:"version"`
	Grants          []Grant     `yaml:"grants"`
	LimitSets       LimitSets   `yaml:"limits"`
	Registries      []string    `yaml:"registries"`        // hosts images may come from; empty: any
	RequireDigest   bool        `yaml:"require-digest"`    // images must be named by digest
	PublishAddress  string      `yaml:"publish-address"`   // address of published ports that name none, or "required"
	RequireLSM      bool        `yaml:"require-lsm"`       // refuse on hosts without AppArmor and SELinux
	AllowOldRuntime bool        `yaml:"allow-old-runtime"` // run with runc or containerd below the floors
	Networks        []string    `yaml:"networks"`          // networks containers may join; empty: any
	path            string      // file it came from, "" for the built-in policy
	limits          spec.Limits // built from LimitSets when loaded
}

// Grant is what one image may have beyond the built-in policy, if it asks.
type Grant struct {
	Image        string        `yaml:"image"`   // repository, repository/*, or repository@sha256:...
	Profile      string        `yaml:"profile"` // only for workloads of this profile
	Capabilities []string      `yaml:"capabilities"`
	Devices      []DeviceGrant `yaml:"devices"`
	Binds        []BindGrant   `yaml:"binds"`
	Sysctls      []string      `yaml:"sysctls"`
	Annotations  []string      `yaml:"annotations"`
	Allow        []string      `yaml:"allow"` // ids of the catalogue
}

// DeviceGrant allows one character device.
type DeviceGrant struct {
	Path        string `yaml:"path"`        // canonical path on the host
	Permissions string `yaml:"permissions"` // subset of rwm; empty: rwm, what --device asks for
}

// BindGrant allows binds of one path and what lies below it.
type BindGrant struct {
	Source   string `yaml:"source"`   // canonical path on the host
	ReadOnly bool   `yaml:"readonly"` // only read-only binds
}

// LimitSets are the limits a container gets, and the most it can ask for.
type LimitSets struct {
	Default LimitSet `yaml:"default"`
	Max     LimitSet `yaml:"max"`
}

// LimitSet are limits as the file gives them; nil is not given.
type LimitSet struct {
	Memory *Size    `yaml:"memory"`
	Pids   *int64   `yaml:"pids"`
	Nofile *int64   `yaml:"nofile"`
	Shm    *Size    `yaml:"shm"`
	Tmpfs  *Size    `yaml:"tmpfs"`
	CPUs   *float64 `yaml:"cpus"`
	Log    *Size    `yaml:"log"`
}

// Size is a number of bytes, written as a number or as 512m, 2g, 1.5GiB.
type Size int64

// UnmarshalText reads a size.
func (s *Size) UnmarshalText(text []byte) error {
	n, _ := units.RAMInBytes(string(text)) // -1, if it is none
	if n <= 0 {
		return fmt.Errorf("%.40q is not a size; write a number of bytes or 512m, 2g", text)
	}
	*s = Size(n)
	return nil
}

// Limits are the limits in force: the built-in ones with the site's over them.
func (s Site) Limits() spec.Limits {
	if s.limits == (spec.Limits{}) {
		return spec.DefaultLimits()
	}
	return s.limits
}

// publishRequired is the word of publish-address that refuses published ports
// without an address of the host's own.
const publishRequired = "required"

// PublishDefault is the address of published ports that name none. The zero
// Addr is all addresses of the host.
func (s Site) PublishDefault() netip.Addr {
	a, _ := netip.ParseAddr(s.PublishAddress) // the zero Addr, if it is none
	return a.Unmap()
}

// Path is the file the policy came from, "" for the built-in policy.
func (s Site) Path() string { return s.path }

// buildLimits merges the file's limits with the built-in ones. A default above
// the site's own maximum is lowered only where the file does not give it.
func (s *Site) buildLimits(bad func(string, ...any)) {
	l := spec.DefaultLimits()
	d, m := s.LimitSets.Default, s.LimitSets.Max
	for _, f := range []struct {
		name          string
		def, most     *int64
		value, maxima *int64
	}{
		{"memory", (*int64)(d.Memory), (*int64)(m.Memory), &l.Memory, &l.MaxMemory},
		{"pids", d.Pids, m.Pids, &l.Pids, &l.MaxPids},
		{"nofile", d.Nofile, m.Nofile, &l.Nofile, &l.MaxNofile},
		{"shm", (*int64)(d.Shm), (*int64)(m.Shm), &l.Shm, &l.MaxShm},
		{"tmpfs", (*int64)(d.Tmpfs), (*int64)(m.Tmpfs), &l.Tmpfs, &l.MaxTmpfs},
	} {
		for _, n := range []*int64{f.def, f.most} {
			if n != nil && *n <= 0 {
				bad("limits: %s must be more than 0", f.name)
			}
		}
		if f.def != nil {
			*f.value = *f.def
		}
		if f.most != nil {
			*f.maxima = *f.most
		}
		switch {
		case *f.maxima <= 0 || *f.value <= *f.maxima:
		case f.def != nil:
			bad("limits: the default of %s, %d, is more than the maximum, %d", f.name, *f.value, *f.maxima)
		default:
			*f.value = *f.maxima
		}
	}
	const least = 6 << 20 // docker's smallest memory limit
	if l.Memory < least { // as it is where the maximum is less
		bad("limits: memory must be at least 6m")
	}
	if d.CPUs != nil {
		bad("limits: cpus has only a maximum, no default")
	}
	if m.CPUs != nil {
		// The negation also catches NaN.
		if !(*m.CPUs > 0 && *m.CPUs <= 1<<16) {
			bad("limits: cpus must be more than 0")
		}
		l.MaxCPUs = *m.CPUs
	}
	if d.Log != nil {
		bad("limits: log has only a maximum, no default; --log-opt says how much is kept")
	}
	if m.Log != nil {
		if int64(*m.Log) < logFiles*logFileBytes {
			bad("limits: log must be at least 30m, what is kept of every container")
		}
		l.MaxLog = int64(*m.Log)
	}
	s.limits = l
}

// check validates a decoded file and brings its words to one spelling. All
// errors are collected.
func (s *Site) check(bad func(string, ...any)) {
	if s.Version != 1 {
		bad("version: must be 1 (the version of this file's format), not %d", s.Version)
	}
	for i := range s.Grants {
		s.Grants[i].check(func(format string, args ...any) {
			bad("grants[%d] (%.80q): "+format, append([]any{i, s.Grants[i].Image}, args...)...)
		})
	}
	s.buildLimits(bad)
	for _, r := range s.Registries {
		if _, err := reference.ParseNormalizedNamed(r + "/x/y"); err != nil || strings.ContainsAny(r, "/@") ||
			!strings.ContainsAny(r, ".:") && r != "localhost" {
			bad("registries: %.80q is not a host name like docker.io or registry.example:5000", r)
		}
	}
	if s.PublishAddress != "" && s.PublishAddress != publishRequired {
		if a, err := netip.ParseAddr(s.PublishAddress); err != nil || a.Zone() != "" || a.IsMulticast() {
			bad("publish-address: %.80q is not an IP address, nor the word %s", s.PublishAddress, publishRequired)
		}
	}
	for _, n := range s.Networks {
		switch {
		case n == "default":
			bad("networks: the default network is called bridge")
		case !networkName().MatchString(n) || n == "host":
			bad("networks: %.80q is not the name of a network", n)
		}
	}
}

var networkName = lazyre.New(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

func (g *Grant) check(bad func(string, ...any)) {
	if _, err := parsePattern(g.Image); err != nil {
		bad("image: %v", err)
	}
	if g.Profile != "" && !networkName().MatchString(g.Profile) {
		bad("profile: %.80q is not the name of a profile", g.Profile)
	}
	for i, typed := range g.Capabilities {
		name := capName(typed)
		c, known := findCapability(name)
		switch {
		case name == "ALL":
			bad("capabilities: ALL is never granted; name the ones that are needed")
		case !known:
			bad("capabilities: %.80q is not a capability", typed)
		case c.class == capHost && !slices.Contains(g.Allow, "userns-host"):
			bad("capabilities: %s has no effect in a user namespace; it needs allow: [userns-host] as well", name)
		}
		g.Capabilities[i] = "CAP_" + name
	}
	for i := range g.Devices {
		d := &g.Devices[i]
		if d.Permissions = either(d.Permissions, "rwm"); strings.Trim(d.Permissions, "rwm") != "" {
			bad("devices: the permissions %.20q are not made of r, w and m", d.Permissions)
		}
		if !cleanPath(d.Path) || relate(d.Path, "/dev") != inside {
			bad("devices: %.80q is not the canonical path of a device below /dev", d.Path)
		}
	}
	for _, b := range g.Binds {
		switch {
		case !cleanPath(b.Source):
			bad("binds: %.80q is not an absolute path without . and ..", b.Source)
		case b.Source == "/":
			bad("binds: / is never granted")
		case slices.Contains(engineSockets(), b.Source):
			bad("binds: %s is the control socket of a container engine, which is never granted", b.Source)
		}
	}
	for i, key := range g.Sysctls {
		name := sysctlName(key)
		if scopeOf(name) == scopeHost {
			bad("sysctls: %.80q belongs to the whole host; no grant can make it the container's", key)
		}
		g.Sysctls[i] = name
	}
	for _, key := range g.Annotations {
		if !grantableAnnotation(key) {
			bad("annotations: %.80q is never granted (it undoes limits, or is reserved)", key)
		}
	}
	for _, id := range g.Allow {
		if _, ok := allowIDs()[id]; !ok {
			bad("allow: %s", allowError(id))
		}
	}
}

// allowError says why an id cannot stand in allow.
func allowError(id string) string {
	for _, rule := range Catalogue() {
		switch {
		case rule.ID != id:
		case rule.Grant == "":
			return fmt.Sprintf("%s is never granted", id)
		default:
			return fmt.Sprintf("%s is granted by %s, not by allow", id, rule.Grant)
		}
	}
	return fmt.Sprintf("%.80q is not an id of the catalogue (see: safe-run policy show)", id)
}

func cleanPath(p string) bool {
	return strings.HasPrefix(p, "/") && path.Clean(p) == p && !hasControl(p) && len(p) < 4096
}
