// Calls makes system calls and prints what they gave, for the tests that run
// a container. It is built for amd64 and 386; each word of its arguments is
// NAME or NUMBER with comma-separated arguments.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	runtime.LockOSThread()
	for _, word := range os.Args[1:] {
		var n [7]uintptr
		for i, s := range strings.Split(word, ",") {
			v, err := strconv.ParseUint(s, 0, 64)
			if err != nil {
				panic(err)
			}
			n[i] = uintptr(v)
		}
		r, _, errno := syscall.RawSyscall6(n[0], n[1], n[2], n[3], n[4], n[5], n[6])
		if errno == 0 {
			fmt.Println(word, "ok", r != 0)
			continue
		}
		fmt.Println(word, strings.ReplaceAll(errno.Error(), " ", "-"))
	}
}
