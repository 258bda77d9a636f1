package netfilter

import (
	"slices"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// others are rulesets of others. Where they cut containers off there is one
// address that the administrator drops, and must go on to.
var others = []struct {
	name    string
	program string // reads rules
	rules   string
	repairs []string // places; none: nothing is cut
}{
	{"iptables policy", "iptables-nft-restore", `*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -d 198.51.100.66/32 -j DROP
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
`, []string{"ip filter FORWARD"}},
	{"docker", "iptables-nft-restore", `*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-BRIDGE - [0:0]
:DOCKER-CT - [0:0]
:DOCKER-FORWARD - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER ! -i docker0 -o docker0 -j DROP
-A DOCKER-BRIDGE -o docker0 -j DOCKER
-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -j DOCKER-ISOLATION-STAGE-1
-A DOCKER-FORWARD -j DOCKER-BRIDGE
-A DOCKER-FORWARD -i docker0 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-USER -d 198.51.100.66/32 -j DROP
COMMIT
`, []string{"ip filter FORWARD"}},
	{"ufw, deny", "iptables-nft-restore", ufw("DROP", ""), []string{"ip filter FORWARD"}},
	{"ufw, reject", "iptables-nft-restore", ufw("DROP", "-A ufw-reject-forward -j REJECT --reject-with icmp-port-unreachable\n"), []string{"ip filter ufw-reject-forward"}},
	{"a last rule", "iptables-nft-restore", `*filter
:FORWARD ACCEPT [0:0]
-A FORWARD -d 198.51.100.66/32 -j DROP
-A FORWARD -m comment --comment "the rest" -j LOG
-A FORWARD -m comment --comment "the rest" -j REJECT --reject-with icmp-host-prohibited
COMMIT
`, []string{"ip filter FORWARD"}},
	{"iptables, IPv6", "ip6tables-nft-restore", "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n", []string{"ip6 filter FORWARD"}},
	{"firewalld 1", "nft", `table inet firewalld {
	chain filter_FORWARD {
		type filter hook forward priority filter + 10; policy accept;
		ct state { established, related } accept
		ct status dnat accept
		iifname "lo" accept
		ct state invalid drop
		ip6 daddr { ::/96, 2002:a00::/24 } reject with icmpv6 addr-unreachable
		jump filter_FORWARD_IN_ZONES
		reject with icmpx admin-prohibited
	}
	chain filter_FORWARD_IN_ZONES {
		iifname "eth0" goto filter_FWD_public
		goto filter_FWD_public
	}
	chain filter_FWD_public {
		jump filter_FWD_public_deny
		jump filter_FWD_public_allow
		reject with icmpx admin-prohibited
	}
	chain filter_FWD_public_deny {
		ip daddr 198.51.100.66 drop
	}
	chain filter_FWD_public_allow {
		oifname "eth1" accept
	}
}
`, []string{"inet firewalld filter_FWD_public"}},
	{"firewalld 2", "nft", `table inet firewalld {
	chain filter_FORWARD {
		type filter hook forward priority filter + 10; policy accept;
		ct state { established, related } accept
		ct status dnat accept
		iifname "lo" accept
		ct state invalid drop
		jump filter_FORWARD_POLICIES
		reject with icmpx admin-prohibited
	}
	chain filter_FORWARD_POLICIES {
		iifname "eth0" oifname "eth0" jump filter_FWD_public
		iifname "eth0" oifname "eth0" reject with icmpx admin-prohibited
		iifname "eth0" jump filter_FWD_public
		iifname "eth0" reject with icmpx admin-prohibited
		oifname "eth0" jump filter_FWD_public
		oifname "eth0" reject with icmpx admin-prohibited
		jump filter_FWD_public
		reject with icmpx admin-prohibited
	}
	chain filter_FWD_public {
		ip daddr 198.51.100.66 drop
	}
}
`, []string{"inet firewalld filter_FORWARD_POLICIES"}},
	{"nft policy", "nft", `table inet filter {
	chain forward {
		type filter hook forward priority filter; policy drop;
		ip daddr 198.51.100.66 drop
		ct state established,related accept
	}
}
`, []string{"inet filter forward"}},
	{"two tables", "nft", `table ip6 a { chain f { type filter hook forward priority -5; policy drop; meta l4proto ipv6-icmp accept; }; }
table ip b { chain f { type filter hook forward priority 5; policy accept; ip daddr 198.51.100.66 drop; goto last; }; chain last { counter drop; }; }
`, []string{"ip6 a f", "ip b last"}},
	{"a goto before the policy", "nft", `table ip b { chain f { type filter hook forward priority 5; policy drop; ip daddr 198.51.100.66 drop; goto most; }; chain most { tcp dport 1 accept; return; }; }
`, []string{"ip b most"}},
	{"nothing cut", "nft", `table inet f {
	chain first { type filter hook forward priority -10; policy drop; accept; }
	chain other { type filter hook forward priority 0; policy accept; ip daddr 198.51.100.66 drop; iifname "eth7" drop; iifname != "saferun0" oifname "eth9" drop; }
	chain last { type filter hook forward priority 10; policy drop; oifname "docker*" drop; goto on; }
	chain on { iifname { "eth7", "lo" } drop; iifname "safe*" accept; oifname "safe*" accept; }
}
`, nil},
}

func ufw(policy, reject string) string {
	return `*filter
:INPUT DROP [0:0]
:FORWARD ` + policy + ` [0:0]
:OUTPUT ACCEPT [0:0]
:ufw-before-forward - [0:0]
:ufw-user-forward - [0:0]
:ufw-after-forward - [0:0]
:ufw-after-logging-forward - [0:0]
:ufw-reject-forward - [0:0]
:ufw-track-forward - [0:0]
-A FORWARD -j ufw-before-forward
-A FORWARD -j ufw-after-forward
-A FORWARD -j ufw-after-logging-forward
-A FORWARD -j ufw-reject-forward
-A FORWARD -j ufw-track-forward
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-forward -p icmp -m icmp --icmp-type 3 -j ACCEPT
-A ufw-before-forward -j ufw-user-forward
-A ufw-user-forward -d 198.51.100.66/32 -j DROP
-A ufw-after-logging-forward -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix "[UFW BLOCK] "
` + reject + `COMMIT
`
}

func TestForeign(t *testing.T) {
	t.Parallel()
	w := newTopology(t)
	a := w.ct["a"]
	w.outside.addr("lo", "198.51.100.66/32")
	w.host.route("198.51.100.0/24", outLAN)
	w.host.route("0.0.0.0/0", outLAN)
	w.host.route("::/0", outLAN6)
	w.outside.serve("outside", "[::]:80")
	a.serve("a", "[::]:80")
	w.publish("a", append(published("0.0.0.0", 8080, a), published("::", 8080, a)...)...)
	list := func() string { return w.host.run("", "nft", "-s", "list", "ruleset") }
	ours := list()

	for _, o := range others {
		t.Run(o.name, func(t *testing.T) {
			argv := []string{o.program}
			if o.program == "nft" {
				argv = append(argv, "-f", "-")
			}
			w.host.run(o.rules, argv...)
			before := list()
			if o.repairs != nil {
				to := outLAN
				if strings.HasPrefix(o.repairs[0], "ip6") {
					to = outLAN6
				}
				if got := a.ask("tcp", at(to, "80")); got != refused && got != dropped {
					t.Fatalf("nothing is cut: %s", got)
				}
			}
			for i := range 2 {
				made, warnings, err := w.table.OpenForward("saferun0")
				if err != nil || len(warnings) > 0 {
					t.Fatalf("%v, %v", warnings, err)
				}
				var got []string
				for _, r := range made {
					got = append(got, r.String())
				}
				if want := o.repairs; i == 0 && !slices.Equal(got, want) || i == 1 && got != nil {
					t.Errorf("%d: repaired %q, want %q:\n%s", i, got, want, list())
				}
			}
			if o.repairs == nil && list() != before {
				t.Errorf("nothing was cut, and there is now:\n%s", list())
			}
			a.both(t, "out", at(outLAN, "80"), "outside "+hostLAN)
			a.both(t, "out", at(outLAN6, "80"), "outside "+hostLAN6)
			w.outside.both(t, "in", at(hostLAN, "8080"), "a "+outLAN)
			w.outside.both(t, "in", at(hostLAN6, "8080"), "a "+outLAN6)
			if got := a.ask("tcp", "198.51.100.66:80"); !strings.Contains(o.name, "IPv6") && got != dropped {
				t.Errorf("what the administrator drops: %q", got)
			}
			if strings.HasPrefix(o.program, "ip") {
				program := strings.TrimSuffix(o.program, "-restore")
				saved := w.host.run("", program+"-save")
				if !strings.Contains(saved, " -i saferun0 -j ACCEPT") || !strings.Contains(saved, " -o saferun0 -j ACCEPT") {
					t.Errorf("%s-save:\n%s", program, saved)
				}
				w.host.run(saved, o.program, "--test")
				w.host.run("", program, "-S", "FORWARD")
			}
			if at, err := w.table.Repairs("saferun0"); err != nil || len(at) != len(o.repairs) {
				t.Errorf("repairs %v, %v", at, err)
			}
			// Another bridge's rules stay.
			if _, _, err := w.table.OpenForward("sr-icc"); err != nil {
				t.Error(err)
			}
			for range 2 {
				if err := w.table.CloseForward("saferun0"); err != nil {
					t.Error(err)
				}
			}
			if o.repairs != nil && !strings.Contains(list(), `iifname "sr-icc"`) {
				t.Error("another bridge's rules are gone")
			}
			if err := w.table.CloseForward("sr-icc"); err != nil {
				t.Error(err)
			}
			if after := list(); after != before {
				t.Errorf("after:\n%s\nbefore:\n%s", strings.TrimPrefix(after, ours), strings.TrimPrefix(before, ours))
			}
			for line := range strings.Lines(before) {
				if f := strings.Fields(line); len(f) == 4 && f[0] == "table" && f[2] != w.table.Name {
					w.host.run("", "nft", "delete", "table", f[1], f[2])
				}
			}
			if after := list(); after != ours {
				t.Fatalf("not cleaned up:\n%s", after)
			}
		})
	}
}

// A table with an owner takes no rules of others.
func TestForeignOwner(t *testing.T) {
	n := newSpace(t)
	c, err := dial(n.fd)
	if err != nil {
		t.Fatal(err)
	}
	defer c.nl.Close()
	const owner = 2 // NFT_TABLE_F_OWNER
	var b batch
	b.add(unix.NFT_MSG_NEWTABLE, netlink.Create, unix.NFPROTO_INET, func(ae *attrs) {
		ae.String(unix.NFTA_TABLE_NAME, "firewalld")
		ae.Uint32(unix.NFTA_TABLE_FLAGS, owner)
	})
	fw := Table{Name: "firewalld"}
	fw.createChain(&b, chain{name: "f", kind: "filter", hook: unix.NF_INET_FORWARD})
	fw.createRule(&b, "f", when().drop())
	if err := c.commit(&b); err != nil {
		t.Fatal(err)
	}
	tb := Table{Name: "safe-run", NetNS: n.fd}
	made, warnings, err := tb.OpenForward("saferun0")
	if err != nil || made != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "inet table firewalld") {
		t.Errorf("%v, %q, %v", made, warnings, err)
	}
	if err := tb.CloseForward("saferun0"); err != nil {
		t.Error(err)
	}
}

func TestForeignLegacy(t *testing.T) {
	t.Parallel()
	w := newTopology(t)
	a := w.ct["a"]
	w.outside.serve("outside", "[::]:80")
	for _, p := range []struct{ program, rules, to, want string }{
		{"iptables-legacy", ufw("DROP", ""), outLAN, "outside " + hostLAN},
		{"iptables-legacy", ufw("DROP", "-A ufw-reject-forward -j REJECT\n"), outLAN, "outside " + hostLAN},
		{"ip6tables-legacy", "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m comment --comment \"a \\\"last\\\" -j ACCEPT\" -j REJECT\nCOMMIT\n", outLAN6, "outside " + hostLAN6},
	} {
		w.host.run(p.rules, p.program+"-restore")
		before := w.host.run("", p.program, "-S")
		if got := a.ask("tcp", at(p.to, "80")); got != dropped && got != refused {
			t.Fatalf("nothing is cut: %q", got)
		}
		for i := range 2 {
			made, warnings, err := w.table.OpenForward("saferun0")
			if err != nil || len(warnings) > 0 || (len(made) > 0) != (i == 0) {
				t.Fatalf("%d: %v, %v, %v", i, made, warnings, err)
			}
			for _, m := range made {
				if m.Family != p.program {
					t.Errorf("repaired %s", m)
				}
			}
		}
		a.both(t, "out", at(p.to, "80"), p.want)
		for range 2 {
			if err := w.table.CloseForward("saferun0"); err != nil {
				t.Error(err)
			}
		}
		if after := w.host.run("", p.program, "-S"); after != before {
			t.Errorf("after:\n%s\nbefore:\n%s", after, before)
		}
		w.host.run("*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\nCOMMIT\n", p.program+"-restore")
	}
}

func FuzzParseLegacy(f *testing.F) {
	f.Add([]byte(ufw("DROP", "")))
	f.Add([]byte("-P FORWARD DROP\n-N a\n-A FORWARD ! -i x+ -o y -m comment --comment \"a b\" -g a\n-A a -j FORWARD\n-A"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		r := parseLegacy(b)
		_, _, _, _ = firstCut([]link{{"a", "b"}}, func(c string) ([]step, error) { return r.chains[c], nil }, "FORWARD", r.drops["FORWARD"])
	})
}

func FuzzParseRule(f *testing.F) {
	var b batch
	Table{Name: "t"}.create(&b)
	for _, m := range b.msgs {
		f.Add(m.Data)
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		p, err := parseRule(netlink.Message{Data: b})
		if err == nil {
			p.opens("saferun0")
			p.certain(link{"a", "b"})
		}
		_, _ = parseElements("s", b)
	})
}
