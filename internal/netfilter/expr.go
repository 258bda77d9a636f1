package netfilter

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers: the first of the 4-byte ones, which concatenations are put in
// one after the other, and the first of the 16-byte ones, which is the same
// place.
const (
	reg   = unix.NFT_REG32_00
	reg16 = unix.NFT_REG_1
)

// From linux/netfilter/nf_tables.h and nf_conntrack_common.h, where x/sys has
// no names.
const (
	ctStatusDNAT = 1 << 5 // IPS_DST_NAT

	rejectTCPReset       = 1 // NFT_REJECT_TCP_RST
	rejectICMPX          = 2 // NFT_REJECT_ICMPX_UNREACH
	icmpxAdminProhibited = 3 // NFT_REJECT_ICMPX_ADMIN_PROHIBITED
)

// rule is a rule in the making: expressions that each go on only if they
// hold, then what to do.
type rule struct {
	exprs [][]byte
	err   error
}

func when() *rule { return &rule{} }

func (r *rule) add(es ...expr.Any) *rule {
	for _, e := range es {
		b, err := expr.Marshal(unix.NFPROTO_INET, e)
		r.err = errors.Join(r.err, err)
		r.exprs = append(r.exprs, b)
	}
	return r
}

func native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

func (r *rule) meta(k expr.MetaKey, to uint32) *rule { return r.add(&expr.Meta{Key: k, Register: to}) }

func (r *rule) load(base expr.PayloadBase, offset, length, to uint32) *rule {
	return r.add(&expr.Payload{DestRegister: to, Base: base, Offset: offset, Len: length})
}

func (r *rule) equals(b []byte) *rule {
	return r.add(&expr.Cmp{Op: expr.CmpOpEq, Register: reg16, Data: b})
}

func (r *rule) differs(b []byte) *rule {
	return r.add(&expr.Cmp{Op: expr.CmpOpNeq, Register: reg16, Data: b})
}

// in holds if what is loaded from the first register on is in a set.
func (r *rule) in(set string) *rule {
	return r.add(&expr.Lookup{SourceRegister: reg, SetName: set})
}

// mapped replaces what is loaded by what a map has for it, and holds if it has.
func (r *rule) mapped(m string) *rule {
	return r.add(&expr.Lookup{SourceRegister: reg, DestRegister: reg, IsDestRegSet: true, SetName: m})
}

func (r *rule) iifIn(set string) *rule { return r.meta(expr.MetaKeyIIFNAME, reg16).in(set) }
func (r *rule) oifIn(set string) *rule { return r.meta(expr.MetaKeyOIFNAME, reg16).in(set) }

func (r *rule) oifNotIn(set string) *rule {
	return r.meta(expr.MetaKeyOIFNAME, reg16).add(&expr.Lookup{SourceRegister: reg, SetName: set, Invert: true})
}

// linkIn holds if the pair of interfaces is in a set.
func (r *rule) linkIn(set string) *rule {
	return r.meta(expr.MetaKeyIIFNAME, reg).meta(expr.MetaKeyOIFNAME, reg+unix.IFNAMSIZ/4).in(set)
}

func (r *rule) v4() *rule {
	return r.meta(expr.MetaKeyNFPROTO, reg16).equals([]byte{unix.NFPROTO_IPV4})
}

func (r *rule) v6() *rule {
	return r.meta(expr.MetaKeyNFPROTO, reg16).equals([]byte{unix.NFPROTO_IPV6})
}

func (r *rule) l4(proto byte) *rule { return r.meta(expr.MetaKeyL4PROTO, reg16).equals([]byte{proto}) }

// family is what differs between the two versions of IP.
type family struct {
	only   func(*rule) *rule // holds for its packets
	number byte
	saddr  uint32 // offset in the header
	daddr  uint32
	size   uint32 // of an address, in bytes
	digit  string // in names of sets
}

func families() []family {
	return []family{
		{(*rule).v4, unix.NFPROTO_IPV4, 12, 16, 4, "4"},
		{(*rule).v6, unix.NFPROTO_IPV6, 8, 24, 16, "6"},
	}
}

func (f family) loadSaddr(r *rule, to uint32) *rule {
	return r.load(expr.PayloadBaseNetworkHeader, f.saddr, f.size, to)
}

func (f family) loadDaddr(r *rule, to uint32) *rule {
	return r.load(expr.PayloadBaseNetworkHeader, f.daddr, f.size, to)
}

// within holds if the address loaded is in a prefix.
func (r *rule) within(p netip.Prefix) *rule {
	b := p.Masked().Addr().AsSlice()
	mask := make([]byte, len(b))
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	if !p.IsSingleIP() {
		r.add(&expr.Bitwise{SourceRegister: reg16, DestRegister: reg16, Len: uint32(len(b)), Mask: mask, Xor: make([]byte, len(b))})
	}
	return r.equals(b)
}

// ctBits holds if a conntrack bit field has any of bits.
func (r *rule) ctBits(k expr.CtKey, bits uint32) *rule {
	return r.add(&expr.Ct{Key: k, Register: reg16},
		&expr.Bitwise{SourceRegister: reg16, DestRegister: reg16, Len: 4, Mask: native32(bits), Xor: native32(0)}).
		differs(native32(0))
}

func (r *rule) state(bits uint32) *rule { return r.ctBits(expr.CtKeySTATE, bits) }
func (r *rule) dnatted() *rule          { return r.ctBits(expr.CtKeySTATUS, ctStatusDNAT) }

// local holds for packets to an address of this host.
func (r *rule) local() *rule {
	return r.add(&expr.Fib{Register: reg16, ResultADDRTYPE: true, FlagDADDR: true}).equals(native32(unix.RTN_LOCAL))
}

func (r *rule) verdict(k expr.VerdictKind, chain string) *rule {
	return r.add(&expr.Verdict{Kind: k, Chain: chain})
}

func (r *rule) accept() *rule           { return r.verdict(expr.VerdictAccept, "") }
func (r *rule) drop() *rule             { return r.verdict(expr.VerdictDrop, "") }
func (r *rule) back() *rule             { return r.verdict(expr.VerdictReturn, "") }
func (r *rule) jump(chain string) *rule { return r.verdict(expr.VerdictJump, chain) }
func (r *rule) to(chain string) *rule   { return r.verdict(expr.VerdictGoto, chain) }

// dnat sends the connection to the address and port loaded.
func (r *rule) dnat(f family) *rule {
	return r.add(&expr.NAT{
		Type: expr.NATTypeDestNAT, Family: uint32(f.number),
		RegAddrMin: reg, RegProtoMin: reg + f.size/4, Specified: true,
	})
}

func (r *rule) masquerade() *rule { return r.add(&expr.Masq{}) }
