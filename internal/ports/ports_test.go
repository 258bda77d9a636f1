package ports

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

func publish(host netip.Addr, first, last, inFirst, inLast uint16, proto string) spec.Publish {
	return spec.Publish{HostIP: host, HostFirst: first, HostLast: last, Ports: spec.PortRange{First: inFirst, Last: inLast, Proto: proto}}
}

func open1(t testing.TB, o Options, asked ...spec.Publish) *Held {
	t.Helper()
	h, err := Open(asked, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func TestForms(t *testing.T) {
	none := netip.Addr{}
	for _, c := range []struct {
		name  string
		asked []spec.Publish
		o     Options
		want  []Mapping
	}{
		{"all addresses", []spec.Publish{publish(none, 8080, 8080, 80, 80, "tcp")}, Options{}, []Mapping{{any4, 8080, 80, "tcp"}, {any6, 8080, 80, "tcp"}}},
		{"all of IPv4", []spec.Publish{publish(any4, 8080, 8080, 80, 80, "tcp")}, Options{}, []Mapping{{any4, 8080, 80, "tcp"}}},
		{"all of IPv6", []spec.Publish{publish(any6, 8080, 8080, 80, 80, "tcp")}, Options{}, []Mapping{{any6, 8080, 80, "tcp"}}},
		{"an address", []spec.Publish{publish(lo4, 8080, 8080, 80, 80, "udp")}, Options{}, []Mapping{{lo4, 8080, 80, "udp"}}},
		{"an address of IPv6", []spec.Publish{publish(lo6, 8080, 8080, 80, 80, "tcp")}, Options{}, []Mapping{{lo6, 8080, 80, "tcp"}}},
		{"IPv4 in IPv6's spelling", []spec.Publish{publish(netip.MustParseAddr("::ffff:127.0.0.1"), 8080, 8080, 80, 80, "tcp")}, Options{}, []Mapping{{lo4, 8080, 80, "tcp"}}},
		{"the site's address", []spec.Publish{publish(none, 8080, 8080, 80, 80, "tcp"), publish(lo6, 8081, 8081, 81, 81, "tcp")}, Options{DefaultAddr: lo4}, []Mapping{{lo4, 8080, 80, "tcp"}, {lo6, 8081, 81, "tcp"}}},
		{"ranges pair up", []spec.Publish{publish(lo4, 8080, 8082, 80, 82, "tcp")}, Options{}, []Mapping{{lo4, 8080, 80, "tcp"}, {lo4, 8081, 81, "tcp"}, {lo4, 8082, 82, "tcp"}}},
		{"a pool", []spec.Publish{publish(lo4, 8080, 8089, 80, 80, "tcp")}, Options{}, []Mapping{{lo4, 8080, 80, "tcp"}}},
		{"a pool beside a port that is given", []spec.Publish{publish(lo4, 8080, 8089, 80, 80, "tcp"), publish(lo4, 8080, 8080, 81, 81, "tcp")}, Options{}, []Mapping{{lo4, 8081, 80, "tcp"}, {lo4, 8080, 81, "tcp"}}},
		{"one port at two", []spec.Publish{publish(lo4, 8080, 8080, 80, 80, "tcp"), publish(lo4, 8081, 8081, 80, 80, "tcp")}, Options{}, []Mapping{{lo4, 8080, 80, "tcp"}, {lo4, 8081, 80, "tcp"}}},
		{"protocols do not meet", []spec.Publish{publish(lo4, 53, 53, 53, 53, "tcp"), publish(lo4, 53, 53, 53, 53, "udp")}, Options{}, []Mapping{{lo4, 53, 53, "tcp"}, {lo4, 53, 53, "udp"}}},
		{"families do not meet", []spec.Publish{publish(any4, 80, 80, 80, 80, "tcp"), publish(any6, 80, 80, 80, 80, "tcp")}, Options{}, []Mapping{{any4, 80, 80, "tcp"}, {any6, 80, 80, "tcp"}}},
		{"the last port", []spec.Publish{publish(lo4, 65534, 65535, 65534, 65535, "udp")}, Options{}, []Mapping{{lo4, 65534, 65534, "udp"}, {lo4, 65535, 65535, "udp"}}},
		{"a pool at the end", []spec.Publish{publish(lo4, 65535, 65535, 1, 1, "udp")}, Options{}, []Mapping{{lo4, 65535, 1, "udp"}}},
		{"nothing", nil, Options{}, []Mapping{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := open1(t, c.o, c.asked...)
			got := h.Mappings()
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v\nwant %v", got, c.want)
			}
			b, _ := json.Marshal(got)
			var back []Mapping
			if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, got) {
				t.Errorf("%s is %v, %v", b, back, err)
			}
			h.Close()
			h.Close()
			open1(t, c.o, c.asked...).Close() // nothing stayed bound
		})
	}
}

func TestRandomPorts(t *testing.T) {
	h := open1(t, Options{}, publish(netip.Addr{}, 0, 0, 80, 89, "tcp"), publish(netip.Addr{}, 0, 0, 80, 89, "udp"))
	var low, high int
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Sscan(string(b), &low, &high)
	m := h.Mappings()
	if len(m) != 40 {
		t.Fatalf("%d mappings", len(m))
	}
	for i := 0; i < len(m); i += 2 {
		a, b := m[i], m[i+1]
		if a.Host != any4 || b.Host != any6 || a.HostPort != b.HostPort || a.Port != b.Port || a.Port != 80+uint16(i/2%10) {
			t.Errorf("%v %v", a, b)
		}
		if p := int(a.HostPort); p < low || p > high {
			t.Errorf("port %d is not in %d-%d", p, low, high)
		}
	}
}

// A random port has to be free in both families.
func TestRandomPortTakenInOneFamily(t *testing.T) {
	old, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		t.Fatal(err)
	}
	set := func(s string) {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte(s), 0); err != nil {
			t.Fatal(err)
		}
	}
	set("40000 40003")
	defer set(string(old))
	open1(t, Options{}, publish(any6, 40000, 40002, 1, 3, "udp"))
	if m := open1(t, Options{}, publish(netip.Addr{}, 0, 0, 80, 80, "udp")).Mappings(); m[0].HostPort != 40003 {
		t.Errorf("%v", m)
	}
	_, err = Open([]spec.Publish{publish(netip.Addr{}, 0, 0, 80, 80, "udp")}, Options{})
	if fail.KindOf(err) != fail.Conflict {
		t.Errorf("none is free: %v", err)
	}
	_, err = Open([]spec.Publish{publish(lo6, 0, 0, 80, 80, "udp")}, Options{})
	if fail.KindOf(err) != fail.Conflict {
		t.Errorf("none is free: %v", err)
	}
}

func TestErrors(t *testing.T) {
	none := netip.Addr{}
	for _, c := range []struct {
		name  string
		asked []spec.Publish
		kind  fail.Kind
		say   string
	}{
		{"twice", []spec.Publish{publish(none, 80, 80, 80, 80, "tcp"), publish(none, 80, 80, 81, 81, "tcp")}, fail.Usage, "port 80/tcp at 0.0.0.0 is published twice"},
		{"all and one", []spec.Publish{publish(lo4, 80, 80, 80, 80, "tcp"), publish(none, 79, 81, 1, 3, "tcp")}, fail.Usage, "published twice, the other time at 127.0.0.1"},
		{"all and one of IPv6", []spec.Publish{publish(any6, 80, 80, 80, 80, "udp"), publish(lo6, 80, 80, 80, 80, "udp")}, fail.Usage, "published twice"},
		{"the site's and one", []spec.Publish{publish(none, 80, 80, 80, 80, "tcp"), publish(any4, 80, 80, 80, 80, "tcp")}, fail.Usage, "published twice"},
		{"not of this host", []spec.Publish{publish(netip.MustParseAddr("192.0.2.1"), 80, 80, 80, 80, "tcp")}, fail.Usage, "192.0.2.1 is not an address of this host"},
		{"not of this host, IPv6", []spec.Publish{publish(netip.MustParseAddr("2001:db8::1"), 80, 80, 80, 80, "udp")}, fail.Usage, "2001:db8::1 is not an address of this host"},
		{"multicast", []spec.Publish{publish(netip.MustParseAddr("224.0.0.1"), 80, 80, 80, 80, "udp")}, fail.Usage, "cannot be published"},
		{"link-local", []spec.Publish{publish(netip.MustParseAddr("fe80::1"), 80, 80, 80, 80, "udp")}, fail.Usage, "cannot be published"},
		{"ranges", []spec.Publish{publish(lo4, 80, 82, 80, 81, "tcp")}, fail.Usage, "do not pair up"},
		{"port 0", []spec.Publish{publish(lo4, 80, 80, 0, 0, "tcp")}, fail.Usage, "do not pair up"},
		{"backwards", []spec.Publish{publish(lo4, 82, 80, 80, 80, "tcp")}, fail.Usage, "do not pair up"},
		{"too many", []spec.Publish{publish(lo4, 0, 0, 1, 10000, "tcp"), publish(lo4, 0, 0, 1, 10000, "udp")}, fail.Usage, "more than 16384"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, err := Open(append([]spec.Publish{publish(lo4, 7, 7, 7, 7, "tcp")}, c.asked...), Options{DefaultAddr: defaultOf(c.name)})
			if h != nil || fail.KindOf(err) != c.kind || !strings.Contains(fmt.Sprint(err), c.say) {
				t.Errorf("%v", err)
			}
			open1(t, Options{}, publish(lo4, 7, 7, 7, 7, "tcp")).Close()
		})
	}
}

func defaultOf(name string) netip.Addr {
	if name == "the site's and one" {
		return lo4
	}
	return netip.Addr{}
}

func TestWithoutIPv6(t *testing.T) {
	const file = "/proc/sys/net/ipv6/conf/all/disable_ipv6"
	if err := os.WriteFile(file, []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.WriteFile(file, []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
	}()
	h := open1(t, Options{}, publish(netip.Addr{}, 80, 80, 80, 80, "tcp"))
	if m := h.Mappings(); !reflect.DeepEqual(m, []Mapping{{any4, 80, 80, "tcp"}}) {
		t.Errorf("%v", m)
	}
}

func TestPool(t *testing.T) {
	pool := publish(lo4, 9000, 9002, 80, 80, "tcp")
	for want := uint16(9000); want < 9003; want++ {
		if m := open1(t, Options{}, pool).Mappings(); m[0].HostPort != want {
			t.Errorf("%v, want %d", m, want)
		}
	}
	_, err := Open([]spec.Publish{pool}, Options{})
	if fail.KindOf(err) != fail.Conflict || !strings.HasPrefix(fmt.Sprint(err), "no port of 9000-9002/tcp at 127.0.0.1 is free: 9000 is in use by ") {
		t.Errorf("%v", err)
	}
}

func TestSCTP(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP)
	asked := []spec.Publish{publish(lo4, 7, 7, 7, 7, "tcp"), publish(lo4, 5000, 5000, 5000, 5000, "sctp")}
	if err != nil {
		if _, err := Open(asked, Options{}); fail.KindOf(err) != fail.HostCannot || !strings.Contains(fmt.Sprint(err), "this kernel has no sctp") {
			t.Errorf("%v", err)
		}
		open1(t, Options{}, asked[0])
		return
	}
	unix.Close(fd)
	open1(t, Options{}, asked...)
	if _, err := Open(asked[1:], Options{}); fail.KindOf(err) != fail.Conflict {
		t.Errorf("%v", err)
	}
}

// Connections that ended here a moment ago do not keep a port.
func TestTimeWait(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:6000")
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", "127.0.0.1:6000")
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s.Close() // first: the state is this end's
	l.Close()
	_, _ = c.Read(make([]byte, 1))
	c.Close()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		table, err := os.ReadFile("/proc/thread-self/net/tcp")
		if err != nil || time.Now().After(end) {
			t.Fatalf("no connection in TIME_WAIT: %v\n%s", err, table)
		}
		if strings.Contains(string(table), ":1770 0100007F:") && strings.Contains(string(table), " 06 ") {
			break
		}
	}
	open1(t, Options{}, publish(lo4, 6000, 6000, 80, 80, "tcp"))
}

func Test500Ports(t *testing.T) {
	begin := time.Now()
	h := open1(t, Options{}, publish(netip.Addr{}, 20000, 20499, 20000, 20499, "tcp"))
	took := time.Since(begin)
	t.Logf("500 ports, %d sockets: %v", len(h.Mappings()), took)
	begin = time.Now()
	h.Close()
	t.Logf("closed: %v", time.Since(begin))
	if took > time.Second {
		t.Errorf("500 ports took %v", took)
	}
}
