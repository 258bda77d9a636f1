package cli

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// checkLabels checks a host name: labels of letters, digits and inner hyphens
// (RFC 1123), and the underscore, which the names of compose services have.
func checkLabels(v string) error { return labels(v, "-_") }

func labels(v, extra string) error {
	for l := range strings.SplitSeq(v, ".") {
		if len(l) > 63 || !only(l, extra) || l[0] == '-' || l[len(l)-1] == '-' {
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

// maxDomain is the longest name the DNS has, in the form people write.
const maxDomain = 253

func checkAlias(v string) error {
	if len(v) > maxDomain {
		return fmt.Errorf("it has %d characters, a name has at most %d", len(v), maxDomain)
	}
	return checkLabels(v)
}

func checkIP(v string) error {
	if a, err := netip.ParseAddr(v); err != nil || a.Zone() != "" {
		return errors.New("it is not an IP address")
	}
	return nil
}

// address reads an address of one family and brings it to one spelling.
func address(v string, v6 bool) (string, error) {
	a, err := netip.ParseAddr(v)
	switch {
	case err != nil || a.Zone() != "":
		return "", errors.New("it is not an IP address")
	case a.Is4() == v6 || a.Is4In6():
		return "", fmt.Errorf("it is not an %s address", map[bool]string{false: "IPv4", true: "IPv6"}[v6])
	}
	return a.String(), nil
}

// hardware reads the address of one Ethernet interface.
func hardware(v string) (string, error) {
	mac, err := net.ParseMAC(v)
	if err != nil || len(mac) != 6 {
		return "", errors.New("it is not a MAC address")
	}
	if mac[0]&1 != 0 || mac.String() == "00:00:00:00:00:00" {
		return "", errors.New("the MAC address of one interface is not zero, and its first byte is even")
	}
	return mac.String(), nil
}

// hostGateway stands for the host's address in --add-host.
const hostGateway = "host-gateway"

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
	if len(name) > maxDomain {
		return errors.New("the name is too long")
	}
	if err := checkLabels(name); err != nil {
		return err
	}
	if len(addr) > 2 && addr[0] == '[' && addr[len(addr)-1] == ']' {
		addr = addr[1 : len(addr)-1]
	}
	if addr != hostGateway {
		if err := checkIP(addr); err != nil {
			return err
		}
	}
	p.w.AddHosts = append(p.w.AddHosts, name+":"+addr)
	return nil
}

// checkDNS: resolv.conf of a container cannot say by which interface a
// link-local server is reached.
func checkDNS(v string) error {
	if err := checkIP(v); err != nil {
		return err
	}
	if a, _ := netip.ParseAddr(v); a.Is6() && a.IsLinkLocalUnicast() {
		return errors.New("a link-local IPv6 address cannot be reached without naming an interface")
	}
	return nil
}

func checkDNSSearch(v string) error {
	if v == "." {
		return nil
	}
	v = strings.TrimSuffix(v, ".")
	if len(v) > maxDomain || !strings.ContainsFunc(v, func(r rune) bool { return r < 0x80 && isLetter(byte(r)) }) {
		return errors.New("it is not a domain")
	}
	return checkLabels(v)
}

// checkDNSOption takes what resolv.conf(5) has: words, some with a number.
func checkDNSOption(v string) error {
	if len(v) > 64 || !only(v, "-_:.") {
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
