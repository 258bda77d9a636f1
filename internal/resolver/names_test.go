package resolver

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// updates collects what Names tells.
type updates struct {
	mu    sync.Mutex
	addrs map[string][]netip.Addr
	ttl   map[string]time.Duration
	calls map[string]int
	warns []string
}

func (u *updates) of(n *Names) *Names {
	u.addrs, u.ttl, u.calls = map[string][]netip.Addr{}, map[string]time.Duration{}, map[string]int{}
	n.Update = func(name string, a []netip.Addr, ttl time.Duration) {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.addrs[name], u.ttl[name] = a, ttl
		u.calls[name]++
	}
	n.Warn = func(s string) { u.warns = append(u.warns, s) }
	return n
}

func TestNamesStart(t *testing.T) {
	z := zone{
		"both.test A": "203.0.113.1 203.0.113.2", "both.test AAAA": "2001:db8::1",
		"alias.test A": "alias.test=x.test x.test=203.0.113.3", "alias.test AAAA": "alias.test=x.test",
		"loop.test":   "loop.test=loop.test",
		"near.test A": "127.0.0.1 169.254.169.254 0.0.0.0 10.210.0.7 203.0.113.4", "near.test AAAA": "::1 fe80::1 ::ffff:203.0.113.9",
		"rebind.test A": "127.0.0.1 10.210.0.7", "rebind.test AAAA": "",
		"many.test A": strings.Repeat("203.0.113.1 ", 200), "many.test AAAA": "",
		"nobody.test": "", "broken.test": "SERVFAIL",
	}
	up := upstream(t, "127.0.3.1", func(msg []byte, tcp bool) [][]byte {
		q, _, _ := parseQuery(msg)
		resp := z.answer(msg)
		if !tcp && len(resp) > q.size {
			return [][]byte{q.reply(answer{truncated: true}, plainUDP)}
		}
		return [][]byte{resp}
	})
	var u updates
	n := u.of(&Names{
		List:     []string{"both.test", "alias.test", "loop.test", "near.test", "rebind.test", "many.test", "nobody.test", "broken.test", "none.test"},
		Upstream: []netip.Addr{up}, IPv6: true,
		Allowed: func(a netip.Addr) bool { return !netip.MustParsePrefix("10.210.0.0/20").Contains(a) },
	})
	if err := n.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"both.test": "203.0.113.1 203.0.113.2 2001:db8::1", "alias.test": "203.0.113.3", "near.test": "203.0.113.4",
		"many.test": "203.0.113.1",
	} {
		if got := strings.Join(words(u.addrs[name]), " "); got != want || u.ttl[name] != 100*time.Second+grace {
			t.Errorf("%s: %s for %v", name, got, u.ttl[name])
		}
	}
	if len(u.addrs) != 4 || len(u.warns) != 5 {
		t.Errorf("%v\n%s", u.addrs, strings.Join(u.warns, "\n"))
	}
	for name, want := range map[string]string{
		"loop.test": "no address", "rebind.test": "may have", "nobody.test": "no address", "broken.test": "failed", "none.test": "no address",
	} {
		if !slices.ContainsFunc(u.warns, func(s string) bool { return strings.Contains(s, name) && strings.Contains(s, want) }) {
			t.Errorf("%s: %q", name, u.warns)
		}
	}
}

// A start waits for the resolvers, but not for long.
func TestNamesStartIsBounded(t *testing.T) {
	silent := func([]byte, bool) [][]byte { return nil }
	up := []netip.Addr{upstream(t, "127.0.3.2", silent), upstream(t, "127.0.3.3", silent), upstream(t, "127.0.3.4", silent)}
	var list []string
	for i := range 40 {
		list = append(list, fmt.Sprintf("n%d.test", i))
	}
	var u updates
	begin := time.Now()
	err := u.of(&Names{List: list, Upstream: up}).Start(context.Background())
	if d := time.Since(begin); err != nil || d > startWithin+time.Second {
		t.Errorf("%v after %v", err, d)
	}
	if len(u.warns) != len(list) || !strings.Contains(u.warns[0], "no name server answers") {
		t.Errorf("%q", u.warns)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := u.of(&Names{List: list, Upstream: up}).Start(ctx); err == nil {
		t.Error("an ended context is no error")
	}
}

func TestNamesRun(t *testing.T) {
	var u updates
	n := u.of(&Names{List: []string{"a.test", "b.test"}, Upstream: addrs("127.0.3.5")})
	if err := n.Start(context.Background()); err != nil || len(u.warns) != 2 {
		t.Fatal(err, u.warns)
	}
	// Nobody listened at the start. Now somebody does, and both are due.
	upstream(t, "127.0.3.5", zone{"a.test": "203.0.113.1"}.serve)
	n.mu.Lock()
	n.due["a.test"], n.due["b.test"] = look{}, look{}
	n.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { n.Run(ctx); close(done) }()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		u.mu.Lock()
		calls := u.calls["a.test"]
		u.mu.Unlock()
		if calls > 0 || time.Now().After(end) {
			break
		}
	}
	time.Sleep(50 * time.Millisecond)
	cancel()
	<-done
	if u.calls["a.test"] != 1 || u.calls["b.test"] != 0 || len(u.warns) != 2 {
		t.Errorf("%v %v", u.calls, u.warns)
	}
	now := time.Now()
	if d := n.due["a.test"].at.Sub(now); d < 90*time.Second || d > 100*time.Second {
		t.Errorf("the next look is in %v", d)
	}
	if due, wait := n.next(now); len(due) != 0 || wait > afterFailure {
		t.Errorf("%v %v", due, wait)
	}
}

// Failures make the looks rarer, answers that last no time do not make them
// more frequent than they may be.
func TestNamesTimes(t *testing.T) {
	n := &Names{List: []string{"a.test"}}
	n.prepare()
	var waits []time.Duration
	for range 12 {
		before := time.Now()
		_ = n.one(context.Background(), "a.test")
		waits = append(waits, n.due["a.test"].at.Sub(before).Round(time.Second))
	}
	if waits[0] != 5*time.Second || waits[1] != 10*time.Second || waits[11] != againMost {
		t.Error(waits)
	}
	up := upstream(t, "127.0.3.6", func(msg []byte, _ bool) [][]byte {
		q, _, _ := parseQuery(msg)
		return [][]byte{q.reply(answer{addrs: addrs("203.0.113.1")}, plainUDP)}
	})
	var u updates
	n = u.of(&Names{List: []string{"a.test"}, Upstream: []netip.Addr{up}})
	if err := n.Start(context.Background()); err != nil || u.ttl["a.test"] != againLeast+grace {
		t.Error(err, u.ttl)
	}
}

// A server from before EDNS answers FORMERR to it.
func TestLookupWithoutEDNS(t *testing.T) {
	up := upstream(t, "127.0.3.7", func(msg []byte, tcp bool) [][]byte {
		q, _, _ := parseQuery(msg)
		if q.edns {
			q.edns = false
			return [][]byte{q.reply(answer{code: dnsmessage.RCodeFormatError}, plainUDP)}
		}
		return zone{"a.test": "203.0.113.1"}.serve(msg, tcp)
	})
	f, err := newClient([]netip.Addr{up}).lookup(context.Background(), "a.test", dnsmessage.TypeA)
	if err != nil || len(f.addrs) != 1 {
		t.Errorf("%+v, %v", f, err)
	}
}
