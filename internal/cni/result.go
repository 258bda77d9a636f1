package cni

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// Limits for what plugins say, most of which goes into a file of the
// container.
const (
	maxAddrs  = 32
	maxNames  = 32
	maxDomain = 253
)

// Result is what the plugins have made.
type Result struct {
	Interface string         // inside the container
	Addrs     []netip.Prefix // of that interface
	Gateways  []netip.Addr
	DNS       DNS
}

// DNS is what plugins say about resolving names; all of it may be missing.
type DNS struct {
	Nameservers     []netip.Addr
	Domain          string
	Search, Options []string
}

// readResult checks what the last plugin has printed.
func readResult(raw types.Result, iface string) (Result, error) {
	got, err := types100.GetResult(raw)
	if err != nil {
		return Result{}, err
	}
	r := Result{Interface: iface}
	if len(got.IPs) > maxAddrs {
		return Result{}, fmt.Errorf("its plugins gave %d addresses", len(got.IPs))
	}
	for _, ip := range got.IPs {
		if i := ip.Interface; i != nil {
			if *i < 0 || *i >= len(got.Interfaces) {
				return Result{}, fmt.Errorf("its plugins gave an address of an interface %d that there is not", *i)
			}
			// Others are the host's, or of further interfaces.
			if of := got.Interfaces[*i]; of.Sandbox == "" || of.Name != iface {
				continue
			}
		}
		addr, ok := netip.AddrFromSlice(ip.Address.IP)
		bits, _ := ip.Address.Mask.Size()
		addr = addr.Unmap()
		p := netip.PrefixFrom(addr, bits)
		if !ok || !p.IsValid() || len(ip.Address.Mask)*8 != addr.BitLen() {
			return Result{}, fmt.Errorf("its plugins gave an address that is none: %s", clean(ip.Address.String()))
		}
		r.Addrs = append(r.Addrs, p)
		if gw, ok := netip.AddrFromSlice(ip.Gateway); ok && !gw.IsUnspecified() {
			r.Gateways = append(r.Gateways, gw.Unmap())
		}
	}
	r.DNS, err = readDNS(got.DNS)
	return r, err
}

func readDNS(d types.DNS) (DNS, error) {
	out := DNS{Domain: d.Domain, Search: d.Search, Options: d.Options}
	if len(d.Nameservers) > maxNames || len(d.Search) > maxNames || len(d.Options) > maxNames {
		return DNS{}, fmt.Errorf("its plugins gave more than %d name servers, search domains or options", maxNames)
	}
	for _, s := range d.Nameservers {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return DNS{}, fmt.Errorf("its plugins gave a name server that is no address: %s", clean(s))
		}
		out.Nameservers = append(out.Nameservers, a)
	}
	for _, s := range append(append([]string{d.Domain}, d.Search...), d.Options...) {
		// A word of a line in resolv.conf.
		if len(s) > maxDomain || clean(s) != s || strings.ContainsAny(s, " #;") {
			return DNS{}, fmt.Errorf("its plugins gave a domain or option that is none: %s", clean(s))
		}
	}
	return out, nil
}
