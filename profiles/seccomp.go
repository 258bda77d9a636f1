// Package profiles holds the sources of a container's seccomp filter and
// AppArmor profile.
package profiles

import (
	"slices"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Options say for which container a filter is.
type Options struct {
	Arch         string   // GOARCH of the host
	Kernel       [2]int   // major and minor, for a profile file's minKernel conditions
	Capabilities []string // the bounding set, CAP_ names
	WritableBind bool     // a host directory is writable: also deny setting set-ID bits and file capabilities
	HostNetwork  bool     // the host's network namespace, where its abstract UNIX sockets are: deny all UNIX sockets but pairs
}

// arches maps GOARCH to the architecture in a filter. Only 64-bit hosts are
// supported, and only the native architecture is ever put in a filter: a
// 32-bit program could otherwise reach every socket family by socketcall(2).
var arches = map[string]specs.Arch{
	"amd64":   specs.ArchX86_64,
	"arm64":   specs.ArchAARCH64,
	"loong64": specs.ArchLOONGARCH64,
	"ppc64le": specs.ArchPPC64LE,
	"riscv64": specs.ArchRISCV64,
	"s390x":   specs.ArchS390X,
}

// Arch gives the name a filter has for a GOARCH, "" if there is none.
func Arch(goarch string) specs.Arch { return arches[goarch] }

// Seccomp gives the built-in filter. Known syscalls that are not permitted
// fail with EPERM; clone3, and openat2 where modes must be seen, with ENOSYS,
// so that libraries fall back to the calls a filter can look into. Numbers
// above those the filter knows fail with ENOSYS too: runc puts that before
// any filter whose default is another errno.
//
// It is nil for an architecture without support.
func Seccomp(o Options) *specs.LinuxSeccomp {
	arch := Arch(o.Arch)
	if arch == "" {
		return nil
	}
	g := guards(o)
	out := empty(arch)
	out.Syscalls = append(out.Syscalls, specs.LinuxSyscall{Names: ordinary(o, g), Action: specs.ActAllow})
	for _, name := range sortedNames(g) {
		for _, args := range g[name] {
			out.Syscalls = append(out.Syscalls, specs.LinuxSyscall{Names: []string{name}, Action: specs.ActAllow, Args: args})
		}
	}
	out.Syscalls = append(out.Syscalls, noSys(o))
	return out
}

// empty is a filter that permits nothing.
func empty(arch specs.Arch) *specs.LinuxSeccomp {
	eperm := uint(unix.EPERM)
	return &specs.LinuxSeccomp{
		DefaultAction:   specs.ActErrno,
		DefaultErrnoRet: &eperm,
		Architectures:   []specs.Arch{arch},
	}
}

// noSys is the rule for syscalls whose callers have a fall-back.
func noSys(o Options) specs.LinuxSyscall {
	enosys := uint(unix.ENOSYS)
	names := []string{"clone3"}
	if o.WritableBind {
		names = append(names, "openat2") // its mode is in memory
	}
	return specs.LinuxSyscall{Names: names, Action: specs.ActErrno, ErrnoRet: &enosys}
}

// ordinary are the syscalls permitted without conditions, sorted.
func ordinary(o Options, g map[string]guard) []string {
	set := make(map[string]bool, 400)
	for _, rule := range seccomp.DefaultProfile().Syscalls {
		if rule.Action != specs.ActAllow || len(rule.Args) > 0 || !holds(rule.Includes, rule.Excludes, o) {
			continue
		}
		for _, name := range rule.Names {
			set[name] = true
		}
	}
	if o.WritableBind {
		delete(set, "openat2")
		if slices.Contains(o.Capabilities, "CAP_SETFCAP") {
			for _, name := range attributeSetters {
				delete(set, name)
			}
		}
	}
	names := make([]string, 0, len(set))
	for name := range set {
		if _, conditional := g[name]; !conditional && !foreign32[name] && builtinPermits(name, o) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// builtinPermits says whether the tables let a syscall be permitted under the
// capabilities of o.
func builtinPermits(name string, o Options) bool {
	for _, table := range []map[string]string{never, dropped} {
		if needs, listed := table[name]; listed && (needs == "" || !slices.Contains(o.Capabilities, needs)) {
			return false
		}
	}
	return true
}

// holds evaluates a rule's conditions on capabilities, architecture and
// kernel as docker does.
func holds(includes, excludes *seccomp.Filter, o Options) bool {
	// docker's name for an architecture is GOARCH but for these.
	arch := o.Arch
	if arch == "loong64" {
		arch = "loongarch64"
	}
	has := func(c string) bool { return slices.Contains(o.Capabilities, c) }
	kernel := func(k *seccomp.KernelVersion) bool {
		have := uint64(o.Kernel[0])<<32 | uint64(o.Kernel[1])
		return have >= k.Kernel<<32|k.Major
	}
	if f := excludes; f != nil {
		if slices.Contains(f.Arches, arch) || slices.ContainsFunc(f.Caps, has) || f.MinKernel != nil && kernel(f.MinKernel) {
			return false
		}
	}
	if f := includes; f != nil {
		if len(f.Arches) > 0 && !slices.Contains(f.Arches, arch) {
			return false
		}
		if f.MinKernel != nil && !kernel(f.MinKernel) {
			return false
		}
		return !slices.ContainsFunc(f.Caps, func(c string) bool { return !has(c) })
	}
	return true
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
