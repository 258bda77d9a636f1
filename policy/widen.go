package policy

// GrantableCapabilities are the capabilities a workload would be given if it
// asked for them, CAP_ names: the free ones, and those the site grants to it.
func GrantableCapabilities(r Request) (names []string) {
	site := r.Site.forRequest(&r)
	for _, c := range capabilities() {
		one := r
		one.Workload.CapAdd = []string{c.name}
		_, _, moves := needsHostUsers(&one)
		permitted := !moves || mode(one.Workload.UserNSMode) == "host" // it is not moved there to see what it would do
		for _, rule := range capabilityRules() {
			for _, f := range rule.Check(&one) {
				permitted = permitted && site.permits(f.Need)
			}
		}
		if permitted {
			names = append(names, "CAP_"+c.name)
		}
	}
	return names
}

// HostCapability says whether the kernel asks for a capability (CAP_ name) in
// the host's user namespace alone, and what it gives away there.
func HostCapability(name string) (why string, only bool) {
	c, _ := findCapability(capName(name))
	return c.why, c.class == capHost
}
