package compose

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"
)

// modes are names that stand for something else than a network.
func mode(name string) bool { return name == "bridge" || name == "host" || name == "none" }

// named says whether a name can be one of a network or volume.
func named(s string) bool {
	alnum := func(c byte) bool { return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' }
	for i := range len(s) {
		if !alnum(s[i]) && (i == 0 || !strings.ContainsRune("_.-", rune(s[i]))) {
			return false
		}
	}
	return len(s) > 1 && len(s) <= 128
}

// network is network_mode, or networks.
func (m *maker) network() {
	if mode := m.s.NetworkMode; mode != "" {
		m.flag("network", m.join("network_mode", mode), nil, "network_mode")
		return
	}
	keys := m.s.NetworksByPriority()
	for _, key := range keys {
		n, there := m.l.project.Networks[key]
		if !there {
			m.nowhere("network", key, "declare it at the top: networks: {"+key+": {}}", textIs(key), "networks")
			continue
		}
		path := []string{"networks", key}
		if !m.written(path...) {
			path = nil // the project's own, that nobody wrote down
		}
		switch {
		case mode(n.Name) && bool(n.External):
			m.flag("network", n.Name, nil, path...)
			continue
		case !named(n.Name) || mode(n.Name):
			m.l.wrong([]string{"networks", key, "name"}, nil, quote(n.Name)+" cannot be the name of a network", "letters, digits, _, . and -, the first a letter or digit")
			continue
		}
		m.out.Networks = append(m.out.Networks, n.Name)
		use := m.s.Networks[key]
		if use == nil {
			use = &types.ServiceNetworkConfig{}
		}
		m.join1(key, n.Name, use, len(keys) == 1, path)
	}
}

// written says whether a key of the service stands in a file.
func (m *maker) written(key ...string) bool {
	s, _, _ := m.l.lookup(m.below(key), nil)
	if s == nil { // networks as a list
		s, _, _ = m.l.lookup(m.below(key[:1]), textIs(key[1]))
	}
	return s != nil
}

// join1 is one network with the names and addresses on it: flags of their own
// if there is no other, else docker's list of fields.
func (m *maker) join1(key, name string, use *types.ServiceNetworkConfig, alone bool, path []string) {
	is := textIs(key)
	if _, _, found := m.l.lookup(m.below([]string{"networks"}), is); path == nil || found == nil {
		is = nil
	} else {
		path = []string{"networks"}
	}
	aliases := m.aliases(key, use)
	fields := [][3]string{{"ip", "ip", use.Ipv4Address}, {"ip6", "ip6", use.Ipv6Address}, {"mac-address", "mac-address", use.MacAddress}}
	at := map[string]string{"ip": "ipv4_address", "ip6": "ipv6_address", "mac-address": "mac_address"}
	if alone {
		m.flag("network", name, is, path...)
		for _, a := range aliases {
			if slices.Contains(use.Aliases, a) {
				m.flag("network-alias", a, textIs(a), "networks", key, "aliases")
			} else {
				m.flag("network-alias", a, is, path...)
			}
		}
		for _, f := range fields {
			if f[2] != "" {
				m.flag(f[0], f[2], nil, "networks", key, at[f[0]])
			}
		}
		return
	}
	if name != strings.ToLower(name) {
		m.l.wrong([]string{"networks", key, "name"}, nil, "beside others, a network has a name without capital letters", "give it another one with name")
	}
	all := []string{"name=" + name}
	for _, a := range aliases {
		all = append(all, "alias="+a)
	}
	for _, f := range fields {
		if f[2] != "" {
			all = append(all, f[1]+"="+f[2])
		}
	}
	if use.GatewayPriority != 0 {
		all = append(all, "gw-priority="+strconv.Itoa(use.GatewayPriority))
	}
	m.flag("network", csvLine(all), is, path...)
}

// aliases are the names of the service on a network: its own, those it is
// given, and those by which others link to it.
func (m *maker) aliases(network string, use *types.ServiceNetworkConfig) []string {
	var all []string
	if use.ServiceNameAliasEnabled() {
		all = append(all, m.s.Name)
	}
	all = append(all, use.Aliases...)
	for _, other := range slices.Sorted(maps.Keys(m.l.project.Services)) {
		o := m.l.project.Services[other]
		if _, on := o.Networks[network]; !on {
			continue
		}
		for _, link := range o.Links {
			if to, alias, ok := strings.Cut(link, ":"); ok && to == m.s.Name {
				all = append(all, alias)
			}
		}
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(all, func(a string) bool {
		twice := seen[a]
		seen[a] = true
		return twice
	})
}

// ports are those published; the loader has made one of each in a range.
func (m *maker) ports() {
	for _, p := range m.s.Ports {
		word := strconv.FormatUint(uint64(p.Target), 10)
		if p.Published != "" || p.HostIP != "" {
			word = p.Published + ":" + word
		}
		if ip := p.HostIP; ip != "" {
			if strings.Contains(ip, ":") {
				ip = "[" + ip + "]"
			}
			word = ip + ":" + word
		}
		if p.Protocol != "" && p.Protocol != "tcp" {
			word += "/" + p.Protocol
		}
		m.flag("publish", word, portIs(p), "ports")
	}
}

// portIs finds the item a published port comes from, a range that holds it too.
func portIs(p types.ServicePortConfig) func(*source, *yaml.Node) bool {
	return func(s *source, n *yaml.Node) bool {
		text, ok := s.scalar(n)
		if !ok {
			return s.get(n, "target") == strconv.FormatUint(uint64(p.Target), 10) && s.get(n, "published") == p.Published
		}
		all, err := types.ParsePortConfig(text)
		return err == nil && slices.ContainsFunc(all, func(o types.ServicePortConfig) bool {
			return o.Target == p.Target && o.Published == p.Published && o.HostIP == p.HostIP && o.Protocol == p.Protocol
		})
	}
}
