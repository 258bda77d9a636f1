package main

import (
	"net"
	"time"
)

// echoUDP sends datagrams back to where they come from, until an error.
func echoUDP(address string) error {
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	b := make([]byte, 65536)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return err
		}
		if _, err := c.WriteTo(b[:n], from); err != nil {
			return err
		}
	}
}

// askUDP sends a datagram from a fixed port and says whether it comes back.
func askUDP(from, to string) string {
	addr, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		return err.Error()
	}
	c, err := net.ListenPacket("udp", from)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = c.Close() }()
	b := make([]byte, 64)
	for range 5 {
		_, _ = c.WriteTo([]byte("ping"), addr)
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if n, _, err := c.ReadFrom(b); err == nil && string(b[:n]) == "ping" {
			return "answered"
		}
	}
	return "no answer"
}
