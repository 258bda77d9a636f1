package network

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestIsolation(t *testing.T) {
	for _, icc := range []bool{false, true} {
		t.Run(map[bool]string{false: "isolated", true: "icc"}[icc], func(t *testing.T) {
			s, d := bridgeNet(t, Options{ICC: icc})
			a, b := newContainer(t, testID(1)), newContainer(t, testID(2))
			must(t, a.join(s, d))
			must(t, b.join(s, d))
			checkPort(t, a.lease[0], icc)
			for _, v4 := range []bool{true, false} {
				var at netip.AddrPort
				b.do(t, func() error { at = serve(t, b.addr(v4)); return nil })
				timeout := wait
				if icc {
					timeout = 3 * time.Second
				}
				err := within(a.ns, func() error { return dial(at, timeout) })
				if (err == nil) != icc {
					t.Errorf("one container connects to %s: %v", at, err)
				}
			}
			// Raw frames to the other's address, to all, and to a group.
			for _, dst := range []string{b.lease[0].MAC.String(), "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "33:33:00:00:00:01", "01:80:c2:00:00:00"} {
				got := b.listen(t)
				to, _ := net.ParseMAC(dst)
				a.send(t, frame(to, a.lease[0].MAC, 0x88b5, []byte("hello")))
				if seen := got(0x88b5); seen != icc {
					t.Errorf("a frame to %s arrives: %v, want %v", dst, seen, icc)
				}
			}
		})
	}
}

// Made-up senders leave nothing in the host's table of neighbours.
func TestForgedARP(t *testing.T) {
	s, d := bridgeNet(t, Options{ICC: true})
	a := newContainer(t, testID(1))
	must(t, a.join(s, d))
	gw, made := d.Gateway(d.V4()).As4(), host(d.V4(), 77).As4()
	arp := []byte{0, 1, 8, 0, 6, 4, 0, 1}
	arp = append(append(arp, a.lease[0].MAC...), made[:]...)
	arp = append(append(arp, make([]byte, 6)...), gw[:]...)
	a.send(t, frame(d.mac(1), a.lease[0].MAC, unix.ETH_P_ARP, arp))
	time.Sleep(50 * time.Millisecond)
	br, err := rt(t).link(d.Bridge)
	must(t, err)
	neighs, err := netlink.NeighList(br.Attrs().Index, netlink.FAMILY_V4)
	must(t, err)
	for _, n := range neighs {
		if n.State != netlink.NUD_PERMANENT {
			t.Errorf("the host has the neighbour %v", n)
		}
	}
}

// frame makes an Ethernet frame.
func frame(dst, src net.HardwareAddr, proto uint16, data []byte) []byte {
	f := append(append([]byte{}, dst...), src...)
	f = binary.BigEndian.AppendUint16(f, proto)
	return append(f, append(data, make([]byte, max(0, 46-len(data)))...)...)
}

// packetSocket opens one on eth0 of the calling thread's namespace.
func packetSocket() (int, error) {
	eth, err := netlink.LinkByName("eth0")
	if err != nil {
		return -1, err
	}
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	if err != nil {
		return -1, err
	}
	return fd, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: eth.Attrs().Index})
}

func (c *container) send(t *testing.T, frames ...[]byte) {
	t.Helper()
	c.do(t, func() error {
		fd, err := packetSocket()
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, f := range frames {
			if _, err := unix.Write(fd, f); err != nil {
				return err
			}
		}
		return nil
	})
}

// listen gives a function that says whether a frame of a protocol came in; of
// the Internet's only those to one receiver count.
func (c *container) listen(t *testing.T) func(proto uint16) bool {
	t.Helper()
	var fd int
	c.do(t, func() (err error) { fd, err = packetSocket(); return err })
	return func(proto uint16) bool {
		defer unix.Close(fd)
		for end := time.Now().Add(100 * time.Millisecond); ; {
			left := int(time.Until(end).Milliseconds())
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, max(left, 0))
			if errors.Is(err, unix.EINTR) {
				continue
			}
			must(t, err)
			if n == 0 {
				return false
			}
			b := make([]byte, 2048)
			n, from, err := unix.Recvfrom(fd, b, 0)
			must(t, err)
			if sa, ok := from.(*unix.SockaddrLinklayer); ok && sa.Pkttype == unix.PACKET_OUTGOING {
				continue
			}
			if n >= 14 && (b[0]&1 == 0 || proto >= 0x8800) && binary.BigEndian.Uint16(b[12:]) == proto {
				return true
			}
		}
	}
}

// arp is an answer (or an announcement) that addr is at mac.
func arp(mac net.HardwareAddr, addr, to netip.Addr) []byte {
	b := []byte{0, 1, 8, 0, 6, 4, 0, 2}
	b = append(append(b, mac...), addr.AsSlice()...)
	return append(append(b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), to.AsSlice()...)
}

// unsolicited is a neighbour advertisement that addr is at mac.
func unsolicited(src, dst netip.Addr, addr netip.Addr, mac net.HardwareAddr) []byte {
	icmp := append([]byte{136, 0, 0, 0, 0x20, 0, 0, 0}, addr.AsSlice()...)
	icmp = append(append(icmp, 2, 1), mac...)
	sum := uint32(len(icmp)) + 58
	for _, part := range [][]byte{src.AsSlice(), dst.AsSlice(), icmp} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(part[i])<<8 | uint32(part[i+1])
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(icmp[2:], ^uint16(sum))
	b := []byte{0x60, 0, 0, 0, 0, byte(len(icmp)), 58, 255}
	return append(append(append(b, src.AsSlice()...), dst.AsSlice()...), icmp...)
}

// One container says in all ways that it is another, or the gateway. The
// traffic between the others and the host goes on, and none comes to it.
func TestSpoofing(t *testing.T) {
	for _, icc := range []bool{false, true} {
		t.Run(map[bool]string{false: "isolated", true: "icc"}[icc], func(t *testing.T) {
			s, d := bridgeNet(t, Options{ICC: icc})
			victim, thief := newContainer(t, testID(1)), newContainer(t, testID(2))
			must(t, victim.join(s, d))
			must(t, thief.join(s, d))
			v, m := victim.lease[0], thief.lease[0]
			gw4, gw6 := d.Gateway(d.V4()), d.Gateway(d.V6())
			v4, v6 := victim.addr(true), victim.addr(false)
			all := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
			bridge := d.mac(1)

			thief.send(t,
				// The victim's hardware address, to move it to this port.
				frame(all, v.MAC, 0x88b5, []byte("me")), frame(bridge, v.MAC, 0x88b5, []byte("me")),
				// The bridge's own.
				frame(all, bridge, 0x88b5, []byte("me")),
				// The victim's address at the thief's, to the host and to all.
				frame(bridge, m.MAC, 0x0806, arp(m.MAC, v4, gw4)), frame(all, m.MAC, 0x0806, arp(m.MAC, v4, v4)),
				frame(bridge, m.MAC, 0x86dd, unsolicited(thief.addr(false), gw6, v6, m.MAC)),
				// The gateway's address at the thief's, to the victim.
				frame(v.MAC, m.MAC, 0x0806, arp(m.MAC, gw4, v4)), frame(all, m.MAC, 0x0806, arp(m.MAC, gw4, gw4)),
				frame(v.MAC, m.MAC, 0x86dd, unsolicited(thief.addr(false), v6, gw6, m.MAC)),
			)
			time.Sleep(50 * time.Millisecond)
			got4, got6 := thief.listen(t), thief.listen(t)
			for _, p := range d.Subnets {
				at := serve(t, d.Gateway(p))
				victim.do(t, func() error { return dial(at, wait) })
				var inside netip.AddrPort
				victim.do(t, func() error { inside = serve(t, victim.addr(p.Addr().Is4())); return nil })
				if err := dial(inside, wait); err != nil {
					t.Errorf("the host does not reach %s: %v", inside, err)
				}
			}
			if got4(0x0800) || got6(0x86dd) {
				t.Error("the thief gets packets of others")
			}
			fdb, err := netlink.NeighList(0, unix.AF_BRIDGE)
			must(t, err)
			port, err := rt(t).link(v.HostInterface)
			must(t, err)
			for _, n := range fdb {
				if n.HardwareAddr.String() == v.MAC.String() && n.LinkIndex != port.Attrs().Index {
					t.Errorf("the victim's hardware address moved: %v", n)
				}
			}
			// A frame from another's hardware address arrives nowhere.
			hears := victim.listen(t)
			thief.send(t, frame(v.MAC, net.HardwareAddr{2, 1, 1, 1, 1, 1}, 0x88b6, []byte("x")))
			if hears(0x88b6) {
				t.Error("a frame from a made-up address arrives")
			}
		})
	}
}
