package resolver

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// Table is the name of the nftables table in a container's network namespace.
const Table = "safe-run-dns"

// Listen opens a Server's sockets inside a network namespace, whose loopback
// interface has to be up, and redirects port 53 of 127.0.0.11 to them. They
// have ports of the kernel's choice on 127.0.0.1, so port 53 of all addresses
// stays the container's. What an earlier Listen left in the namespace is
// replaced.
func Listen(nsfd int) (net.PacketConn, net.Listener, error) {
	udpFile, tcpFile, err := openIn(nsfd)
	if err != nil {
		return nil, nil, fail.Wrap(fail.HostCannot, err, "the container's name server")
	}
	// The net package works on duplicates.
	defer udpFile.Close()
	defer tcpFile.Close()
	udp, err := net.FilePacketConn(udpFile)
	if err != nil {
		return nil, nil, fail.Wrap(fail.Internal, err, "the container's name server")
	}
	tcp, err := net.FileListener(tcpFile)
	if err != nil {
		udp.Close()
		return nil, nil, fail.Wrap(fail.Internal, err, "the container's name server")
	}
	if err := redirect(nsfd, port(udp.LocalAddr()), port(tcp.Addr())); err != nil {
		udp.Close()
		tcp.Close()
		return nil, nil, fail.Wrap(fail.HostCannot, err, "the container's name server: table %s in its network namespace", Table)
	}
	return udp, tcp, nil
}

// openIn makes the sockets on a thread that visits the namespace. It makes
// them by system calls: what the net package learns about a host's addresses
// when it first opens a socket, it must not learn there.
func openIn(nsfd int) (udp, tcp *os.File, err error) {
	type result struct {
		udp, tcp *os.File
		err      error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread()
		var r result
		back := visit(nsfd, func() { r.udp, r.tcp, r.err = sockets() }, &r.err)
		// A thread that did not come back must run nothing else: it ends with
		// this goroutine.
		if back {
			runtime.UnlockOSThread()
		}
		done <- r
	}()
	r := <-done
	if r.err != nil {
		if r.udp != nil {
			r.udp.Close()
			r.tcp.Close()
		}
		return nil, nil, r.err
	}
	return r.udp, r.tcp, nil
}

// visit runs f in a network namespace. It says whether the thread is back in
// its own.
func visit(nsfd int, f func(), err *error) (back bool) {
	home, e := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if e != nil {
		*err = e
		return true
	}
	defer unix.Close(home)
	if e := unix.Setns(nsfd, unix.CLONE_NEWNET); e != nil {
		*err = os.NewSyscallError("setns", e)
		return true
	}
	f()
	if e := unix.Setns(home, unix.CLONE_NEWNET); e != nil {
		*err = errors.Join(*err, os.NewSyscallError("setns", e))
		return false
	}
	return true
}

func sockets() (udp, tcp *os.File, err error) {
	if udp, err = socket(unix.SOCK_DGRAM); err != nil {
		return nil, nil, err
	}
	if tcp, err = socket(unix.SOCK_STREAM); err == nil {
		err = os.NewSyscallError("listen", unix.Listen(int(tcp.Fd()), maxConns))
	}
	if err != nil {
		udp.Close()
		if tcp != nil {
			tcp.Close()
		}
		return nil, nil, err
	}
	return udp, tcp, nil
}

func socket(kind int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return os.NewFile(uintptr(fd), "resolver"), nil
}

func port(a net.Addr) uint16 {
	p, _ := netip.ParseAddrPort(a.String())
	return p.Port()
}

// redirect makes the table. Deleting an earlier one makes the kernel wait for
// the end of all packets in flight, some 10 ms, so that is not done unless
// there is one.
func redirect(nsfd int, udp, tcp uint16) error {
	err := makeTable(nsfd, udp, tcp, false)
	if errors.Is(err, unix.EEXIST) {
		err = makeTable(nsfd, udp, tcp, true)
	}
	return err
}

// makeTable makes the table in one transaction.
func makeTable(nsfd int, udp, tcp uint16, replace bool) error {
	c, err := nftables.New(nftables.WithNetNSFd(nsfd))
	if err != nil {
		return err
	}
	t := &nftables.Table{Name: Table, Family: nftables.TableFamilyIPv4}
	if replace {
		// Deleting fails if it has gone meanwhile; adding does not.
		c.AddTable(t)
		c.DelTable(t)
	}
	c.CreateTable(t)
	out := c.AddChain(&nftables.Chain{
		Name: "output", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
	})
	for _, to := range []struct {
		proto byte
		port  uint16
	}{{unix.IPPROTO_UDP, udp}, {unix.IPPROTO_TCP, tcp}} {
		address := netip.MustParseAddr(Address).As4()
		c.AddRule(&nftables.Rule{Table: t, Chain: out, Exprs: []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: address[:]},
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{to.proto}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, 53)},
			&expr.Immediate{Register: 1, Data: binary.BigEndian.AppendUint16(nil, to.port)},
			// The address becomes 127.0.0.1: that is redirect's meaning on output.
			&expr.Redir{RegisterProtoMin: 1},
		}})
	}
	return c.Flush()
}
