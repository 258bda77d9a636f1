package network

import (
	"reflect"
	"strings"
	"testing"
)

// FuzzMember: what is kept about a container of a network is an error that can
// be printed, or written the same again, with names a resolver can serve.
func FuzzMember(f *testing.F) {
	f.Add("2 10.0.0.2,fd00::2\nweb\ndb.local\n")
	f.Add("18446744073709551615 ::ffff:10.0.0.2\n\na_b-c")
	f.Add("1 fe80::1%eth0\n-a")
	f.Add("01 1.2.3.4\n" + strings.Repeat("a\n", 300))
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parseMember(text)
		if err != nil {
			if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) || len(err.Error()) > 1000 {
				t.Fatalf("not fit to print: %q", err)
			}
			return
		}
		if len(m.addrs) == 0 || len(m.names) > maxNames {
			t.Fatalf("%+v", m)
		}
		for _, n := range m.names {
			if strings.ContainsFunc(n, func(r rune) bool { return r <= ' ' || r > '~' || r >= 'A' && r <= 'Z' }) || len(n) > 253 {
				t.Fatalf("name %q", n)
			}
		}
		if again, err := parseMember(strings.Join(append([]string{m.line()}, m.names...), "\n")); err != nil || !reflect.DeepEqual(m, again) {
			t.Fatalf("%+v is read as %+v, %v", m, again, err)
		}
	})
}
