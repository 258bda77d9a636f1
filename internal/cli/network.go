package cli

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/lazyre"
	"github.com/safe-run/safe-run/spec"
)

// network is one --network.
type network struct {
	use      spec.NetworkUse
	priority int // gw-priority: the highest has the default route
}

// netKind is what a network's name stands for.
type netKind int

const (
	netUser   netKind = iota // a network by name
	netBridge                // the default one
	netNone
	netHost
	netJoin // another container's
	netPath // ns:PATH, which the policy refuses
)

const defaultNetwork = "bridge"

func networkKind(name string) netKind {
	switch {
	case name == defaultNetwork:
		return netBridge
	case name == "none":
		return netNone
	case name == "host":
		return netHost
	case strings.HasPrefix(name, "container:"):
		return netJoin
	case strings.HasPrefix(name, "ns:"):
		return netPath
	}
	return netUser
}

// longNetwork is how docker tells its long form from a name.
var longNetwork = lazyre.New(`\w+=\w+(,\w+=\w+)*`)

// setNetwork takes a name or mode, or docker's CSV form.
func (p *parser) setNetwork(v string) error {
	if err := cleanWord(v); err != nil {
		return err
	}
	n := network{use: spec.NetworkUse{Name: v}}
	if longNetwork().MatchString(v) && !strings.HasPrefix(v, "ns:") {
		fields, err := csv.NewReader(strings.NewReader(v)).Read()
		if err != nil {
			return errors.New("it is not a CSV line")
		}
		n = network{}
		for _, f := range fields {
			if err := p.setNetworkField(&n, f); err != nil {
				return err
			}
		}
	}
	if n.use.Name == "default" {
		n.use.Name = defaultNetwork
	}
	if err := checkNetworkName(n.use.Name); err != nil {
		return err
	}
	p.w.NetworkSet = true
	p.networks = append(p.networks, n)
	return nil
}

// setNetworkField takes KEY=VALUE of the CSV form, whose words docker makes
// lower case.
func (p *parser) setNetworkField(n *network, field string) (err error) {
	key, val, ok := strings.Cut(strings.ToLower(field), "=")
	key, val = strings.TrimSpace(key), strings.TrimSpace(val)
	u := &n.use
	switch {
	case !ok:
		return fmt.Errorf("invalid field %s", quote(field))
	case key == "name":
		u.Name = val
	case key == "alias":
		err = checkAlias(val)
		u.Aliases = append(u.Aliases, val)
	case key == "ip":
		u.IP, err = address(val, false)
	case key == "ip6":
		u.IP6, err = address(val, true)
	case key == "mac-address":
		u.MAC, err = hardware(val)
	case key == "link-local-ip":
		err = checkIP(val)
		u.LinkLocalIPs = append(u.LinkLocalIPs, val)
		p.pending["network link-local-ip"] = whyLinkLocal
	case key == "driver-opt":
		if k, _, ok := strings.Cut(val, "="); !ok || k == "" {
			err = errors.New("it takes KEY=VALUE")
		}
		u.DriverOpts = append(u.DriverOpts, val)
		p.pending["network driver-opt"] = whyDriverOpt
	case key == "gw-priority":
		if n.priority, err = strconv.Atoi(val); err != nil {
			err = errors.New("it takes a number")
		}
	default:
		return errors.New("its keys are name, alias, ip, ip6, mac-address, link-local-ip, driver-opt and gw-priority")
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", key, quote(val), err)
	}
	return nil
}

// maxNetworkName is the longest name a network can have.
const maxNetworkName = 128

// checkNetworkName bounds what becomes a file name and the key of a lookup.
func checkNetworkName(name string) error {
	ref, joins := strings.CutPrefix(name, "container:")
	path, byPath := strings.CutPrefix(name, "ns:")
	switch {
	case strings.TrimSpace(name) == "":
		return errors.New("no name set for network")
	case byPath && path == "", joins && ref == "":
		return errors.New("no name after the colon")
	case byPath:
		return nil
	case joins:
		if len(ref) > maxName || !only(ref[:1], "") || !only(ref, "_.-") {
			return fmt.Errorf("%s is not the name or ID of a container", quote(ref))
		}
		return nil
	case len(name) > maxNetworkName || !only(name[:1], "") || !only(name, "_.-"):
		return fmt.Errorf("%s is not the name of a network: it takes at most %d letters, digits, \"_\", \".\" and \"-\", and starts with a letter or digit", quote(name), maxNetworkName)
	}
	return nil
}

func (p *parser) setIP(v string) (err error) {
	p.first.IP, err = address(v, false)
	return err
}

func (p *parser) setIP6(v string) (err error) {
	p.first.IP6, err = address(v, true)
	return err
}

// setMAC: an empty value means not given, as in docker.
func (p *parser) setMAC(v string) (err error) {
	if p.first.MAC = ""; v != "" {
		p.first.MAC, err = hardware(v)
	}
	return err
}

// finishNetworks gives the first network what stands in flags of its own, and
// refuses what docker refuses.
func (p *parser) finishNetworks() error {
	if len(p.networks) == 0 {
		p.networks = []network{{use: spec.NetworkUse{Name: defaultNetwork}}}
	}
	if err := applyFlags(&p.networks[0].use, p.first); err != nil {
		return err
	}
	seen := map[string]bool{}
	byName := 0
	for _, n := range p.networks {
		if seen[n.use.Name] {
			return fmt.Errorf("network %s is specified multiple times", quote(n.use.Name))
		}
		seen[n.use.Name] = true
		if networkKind(n.use.Name) == netUser {
			byName++
		}
		if err := checkUse(n.use); err != nil {
			return err
		}
	}
	if len(p.networks) > 1 && byName < len(p.networks) {
		return errors.New("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
	}
	slices.SortStableFunc(p.networks, func(a, b network) int { return cmp.Compare(b.priority, a.priority) })
	for _, n := range p.networks {
		p.w.Networks = append(p.w.Networks, n.use)
	}
	return p.checkMode(networkKind(p.networks[0].use.Name))
}

// applyFlags puts the values of --ip and its siblings where the CSV form has
// not said the same.
func applyFlags(u *spec.NetworkUse, flags spec.NetworkUse) error {
	for _, f := range []struct {
		flag, what string
		from       string
		to         *string
	}{
		{"--ip", "IPv4 address", flags.IP, &u.IP},
		{"--ip6", "IPv6 address", flags.IP6, &u.IP6},
		{"--mac-address", "MAC address", flags.MAC, &u.MAC},
	} {
		if f.from == "" {
			continue
		}
		if *f.to != "" {
			return fmt.Errorf("conflicting options: cannot specify both %s and per-network %s", f.flag, f.what)
		}
		*f.to = f.from
	}
	if len(flags.Aliases) > 0 {
		if len(u.Aliases) > 0 {
			return errors.New("conflicting options: cannot specify both --network-alias and per-network alias")
		}
		u.Aliases = flags.Aliases
	}
	return nil
}

// checkUse refuses settings of a network that has none. The default network
// takes addresses here, which docker's does not.
func checkUse(u spec.NetworkUse) error {
	kind := networkKind(u.Name)
	wired := kind == netUser || kind == netBridge
	switch {
	case kind != netUser && len(u.Aliases) > 0:
		return fail.New(fail.Usage, "network-scoped aliases are only supported for user-defined networks").
			Hint("make one whose containers find each other: safe-run network create --icc NAME")
	case !wired && u.IP+u.IP6 != "":
		return errors.New("user specified IP address is supported on user defined networks and bridge only")
	case !wired && u.MAC != "":
		return errors.New("conflicting options: mac-address and the network mode")
	}
	return nil
}

// checkMode refuses what cannot go with the network of somebody else, and
// says what is left out with none and host.
func (p *parser) checkMode(kind netKind) error {
	w := p.w
	_, linked := p.pending["link"]
	published := len(w.Publish) > 0 || w.PublishAll
	limited := w.Egress.Mode != spec.EgressAll
	joins := kind == netJoin
	for _, c := range []struct {
		given bool
		says  string
	}{
		{joins && w.Hostname != "", "hostname and the network mode"},
		{joins && len(w.DNS)+len(w.DNSSearch)+len(w.DNSOptions) > 0, "dns and the network mode"},
		{joins && len(w.AddHosts) > 0, "custom host-to-IP mapping and the network mode"},
		{joins && published, "port publishing and the container type network mode"},
		{joins && len(w.Expose) > 0, "port exposing and the container type network mode"},
		{joins && linked, "container type network can't be used with links"},
		{kind == netHost && linked, "host type networking can't be used with links"},
		{(joins || kind == netHost) && limited, "--egress and the network mode: the network is not this container's"},
		{kind == netNone && w.Egress.Mode == spec.EgressList, "--egress and --network none"},
		{w.UTSMode == "host" && w.Hostname != "", "--hostname and --uts host"},
	} {
		if c.given {
			return errors.New("conflicting options: " + c.says)
		}
	}
	if !published {
		return nil
	}
	switch kind {
	case netHost:
		p.inv.Notices = append(p.inv.Notices, "WARNING: Published ports are discarded when using host network mode")
	case netNone:
		p.inv.Notices = append(p.inv.Notices, "the ports are not published: with --network none there is no network to reach them by")
	default:
		return nil
	}
	w.Publish, w.PublishAll = nil, false
	return nil
}
