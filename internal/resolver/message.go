package resolver

import (
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Sizes of messages in bytes: RFC 1035 section 4.2.1, what EDNS raises it to
// (RFC 6891 section 6.2.5), and the length field over TCP.
const (
	plainUDP = 512
	maxUDP   = 4096
	maxTCP   = 65535
	// maxQuery bounds what a client sends: one name and options.
	maxQuery = 2048
)

// query is a client's question, taken apart: nothing else of its message goes
// further.
type query struct {
	id      uint16
	rd      bool // recursion desired
	ad, cd  bool // RFC 4035 section 3.2.2 and 3.2.3
	q       dnsmessage.Question
	edns    bool
	do      bool // RFC 3225
	size    int  // what the client takes over UDP
	options []dnsmessage.Option
}

// verdict says what becomes of a message without a look at its name.
type verdict int

const (
	drop   verdict = iota // not a query: an answer to it could start a loop
	refuse                // answer with a code
	serve
)

// parseQuery takes a client's message apart. With refuse the code says why.
func parseQuery(msg []byte) (query, verdict, dnsmessage.RCode) {
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil || h.Response {
		return query{}, drop, 0
	}
	q := query{id: h.ID, rd: h.RecursionDesired, ad: h.AuthenticData, cd: h.CheckingDisabled, size: plainUDP}
	if h.OpCode != 0 {
		return q, refuse, dnsmessage.RCodeNotImplemented
	}
	if q.q, err = p.Question(); err != nil {
		return q, refuse, dnsmessage.RCodeFormatError
	}
	if _, err = p.Question(); err != dnsmessage.ErrSectionDone {
		return q, refuse, dnsmessage.RCodeFormatError
	}
	if p.SkipAllQuestions() != nil || p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return q, refuse, dnsmessage.RCodeFormatError
	}
	for {
		rh, err := p.AdditionalHeader()
		if err == dnsmessage.ErrSectionDone {
			break
		}
		if err != nil {
			return q, refuse, dnsmessage.RCodeFormatError
		}
		if rh.Type != dnsmessage.TypeOPT {
			if p.SkipAdditional() != nil {
				return q, refuse, dnsmessage.RCodeFormatError
			}
			continue
		}
		body, err := p.OPTResource()
		if err != nil || q.edns || rh.Name.String() != "." {
			return q, refuse, dnsmessage.RCodeFormatError
		}
		q.edns, q.do, q.options = true, rh.DNSSECAllowed(), body.Options
		q.size = min(max(int(rh.Class), plainUDP), maxUDP)
		if rh.TTL>>16&0xff != 0 {
			return q, refuse, rcodeBadVersion
		}
	}
	// Transfers of zones and keys are not for a container to ask for.
	if t := q.q.Type; q.q.Class != dnsmessage.ClassINET || t == dnsmessage.TypeOPT || t >= typeTKEY && t < dnsmessage.TypeALL {
		return q, refuse, dnsmessage.RCodeRefused
	}
	return q, serve, 0
}

const (
	// rcodeBadVersion is BADVERS of RFC 6891 section 9.
	rcodeBadVersion dnsmessage.RCode = 16
	// typeTKEY is the first of those that stand for an action, RFC 6895
	// section 3.1; the last before ALL is MAILA.
	typeTKEY dnsmessage.Type = 249
)

// pack makes the query for an upstream server.
func (q *query) pack(id uint16) ([]byte, error) {
	b := dnsmessage.NewBuilder(make([]byte, 0, plainUDP), dnsmessage.Header{
		ID: id, RecursionDesired: q.rd, AuthenticData: q.ad, CheckingDisabled: q.cd,
	})
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	if err := b.Question(q.q); err != nil {
		return nil, err
	}
	if err := q.opt(&b, 0, q.size, q.options); err != nil {
		return nil, err
	}
	return b.Finish()
}

// opt appends the EDNS record, if the client sent one.
func (q *query) opt(b *dnsmessage.Builder, code dnsmessage.RCode, size int, options []dnsmessage.Option) error {
	if !q.edns {
		return nil
	}
	if err := b.StartAdditionals(); err != nil {
		return err
	}
	var h dnsmessage.ResourceHeader
	if err := h.SetEDNS0(size, code, q.do); err != nil {
		return err
	}
	return b.OPTResource(h, dnsmessage.OPTResource{Options: options})
}

// answer is a reply of this server's own making.
type answer struct {
	code      dnsmessage.RCode
	own       bool // it is the authority for the name
	truncated bool
	ttl       uint32 // seconds
	addrs     []netip.Addr
	names     []string // of a PTR question
}

// pack makes the reply, no longer than limit bytes: of many addresses as many
// as fit, which for a client is as good as all.
func (q *query) reply(a answer, limit int) []byte {
	b := dnsmessage.NewBuilder(make([]byte, 0, plainUDP), dnsmessage.Header{
		ID: q.id, Response: true, Authoritative: a.own, Truncated: a.truncated,
		RecursionDesired: q.rd, RecursionAvailable: true, CheckingDisabled: q.cd,
		RCode: a.code & 0xf,
	})
	b.EnableCompression()
	left := limit - 12 - int(q.q.Name.Length) - 6
	if q.edns {
		left -= 11
	}
	err := b.StartQuestions()
	if err == nil && q.q.Name.Length > 0 {
		err = b.Question(q.q)
	}
	if err == nil {
		err = b.StartAnswers()
	}
	h := dnsmessage.ResourceHeader{Name: q.q.Name, Class: dnsmessage.ClassINET, TTL: a.ttl}
	for _, addr := range a.addrs {
		// A compressed owner is 2 bytes, what stands before the data 10.
		if left -= 12 + addr.BitLen()/8; err != nil || left < 0 {
			break
		}
		if addr.Is4() {
			err = b.AResource(h, dnsmessage.AResource{A: addr.As4()})
		} else {
			err = b.AAAAResource(h, dnsmessage.AAAAResource{AAAA: addr.As16()})
		}
	}
	for _, s := range a.names {
		n, bad := dnsmessage.NewName(s + ".")
		if bad != nil || !isDomain(s) {
			continue
		}
		if left -= 12 + int(n.Length) + 1; err != nil || left < 0 {
			break
		}
		err = b.PTRResource(h, dnsmessage.PTRResource{PTR: n})
	}
	if err == nil {
		err = q.opt(&b, a.code, maxUDP, nil)
	}
	msg, bad := b.Finish()
	if err != nil || bad != nil {
		return nil
	}
	return msg
}

// host is the name asked for in lower case and without its final dot, if it has
// the form of a domain name: hostile bytes reach no caller.
func (q *query) host() (string, bool) {
	s := strings.TrimSuffix(q.q.Name.String(), ".")
	return strings.ToLower(s), isDomain(s)
}

// address is what the name of a reverse question stands for.
func (q *query) address() (netip.Addr, bool) {
	s, ok := q.host()
	if !ok {
		return netip.Addr{}, false
	}
	if s, ok = strings.CutSuffix(s, ".in-addr.arpa"); ok {
		part := strings.Split(s, ".")
		slices.Reverse(part)
		a, err := netip.ParseAddr(strings.Join(part, "."))
		return a, err == nil && a.Is4()
	}
	if s, ok = strings.CutSuffix(s, ".ip6.arpa"); !ok || len(s) != 63 {
		return netip.Addr{}, false
	}
	var b strings.Builder
	for i := 62; i >= 0; i -= 2 {
		if i > 0 && s[i-1] != '.' {
			return netip.Addr{}, false
		}
		if b.WriteByte(s[i]); i%8 == 0 && i > 0 {
			b.WriteByte(':')
		}
	}
	a, err := netip.ParseAddr(b.String())
	return a.Unmap(), err == nil && a.Zone() == ""
}

// replies says whether msg answers the question that was asked with the id.
// The code counts if it does.
func replies(msg []byte, id uint16, asked dnsmessage.Question) (dnsmessage.Header, bool) {
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil || !h.Response || h.ID != id || h.OpCode != 0 {
		return h, false
	}
	q, err := p.Question()
	if err == dnsmessage.ErrSectionDone {
		// Some servers leave the question out of an error.
		return h, h.RCode == dnsmessage.RCodeFormatError || failed(h.RCode)
	}
	if err != nil || q.Type != asked.Type || q.Class != asked.Class || !strings.EqualFold(q.Name.String(), asked.Name.String()) {
		return h, false
	}
	_, err = p.Question()
	return h, err == dnsmessage.ErrSectionDone
}

// failed says whether another server may do better.
func failed(c dnsmessage.RCode) bool {
	return c == dnsmessage.RCodeServerFailure || c == dnsmessage.RCodeRefused || c == dnsmessage.RCodeNotImplemented
}
