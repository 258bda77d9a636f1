package netfilter

import (
	"bytes"
	"encoding/binary"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// baseChain is a chain of another's table on the forward hook.
type baseChain struct {
	family      byte
	table, name string
	policyDrops bool
}

// forwardChains are the base chains on the forward hook of IP families.
func (c *conn) forwardChains() ([]baseChain, error) {
	got, err := c.dump(unix.NFT_MSG_GETCHAIN, unix.NFPROTO_UNSPEC, nil)
	if err != nil {
		return nil, err
	}
	var out []baseChain
	for _, m := range got {
		if len(m.Data) < 4 {
			continue
		}
		b := baseChain{family: m.Data[0]}
		forward := false
		err := each(body(m), func(kind uint16, v []byte) error {
			switch kind {
			case unix.NFTA_CHAIN_TABLE:
				b.table = text(v)
			case unix.NFTA_CHAIN_NAME:
				b.name = text(v)
			case unix.NFTA_CHAIN_POLICY:
				b.policyDrops = number(v) == 0 // NF_DROP
			case unix.NFTA_CHAIN_HOOK:
				return each(v, func(kind uint16, v []byte) error {
					forward = forward || kind == unix.NFTA_HOOK_HOOKNUM && number(v) == unix.NF_INET_FORWARD
					return nil
				})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		switch b.family {
		case unix.NFPROTO_IPV4, unix.NFPROTO_IPV6, unix.NFPROTO_INET:
			if forward {
				out = append(out, b)
			}
		}
	}
	return out, nil
}

// rules lists the rules of a chain, or of a table if the chain is "".
func (c *conn) rules(family byte, table, chain string) ([]netlink.Message, error) {
	return c.dump(unix.NFT_MSG_GETRULE, family, func(ae *attrs) {
		ae.String(unix.NFTA_RULE_TABLE, table)
		if chain != "" {
			ae.String(unix.NFTA_RULE_CHAIN, chain)
		}
	})
}

// parsed is a rule: what it does, and what it is made of.
type parsed struct {
	step
	of    string   // the chain it is in
	names []string // of its expressions
}

// opens says whether the rule is nothing but one that lets through what comes
// from, or goes to, an interface.
func (p parsed) opens(bridge string) bool {
	if p.does != accepts || p.other || len(p.iif)+len(p.oif) != 1 {
		return false
	}
	for _, m := range append(p.iif, p.oif...) {
		if m != (match{name: bridge}) {
			return false
		}
	}
	for _, n := range p.names {
		switch n {
		case "meta", "cmp", "counter", "immediate":
		default:
			return false
		}
	}
	return true
}

// parseRule reads a rule. An expression that is not known makes it one that
// holds for some packets only, which decides nothing here.
func parseRule(m netlink.Message) (parsed, error) {
	var p parsed
	var loaded uint64 // the key of meta in the register, plus one
	err := each(body(m), func(kind uint16, v []byte) error {
		switch kind {
		case unix.NFTA_RULE_HANDLE:
			p.handle = number(v)
		case unix.NFTA_RULE_CHAIN:
			p.of = text(v)
		case unix.NFTA_RULE_EXPRESSIONS:
			return each(v, func(_ uint16, v []byte) error {
				var name string
				var data []byte
				err := each(v, func(kind uint16, v []byte) error {
					switch kind {
					case unix.NFTA_EXPR_NAME:
						name = text(v)
					case unix.NFTA_EXPR_DATA:
						data = v
					}
					return nil
				})
				if err == nil {
					p.names = append(p.names, name)
					err = p.expression(name, data, &loaded)
				}
				return err
			})
		}
		return nil
	})
	return p, err
}

func (p *parsed) expression(name string, data []byte, loaded *uint64) error {
	get := func(want uint16) (out []byte) {
		_ = each(data, func(kind uint16, v []byte) error {
			if kind == want {
				out = v
			}
			return nil
		})
		return out
	}
	was := *loaded
	*loaded = 0
	switch name {
	case "counter", "log":
	case "objref":
		const counter = 1 // NFT_OBJECT_COUNTER; others have limits
		p.other = p.other || number(get(1)) != counter
	case "match":
		p.other = p.other || text(get(1)) != "comment" // NFTA_MATCH_NAME
	case "meta":
		key := number(get(unix.NFTA_META_KEY))
		if get(unix.NFTA_META_DREG) == nil || key != unix.NFT_META_IIFNAME && key != unix.NFT_META_OIFNAME {
			p.other = true
		} else {
			*loaded = key + 1
		}
	case "cmp":
		p.compare(was, number(get(unix.NFTA_CMP_OP)), get(unix.NFTA_CMP_DATA))
	case "reject":
		p.does = cuts
	case "target": // of iptables
		switch text(get(1)) { // NFTA_TARGET_NAME
		case "REJECT", "DROP":
			p.does = cuts
		case "LOG", "NFLOG", "TRACE", "MARK", "CONNMARK":
		default:
			p.other = true
		}
	case "immediate":
		if number(get(unix.NFTA_IMMEDIATE_DREG)) != unix.NFT_REG_VERDICT {
			p.other = true
			return nil
		}
		return p.verdict(get(unix.NFTA_IMMEDIATE_DATA))
	default:
		p.other = true
	}
	return nil
}

// compare reads a comparison with the name of an interface. One without its
// final zero is with the beginning of a name.
func (p *parsed) compare(loaded, op uint64, data []byte) {
	var v []byte
	_ = parseValue(data, &v)
	name := bytes.TrimRight(v, "\x00")
	m := match{name: string(name), prefix: len(name) == len(v) && len(v) < unix.IFNAMSIZ, not: op == unix.NFT_CMP_NEQ}
	switch {
	case op != unix.NFT_CMP_EQ && op != unix.NFT_CMP_NEQ, v == nil:
		p.other = true
	case loaded == unix.NFT_META_IIFNAME+1:
		p.iif = append(p.iif, m)
	case loaded == unix.NFT_META_OIFNAME+1:
		p.oif = append(p.oif, m)
	default:
		p.other = true
	}
}

func (p *parsed) verdict(data []byte) error {
	return each(data, func(kind uint16, v []byte) error {
		if kind != unix.NFTA_DATA_VERDICT {
			return nil
		}
		return each(v, func(kind uint16, v []byte) error {
			if kind == unix.NFTA_VERDICT_CHAIN {
				p.step.chain = text(v)
			}
			if kind != unix.NFTA_VERDICT_CODE || len(v) != 4 {
				return nil
			}
			switch int32(binary.BigEndian.Uint32(v)) {
			case 0: // NF_DROP
				p.does = cuts
			case 1: // NF_ACCEPT
				p.does = accepts
			case -1: // NFT_CONTINUE
			case -3: // NFT_JUMP
				p.does = jumps
			case -4: // NFT_GOTO
				p.does = goesTo
			case -5: // NFT_RETURN
				p.does = returns
			default:
				p.other = true
			}
			return nil
		})
	})
}
