package resolver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// When names are resolved again: after the time the answer counts, within
// bounds; after a failure sooner, then at growing distances. grace is what an
// address is kept beyond the time of the next look.
const (
	startWithin  = 5 * time.Second
	againLeast   = 30 * time.Second
	againMost    = 5 * time.Minute
	afterFailure = 5 * time.Second
	grace        = time.Minute
	atOnce       = 16
)

// Names keeps the addresses of the names of an egress list up to date.
type Names struct {
	List     []string     // lower case, without the final dot
	Upstream []netip.Addr // asked one after the other, up to three
	IPv6     bool         // ask for AAAA too

	// Allowed says of an address that a name may have it; others are dropped: a
	// name server outside has no say over what is near (DNS rebinding). nil
	// allows all but what is never outside: loopback, link-local, multicast and
	// unspecified addresses.
	Allowed func(netip.Addr) bool
	// Update gets all addresses of a name whenever it was resolved, and how long
	// they count unless it is called again: longer than until the next look.
	// Calls for several names run at the same time.
	Update func(name string, addrs []netip.Addr, ttl time.Duration)
	// Warn gets one line on each name without addresses at the start; nil: none.
	Warn func(string)

	once sync.Once
	up   *client
	mu   sync.Mutex
	due  map[string]look
}

// look is when a name is resolved next, and how often it failed.
type look struct {
	at       time.Time
	failures int
}

func (n *Names) prepare() {
	n.once.Do(func() {
		n.up = newClient(n.Upstream)
		n.due = map[string]look{}
		for _, name := range n.List {
			n.due[name] = look{}
		}
	})
}

// Start resolves all names, at most for 5 seconds. What it cannot resolve it
// warns of; Run goes on trying. Its error is that of ctx.
func (n *Names) Start(ctx context.Context) error {
	n.prepare()
	within, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	for i, err := range n.resolve(within, n.List) {
		if err != nil && n.Warn != nil && ctx.Err() == nil {
			n.Warn(fmt.Sprintf("--egress: %.253q: %s; it is tried again while the container runs", n.List[i], err))
		}
	}
	return ctx.Err()
}

// Run resolves names again, each in its time, until ctx ends.
func (n *Names) Run(ctx context.Context) {
	n.prepare()
	for {
		due, next := n.next(time.Now())
		if len(due) > 0 {
			n.resolve(ctx, due)
			if ctx.Err() != nil {
				return
			}
			continue
		}
		if len(n.List) == 0 {
			next = againMost
		}
		if !sleep(ctx, next) {
			return
		}
	}
}

// next gives the names to be resolved now, or how long there are none.
func (n *Names) next(now time.Time) (due []string, wait time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	wait = againMost
	for name, l := range n.due {
		if !now.Before(l.at) {
			due = append(due, name)
		}
		wait = min(wait, l.at.Sub(now))
	}
	return due, wait
}

// resolve looks names up side by side. The errors are by index.
func (n *Names) resolve(ctx context.Context, names []string) []error {
	errs := make([]error, len(names))
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, name := range names {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = n.one(ctx, name)
		})
	}
	wg.Wait()
	return errs
}

// one resolves a name and plans its next look.
func (n *Names) one(ctx context.Context, name string) error {
	addrs, ttl, err := n.addresses(ctx, name)
	n.mu.Lock()
	l := n.due[name]
	if err != nil {
		l.at = time.Now().Add(min(afterFailure<<min(l.failures, 8), againMost))
		l.failures++
	} else {
		ttl = min(max(ttl, againLeast), againMost)
		l = look{at: time.Now().Add(ttl)}
	}
	n.due[name] = l
	n.mu.Unlock()
	if err == nil && n.Update != nil {
		n.Update(name, addrs, ttl+grace)
	}
	return err
}

// addresses asks for both types at once. One of them is enough.
func (n *Names) addresses(ctx context.Context, name string) ([]netip.Addr, time.Duration, error) {
	types := []dnsmessage.Type{dnsmessage.TypeA}
	if n.IPv6 {
		types = append(types, dnsmessage.TypeAAAA)
	}
	answers, errs := make([]found, len(types)), make([]error, len(types))
	var wg sync.WaitGroup
	for i, t := range types {
		wg.Go(func() { answers[i], errs[i] = n.up.lookup(ctx, name, t) })
	}
	wg.Wait()
	var addrs []netip.Addr
	ttl, dropped := againMost, 0
	for _, f := range answers {
		for _, a := range f.addrs {
			if outside(a) && (n.Allowed == nil || n.Allowed(a)) {
				addrs = append(addrs, a)
			} else {
				dropped++
			}
		}
		if len(f.addrs) > 0 {
			ttl = min(ttl, f.ttl)
		}
	}
	switch {
	case len(addrs) > 0:
		return addrs, ttl, nil
	case dropped > 0:
		return nil, 0, errors.New("its addresses are not ones a name may have: loopback, link-local, metadata or a container network's")
	case errors.Join(errs...) != nil:
		return nil, 0, errors.New("no name server answers")
	}
	for _, f := range answers {
		if f.code != 0 && f.code != dnsmessage.RCodeNameError {
			return nil, 0, errors.New("the name servers failed")
		}
	}
	return nil, 0, errors.New("it has no address")
}

// outside says whether an address can be one beyond this host and its link.
func outside(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.Is4In6()
}
