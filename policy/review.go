// Package policy is the catalogue of what a launch may not ask for, and the
// site's file that says what it may. It is pure: facts about the host come in
// with the request, and the answer is refusals or grants.
package policy

import (
	"maps"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/safe-run/safe-run/spec"
)

// Request is one launch to be judged.
type Request struct {
	Workload spec.Workload
	// Image is the configuration of the image. Its zero value, with
	// Provisional, means that the image is not known yet.
	Image         spec.Image
	Sources       map[int]spec.Source // facts of bind sources, by index into Workload.Mounts
	DeviceSources map[int]spec.Source // facts of devices, by index into Workload.Devices
	// Stores are the directories this program keeps its own state in, where
	// they are not at their usual places.
	Stores  []string
	Host    spec.Features
	Site    Site
	Profile string // name of the profile the workload comes from, or ""
	// Caller is the user on whose behalf it is asked: root, or who called sudo.
	Caller uint32

	// CheckSeccomp judges the content of a seccomp=FILE option. Without it such
	// an option is refused.
	CheckSeccomp func([]byte) error

	// Provisional asks for refusals before the image is there, so that nothing
	// is pulled for a command line that is refused. Grants that hold for one
	// digest count as given for then; the review gives no grants, and a second
	// one must follow when the image is known.
	Provisional bool

	concerns []concern // of Workload.Mounts, once judged
}

// Rule is one entry of the catalogue.
type Rule struct {
	ID        string
	Title     string
	GivesAway string // one sentence: what the host would lose
	SaferWay  string
	// Grant is the word of the site policy file that permits it: "allow",
	// "capabilities", "devices", "binds", "sysctls", "annotations" of a grant,
	// or "limits". Empty: nothing does.
	Grant string
	Check func(*Request) []Finding `json:"-"`
}

// Finding is one place where a request meets a rule.
type Finding struct {
	Flag  string // as typed
	Why   string // this case's reason; empty: the rule's
	Safer string // this case's way; empty: the rule's
	Need  Need   // the grant that would permit it
}

// Need is the smallest grant that permits a finding. The zero value: none can.
type Need struct {
	Key      string // as Rule.Grant
	Value    string // id, capability, path, sysctl or annotation key
	ReadOnly bool   // of a bind
	Device   *specs.LinuxDevice
	Perms    string // of a device
	// Void: it is only said. The path leads elsewhere, which is not for the
	// caller to know; the grant would be asked for by the real one.
	Void bool
}

// Refusal is one finding that nothing permits.
type Refusal struct {
	ID        string `json:"id"`
	Flag      string `json:"flag"`
	GivesAway string `json:"gives_away"`
	Safer     string `json:"safer"`
	Grant     string `json:"grant,omitempty"` // line of the site policy that would permit it; empty: none does
	Image     string `json:"image,omitempty"` // repository the grant would be for
}

// Review judges a request by the whole catalogue. It gives either all refusals
// there are, or the privileges the site's policy adds for this workload:
// what was asked for and allowed, nothing that was only allowed.
func Review(r Request) (spec.Grants, []Refusal) {
	var (
		grants   spec.Grants
		refusals []Refusal
	)
	site := r.Site.forRequest(&r)
	image := repository(r.imageName())
	for _, rule := range Catalogue() {
		for _, f := range rule.Check(&r) {
			if site.permits(f.Need) {
				grant(&grants, f.Need)
				grants.IDs = appendNew(grants.IDs, rule.ID)
				continue
			}
			refusals = append(refusals, Refusal{
				ID:        rule.ID,
				Flag:      f.Flag,
				GivesAway: either(f.Why, rule.GivesAway),
				Safer:     either(f.Safer, rule.SaferWay),
				Grant:     f.Need.yaml(),
				Image:     image,
			})
		}
	}
	if len(refusals) > 0 || r.Provisional {
		return spec.Grants{}, refusals
	}
	for _, key := range slices.Sorted(maps.Keys(r.Workload.Annotations)) {
		if freeAnnotation(key) {
			grants.Annotations = appendNew(grants.Annotations, key)
		}
	}
	return grants, nil
}

// Catalogue is the whole list of rules, in the order they are reported.
func Catalogue() []Rule {
	return slices.Concat(
		privilegeRules(), capabilityRules(), namespaceRules(), networkRules(), securityRules(), deviceRules(),
		sourceRules(), mountRules(), resourceRules(), kernelRules(), imageRules(), siteRules(),
	)
}

// grant adds what a permitted need stands for.
func grant(g *spec.Grants, n Need) {
	switch n.Key {
	case "capabilities":
		g.Capabilities = appendNew(g.Capabilities, n.Value)
	case "binds":
		g.Binds = appendNew(g.Binds, n.Value)
	case "sysctls":
		g.Sysctls = appendNew(g.Sysctls, n.Value)
	case "annotations":
		g.Annotations = appendNew(g.Annotations, n.Value)
	case "devices":
		if g.DevicePerms == nil {
			g.DevicePerms = map[string]string{}
		}
		g.Devices = append(g.Devices, *n.Device)
		g.DevicePerms[n.Device.Path] = n.Perms
	case "allow":
		if set := allowIDs()[n.Value]; set != nil {
			set(g)
		}
	}
}

// allowIDs are the words of `allow` in a grant, and what each switches on.
func allowIDs() map[string]func(*spec.Grants) {
	return map[string]func(*spec.Grants){
		"userns-host":         func(g *spec.Grants) { g.HostUserNS = true },
		"network-host":        func(g *spec.Grants) { g.HostNetwork = true },
		"pid-host":            func(g *spec.Grants) { g.HostPID = true },
		"ipc-host":            func(g *spec.Grants) { g.HostIPC = true },
		"uts-host":            func(g *spec.Grants) { g.HostUTS = true },
		"seccomp-unconfined":  func(g *spec.Grants) { g.UnconfinedSeccomp = true },
		"apparmor-unconfined": func(g *spec.Grants) { g.UnconfinedAppArmor = true },
		"apparmor-profile":    func(g *spec.Grants) { g.NamedAppArmor = true },
		"label-disable":       func(g *spec.Grants) { g.LabelDisable = true },
		"new-privileges":      func(g *spec.Grants) { g.NewPrivileges = true },
		"publish-address":     func(*spec.Grants) {}, // nothing of the specification hangs on it
		"writable-rootfs":     func(g *spec.Grants) { g.WritableRootfs = true },
		"memory-unlimited":    func(g *spec.Grants) { g.UnlimitedMemory = true },
		"pids-unlimited":      func(g *spec.Grants) { g.UnlimitedPids = true },
	}
}

// yaml is the need as a line of the site policy.
func (n Need) yaml() string {
	switch n.Key {
	case "":
		return ""
	case "limits":
		return "limits: {max: {" + n.Value + "}}"
	case "binds":
		if n.ReadOnly {
			return "binds: [{source: " + quoteYAML(n.Value) + ", readonly: true}]"
		}
		return "binds: [{source: " + quoteYAML(n.Value) + "}]"
	case "devices":
		return "devices: [{path: " + quoteYAML(n.Value) + ", permissions: " + n.Perms + "}]"
	case "capabilities":
		return "capabilities: [" + strings.TrimPrefix(n.Value, "CAP_") + "]"
	default:
		return n.Key + ": [" + quoteYAML(n.Value) + "]"
	}
}

func (r *Request) imageName() string {
	return either(r.Image.Name, r.Workload.Image)
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func appendNew(to []string, s string) []string {
	if slices.Contains(to, s) {
		return to
	}
	return append(to, s)
}
