package network

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

func TestStore(t *testing.T) {
	hostNS(t)
	s := newStore(t)
	_, err := s.Load("net")
	kind(t, err, fail.NotFound, "network net not found")

	d := newNetwork(t, s, Options{Name: "net", IPv6: true, ICC: true, Labels: map[string]string{"a": "b"}})
	got, err := s.Load("net")
	must(t, err)
	if !reflect.DeepEqual(got, d) {
		t.Errorf("loaded %+v, made %+v", got, d)
	}
	if fi, err := os.Stat(filepath.Join(s.Root, "networks/net/network.json")); err != nil || fi.Mode() != 0o600 {
		t.Errorf("the file is %v, %v", fi, err)
	}
	_, err = s.Create(Options{Name: "net"})
	kind(t, err, fail.Conflict, "already")

	def, err := s.Default()
	must(t, err)
	again, err := s.Default()
	must(t, err)
	if !reflect.DeepEqual(def, again) || def.Name != "bridge" || !def.V4().IsValid() || !def.V6().IsValid() {
		t.Errorf("the default network is %+v, then %+v", def, again)
	}
	if def.Bridge == d.Bridge || def.V4().Overlaps(d.V4()) || def.V6().Overlaps(d.V6()) {
		t.Errorf("%+v and %+v share something", d, def)
	}
	all, err := s.List()
	must(t, err)
	if len(all) != 2 || all[0].Name != "bridge" || all[1].Name != "net" {
		t.Errorf("the networks are %+v", all)
	}

	kind(t, s.Remove("bridge"), fail.Usage, "cannot be removed")
	l, err := s.Claim(d, testID(7), Want{})
	must(t, err)
	kind(t, s.Remove("net"), fail.Conflict, "in use by "+short(testID(7)))
	must(t, s.Release(l, testID(7)))
	must(t, s.Remove("net"))
	kind(t, s.Remove("net"), fail.NotFound, "not found")
	if _, err := os.Stat(filepath.Join(s.Root, "networks/net")); err == nil {
		t.Error("its directory is left")
	}
	_, err = s.Claim(d, testID(7), Want{})
	kind(t, err, fail.NotFound, "not found")
}

func TestNames(t *testing.T) {
	hostNS(t)
	s := newStore(t)
	for _, n := range []string{"none", "host", "bridge", "default", "container", "container:x", "", ".", "..", ".net", "-x", "a/b", "a b", "a\nb", "ä", strings.Repeat("a", 129)} {
		_, err := s.Create(Options{Name: n})
		kind(t, err, fail.Usage, "cannot be named")
		if n != "bridge" {
			_, err = s.Load(n)
			kind(t, err, fail.NotFound, "not found")
		}
	}
	for _, n := range []string{"a", "A.b_c-d", "0", strings.Repeat("a", 128)} {
		newNetwork(t, s, Options{Name: n, Subnets: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{11, n[0], byte(len(n)), 0}), 24)}})
	}
}

func TestBridgeNames(t *testing.T) {
	plain, other, third := Store{Root: defaultRoot}, Store{Root: "/srv/a"}, Store{Root: "/srv/b"}
	if n := plain.bridgeName("bridge", nil); n != "saferun0" {
		t.Errorf("the default network's is %s", n)
	}
	seen := map[string]bool{}
	for _, s := range []Store{plain, other, third} {
		for _, n := range []string{"bridge", "a", "b"} {
			b := s.bridgeName(n, nil)
			if seen[b] || !validBridge(b) || len(b) > 15 {
				t.Errorf("the bridge of %s in %s is %s", n, s.Root, b)
			}
			seen[b] = true
			if c := s.bridgeName(n, []Definition{{Bridge: b}}); c == b && b != "saferun0" {
				t.Errorf("%s is given twice", b)
			}
		}
	}
}

func TestCorrupt(t *testing.T) {
	hostNS(t)
	s := newStore(t)
	d := newNetwork(t, s, Options{Name: "net", Subnets: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")}})
	newNetwork(t, s, Options{Name: "good"})
	path := filepath.Join(s.Root, "networks/net/network.json")
	good, err := os.ReadFile(path)
	must(t, err)
	edit := func(from, to string) []byte {
		b := bytes.Replace(good, []byte(from), []byte(to), 1)
		if bytes.Equal(b, good) {
			t.Fatalf("%q is not in %s", from, good)
		}
		return b
	}
	for _, c := range []struct {
		name string
		b    []byte
		says string
	}{
		{"empty", nil, "EOF"},
		{"cut", good[:40], "unexpected"},
		{"more", append(bytes.Clone(good), "{}"...), "after its end"},
		{"unknown", edit(`"name"`, `"x": 1, "name"`), "unknown field"},
		{"another", edit(`"net"`, `"nett"`), "it is about"},
		{"id", edit(d.ID, d.ID[:63]+"G"), "64 hexadecimal"},
		{"bridge", edit(d.Bridge, "eth0"), "none of safe-run's"},
		{"path", edit(d.Bridge, "sr../../all"), "none of safe-run's"},
		{"default route", edit("10.9.0.0/24", "0.0.0.0/0"), "too large"},
		{"loopback", edit("10.9.0.0/24", "127.0.0.0/24"), "meaning of its own"},
		{"not masked", edit("10.9.0.0/24", "10.9.0.1/24"), "an address in"},
		{"no subnet", edit(`"10.9.0.0/24"`, ""), "the subnets"},
		{"two", edit(`"10.9.0.0/24"`, `"10.9.0.0/24","10.8.0.0/24"`), "the subnets"},
		{"huge", bytes.Repeat([]byte(" "), maxDefinition+1), "bytes"},
	} {
		must(t, os.WriteFile(path, c.b, 0o600))
		_, err := s.Load("net")
		kind(t, err, fail.Internal, c.says)
		all, err := s.List()
		kind(t, err, fail.Internal, `"net"`)
		if len(all) != 1 || all[0].Name != "good" {
			t.Errorf("%s: the others are %v", c.name, all)
		}
	}
	must(t, os.WriteFile(path, good, 0o600))
	must(t, os.Chmod(path, 0o620))
	_, err = s.Load("net")
	kind(t, err, fail.Internal, "nobody else can write")
	must(t, os.Remove(path))
	must(t, os.Symlink("../good/network.json", path))
	_, err = s.Load("net")
	kind(t, err, fail.Internal, "too many levels")
	must(t, os.Remove(path))
	must(t, unix.Mkfifo(path, 0o600))
	_, err = s.Load("net")
	kind(t, err, fail.Internal, "not a file")
	must(t, s.Remove("net"))
}

func TestLock(t *testing.T) {
	s := newStore(t)
	unlock, err := s.Lock()
	must(t, err)
	got := make(chan func())
	go func() {
		u, err := s.Lock()
		if err != nil {
			t.Error(err)
		}
		got <- u
	}()
	select {
	case <-got:
		t.Fatal("two have the lock")
	default:
	}
	unlock()
	(<-got)()
}

func TestLabels(t *testing.T) {
	hostNS(t)
	s := newStore(t)
	for _, l := range []map[string]string{{"": "x"}, {"a\n": ""}, {"a": "\x1b[2J"}, {"a": strings.Repeat("x", maxLabels)}} {
		_, err := s.Create(Options{Name: "x", Labels: l})
		kind(t, err, fail.Usage, "label")
	}
}

func FuzzParseDefinition(f *testing.F) {
	d := Definition{
		Name: "net", ID: strings.Repeat("0", 64), Bridge: "sr-00000000",
		Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/64")},
		Labels:  map[string]string{"a": "b"},
	}
	b, err := json.Marshal(d)
	must(f, err)
	f.Add(b)
	f.Add([]byte(`{"name":"net","subnets":["::ffff:10.0.0.0/96"]}`))
	f.Add([]byte(`{"name":"net","subnets":[null,"fe80::%eth0/64"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseDefinition("net", b)
		if err != nil {
			return
		}
		for _, p := range d.Subnets {
			for _, i := range []uint64{1, 2, lastIndex(p)} {
				a := host(p, i)
				if j, ok := index(p, a); !ok || i != j {
					t.Errorf("%s: number %d is %s, whose number is %d", p, i, a, j)
				}
			}
		}
		again, err := json.Marshal(d)
		must(t, err)
		if _, err := parseDefinition("net", again); err != nil {
			t.Errorf("%s is read, but not what is written of it, %s: %v", b, again, err)
		}
	})
}
