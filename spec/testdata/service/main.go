// Command service uses what a container of a systemd unit is given.
package main

import (
	"fmt"
	"net"
	"os"
)

func main() {
	secret, err := os.ReadFile("/run/secrets/db")
	fmt.Println(string(secret), err)
	fmt.Println(os.WriteFile("/run/secrets/x", nil, 0o600))
	c, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err == nil {
		_, err = c.Write([]byte("READY=1"))
	}
	fmt.Println("notify", err)
	_, err = net.Dial("unix", "/run/safe-run/activate.sock")
	fmt.Println("socket", err)
}
