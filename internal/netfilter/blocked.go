package netfilter

import (
	"net/netip"
	"slices"
)

// blocked are the destinations no container may connect to: what answers on
// them hands out the host's credentials, or is on the host's own link.
func blocked() []netip.Prefix {
	v4 := []netip.Prefix{
		netip.MustParsePrefix("169.254.0.0/16"),     // link-local; metadata of AWS (with ECS and EKS), GCP, Azure and most others
		netip.MustParsePrefix("100.100.100.200/32"), // Alibaba
		netip.MustParsePrefix("168.63.129.16/32"),   // Azure WireServer
		netip.MustParsePrefix("100.96.0.96/32"),     // Volcengine
		netip.MustParsePrefix("192.0.0.192/32"),     // Oracle
	}
	out := slices.Concat(v4, []netip.Prefix{
		netip.MustParsePrefix("fe80::/10"),              // link-local
		netip.MustParsePrefix("fd00:ec2::23/128"),       // AWS, EKS Pod Identity
		netip.MustParsePrefix("fd00:ec2::254/128"),      // AWS
		netip.MustParsePrefix("fd20:ce::254/128"),       // GCP
		netip.MustParsePrefix("fd00:42::42/128"),        // Scaleway
		netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), // Oracle
		netip.MustParsePrefix("fd00:100::100:200/128"),  // Alibaba
		netip.MustParsePrefix("fd00:a9fe:a9fe::1/128"),  // Akamai
	})
	// The same by way of a NAT64 with the well-known prefix (RFC 6052).
	for _, p := range v4 {
		a := netip.MustParseAddr("64:ff9b::").As16()
		b := p.Addr().As4()
		copy(a[12:], b[:])
		out = append(out, netip.PrefixFrom(netip.AddrFrom16(a), 96+p.Bits()))
	}
	return out
}

// Blocked says whether no container may connect to an address: link-local
// ones, and those where clouds serve an instance's metadata and credentials.
func Blocked(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(blocked(), func(p netip.Prefix) bool { return p.Contains(a) })
}

func blockedElements() []element {
	var out []element
	for _, p := range blocked() {
		out = append(out, rangeOf(setBlocked+digit(p.Addr()), p)...)
	}
	slices.SortStableFunc(out, func(a, b element) int {
		if a.set < b.set {
			return -1
		}
		if a.set > b.set {
			return 1
		}
		return 0
	})
	return out
}

func digit(a netip.Addr) string {
	if a.Is4() {
		return "4"
	}
	return "6"
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// rangeOf is a prefix as elements of a set of ranges: where it begins, and one
// past its end unless that is the end of all addresses.
func rangeOf(set string, p netip.Prefix) []element {
	out := []element{{set: set, key: p.Masked().Addr().AsSlice()}}
	if past := lastOf(p).Next(); past.IsValid() {
		out = append(out, element{set: set, key: past.AsSlice(), end: true})
	}
	return out
}
