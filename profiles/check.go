package profiles

import (
	"fmt"
	"math"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/go-units"
	"github.com/moby/sys/capability"
	"github.com/moby/sys/signal"

	"github.com/safe-run/safe-run/internal/lazyre"
)

// Bounds of the strings in a profile, in bytes.
const (
	maxWord  = 4095 // PATH_MAX
	maxProse = 1024
	maxName  = 64
)

var (
	// profileName is the name of a profile: it becomes a file name.
	profileName = lazyre.New(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	// plainName is docker's pattern for volumes and networks.
	plainName = lazyre.New(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,63}$`)
	// networkWord is what --network takes in its short form.
	networkWord = lazyre.New(`^(container:)?[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)
	// userWord is USER[:GROUP], names or numbers.
	userWord   = lazyre.New(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})?$`)
	sysctlName = lazyre.New(`^[a-z0-9_]+([./][A-Za-z0-9_-]+)+$`)
	// The command line reads ports and destinations by their meaning.
	portWord   = lazyre.New(`^((\[[0-9a-fA-F:.]+\]|[0-9.]+):)?([0-9]+(-[0-9]+)?)?(:?[0-9]+(-[0-9]+)?)(/(tcp|udp|sctp))?$`)
	egressWord = lazyre.New(`^(\[[0-9a-fA-F:.]+(/[0-9]+)?\]|[A-Za-z0-9._-]+(/[0-9]+)?):([0-9]+(-[0-9]+)?|\*)(/(tcp|udp|sctp))?$`)
	modeWord   = lazyre.New(`^[0-7]{1,4}$`)
)

// bad takes an error of meaning and the place it is at: keys, and positions in
// lists.
type bad func(msg string, at ...any)

// check tells all errors of meaning.
func (p *Profile) check(no bad) {
	checkStrings(reflect.ValueOf(*p), nil, no)
	if p.Version != 1 {
		no(fmt.Sprintf("version: must be 1 (the version of the file's format), not %d", p.Version), "version")
	}
	if p.Name != "" && !profileName().MatchString(p.Name) {
		no(fmt.Sprintf("name: %.80q is not a name: small letters, digits, and within them . _ and -", p.Name), "name")
	}
	if why := badImage(p.Image); why != "" {
		no("image: "+why, "image")
	}
	for i, name := range p.For {
		if !profileName().MatchString(name) {
			no(fmt.Sprintf("for: %.80q is not the last part of a repository's name", name), "for", i)
		}
	}
	p.checkKernel(no)
	p.checkFiles(no)
	p.checkNetwork(no)
	p.checkProcess(no)
	p.checkLimits(no)
	for i, r := range p.Recorded {
		if r.Date.IsZero() || r.Date.Year() > 9999 {
			no("recorded: takes a date", "recorded", i, "date")
		}
	}
}

// prose are the keys of texts for people.
func prose(key string) bool {
	return slices.Contains([]string{"why", "description", "process", "call", "proof", "tool", "kernel", "check"}, key)
}

// checkStrings looks at every string there is.
func checkStrings(v reflect.Value, at []any, no bad) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			checkStrings(v.Elem(), at, no)
		}
	case reflect.Slice:
		for i := range v.Len() {
			checkStrings(v.Index(i), append(slices.Clip(at), i), no)
		}
	case reflect.Struct:
		if v.Type().PkgPath() == "time" {
			return
		}
		for i := range v.NumField() {
			key, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
			checkStrings(v.Field(i), append(slices.Clip(at), key), no)
		}
	case reflect.String:
		most, key := maxWord, ""
		for _, step := range at {
			if word, ok := step.(string); ok {
				key = word
			}
		}
		if prose(key) {
			most = maxProse
		}
		if why := printableText(v.String(), most); why != "" {
			no(key+": "+why, at...)
		}
	}
}

func badImage(image string) string {
	if image == "" {
		return ""
	}
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return fmt.Sprintf("%.80q is not a repository, nor one with a digest: REPOSITORY[@sha256:DIGEST]", image)
	}
	if _, tagged := named.(reference.Tagged); tagged {
		return "a tag can be moved to another image; name the repository, or the digest"
	}
	return ""
}

// knownCapability says whether there is a capability of a name, without CAP_
// and in capitals.
func knownCapability(name string) bool {
	return slices.ContainsFunc(capability.ListKnown(), func(c capability.Cap) bool {
		return strings.ToUpper(c.String()) == name
	})
}

func (p *Profile) checkKernel(no bad) {
	for i, c := range p.Capabilities {
		switch {
		case c.Name == "ALL":
			no("capabilities: ALL is never granted; name the ones that are needed", "capabilities", i, "name")
		case !knownCapability(c.Name):
			no(fmt.Sprintf("capabilities: %.64q is not a capability", c.Name), "capabilities", i, "name")
		}
	}
	twice(p.Capabilities, func(c Capability) string { return c.Name }, "capabilities", "name", no)
	if s := p.Seccomp; s != nil {
		p.checkSeccomp(s, no)
	}
	if a := p.AppArmor; a != nil {
		checkAppArmor(a, no)
	}
	for i, s := range p.Sysctls {
		if !sysctlName().MatchString(s.Name) {
			no(fmt.Sprintf("sysctls: %.80q is not the name of a setting", s.Name), "sysctls", i, "name")
		}
		if s.Value == "" {
			no("sysctls: takes a value", "sysctls", i, "value")
		}
	}
	twice(p.Sysctls, func(s Sysctl) string { return s.Name }, "sysctls", "name", no)
	for i, d := range p.Devices {
		switch {
		case badPath(d.Path) != "" || !strings.HasPrefix(d.Path, "/dev/") || strings.ContainsAny(d.Path, ":="):
			no(fmt.Sprintf("devices: %.80q is not the path of a device below /dev", d.Path), "devices", i, "path")
		case slices.Contains([]string{"/dev/mem", "/dev/kmem", "/dev/port"}, d.Path):
			no(fmt.Sprintf("devices: %s is the memory of the host, which is never granted", d.Path), "devices", i, "path")
		}
		if t := d.Target; t != "" && (badPath(t) != "" || !strings.HasPrefix(t, "/dev/") || strings.ContainsAny(t, ":=")) {
			no(fmt.Sprintf("devices: %.80q is not a path below /dev", t), "devices", i, "target")
		}
		if !subset(d.Permissions, "rwm") {
			no(fmt.Sprintf("devices: the permissions %.20q are not some of r, w and m", d.Permissions), "devices", i, "permissions")
		}
	}
	twice(p.Devices, func(d Device) string { return d.place() }, "devices", "path", no)
}

// place is where the device is in the container.
func (d Device) place() string {
	if d.Target != "" {
		return d.Target
	}
	return d.Path
}

func (p *Profile) checkSeccomp(s *SeccompUse, no bad) {
	switch {
	case s.File == "" && len(s.Allow) == 0:
		no("seccomp: takes a file or a list of system calls to allow", "seccomp")
	case s.File != "" && len(s.Allow) > 0:
		no("seccomp: takes a file or a list, not both", "seccomp", "file")
	case s.File != "" && (!filepath.IsLocal(s.File) || path.Clean(s.File) != s.File || s.File == "."):
		no(fmt.Sprintf("seccomp: %.80q is not the plain path of a file in the profile's directory or below", s.File), "seccomp", "file")
	}
	for i, name := range s.Allow {
		needs, listed := never[name]
		switch {
		case !isSyscallName(name):
			no(fmt.Sprintf("seccomp: %.64q is not the name of a system call", name), "seccomp", "allow", i)
		case listed && needs == "":
			no(fmt.Sprintf("seccomp: %s is a system call no container is given", name), "seccomp", "allow", i)
		case listed && !slices.ContainsFunc(p.Capabilities, func(c Capability) bool { return "CAP_"+c.Name == needs }):
			no(fmt.Sprintf("seccomp: %s is a system call no container is given without %s", name, needs), "seccomp", "allow", i)
		}
	}
	twice(s.Allow, func(s string) string { return s }, "seccomp", "allow", no)
}

func checkAppArmor(a *AppArmorUse, no bad) {
	switch {
	case a.Name == "" && len(a.Files) == 0:
		no("apparmor: takes the name of a loaded profile, or rules on files", "apparmor")
	case a.Name != "" && len(a.Files) > 0:
		no("apparmor: takes a name or rules, not both", "apparmor", "name")
	case a.Name == "unconfined":
		no("apparmor: a profile narrows; it cannot ask for unconfined", "apparmor", "name")
	case a.Name != "" && !plainName().MatchString(a.Name):
		no(fmt.Sprintf("apparmor: %.80q is not the name of a profile", a.Name), "apparmor", "name")
	case len(a.Files) > MaxAppArmorFiles:
		no(fmt.Sprintf("apparmor: more than %d rules on files", MaxAppArmorFiles), "apparmor", "files", MaxAppArmorFiles)
	}
	for i, f := range a.Files {
		if err := CheckAppArmorFile(f); err != nil {
			no(err.Error(), "apparmor", "files", i)
		}
	}
}

func (p *Profile) checkNetwork(no bad) {
	for i, port := range p.Ports {
		if !portWord().MatchString(port.Port) {
			no(fmt.Sprintf("ports: %.80q is not PORT[/PROTO], nor [ADDRESS:]HOSTPORT:PORT[/PROTO]", port.Port), "ports", i, "port")
		}
	}
	twice(p.Ports, func(p Port) string { return p.Port }, "ports", "port", no)
	if p.Network != "" && !networkWord().MatchString(p.Network) {
		no(fmt.Sprintf("network: %.80q is not the name of a network, none, host or container:NAME", p.Network), "network")
	}
	for i, e := range p.Egress {
		switch {
		case e.To == "none" && len(p.Egress) == 1:
		case e.To == "none":
			no("egress: none stands alone", "egress", i, "to")
		case !egressWord().MatchString(e.To):
			no(fmt.Sprintf("egress: %.80q is not HOST:PORT[/PROTO], nor none", e.To), "egress", i, "to")
		}
	}
	twice(p.Egress, func(e Egress) string { return e.To }, "egress", "to", no)
}

func (p *Profile) checkProcess(no bad) {
	if p.User != "" && !userWord().MatchString(p.User) {
		no(fmt.Sprintf("user: %.80q is not USER[:GROUP], names or numbers", p.User), "user")
	}
	if p.UserNS != "" && p.UserNS != "host" {
		no(fmt.Sprintf("userns: %.40q is not the word host", p.UserNS), "userns")
	}
	if h := p.Health; h != nil {
		if h.Command == "" {
			no("health: takes a command", "health", "command")
		}
		for _, f := range []struct{ key, value string }{
			{"interval", h.Interval}, {"timeout", h.Timeout}, {"start-period", h.StartPeriod},
		} {
			if f.value == "" {
				continue
			}
			if d, err := time.ParseDuration(f.value); err != nil || d < time.Millisecond || d > 366*24*time.Hour {
				no(fmt.Sprintf("health: %.40q is not a duration from 1ms to a year, as 5s or 1m30s", f.value), "health", f.key)
			}
		}
		if h.Retries < 0 || h.Retries > math.MaxInt32 {
			no("health: retries is a number from 0", "health", "retries")
		}
	}
	if s := p.StopSignal; s != "" {
		if n, err := signal.ParseSignal(s); err != nil || n < 1 || n > 64 {
			no(fmt.Sprintf("stop-signal: %.40q is not a signal", s), "stop-signal")
		}
	}
	if t := p.StopTimeout; t != nil && (*t < -1 || *t > math.MaxInt32) {
		no("stop-timeout: takes a number of seconds, or -1 to wait for ever", "stop-timeout")
	}
}

func (p *Profile) checkLimits(no bad) {
	l := p.Limits
	for _, f := range []struct {
		key, value string
		least      int64
	}{{"memory", l.Memory, 6 << 20}, {"shm", l.Shm, 1}} {
		if f.value == "" {
			continue
		}
		if n, ok := bytesOf(f.value); !ok || n < f.least {
			no(fmt.Sprintf("limits: %.40q is not a size of %s, or too small; write 512m, 2g", f.value, f.key), "limits", f.key)
		}
	}
	for _, f := range []struct {
		key   string
		value int64
	}{{"pids", l.Pids}, {"nofile", l.Nofile}} {
		if f.value < 0 || f.value > 1<<30 {
			no(fmt.Sprintf("limits: %s must be more than 0", f.key), "limits", f.key)
		}
	}
	if l.CPUs != 0 && !(l.CPUs >= 0.01 && l.CPUs <= 1<<16) { // the negation also catches NaN
		no("limits: cpus must be at least 0.01", "limits", "cpus")
	}
}

// bytesOf reads a size as docker does.
func bytesOf(s string) (int64, bool) {
	n, err := units.RAMInBytes(s)
	return n, err == nil && n > 0 && n < math.MaxInt64
}

// subset says whether s has letters of from alone, none twice.
func subset(s, from string) bool {
	for i := range len(s) {
		if strings.IndexByte(from, s[i]) < 0 || strings.IndexByte(s[i+1:], s[i]) >= 0 {
			return false
		}
	}
	return true
}

// twice tells the entries of a list that stand in it before.
func twice[T any](list []T, key func(T) string, name, field string, no bad) {
	seen := map[string]bool{}
	for i, e := range list {
		k := key(e)
		if seen[k] {
			no(name+": "+strconv.Quote(k)+" is there twice", name, i, field)
		}
		seen[k] = true
	}
}
