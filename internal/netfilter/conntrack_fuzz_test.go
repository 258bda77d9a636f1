package netfilter

import (
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// FuzzTracked: an entry of the connection table that is taken can be named to
// the kernel as that one and no other.
func FuzzTracked(f *testing.F) {
	m, err := trackMessage(ctDelete, 0, unix.AF_INET, func(ae *attrs) {
		for _, side := range []uint16{ctaTupleOrig, ctaTupleReply} {
			ae.Nested(side, func(ae *attrs) error {
				ae.Nested(ctaTupleIP, func(ae *attrs) error {
					ae.Bytes(ctaSrc4, []byte{10, 0, 0, 1})
					return nil
				})
				return nil
			})
		}
		ae.Bytes(ctaID, []byte{1, 2, 3, 4})
		ae.Bytes(ctaZone, []byte{0, 1})
	})
	if err != nil {
		f.Fatal(err)
	}
	if e, err := parseTracked(m); err != nil || e.source.String() != "10.0.0.1" {
		f.Fatal(e, err)
	}
	f.Add(m.Data)
	f.Add(m.Data[:4])
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseTracked(netlink.Message{Data: b})
		if err == nil && (len(e.orig) == 0 || len(e.id) != 4 || !e.source.IsValid() || e.family != b[0]) {
			t.Fatalf("%+v", e)
		}
	})
}
