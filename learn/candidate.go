package learn

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/profiles"
	"github.com/safe-run/safe-run/spec"
)

// Options are what Candidate has to know beside the recording.
type Options struct {
	// Grantable says whether the site's policy lets the image have a capability
	// (CAP_ name). nil: those that need no grant.
	Grantable func(name string) bool
	// Held are the capabilities (CAP_ names) the recorded container had. A
	// refusal of one of these was to a process that had given it up, so to ask
	// for it changes nothing.
	Held []string
	// Covered are the targets of all mounts the recorded container had beside
	// those of base and the default tmpfs: volumes of the image, for example.
	Covered []string
}

// Result is what a recording comes to.
type Result struct {
	Profile profiles.Profile
	// Unmet are needs and requests no right of the profile answers: what cannot be
	// given, what was asked for and not used.
	Unmet []Unmet
	// Seen are facts for who writes an egress list: the addresses the program
	// connected to, which names they had is not known.
	Seen []string

	base    profiles.Profile
	options Options
}

// Unmet is something a profile does not give.
type Unmet struct {
	What string // was done, or asked for
	Why  string // it is not given
	Next string // what the user can do, or ""
}

// String gives one line for people.
func (u Unmet) String() string {
	s := u.What + ": " + u.Why
	if u.Next != "" {
		s += "; " + u.Next
	}
	return s
}

const (
	defaultMemory = 512 << 20 // bytes, of a container without --memory
	defaultPids   = 256
	// Below these a limit protects nobody, and servers that start a worker for
	// each CPU would meet it on a larger host.
	leastMemory = 64 << 20
	leastPids   = 64
	maxPorts    = 64
	maxSeen     = 20
)

// Candidate makes a profile of a recording and of what the user's own flags
// asked for. It has the rights that were used and no others; what Prove finds
// unnecessary is still among them. Nothing in it is unbounded, and all its
// strings are printable.
func Candidate(rec Recording, base profiles.Profile, o Options) Result {
	r := Result{Profile: base, base: base, options: o}
	p := &r.Profile
	p.Version = 1
	r.capabilities(rec)
	own := slices.Clone(o.Covered)
	for _, w := range base.Writable {
		own = append(own, w.Path)
	}
	for _, b := range base.Binds {
		own = append(own, b.Target)
	}
	more, unmet := writablePlaces(rec, own)
	p.Writable = slices.Concat(base.Writable, more)
	r.Unmet = append(r.Unmet, unmet...)
	r.ports(rec)
	r.limits(rec)
	r.seccomp(rec)
	r.Seen = connections(rec)
	return r
}

// grantable says whether a capability can be had.
func (r *Result) grantable(name string) bool {
	if r.options.Grantable != nil {
		return r.options.Grantable(name)
	}
	return spec.FreeCapability(name)
}

// missing says whether a refusal is one that the profile can mend.
func (r *Result) missing(c CapabilityUse) bool {
	return c.Refused && !c.Host && !slices.Contains(r.options.Held, c.Name) && r.grantable(c.Name)
}

func (r *Result) capabilities(rec Recording) {
	uses := map[string][]CapabilityUse{}
	for _, c := range rec.Capabilities {
		name, err := spec.Capability(c.Name)
		if err != nil || c.Host {
			continue
		}
		if !c.Refused || r.missing(c) {
			uses[name] = append(uses[name], c)
		}
	}
	dropReadSearch(uses)
	r.packets(rec, uses)
	r.Profile.Capabilities = nil
	for _, name := range slices.Sorted(maps.Keys(uses)) {
		c := profiles.Capability{Name: plainName(name), Evidence: capabilityEvidence(rec, name, uses[name])}
		for _, b := range r.base.Capabilities {
			if plainName(b.Name) == c.Name {
				c.Why = b.Why
			}
		}
		r.Profile.Capabilities = append(r.Profile.Capabilities, c)
	}
	for _, b := range r.base.Capabilities {
		if name := "CAP_" + plainName(b.Name); uses[name] == nil {
			r.Unmet = append(r.Unmet, Unmet{What: "--cap-add " + plainName(b.Name), Why: "it was never used", Next: "the profile leaves it out"})
		}
	}
}

// packets adds what the filter, and not the kernel, asks for at a packet
// socket: NET_RAW alone does not open it (see profiles.Seccomp).
func (r *Result) packets(rec Recording, uses map[string][]CapabilityUse) {
	for _, c := range rec.Syscalls {
		if c.Name == "socket" && c.Arg == unix.AF_PACKET && r.grantable("CAP_NET_ADMIN") {
			uses["CAP_NET_ADMIN"] = append(uses["CAP_NET_ADMIN"], CapabilityUse{
				Name: "CAP_NET_ADMIN", Syscall: "socket AF_PACKET", Process: c.Process, Count: c.Count,
			})
		}
	}
}

// dropReadSearch takes a DAC_READ_SEARCH that was only refused away beside
// DAC_OVERRIDE: the kernel asks for the lesser one first (generic_permission,
// fs/namei.c), and the other one includes it.
func dropReadSearch(uses map[string][]CapabilityUse) {
	search := uses["CAP_DAC_READ_SEARCH"]
	if uses["CAP_DAC_OVERRIDE"] != nil && !slices.ContainsFunc(search, func(c CapabilityUse) bool { return !c.Refused }) {
		delete(uses, "CAP_DAC_READ_SEARCH")
	}
}

// plainName gives a capability's name as profiles write it.
func plainName(name string) string {
	return strings.TrimPrefix(strings.ToUpper(name), "CAP_")
}

func capabilityEvidence(rec Recording, name string, uses []CapabilityUse) *profiles.Evidence {
	top := slices.MaxFunc(uses, func(a, b CapabilityUse) int {
		return cmp.Or(cmp.Compare(a.Count, b.Count), cmp.Compare(b.Syscall, a.Syscall), cmp.Compare(b.Process, a.Process))
	})
	e := &profiles.Evidence{Process: noted(shown(top.Process)), Call: noted(top.Syscall)}
	for _, u := range uses {
		e.Count += u.Count
	}
	if p := pathOf(rec, name, top); p != "" {
		e.Call += " " + noted(p)
	}
	return e
}

// pathOf gives a path, fit to be shown, or the address, of the call that asked
// for a capability; "" if it had none.
func pathOf(rec Recording, name string, c CapabilityUse) string {
	for _, p := range rec.Paths {
		if p.Syscall == c.Syscall && p.Process == c.Process && (slices.Contains(p.Capabilities, name) || !c.Refused && p.Errno == 0) {
			return shown(p.Path)
		}
	}
	if c.Syscall == "bind" {
		for _, s := range rec.Sockets {
			if s.Bind && s.Process == c.Process && s.Port > 0 && s.Port < 1024 && (s.Errno != 0) == c.Refused {
				return "port " + strconv.Itoa(int(s.Port))
			}
		}
	}
	return ""
}

// ports adds the ports the program listens on and the user did not publish.
func (r *Result) ports(rec Recording) {
	p := &r.Profile
	p.Ports = slices.Clone(p.Ports)
	known := map[string]bool{}
	for _, b := range p.Ports {
		for _, port := range containerPorts(b.Port) {
			known[port] = true
		}
	}
	uses := map[string][]SocketUse{}
	for _, s := range rec.Sockets {
		if s.Bind && s.Errno == 0 && s.Port != 0 && (s.Proto == "tcp" || s.Proto == "udp") && !loopback(s.Address) {
			port := strconv.Itoa(int(s.Port)) + "/" + s.Proto
			uses[port] = append(uses[port], s)
		}
	}
	for _, port := range slices.Sorted(maps.Keys(uses)) {
		if known[port] {
			continue
		}
		if len(p.Ports) >= maxPorts {
			r.Unmet = append(r.Unmet, Unmet{What: "listening on more ports", Why: fmt.Sprintf("there are more than %d", maxPorts)})
			return
		}
		e := profiles.Evidence{Call: "bind"}
		for _, u := range uses[port] {
			e.Count += u.Count
			e.Process = noted(shown(u.Process))
		}
		p.Ports = append(p.Ports, profiles.Port{Port: port, Why: "the application listens on it", Evidence: &e})
	}
}

// containerPorts gives PORT/PROTO of each port inside the container that an
// entry of a profile names.
func containerPorts(entry string) (out []string) {
	entry, proto, ok := strings.Cut(entry, "/")
	if !ok {
		proto = "tcp"
	}
	entry = entry[strings.LastIndexByte(entry, ':')+1:]
	first, last, ok := strings.Cut(entry, "-")
	if !ok {
		last = first
	}
	from, err := strconv.ParseUint(first, 10, 16)
	to, err2 := strconv.ParseUint(last, 10, 16)
	if err != nil || err2 != nil {
		return nil
	}
	for ; from <= to; from++ {
		out = append(out, strconv.FormatUint(from, 10)+"/"+proto)
	}
	return out
}

func loopback(address string) bool {
	a, err := netip.ParseAddrPort(address)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

// unspecified addresses are what a C library tries routes with.
func unspecified(address string) bool {
	a, err := netip.ParseAddrPort(address)
	return err == nil && a.Addr().Unmap().IsUnspecified()
}

// limits sets what is below the defaults, or below what the user asked for,
// with room for twice what was seen.
func (r *Result) limits(rec Recording) {
	l := &r.Profile.Limits
	var why []string
	if seen := rec.Peak.Memory; seen > 0 && !rec.Limits.Memory {
		most := int64(defaultMemory)
		if n, err := units.RAMInBytes(l.Memory); err == nil && l.Memory != "" {
			most = n
		}
		if n := niceSize(max(leastMemory, 2*seen)); n < most {
			l.Memory = mebibytes(n)
		}
		why = append(why, fmt.Sprintf("%s of memory", mebibytes(seen)))
	}
	if seen := rec.Peak.Pids; seen > 0 && !rec.Limits.Pids {
		most := int64(defaultPids)
		if l.Pids > 0 {
			most = l.Pids
		}
		if n := max(leastPids, (2*seen+7)/8*8); n < most {
			l.Pids = n
		}
		why = append(why, fmt.Sprintf("%d processes and threads", seen))
	}
	if size, used := largerDefault(rec, shmPath); size > 0 && l.Shm == "" {
		l.Shm = mebibytes(size)
		why = append(why, mebibytes(used)+" in "+shmPath)
	}
	if len(why) > 0 && l.Why == "" {
		l.Why = "the most seen at once: " + strings.Join(why, ", ")
	}
	if rec.Limits.Memory {
		r.Unmet = append(r.Unmet, Unmet{What: "memory", Why: "its limit was reached while it was recorded", Next: "record it again with a higher one: --memory"})
	}
	if rec.Limits.Pids {
		r.Unmet = append(r.Unmet, Unmet{What: "processes", Why: "their limit was reached while it was recorded", Next: "record it again with a higher one: --pids-limit"})
	}
}

// niceSize rounds up to 32, 48, 64, 96, 128 ... MiB.
func niceSize(n int64) int64 {
	for size := int64(32 << 20); ; size *= 2 {
		if n <= size || size >= 1<<50 {
			return size
		}
		if n <= size/2*3 {
			return size / 2 * 3
		}
	}
}

// seccomp lists the calls that were seen; a filter the user gave stays.
func (r *Result) seccomp(rec Recording) {
	if r.base.Seccomp != nil || len(rec.Syscalls) == 0 {
		return
	}
	seen := map[string]bool{}
	for _, s := range rec.Syscalls {
		seen[s.Name] = true
	}
	list := permittedCalls(slices.Concat(runtimeCalls(), slices.Collect(maps.Keys(seen))), r.held())
	n := 0
	for _, name := range list {
		if seen[name] {
			n++
		}
	}
	r.Profile.Seccomp = &profiles.SeccompUse{
		Allow: list,
		Why:   fmt.Sprintf("%d that were seen, and %d that the runtime and C libraries need besides", n, len(list)-n),
	}
}

// held gives the CAP_ names of the profile's capabilities.
func (r *Result) held() []string { return capabilityNames(r.Profile) }

func capabilityNames(p profiles.Profile) (names []string) {
	for _, c := range p.Capabilities {
		names = append(names, "CAP_"+plainName(c.Name))
	}
	return names
}

// connections lists the addresses that were connected to.
func connections(rec Recording) (out []string) {
	type use struct {
		text  string
		count uint64
	}
	var uses []use
	for _, s := range rec.Sockets {
		if !s.Bind && s.Errno == 0 && s.Port != 0 && (s.Proto == "tcp" || s.Proto == "udp") && !loopback(s.Address) && !unspecified(s.Address) {
			uses = append(uses, use{fmt.Sprintf("connected to %s over %s (%s, %s)", shown(s.Address), s.Proto, times(s.Count), shown(s.Process)), s.Count})
		}
	}
	slices.SortFunc(uses, func(a, b use) int { return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.text, b.text)) })
	for i, u := range uses {
		if i == maxSeen {
			return append(out, fmt.Sprintf("and %d more addresses", len(uses)-i))
		}
		out = append(out, u.text)
	}
	return out
}
