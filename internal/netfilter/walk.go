package netfilter

// what is what a rule does with a packet it holds for.
type what int

const (
	goesOn what = iota // to the next rule: nothing is decided
	accepts
	cuts // drops or rejects
	jumps
	goesTo
	returns
)

// match is what a rule wants of an interface's name.
type match struct {
	name   string
	prefix bool // any name that begins so
	not    bool
}

func (m match) holds(name string) bool {
	is := m.name == name || m.prefix && len(name) >= len(m.name) && name[:len(m.name)] == m.name
	return is != m.not
}

// step is a rule of another's chain, as far as it matters here.
type step struct {
	handle   uint64 // of nftables; a number from 1 on for iptables-legacy
	does     what
	chain    string // for jumps and goesTo
	iif, oif []match
	other    bool // it holds for some packets only, whatever their interfaces
}

// certain says whether a rule holds for all packets of a link.
func (s step) certain(l link) bool {
	for _, m := range s.iif {
		if !m.holds(l.in) {
			return false
		}
	}
	for _, m := range s.oif {
		if !m.holds(l.out) {
			return false
		}
	}
	return !s.other
}

// link is a way through the host.
type link struct{ in, out string }

// spot is where a link is cut: before a rule of a chain, or at its end.
type spot struct {
	chain  string
	before uint64 // a step's handle; 0: the end of the chain
}

// reading bounds how much of others' rules is followed.
const (
	maxDepth = 16 // the kernel's own, for jumps
	maxSteps = 100000
)

// walker follows a link through the chains of another's table.
type walker struct {
	steps func(chain string) ([]step, error)
	link  link
	read  int
}

type end int

const (
	falls end = iota // off the end of the chain: its caller, or the policy, decides
	open
	closed
)

// walk follows the link through a chain by the rules that hold for all of its
// packets. For one that is cut it says where; for one that falls off the end,
// where something could be put at last.
func (w *walker) walk(chain string, depth int) (end, spot, error) {
	steps, err := w.steps(chain)
	if err != nil || depth > maxDepth {
		return falls, spot{chain: chain}, err
	}
	for _, s := range steps {
		if w.read++; w.read > maxSteps {
			return open, spot{}, nil
		}
		if !s.certain(w.link) {
			continue
		}
		switch s.does {
		case goesOn:
		case accepts:
			return open, spot{}, nil
		case cuts:
			return closed, spot{chain, s.handle}, nil
		case returns:
			return falls, spot{chain, s.handle}, nil
		case jumps, goesTo:
			e, at, err := w.walk(s.chain, depth+1)
			if err != nil || e != falls {
				return e, at, err
			}
			if s.does == goesTo {
				return falls, at, nil
			}
		}
	}
	return falls, spot{chain: chain}, nil
}

// cut says whether the link is cut by the base chain, whose policy is to drop
// or not, and where.
func (w *walker) cut(base string, policyDrops bool) (at spot, isCut bool, err error) {
	e, at, err := w.walk(base, 0)
	return at, err == nil && (e == closed || e == falls && policyDrops), err
}
