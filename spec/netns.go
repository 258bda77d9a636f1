package spec

import (
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/safe-run/safe-run/internal/fail"
)

// networkMode says whose network namespace the container is in.
type networkMode int

const (
	ownNetwork networkMode = iota // whatever its networks are, "none" too
	hostNetwork
	joinedNetwork // that of another container
)

// networkModeOf: what was asked for, granted and prepared has to agree.
func networkModeOf(in Input) (networkMode, error) {
	is := ownNetwork
	for _, n := range in.Workload.Networks {
		switch _, joins := n.JoinedContainer(); {
		case joins:
			is = joinedNetwork
		case n.Name == "host":
			if _, err := mode("--network", n.Name, in.Grants.HostNetwork); err != nil {
				return is, err
			}
			is = hostNetwork
		default:
			continue
		}
		if len(in.Workload.Networks) > 1 {
			return is, fail.New(fail.Conflict, "--network %.64q is the whole network of a container; there can be no other", n.Name)
		}
	}
	switch joins := is == joinedNetwork; {
	case joins != (in.JoinNetwork != "") || joins != (in.JoinSysfs != ""):
		return is, fail.New(fail.Internal, "joining a network takes a container to join, its namespace and its sysfs; the namespace is %.64q, the sysfs %.128q", in.JoinNetwork, in.JoinSysfs)
	case joins && !heldPath().MatchString(in.JoinNetwork):
		return is, fail.New(fail.Internal, "the network namespace %.64q is not a held descriptor", in.JoinNetwork)
	case joins && forbiddenSource(in.JoinSysfs):
		return is, fail.New(fail.Internal, "the sysfs %.128q is not one of the joined network", in.JoinSysfs)
	}
	return is, nil
}

// sysMount: a sysfs shows the devices of a network namespace, and only a user
// namespace that owns that one can mount it (sysfs_init_fs_context). Otherwise
// one that is mounted already is bound.
func sysMount(in Input, own namespacesOf) specs.Mount {
	switch {
	case own.network == joinedNetwork:
		return specs.Mount{Destination: "/sys", Type: "bind", Source: in.JoinSysfs, Options: []string{"bind", "rprivate", "nosuid", "noexec", "nodev", "ro"}}
	case hostSys(own):
		// With what is mounted below: for the user namespace these mounts are
		// locked to the tree.
		return specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys", Options: []string{"rbind", "rprivate", "rnosuid", "rnoexec", "rnodev", "rro"}}
	}
	return specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}}
}

func hostSys(own namespacesOf) bool { return own.user && own.network == hostNetwork }

// Settings that let others on the link change a container's routes, or that
// make it do so to them. All are 0 in a network namespace of its own: nothing
// there is configured by router advertisements or redirects, and those who
// could send them are other containers (CVE-2020-13401). They are written
// before there is any interface but lo, and are the defaults of those to come.
//
// Each costs the runtime 0.15 ms, so none is here that changes nothing: the
// kernel asks "all" beside the interface's own for redirects of IPv4 only, and
// without advertisements there is nothing to configure addresses from
// (autoconf).
var (
	routeSysctls4 = []string{
		"net.ipv4.conf.all.accept_redirects", "net.ipv4.conf.default.accept_redirects",
		"net.ipv4.conf.all.send_redirects", "net.ipv4.conf.default.send_redirects",
	}
	routeSysctls6 = []string{
		"net.ipv6.conf.default.accept_ra", "net.ipv6.conf.default.accept_redirects",
	}
)

// routeSysctls are those this kernel has.
func routeSysctls(host Features) []string {
	if !host.IPv6 {
		return routeSysctls4
	}
	return slices.Concat(routeSysctls4, routeSysctls6)
}

// GuardedSysctl says whether a setting of the container's own network stays 0
// unless the site grants it by name.
func GuardedSysctl(name string) bool {
	return slices.Contains(routeSysctls4, name) || slices.Contains(routeSysctls6, name)
}
