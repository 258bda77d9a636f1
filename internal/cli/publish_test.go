package cli

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

func TestPublish(t *testing.T) {
	tcp := func(first, last uint16) spec.PortRange { return spec.PortRange{First: first, Last: last, Proto: "tcp"} }
	ip := netip.MustParseAddr
	for in, want := range map[string]spec.Publish{
		"80":                                     {Ports: tcp(80, 80)},
		":80":                                    {Ports: tcp(80, 80)},
		"80/":                                    {Ports: tcp(80, 80)},
		"0:80":                                   {Ports: tcp(80, 80)},
		"8080:80":                                {HostFirst: 8080, HostLast: 8080, Ports: tcp(80, 80)},
		"8080:80/UDP":                            {HostFirst: 8080, HostLast: 8080, Ports: spec.PortRange{First: 80, Last: 80, Proto: "udp"}},
		"80/sctp":                                {Ports: spec.PortRange{First: 80, Last: 80, Proto: "sctp"}},
		"80-82":                                  {Ports: tcp(80, 82)},
		"8080-8082:80-82":                        {HostFirst: 8080, HostLast: 8082, Ports: tcp(80, 82)},
		"8080-8090:80":                           {HostFirst: 8080, HostLast: 8090, Ports: tcp(80, 80)},
		"127.0.0.1:8080:80":                      {HostIP: ip("127.0.0.1"), HostFirst: 8080, HostLast: 8080, Ports: tcp(80, 80)},
		"127.0.0.1::80":                          {HostIP: ip("127.0.0.1"), Ports: tcp(80, 80)},
		"[127.0.0.1]:1:2":                        {HostIP: ip("127.0.0.1"), HostFirst: 1, HostLast: 1, Ports: tcp(2, 2)},
		"0.0.0.0:8080:80":                        {HostIP: ip("0.0.0.0"), HostFirst: 8080, HostLast: 8080, Ports: tcp(80, 80)},
		"[::]:8080:80":                           {HostIP: ip("::"), HostFirst: 8080, HostLast: 8080, Ports: tcp(80, 80)},
		"[::1]::80-82/tcp":                       {HostIP: ip("::1"), Ports: tcp(80, 82)},
		"[::ffff:127.0.0.1]:1:2":                 {HostIP: ip("127.0.0.1"), HostFirst: 1, HostLast: 1, Ports: tcp(2, 2)},
		"1-65535:1-65535":                        {HostFirst: 1, HostLast: 65535, Ports: tcp(1, 65535)},
		"published=8080,target=80":               {HostFirst: 8080, HostLast: 8080, Ports: tcp(80, 80)},
		"target=80,published=8080,protocol=udp":  {HostFirst: 8080, HostLast: 8080, Ports: spec.PortRange{First: 80, Last: 80, Proto: "udp"}},
		"target=80":                              {Ports: tcp(80, 80)},
		"published=8080-8081,target=80-81":       {HostFirst: 8080, HostLast: 8081, Ports: tcp(80, 81)},
		"published=8080,target=80,published=81":  {HostFirst: 81, HostLast: 81, Ports: tcp(80, 80)},
		"published=8080,target=80,protocol=SCTP": {HostFirst: 8080, HostLast: 8080, Ports: spec.PortRange{First: 80, Last: 80, Proto: "sctp"}},
	} {
		w := mustParse(t, "-p", in, "img").Workload
		if len(w.Publish) != 1 || w.Publish[0] != want {
			t.Errorf("%s: %+v, want %+v", in, w.Publish, want)
		}
	}
}

func TestPublishErrors(t *testing.T) {
	for in, text := range map[string]string{
		"":                             "no port specified: <empty>",
		"80:":                          "no port specified: 80:<empty>",
		"80:/udp":                      "no port specified",
		"1-2:1-3":                      "invalid ranges specified for container and host Ports: 1-3 and 1-2",
		"0:80-82":                      "invalid ranges specified",
		"80:0":                         "invalid containerPort: 0",
		"0":                            "invalid containerPort: 0",
		"80:0-5":                       "invalid containerPort: 0-5",
		"80:9-8":                       "invalid containerPort: 9-8",
		"80:1-2-3":                     "invalid containerPort: 1-2-3",
		"65536":                        "invalid containerPort: 65536",
		"http":                         "invalid containerPort: http",
		"+80":                          "invalid containerPort: +80",
		"-80":                          "invalid containerPort: -80",
		"80 ":                          "invalid containerPort: 80 ",
		"65536:80":                     "invalid hostPort: 65536",
		"0-5:80":                       "invalid hostPort: 0-5",
		"9-8:80":                       "invalid hostPort: 9-8",
		"80/icmp":                      "invalid proto: icmp",
		"80/tcp/udp":                   "invalid proto: tcp/udp",
		"a:80:80":                      "invalid IP address: a",
		"localhost:80:80":              "invalid IP address: localhost",
		"127.1:80:80":                  "invalid IP address: 127.1",
		"127.0.0.01:80:80":             "invalid IP address",
		"[]:80:80":                     "invalid IP address",
		"[::1:80:80":                   "invalid IP address",
		"fd00::1:80:80":                "stands in brackets",
		"::1:80:80":                    "stands in brackets",
		"[fe80::1%eth0]:80:80":         "invalid IP address",
		"224.0.0.1:80:80":              "invalid IP address",
		"::":                           "no port specified",
		"published=80,target":          "should be name=value but got 'target'",
		"published=80":                 "no port specified",
		"published=80,target=80,mode=": "its keys are",
		"published=1:2,target=80":      "its keys are",
		"127.0.0.1:target=80":          "its keys are",
		"80\n":                         "control character",
	} {
		wantError(t, fail.Usage, text, "--publish="+in, "img")
	}
}

func FuzzPublish(f *testing.F) {
	for _, s := range []string{"80", "8080:80/udp", "127.0.0.1::80-82", "[::1]:1-3:4-6", "published=1,target=2,protocol=sctp", "::", "[::ffff:1.2.3.4]:0:1", "1-9:1", "[:]:1:1", "a=b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		checkParse(t, []string{"-p", s, "img"})
		if p, err := parsePublish(s); err == nil && strings.ContainsAny(p.Ports.Proto, "/:") {
			t.Fatalf("%q: %+v", s, p)
		}
	})
}
