package cli

import "github.com/safe-run/safe-run/spec"

func networkFlags() []Flag {
	return []Flag{
		{Long: "network", Type: Network, Repeatable: true, Group: groupNetwork, Arg: "NETWORK", Default: "bridge", Usage: "Network to attach to: none, bridge, NAME, container:NAME", Disposition: PolicyChecked, set: (*parser).setNetwork},
		{Long: "net", Type: Network, Repeatable: true, Visibility: Hidden, AliasOf: "network", Group: groupNetwork, Arg: "NETWORK", Disposition: PolicyChecked, set: (*parser).setNetwork},
		{Long: "publish", Short: "p", Type: List, Group: groupNetwork, Arg: "[[IP:][PORT]:]PORT[/PROTO]", Usage: "Publish a port, or a range of them, on the host", Disposition: PolicyChecked, set: (*parser).setPublish},
		{Long: "publish-all", Short: "P", Type: Bool, Group: groupNetwork, Usage: "Publish all exposed ports on free ports", Disposition: PolicyChecked, set: boolTo(func(w *spec.Workload) *bool { return &w.PublishAll })},
		{Long: "expose", Type: List, Group: groupNetwork, Arg: "PORT[/PROTO]", Usage: "Note a port as exposed, for -P", set: (*parser).setExpose},
		{Long: "add-host", Type: List, Group: groupNetwork, Arg: "NAME:IP", Usage: "Further line of /etc/hosts; host-gateway is the host's address", set: (*parser).setAddHost},
		{Long: "dns", Type: List, Group: groupNetwork, Arg: "IP", Default: "the host's", Usage: "Name server", set: listTo(func(w *spec.Workload) *[]string { return &w.DNS }, checkDNS)},
		{Long: "dns-search", Type: List, Group: groupNetwork, Arg: "DOMAIN", Default: "the host's", Usage: "Search domain", set: listTo(func(w *spec.Workload) *[]string { return &w.DNSSearch }, checkDNSSearch)},
		{Long: "dns-option", Type: List, Group: groupNetwork, Arg: "OPTION", Default: "the host's", Usage: "Option of resolv.conf", set: listTo(func(w *spec.Workload) *[]string { return &w.DNSOptions }, checkDNSOption)},
		{Long: "dns-opt", Type: List, Visibility: Hidden, AliasOf: "dns-option", Group: groupNetwork, Arg: "OPTION", set: listTo(func(w *spec.Workload) *[]string { return &w.DNSOptions }, checkDNSOption)},
		{Long: "ip", Type: IP, Group: groupNetwork, Arg: "IP", Usage: "IPv4 address on the first network", set: (*parser).setIP},
		{Long: "ip6", Type: IP, Group: groupNetwork, Arg: "IP", Usage: "IPv6 address on the first network", set: (*parser).setIP6},
		{Long: "mac-address", Type: String, Group: groupNetwork, Arg: "MAC", Usage: "MAC address on the first network", set: (*parser).setMAC},
		{Long: "network-alias", Type: List, Group: groupNetwork, Arg: "NAME", Usage: "Further name on the first network", set: listVal(func(p *parser) *[]string { return &p.first.Aliases }, checkAlias)},
		{Long: "net-alias", Type: List, Visibility: Hidden, AliasOf: "network-alias", Group: groupNetwork, Arg: "NAME", set: listVal(func(p *parser) *[]string { return &p.first.Aliases }, checkAlias)},
		{Long: "link", Type: List, Group: groupNetwork, Arg: "CONTAINER[:ALIAS]", Usage: "Link to another container", Disposition: Unsupported, Why: whyLink, set: refused(checkLink)},
		{Long: "link-local-ip", Type: List, Group: groupNetwork, Arg: "IP", Usage: "Link-local address", Disposition: Unsupported, Why: whyLinkLocal, set: refused(checkIP)},
	}
}
