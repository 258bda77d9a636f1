package catalogue

// Network.
func network() []Row {
	return []Row{
		{
			ID:      "N1",
			Threat:  "The metadata service of a cloud (169.254.169.254 and its kin) hands out the host's credentials",
			Defence: "packets to these addresses and to all link-local ones are refused, before and after any translation, in both families; an egress list cannot name them",
		},
		{
			ID:       "N2",
			Threat:   "A port published without an address is open to everybody, past ufw and firewalld",
			Defence:  "it is said on stderr; a site can make 127.0.0.1 the default or an address compulsory",
			Accepted: "without a policy it is open, as with docker: command lines are to mean what they meant.",
		},
		{
			ID:      "N3",
			Threat:  "A port on 127.0.0.1 is reached from the same wire by routing the container's address, or loopback itself, to this host",
			Defence: "such ports are translated for the host's own packets only; what comes unasked from outside to a container's address is dropped",
		},
		{
			ID:      "N4",
			Threat:  "Services of the host, on the bridge's address or on all, are open to containers",
			Defence: "from a bridge the host takes answers only, in both families; names are resolved inside the container's own namespace",
		},
		{
			ID:      "N5",
			Threat:  "Filters for IPv4 alone; forged router advertisements (CVE-2020-13401)",
			Defence: "one table for both families; advertisements and redirects are off in the container, and not for it to turn on",
		},
		{
			ID:      "N6",
			Threat:  "Ports below 1024 and ping sockets are opened to everybody by settings that also reach a network of the host's or a neighbour's",
			Defence: "settings are for a network namespace of the container's own; ports below 1024 need NET_BIND_SERVICE; ping is for the container's own groups",
		},
		{
			ID:      "N7",
			Threat:  "The engine's resolver asks the outside for a container that has no way out (CVE-2024-29018)",
			Defence: "no resolver to the outside, and no search domains, without a network, on an internal one and with --egress none",
		},
		{
			ID:      "N8",
			Threat:  "CNI plugins run as root: somebody else can change one, or an image or the environment steers it",
			Defence: "files and directories must be root's alone; plugins get an environment of their own and checked values only",
		},
		{
			ID:      "N9",
			Threat:  "After a crash links, rules, addresses and ports stay, and lead to the next container",
			Defence: "what a container has is written down before it is made, and given back by that list by the next command",
		},
		{
			ID:      "N10",
			Threat:  "In the host's network namespace: services on localhost, abstract sockets of D-Bus and X11, every port",
			Defence: "refused by every spelling; a site can grant it to an image, which then has no UNIX sockets but pairs",
		},
		{
			ID:      "N11",
			Threat:  "An address or hardware address of choice takes a neighbour's or the gateway's place",
			Defence: "addresses are claimed: a second, the gateway's, and one out of range is refused; inside they cannot be changed, and the port of the bridge takes no other",
		},
	}
}
