package cli

import "github.com/safe-run/safe-run/spec"

func networkFlags() []Flag {
	return []Flag{
		{Long: "network", Type: Network, Repeatable: true, Group: groupNetwork, Arg: "none", Default: "none", Usage: "Network to attach to", Disposition: PolicyChecked, Why: whyNetwork, set: (*parser).setNetwork},
		{Long: "net", Type: Network, Repeatable: true, Visibility: Hidden, AliasOf: "network", Group: groupNetwork, Arg: "none", Disposition: PolicyChecked, Why: whyNetwork, set: (*parser).setNetwork},
		{Long: "add-host", Type: List, Group: groupNetwork, Arg: "NAME:IP", Usage: "Further line of /etc/hosts", Why: whyNetwork, set: (*parser).setAddHost},
		{Long: "expose", Type: List, Group: groupNetwork, Arg: "PORT[/PROTO]", Usage: "Note a port as exposed", set: listTo(func(w *spec.Workload) *[]string { return &w.Expose }, checkExpose)},
		{Long: "publish", Short: "p", Type: List, Group: groupNetwork, Arg: "[[IP:]PORT:]PORT", Usage: "Publish a port", Disposition: UnsupportedYet, Why: whyNetwork, set: laterTo(func(w *spec.Workload) *[]string { return &w.Publish }, checkPublish)},
		{Long: "publish-all", Short: "P", Type: Bool, Group: groupNetwork, Usage: "Publish all exposed ports", Disposition: UnsupportedYet, Why: whyNetwork, set: laterBool(func(w *spec.Workload) *bool { return &w.PublishAll })},
		{Long: "dns", Type: List, Group: groupNetwork, Arg: "IP", Usage: "Name server", Disposition: UnsupportedYet, Why: whyNetwork, set: laterTo(func(w *spec.Workload) *[]string { return &w.DNS }, checkIP)},
		{Long: "dns-search", Type: List, Group: groupNetwork, Arg: "DOMAIN", Usage: "Search domain", Disposition: UnsupportedYet, Why: whyNetwork, set: laterTo(func(w *spec.Workload) *[]string { return &w.DNSSearch }, checkDNSSearch)},
		{Long: "dns-option", Type: List, Group: groupNetwork, Arg: "OPTION", Usage: "Option of resolv.conf", Disposition: UnsupportedYet, Why: whyNetwork, set: laterTo(func(w *spec.Workload) *[]string { return &w.DNSOptions }, checkDNSOption)},
		{Long: "dns-opt", Type: List, Visibility: Hidden, AliasOf: "dns-option", Group: groupNetwork, Arg: "OPTION", Disposition: UnsupportedYet, Why: whyNetwork, set: laterTo(func(w *spec.Workload) *[]string { return &w.DNSOptions }, checkDNSOption)},
		{Long: "ip", Type: IP, Group: groupNetwork, Arg: "IP", Usage: "IPv4 address", Disposition: UnsupportedYet, Why: whyNetwork, set: later(checkIP)},
		{Long: "ip6", Type: IP, Group: groupNetwork, Arg: "IP", Usage: "IPv6 address", Disposition: UnsupportedYet, Why: whyNetwork, set: later(checkIP)},
		{Long: "link-local-ip", Type: List, Group: groupNetwork, Arg: "IP", Usage: "Link-local address", Disposition: UnsupportedYet, Why: whyNetwork, set: later(checkIP)},
		{Long: "mac-address", Type: String, Group: groupNetwork, Arg: "MAC", Usage: "MAC address", Disposition: UnsupportedYet, Why: whyNetwork, set: later(checkMAC)},
		{Long: "network-alias", Type: List, Group: groupNetwork, Arg: "NAME", Usage: "Further name on the network", Disposition: UnsupportedYet, Why: whyNetwork, set: later(cleanWord)},
		{Long: "net-alias", Type: List, Visibility: Hidden, AliasOf: "network-alias", Group: groupNetwork, Arg: "NAME", Disposition: UnsupportedYet, Why: whyNetwork, set: later(cleanWord)},
		{Long: "link", Type: List, Group: groupNetwork, Arg: "CONTAINER[:ALIAS]", Usage: "Link to another container", Disposition: UnsupportedYet, Why: whyNetwork, set: later(checkLink)},
	}
}

func laterFlags() []Flag {
	return []Flag{
		{Long: "detach", Short: "d", Type: Bool, Group: groupContainer, Usage: "Run in the background", Disposition: UnsupportedYet, Why: whyDetach, set: laterBool(func(w *spec.Workload) *bool { return &w.Detach })},
		{Long: "restart", Type: String, Group: groupContainer, Arg: "POLICY", Default: "no", Usage: "Restart policy", Disposition: UnsupportedYet, Why: whyRestart, set: (*parser).setRestart},
		{Long: "no-healthcheck", Type: Bool, Group: groupHealth, Usage: "Do not run the image's health check", set: func(p *parser, v string) error { return parseBool(v, &p.noHealth) }},
		{Long: "health-cmd", Type: String, Group: groupHealth, Arg: "COMMAND", Usage: "Command of the check", Disposition: UnsupportedYet, Why: whyHealth, set: (*parser).setHealthCmd},
		{Long: "health-interval", Type: Duration, Group: groupHealth, Arg: "DURATION", Usage: "Pause between checks", Disposition: UnsupportedYet, Why: whyHealth, set: (*parser).setHealthDuration},
		{Long: "health-timeout", Type: Duration, Group: groupHealth, Arg: "DURATION", Usage: "Limit of one check", Disposition: UnsupportedYet, Why: whyHealth, set: (*parser).setHealthDuration},
		{Long: "health-start-period", Type: Duration, Group: groupHealth, Arg: "DURATION", Usage: "Time in which failures do not count", Disposition: UnsupportedYet, Why: whyHealth, set: (*parser).setHealthDuration},
		{Long: "health-start-interval", Type: Duration, Group: groupHealth, Arg: "DURATION", Usage: "Pause between checks in that time", Disposition: UnsupportedYet, Why: whyHealth, set: (*parser).setHealthDuration},
		{Long: "health-retries", Type: Int, Group: groupHealth, Arg: "N", Usage: "Failures until unhealthy", Disposition: UnsupportedYet, Why: whyHealth, set: (*parser).setHealthRetries},
		{Long: "log-driver", Type: String, Group: groupContainer, Arg: "DRIVER", Usage: "Where output is kept", Disposition: UnsupportedYet, Why: whyLog, set: (*parser).setLogDriver},
		{Long: "log-opt", Type: List, Group: groupContainer, Arg: "KEY=VALUE", Usage: "Option of the log driver", Disposition: UnsupportedYet, Why: whyLog, set: (*parser).setLogOpt},
	}
}
