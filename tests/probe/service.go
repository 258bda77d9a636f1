package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// notify says something to the service manager, as sd_notify(3) does, and
// stays.
func notify(lines []string) error {
	c, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		return err
	}
	if _, err := c.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		return err
	}
	time.Sleep(24 * time.Hour)
	return nil
}

// activated greets whoever connects to the sockets it was started with, by the
// name of the socket.
func activated() error {
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return fmt.Errorf("LISTEN_FDS=%q, LISTEN_PID=%q of process %d", os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_PID"), os.Getpid())
	}
	failed := make(chan error)
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for i := range n {
		l, err := net.FileListener(os.NewFile(uintptr(3+i), "socket"))
		if err != nil {
			return err
		}
		go func() { failed <- greet(l, names[i]) }()
	}
	return <-failed
}

func greet(l net.Listener, name string) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		_, _ = c.Read(make([]byte, 4096)) // or closing it is a reset
		_, _ = fmt.Fprintf(c, "hello from %s\n", name)
		_ = c.Close()
	}
}
