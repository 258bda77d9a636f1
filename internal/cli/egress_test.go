package cli

import (
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

func TestEgress(t *testing.T) {
	rule := func(host string, first, last uint16, proto string) spec.EgressRule {
		r := spec.EgressRule{Ports: spec.PortRange{First: first, Last: last, Proto: proto}}
		if p, err := netip.ParsePrefix(host); err == nil {
			r.Prefix = p
		} else {
			r.Name = host
		}
		return r
	}
	for _, c := range []struct {
		args string
		want spec.Egress
	}{
		{"", spec.Egress{}},
		{"--egress all", spec.Egress{}},
		{"--egress all --egress=all", spec.Egress{}},
		{"--egress none --egress none", spec.Egress{Mode: spec.EgressNone}},
		{"--egress example.com:443", spec.Egress{Mode: spec.EgressList, Allow: []spec.EgressRule{rule("example.com", 443, 443, "tcp")}}},
		{"--egress EXAMPLE.com.:443,example.com:443/TCP --egress example.com:443", spec.Egress{Mode: spec.EgressList, Allow: []spec.EgressRule{rule("example.com", 443, 443, "tcp")}}},
		{"--egress db:5432 --egress 192.0.2.1:53/udp,10.0.0.0/8:1-100/sctp", spec.Egress{Mode: spec.EgressList, Allow: []spec.EgressRule{
			rule("db", 5432, 5432, "tcp"), rule("192.0.2.1/32", 53, 53, "udp"), rule("10.0.0.0/8", 1, 100, "sctp"),
		}}},
		{"--egress [2001:DB8::1]:443,[2001:db8::/32]:*/udp,[::ffff:192.0.2.1]:1,0.0.0.0/0:*", spec.Egress{Mode: spec.EgressList, Allow: []spec.EgressRule{
			rule("2001:db8::1/128", 443, 443, "tcp"), rule("2001:db8::/32", 1, 65535, "udp"), rule("192.0.2.1/32", 1, 1, "tcp"), rule("0.0.0.0/0", 1, 65535, "tcp"),
		}}},
		{"--egress xn--bcher-kva.example:80,1password.com:443,3com:1", spec.Egress{Mode: spec.EgressList, Allow: []spec.EgressRule{
			rule("xn--bcher-kva.example", 80, 80, "tcp"), rule("1password.com", 443, 443, "tcp"), rule("3com", 1, 1, "tcp"),
		}}},
	} {
		args := append(strings.Fields(c.args), "img")
		if w := mustParse(t, args...).Workload; !reflect.DeepEqual(w.Egress, c.want) {
			t.Errorf("%s: %+v, want %+v", c.args, w.Egress, c.want)
		}
	}
}

func TestEgressErrors(t *testing.T) {
	many := make([]string, maxEgress+1)
	for i := range many {
		many[i] = "h" + strconv.Itoa(i) + ":1"
	}
	for in, text := range map[string]string{
		"":                                 "empty",
		",":                                "empty",
		"a:80,":                            "empty",
		"example.com":                      "it has no port",
		"[::1]":                            "it has no port",
		"[2001:db8::1]443":                 "it has no port",
		"192.0.2.1":                        "it has no port",
		":80":                              "it has no host",
		"none,a:80":                        "stand alone",
		"ALL":                              "it has no port",
		"a:0":                              "a port is a number",
		"a:65536":                          "a port is a number",
		"a:9-8":                            "a port is a number",
		"a:":                               "a port is a number",
		"a:http":                           "a port is a number",
		"a:**":                             "a port is a number",
		"a:80/icmp":                        "tcp, udp or sctp",
		"a:80/":                            "tcp, udp or sctp",
		"2001:db8::1:443":                  "stands in brackets",
		"2001:db8::/32:443":                "stands in brackets",
		"[192.0.2.1]:80":                   "not an address",
		"[a]:80":                           "not an address",
		"[]:80":                            "it has no host",
		"[fe80::1%eth0]:80":                "not an address",
		"192.0.2.1/33:80":                  "not a range",
		"192.0.2.0/a:80":                   "not a range",
		"a/24:80":                          "not a range",
		"[2001:db8::/129]:80":              "not a range",
		"[::ffff:10.0.0.0/104]:80":         "not a range",
		"192.0.2.1/24:80":                  "192.0.2.1/24 is an address within the range 192.0.2.0/24",
		"[2001:db8::1/32]:80":              "an address within the range",
		"0.0.0.0:80":                       "all addresses are 0.0.0.0/0",
		"[::]:80":                          "all addresses are ::/0",
		"127.0.0.1:80":                     "loopback",
		"[::1]:80":                         "loopback",
		"localhost:80":                     "localhost is the container",
		"x.LOCALHOST.:80":                  "localhost is the container",
		"224.0.0.1:80":                     "multicast",
		"[ff02::1]:80":                     "multicast",
		"*.example.com:443":                "wildcards",
		"*:443":                            "wildcards",
		"bücher.example:80":                "xn--",
		"a_b.example:80":                   "not a host name",
		"-a:80":                            "not a host name",
		"a..b:80":                          "not a host name",
		".:80":                             "not a host name",
		"a b:80":                           "not a host name",
		"http://a:80":                      "stands in brackets",
		"127.1:80":                         "last label",
		"192.0.2.256:80":                   "last label",
		"010.0.0.1:80":                     "last label",
		"a.0x:80":                          "last label", // a zero to inet_aton(3)
		"0x7f000001:80":                    "last label",
		"2130706433:80":                    "last label",
		"a\nb:80":                          "control character",
		strings.Repeat("a.", 130) + "a:80": "more than 253",
		strings.Repeat("a", 64) + ":80":    "not a host name",
		strings.Join(many, ","):            "more than 4096",
	} {
		wantError(t, fail.Usage, text, "--egress="+in, "img")
	}
	for _, args := range [][]string{
		{"--egress=none", "--egress=all"}, {"--egress=all", "--egress=none"}, {"--egress=a:1", "--egress=none"}, {"--egress=all", "--egress=a:1"},
	} {
		wantError(t, fail.Usage, "exclude each other", append(args, "img")...)
	}
}

// TestEgressIsShown: in the help, the manual and the completion.
func TestEgressIsShown(t *testing.T) {
	words, _ := Complete(nil, "--eg", nil)
	if len(words) != 1 || !strings.HasPrefix(words[0], "--egress\t") {
		t.Errorf("%q", words)
	}
	if !slices.ContainsFunc(Own(), func(f Flag) bool { return f.Long == "egress" && f.Group == groupOurs && f.Repeatable }) {
		t.Error("--egress is not one of our own flags")
	}
}

func FuzzEgress(f *testing.F) {
	for _, s := range []string{"none", "all", "example.com:443", "10.0.0.0/8:*", "[2001:db8::/32]:1-2/udp,a:1", "[::ffff:1.2.3.4]:1", "[", "[:1", "]:", "[]:", "a:*/", ":"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { checkParse(t, []string{"--egress", s, "img"}) })
}
