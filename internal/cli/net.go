package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/lazyre"
)

// checkLabels checks a host name: labels of letters, digits and inner hyphens
// (RFC 1123), and the underscore, which the names of compose services have.
func checkLabels(v string) error {
	for _, l := range strings.Split(v, ".") {
		if len(l) > 63 || !only(l, "-_") || l[0] == '-' || l[len(l)-1] == '-' {
			return errors.New("it is not a host name: labels of up to 63 letters, digits and hyphens, joined by dots")
		}
	}
	return nil
}

// checkHostname bounds it by what uname(2) holds.
func checkHostname(v string) error {
	if len(v) > 64 {
		return fmt.Errorf("it has %d characters, a host name has at most 64", len(v))
	}
	return checkLabels(v)
}

func checkIP(v string) error {
	if a, err := netip.ParseAddr(v); err != nil || a.Zone() != "" {
		return errors.New("it is not an IP address")
	}
	return nil
}

func checkMAC(v string) error {
	if _, err := net.ParseMAC(v); err != nil {
		return errors.New("it is not a MAC address")
	}
	return nil
}

// setAddHost takes NAME:IP or NAME=IP, the address in brackets or not, and
// keeps it as NAME:IP.
func (p *parser) setAddHost(v string) error {
	name, addr, ok := strings.Cut(v, "=")
	if !ok {
		name, addr, ok = strings.Cut(v, ":")
	}
	if !ok || name == "" {
		return errors.New("it takes NAME:IP")
	}
	if len(name) > 253 {
		return errors.New("the name is too long")
	}
	if err := checkLabels(name); err != nil {
		return err
	}
	if addr == "host-gateway" {
		p.cannot("the value host-gateway: " + whyNetwork)
		return nil
	}
	if len(addr) > 2 && addr[0] == '[' && addr[len(addr)-1] == ']' {
		addr = addr[1 : len(addr)-1]
	}
	if err := checkIP(addr); err != nil {
		return err
	}
	p.w.AddHosts = append(p.w.AddHosts, name+":"+addr)
	return nil
}

func checkDNSSearch(v string) error {
	if v == "." {
		return nil
	}
	v = strings.TrimSuffix(v, ".")
	if len(v) >= 255 || !strings.ContainsFunc(v, func(r rune) bool { return r < 0x80 && isLetter(byte(r)) }) {
		return errors.New("it is not a domain")
	}
	return checkLabels(v)
}

// checkDNSOption takes what resolv.conf(5) has: words, some with a number.
func checkDNSOption(v string) error {
	if !only(v, "-_:.") {
		return errors.New("it takes an option of resolv.conf, such as ndots:2")
	}
	return nil
}

func checkLink(v string) error {
	if err := cleanWord(v); err != nil {
		return err
	}
	if strings.Count(v, ":") > 1 {
		return errors.New("it takes CONTAINER[:ALIAS]")
	}
	return nil
}

// portRange reads N or N-M, 0 to 65535.
func portRange(v string) (lo, hi uint64, err error) {
	from, to, isRange := strings.Cut(v, "-")
	if !isRange {
		to = from
	}
	lo, err1 := strconv.ParseUint(from, 10, 16)
	hi, err2 := strconv.ParseUint(to, 10, 16)
	if err1 != nil || err2 != nil || lo > hi {
		return 0, 0, errors.New("a port is a number up to 65535, or a range of them N-M")
	}
	return lo, hi, nil
}

func cutProto(v string) (ports string, err error) {
	ports, proto, has := strings.Cut(v, "/")
	if has && !slices.Contains([]string{"tcp", "udp", "sctp"}, strings.ToLower(proto)) {
		return "", errors.New("the protocol is tcp, udp or sctp")
	}
	return ports, nil
}

func checkExpose(v string) error {
	ports, err := cutProto(v)
	if err == nil {
		var lo uint64
		if lo, _, err = portRange(ports); err == nil && lo == 0 {
			err = errors.New("port 0 cannot be exposed")
		}
	}
	return err
}

// checkPublish checks [IP:][HOST]:CONTAINER[/PROTO], or docker's CSV form.
func checkPublish(v string) error {
	if err := clean(v); err != nil {
		return err
	}
	if strings.Contains(v, "=") {
		keys := map[string]string{"protocol": "tcp"}
		for _, f := range strings.Split(v, ",") {
			key, val, ok := strings.Cut(f, "=")
			if !ok || !slices.Contains([]string{"published", "target", "protocol"}, key) {
				return errors.New("its keys are published, target and protocol")
			}
			keys[key] = val
		}
		v = keys["published"] + ":" + keys["target"] + "/" + keys["protocol"]
	}
	var ip, host string
	container := v
	if i := strings.LastIndexByte(v, ':'); i >= 0 {
		host, container = v[:i], v[i+1:]
		if i := strings.LastIndexByte(host, ':'); i >= 0 {
			ip, host = host[:i], host[i+1:]
		}
	}
	if ip != "" {
		if inner, ok := strings.CutPrefix(ip, "["); ok && strings.HasSuffix(ip, "]") {
			ip = strings.TrimSuffix(inner, "]")
		}
		if err := checkIP(ip); err != nil {
			return err
		}
	}
	ports, err := cutProto(container)
	if err != nil {
		return err
	}
	lo, hi, err := portRange(ports)
	if err != nil {
		return err
	}
	if lo == 0 {
		return errors.New("port 0 cannot be published")
	}
	if host == "" {
		return nil
	}
	hostLo, hostHi, err := portRange(host)
	if err != nil {
		return err
	}
	if hostHi-hostLo != hi-lo && hi != lo {
		return errors.New("the ranges of ports differ in length")
	}
	return nil
}

// network is one --network.
type network struct {
	name  string
	extra []string // keys of the long form besides name
}

// longNetwork is how docker tells its long form from a name.
var longNetwork = lazyre.New(`\w+=\w+(,\w+=\w+)*`)

// setNetwork takes a name or mode, or docker's CSV form, whose words docker
// makes lower case.
func (p *parser) setNetwork(v string) error {
	if err := cleanWord(v); err != nil {
		return err
	}
	n := network{name: v}
	if longNetwork().MatchString(v) && !strings.HasPrefix(v, "ns:") {
		fields, err := csv.NewReader(strings.NewReader(v)).Read()
		if err != nil {
			return errors.New("it is not a CSV line")
		}
		n.name = ""
		for _, f := range fields {
			key, val, ok := strings.Cut(strings.ToLower(f), "=")
			key, val = strings.TrimSpace(key), strings.TrimSpace(val)
			if !ok || !slices.Contains([]string{"name", "alias", "ip", "ip6", "mac-address", "link-local-ip", "driver-opt", "gw-priority"}, key) {
				return errors.New("its keys are name, alias, ip, ip6, mac-address, link-local-ip, driver-opt and gw-priority")
			}
			if key == "name" {
				n.name = val
				continue
			}
			n.extra = append(n.extra, key)
		}
	}
	if strings.TrimSpace(n.name) == "" {
		return errors.New("no name set for network")
	}
	if networkKind(n.name) == netJoin && strings.HasSuffix(n.name, ":") {
		return errors.New("no name after the colon")
	}
	p.w.NetworkSet = true
	p.w.Networks = append(p.w.Networks, n.name)
	p.networks = append(p.networks, n)
	switch kind := networkKind(n.name); {
	case kind == netUser:
		p.cannot(fmt.Sprintf("the network %s: %s", quote(n.name), whyNetwork))
	case kind == netNone && len(n.extra) > 0:
		p.cannot(fmt.Sprintf("%s of a network: %s", strings.Join(n.extra, ", "), whyNetwork))
	}
	return nil
}

// netKind is what a network's name stands for.
type netKind int

const (
	netNone netKind = iota
	netJoin         // the host's or another container's: the policy refuses
	netUser         // a network by name
)

func networkKind(name string) netKind {
	switch {
	case name == "none":
		return netNone
	case name == "host", strings.HasPrefix(name, "container:"), strings.HasPrefix(name, "ns:"):
		return netJoin
	}
	return netUser
}

// checkNetworks refuses what docker refuses about several networks, and what
// cannot go with another's network namespace.
func (p *parser) checkNetworks() error {
	seen := map[string]bool{}
	var byName, modes int
	for _, n := range p.networks {
		if seen[n.name] {
			return fmt.Errorf("network %s is specified multiple times", quote(n.name))
		}
		seen[n.name] = true
		if networkKind(n.name) == netUser && n.name != "bridge" && n.name != "default" {
			byName++
		} else {
			modes++
		}
	}
	if (byName > 0 && modes > 0) || modes > 1 {
		return fail.New(fail.Usage, "conflicting options: cannot attach both user-defined and non-user-defined network-modes")
	}
	if p.w.UTSMode == "host" && p.w.Hostname != "" {
		return errors.New("conflicting options: --hostname and --uts host")
	}
	return nil
}
