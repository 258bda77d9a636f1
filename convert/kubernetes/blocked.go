package kubernetes

import (
	"net/netip"

	networkingv1 "k8s.io/api/networking/v1"
)

const (
	everything4 = "0.0.0.0/0"
	everything6 = "::/0"
	dnsPort     = 53
	// nodeLocalDNS is where the cache on each node answers (NodeLocal DNSCache).
	nodeLocalDNS = "169.254.20.10/32"
)

// blocked are the destinations no container may connect to, whatever --egress
// says (internal/netfilter, where each is explained).
func blocked() (out []netip.Prefix) {
	v4 := []string{"169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32", "100.96.0.96/32", "192.0.0.192/32"}
	for _, s := range v4 {
		out = append(out, netip.MustParsePrefix(s))
	}
	for _, s := range []string{
		"fe80::/10", "fd00:ec2::23/128", "fd00:ec2::254/128", "fd20:ce::254/128", "fd00:42::42/128", "fd00:c1::a9fe:a9fe/128",
		"fd00:100::100:200/128", "fd00:a9fe:a9fe::1/128",
	} {
		out = append(out, netip.MustParsePrefix(s))
	}
	for _, p := range out[:len(v4)] {
		// The same by way of a NAT64 with the well-known prefix (RFC 6052).
		a := netip.MustParseAddr("64:ff9b::").As16()
		b := p.Addr().As4()
		copy(a[12:], b[:])
		out = append(out, netip.PrefixFrom(netip.AddrFrom16(a), 96+p.Bits()))
	}
	return out
}

// shutOff says whether all of a range is blocked.
func shutOff(p netip.Prefix) bool {
	for _, b := range blocked() {
		if b.Bits() <= p.Bits() && b.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// block is a range without what is blocked in it.
func block(cidr string) *networkingv1.IPBlock {
	p := netip.MustParsePrefix(cidr)
	out := &networkingv1.IPBlock{CIDR: cidr}
	for _, b := range blocked() {
		if p.Bits() < b.Bits() && p.Contains(b.Addr()) {
			out.Except = append(out.Except, b.String())
		}
	}
	return out
}
