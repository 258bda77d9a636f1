package ports

import (
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

func TestHolder(t *testing.T) {
	for _, c := range []struct {
		at, comm string
		asked    spec.Publish
		name     func(int) string
		want     string // %d is the pid
	}{
		{"127.0.0.1:8080", "nginx", publish(netip.Addr{}, 8080, 8080, 80, 80, "tcp"), nil, "port 8080/tcp at 0.0.0.0 is in use by nginx (pid %d)"},
		{"0.0.0.0:8080", "nginx", publish(lo4, 8080, 8080, 80, 80, "tcp"), nil, "port 8080/tcp at 127.0.0.1 is in use by nginx (pid %d)"},
		{"[::1]:8080", "nginx", publish(lo6, 8080, 8080, 80, 80, "tcp"), nil, "port 8080/tcp at ::1 is in use by nginx (pid %d)"},
		{":8080", "both", publish(lo4, 8080, 8080, 80, 80, "tcp"), nil, "port 8080/tcp at 127.0.0.1 is in use by both (pid %d)"},
		{":8080", "evil\x1b[2J\nroot", publish(any4, 8080, 8080, 80, 80, "tcp"), nil, `port 8080/tcp at 0.0.0.0 is in use by "evil\x1b[2J\nroot" (pid %d)`},
		{":8080", "safe-run", publish(any4, 8080, 8080, 80, 80, "tcp"), func(int) string { return "container web" }, "port 8080/tcp at 0.0.0.0 is in use by container web (pid %d)"},
		{":8080", "other", publish(any4, 8080, 8080, 80, 80, "tcp"), func(int) string { return "" }, "port 8080/tcp at 0.0.0.0 is in use by other (pid %d)"},
	} {
		t.Run(c.at+" "+printable(c.comm), func(t *testing.T) {
			pid := listener(t, c.at, c.comm)
			_, err := Open([]spec.Publish{publish(lo4, 7, 7, 7, 7, "tcp"), c.asked}, Options{HolderName: c.name})
			want := strings.ReplaceAll(c.want, "%d", fmt.Sprint(pid))
			if fail.KindOf(err) != fail.Conflict || fmt.Sprint(err) != want {
				t.Errorf("%v\nwant %s", err, want)
			}
			open1(t, Options{}, publish(lo4, 7, 7, 7, 7, "tcp")).Close()
		})
	}
}

func TestTwoHeld(t *testing.T) {
	for _, proto := range []string{"tcp", "udp"} {
		asked := publish(netip.Addr{}, 9100, 9110, 80, 90, proto)
		open1(t, Options{}, asked)
		asked.HostFirst, asked.Ports.First = 9105, 85
		_, err := Open([]spec.Publish{publish(lo4, 7, 7, 7, 7, "tcp"), asked}, Options{})
		prefix, suffix := fmt.Sprintf("port 9105/%s at 0.0.0.0 is in use by ", proto), fmt.Sprintf(" (pid %d)", os.Getpid())
		if msg := fmt.Sprint(err); fail.KindOf(err) != fail.Conflict || !strings.HasPrefix(msg, prefix) || !strings.HasSuffix(msg, suffix) {
			t.Errorf("%s", msg)
		}
		open1(t, Options{}, publish(lo4, 7, 7, 7, 7, "tcp")).Close()
	}
}

func TestSocketTable(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0000000000000000 100 0 0 10 0
   1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 7 1 0
  12: 0100007F:1F90 0100007F:A000 06 00000000:00000000 03:000017DB 00000000     0        0 0 3 0000000000000000
junk
   3: 0100007F1:1F90 x 0A 0 0 0 0 0 0 1
`
	var got []entry
	forSockets(strings.NewReader(table), func(e entry) { got = append(got, e) })
	want := []entry{
		{netip.MustParseAddrPort("127.0.0.1:8080"), true, 4242},
		{netip.MustParseAddrPort("[::1]:80"), false, 7},
		{netip.MustParseAddrPort("127.0.0.1:8080"), false, 0},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
}

func FuzzSocketTable(f *testing.F) {
	f.Add("   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242")
	f.Add("1: 00000000000000000000000001000000:0050 x 01 x x x x x 7")
	f.Fuzz(func(t *testing.T, line string) {
		if e, ok := parseSocket(line); ok && !e.local.IsValid() {
			t.Errorf("%q is %v", line, e)
		}
	})
}

func FuzzPrintable(f *testing.F) {
	f.Add("nginx")
	f.Add("\x1b]0;\a\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		for _, c := range []byte(printable(s)) {
			if c < ' ' || c > '~' {
				t.Errorf("%q is %q", s, printable(s))
			}
		}
	})
}
