package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// site is a host with one neighbour on its network, both network namespaces
// of this run: nothing that is measured touches the machine's own network.
type site struct {
	host, peer netns.NsHandle
}

// hostAddress is the host's on the wire to its neighbour (RFC 5737), and
// peerAddress the neighbour's.
const hostAddress, peerAddress = "198.51.100.1", "198.51.100.2"

func newSite() (*site, error) {
	s := &site{host: netns.None(), peer: netns.None()}
	// A thread that was in another namespace is not used again: it stays
	// locked, and ends with its goroutine.
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- s.wire()
	}()
	if err := <-done; err != nil {
		s.close()
		return nil, fmt.Errorf("network namespaces: %w", err)
	}
	return s, nil
}

func (s *site) wire() (err error) {
	if s.peer, err = netns.New(); err != nil {
		return err
	}
	if s.host, err = netns.New(); err != nil {
		return err
	}
	wire := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "uplink", PeerNamespace: netlink.NsFd(int(s.peer))}
	wire.Name = "uplink"
	if err := netlink.LinkAdd(wire); err != nil {
		return err
	}
	if err := setUpHost(hostAddress, peerAddress); err != nil {
		return err
	}
	if err := netns.Set(s.peer); err != nil {
		return err
	}
	return setUpHost(peerAddress, hostAddress)
}

// setUpHost gives the namespace this thread is in an address on the wire and
// a default route, as hosts have.
func setUpHost(address, gateway string) error {
	uplink, err := netlink.LinkByName("uplink")
	if err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(address), Mask: net.CIDRMask(24, 32)}}
	return errors.Join(
		netlink.LinkSetUp(lo), netlink.AddrAdd(uplink, addr), netlink.LinkSetUp(uplink),
		netlink.RouteAdd(&netlink.Route{LinkIndex: uplink.Attrs().Index, Gw: net.ParseIP(gateway)}),
		// Clients that open thousands of connections in a second must not run out of ports.
		os.WriteFile("/proc/sys/net/ipv4/tcp_tw_reuse", []byte("1"), 0),
	)
}

func (s *site) close() {
	if s == nil {
		return
	}
	for _, ns := range []netns.NsHandle{s.host, s.peer} {
		if ns.IsOpen() {
			_ = ns.Close()
		}
	}
}

// startIn starts a command in a network namespace, nil for that of this
// process.
func startIn(ns *netns.NsHandle, cmd *exec.Cmd) error {
	if ns == nil {
		return cmd.Start()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := netns.Set(*ns)
		if err == nil {
			err = cmd.Start()
		}
		done <- err
	}()
	return <-done
}
