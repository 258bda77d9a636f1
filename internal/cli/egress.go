package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/spec"
)

// maxEgress bounds the rules of one container.
const maxEgress = 4096

// setEgress takes none, all, or HOST:PORT[/PROTO] joined by commas.
func (p *parser) setEgress(v string) error {
	mode, rules := spec.EgressList, []spec.EgressRule(nil)
	switch v {
	case "none":
		mode = spec.EgressNone
	case "all":
		mode = spec.EgressAll
	default:
		for item := range strings.SplitSeq(v, ",") {
			r, err := parseEgress(item)
			if err != nil {
				return fmt.Errorf("%s: %w", quote(item), err)
			}
			if !slices.Contains(p.w.Egress.Allow, r) && !slices.Contains(rules, r) {
				rules = append(rules, r)
			}
		}
	}
	if p.egressSet && mode != p.w.Egress.Mode {
		return errors.New("conflicting options: none, all and a list exclude each other")
	}
	if len(p.w.Egress.Allow)+len(rules) > maxEgress {
		return fmt.Errorf("more than %d destinations; name whole ranges of addresses, as ADDRESS/LENGTH", maxEgress)
	}
	p.egressSet = true
	p.w.Egress.Mode = mode
	p.w.Egress.Allow = append(p.w.Egress.Allow, rules...)
	return nil
}

// parseEgress reads HOST:PORT[/PROTO].
func parseEgress(item string) (r spec.EgressRule, err error) {
	if err := cleanWord(item); err != nil {
		return r, err
	}
	host, ports, v6, err := cutEgress(item)
	if err != nil {
		return r, err
	}
	if rest, all := strings.CutPrefix(ports, "*"); all {
		ports = "1-65535" + rest
	}
	if r.Ports, err = spec.ParsePortRange(ports); err != nil {
		return r, err
	}
	switch {
	case v6:
		r.Prefix, err = egressPrefix(host, true)
	case strings.Contains(host, "/") || isAddress(host):
		r.Prefix, err = egressPrefix(host, false)
	default:
		r.Name, err = egressName(host)
	}
	return r, err
}

// cutEgress cuts HOST from what follows the colon; inBrackets says that it
// stood in them, as IPv6 addresses do.
func cutEgress(item string) (host, ports string, inBrackets bool, err error) {
	if item == "none" || item == "all" {
		return "", "", false, errors.New("none and all stand alone")
	}
	var ok bool
	if rest, found := strings.CutPrefix(item, "["); found {
		inBrackets = true
		host, ports, ok = strings.Cut(rest, "]:")
	} else if i := strings.LastIndexByte(item, ':'); i >= 0 {
		host, ports, ok = item[:i], item[i+1:], true
	}
	switch {
	case !ok:
		err = errors.New("it has no port: it takes HOST:PORT[/PROTO], and PORT may be N-M or *")
	case host == "":
		err = errors.New("it has no host: it takes HOST:PORT[/PROTO]")
	case !inBrackets && strings.Contains(host, ":"):
		err = errors.New("an IPv6 address or range stands in brackets: [ADDRESS]:PORT")
	}
	return host, ports, inBrackets, err
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// egressPrefix reads an address or ADDRESS/LENGTH.
func egressPrefix(v string, v6 bool) (netip.Prefix, error) {
	if !strings.Contains(v, "/") {
		a, err := netip.ParseAddr(v)
		if err != nil || a.Zone() != "" || a.Is6() != v6 {
			return netip.Prefix{}, errors.New("it is not an address")
		}
		if a = a.Unmap(); a.IsUnspecified() {
			return netip.Prefix{}, fmt.Errorf("%s is no address to connect to; all addresses are %s/0", a, a)
		}
		return usefulPrefix(netip.PrefixFrom(a, a.BitLen()))
	}
	n, err := netip.ParsePrefix(v)
	switch {
	case err != nil || n.Addr().Is6() != v6 || n.Addr().Is4In6():
		return netip.Prefix{}, errors.New("it is not a range of addresses: ADDRESS/LENGTH")
	case n != n.Masked():
		return netip.Prefix{}, fmt.Errorf("%s is an address within the range %s: write the one or the other", n, n.Masked())
	}
	return usefulPrefix(n)
}

// usefulPrefix refuses ranges that --egress has no say about.
func usefulPrefix(n netip.Prefix) (netip.Prefix, error) {
	switch {
	case within(n, "127.0.0.0/8"), within(n, "::1/128"):
		return n, errors.New("loopback is the container itself, which it reaches without")
	case within(n, "224.0.0.0/4"), within(n, "ff00::/8"):
		return n, errors.New("multicast does not leave the container's network")
	}
	return n, nil
}

func within(n netip.Prefix, of string) bool {
	p := netip.MustParsePrefix(of)
	return p.Bits() <= n.Bits() && p.Contains(n.Addr())
}

// egressName reads a host name by RFC 1123. A last label of digits is how
// some programs write IPv4 addresses (127.1, 0x7f.1), which are not names.
func egressName(v string) (string, error) {
	v = strings.ToLower(strings.TrimSuffix(v, "."))
	if strings.Contains(v, "*") {
		return "", errors.New("wildcards are not taken: only names that can be looked up can be allowed; name each host")
	}
	if strings.ContainsFunc(v, func(r rune) bool { return r >= 0x80 }) {
		return "", errors.New("a name with other than ASCII letters is written in its xn-- form")
	}
	if len(v) > maxDomain {
		return "", fmt.Errorf("the name has more than %d characters", maxDomain)
	}
	if err := labels(v, "-"); err != nil {
		return "", err
	}
	last := v[strings.LastIndexByte(v, '.')+1:]
	if strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x") && strings.Trim(last[2:], "0123456789abcdef") == "" {
		return "", errors.New("it is neither an address, as 192.0.2.1, nor a name, whose last label is not a number")
	}
	if v == "localhost" || strings.HasSuffix(v, ".localhost") {
		return "", errors.New("localhost is the container itself, which it reaches without")
	}
	return v, nil
}
