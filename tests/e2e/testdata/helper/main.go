// Command helper does for the tests what busybox cannot.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
	"unsafe"
)

// init plays a program that ends its first thread and goes on in others. While
// packages are initialized the first thread is the one that runs.
func init() {
	if len(os.Args) != 2 || os.Args[1] != "leaderless" {
		return
	}
	go func() {
		for i := 0; ; i++ {
			fmt.Println("tick", i)
			time.Sleep(100 * time.Millisecond)
		}
	}()
	_, _, _ = syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0)
}

func main() {
	switch os.Args[1] {
	case "setxattr":
		setxattr(os.Args[2], os.Args[3])
	case "relay":
		fmt.Fprintln(os.Stderr, relay(os.Args[2], os.Args[3]))
		os.Exit(1)
	}
}

// setxattr tries to give a file a capability, by path and by descriptor, and
// prints one line for each call.
func setxattr(attribute, file string) {
	// Version 2: CAP_DAC_OVERRIDE, effective.
	value := append([]byte{1, 0, 0, 2, 2}, make([]byte, 15)...)
	report := func(call string, err error) { fmt.Printf("%s: %v\n", call, err) }
	report("setxattr", syscall.Setxattr(file, attribute, value, 0))

	path, _ := syscall.BytePtrFromString(file)
	name, _ := syscall.BytePtrFromString(attribute)
	raw := func(trap, first uintptr) error {
		if _, _, e := syscall.Syscall6(trap, first, uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&value[0])), uintptr(len(value)), 0, 0); e != 0 {
			return e
		}
		return nil
	}
	report("lsetxattr", raw(syscall.SYS_LSETXATTR, uintptr(unsafe.Pointer(path))))
	fd, err := syscall.Open(file, syscall.O_RDWR, 0)
	if err == nil {
		err = raw(syscall.SYS_FSETXATTR, uintptr(fd))
	}
	report("fsetxattr", err)
}

// relay listens on a socket and passes each connection on to another one, until
// that fails.
func relay(at, to string) error {
	l, err := net.Listen("unix", at)
	if err != nil {
		return err
	}
	for {
		in, err := l.Accept()
		if err != nil {
			return err
		}
		out, err := net.Dial("unix", to)
		if err != nil {
			return err
		}
		go func() { _, _ = io.Copy(out, in); out.Close() }()
		go func() { _, _ = io.Copy(in, out); in.Close() }()
	}
}
