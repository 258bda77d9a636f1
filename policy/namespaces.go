package policy

import "strings"

// namespace is one flag that chooses a namespace.
type namespace struct {
	flag  string
	what  string
	own   []string // values that mean a namespace of its own, besides ""
	asked func(*Request) []string
	why   string // what host mode gives away
	allow string // word of the site policy for host mode; "": none
}

func namespaces() []namespace {
	one := func(get func(*Request) string) func(*Request) []string {
		return func(r *Request) []string { return []string{get(r)} }
	}
	return []namespace{
		{
			"--pid", "pid",
			[]string{"private"},
			one(func(r *Request) string { return r.Workload.PIDMode }),
			"sight of all processes of the host, with their environment and open files under /proc", "pid-host",
		},
		{
			"--ipc", "ipc",
			[]string{"private", "none", "shareable"},
			one(func(r *Request) string { return r.Workload.IPCMode }),
			"the shared memory of the host's processes", "ipc-host",
		},
		{
			"--uts", "uts",
			[]string{"private"},
			one(func(r *Request) string { return r.Workload.UTSMode }),
			"the host's name, which it may see and, with a capability, change", "uts-host",
		},
		{
			"--userns", "userns",
			[]string{"private"},
			one(func(r *Request) string { return r.Workload.UserNSMode }),
			"root of the container is root of the host again: the namespace is what stops most escapes", "userns-host",
		},
		{
			"--cgroupns", "cgroupns",
			[]string{"private"},
			one(func(r *Request) string { return r.Workload.CgroupNSMode }),
			"the layout of the host's control groups", "",
		},
		{
			"--network", "network", nil,
			networkNames,
			"the host's network: services on localhost, abstract sockets, every port", "network-host",
		},
	}
}

// mode brings the value of a namespace flag to one spelling.
func mode(typed string) string { return strings.ToLower(strings.TrimSpace(typed)) }

func namespaceRules() []Rule {
	rules := make([]Rule, 0, 2*len(namespaces())+1)
	for _, ns := range namespaces() {
		rules = append(rules, Rule{
			ID: ns.what + "-host", Title: "Host's " + ns.what + " namespace", Grant: grantOf(ns.allow),
			GivesAway: ns.why,
			SaferWay:  "leave it out: the container gets a namespace of its own",
			Check: func(r *Request) (found []Finding) {
				for _, typed := range ns.asked(r) {
					f := Finding{Flag: ns.flag + "=" + shown(typed)}
					if ns.allow != "" {
						f.Need = allow(ns.allow)
					}
					found = append(found, when(mode(typed) == "host", f)...)
				}
				if flag, name, needs := needsHostUsers(r); ns.what == "userns" && needs && len(found) == 0 {
					found = append(found, Finding{
						Flag: flag, Need: allow(ns.allow),
						Why:   ns.why + "; the kernel looks for " + name + " there, and in the container's own it would have no effect",
						Safer: "leave it out: programs that ask for it out of habit run without",
					})
				}
				return found
			},
		})
		if ns.what == "network" {
			continue // another container's may be shared: networkRules
		}
		rules = append(rules, Rule{
			ID: ns.what + "-join", Title: "Joining another " + ns.what + " namespace",
			GivesAway: "the boundary to that other container or process: what gets hold of one has both",
			SaferWay:  "leave it out, and let the two talk over a network or a volume",
			Check: func(r *Request) (found []Finding) {
				for _, typed := range ns.asked(r) {
					found = append(found, when(ns.foreign(typed), Finding{Flag: ns.flag + "=" + shown(typed)})...)
				}
				return found
			},
		})
	}
	return rules
}

func grantOf(allow string) string {
	if allow == "" {
		return ""
	}
	return "allow"
}

// foreign says whether a value is neither a namespace of its own nor host: a
// join (container:ID, ns:PATH), or a word nobody knows. Those of --network are
// names, and for foreignNetwork.
func (ns namespace) foreign(typed string) bool {
	m := mode(typed)
	if m == "" || m == "host" {
		return false
	}
	for _, own := range ns.own {
		if m == own {
			return false
		}
	}
	return true
}
