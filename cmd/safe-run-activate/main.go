// Program safe-run-activate runs inside a container in front of its program:
// it takes the sockets that systemd listens on from the launcher and executes
// the program with them, as sd_listen_fds(3) expects it. It runs as the
// container's user, with the container's restrictions, and does nothing that
// needs a right.
//
//	safe-run-activate [--no-connect|--no-sockets] COMMAND [ARG...]
//
// The sockets are of the host's network. With --no-connect nothing in the
// container can connect or bind a TCP socket any more, or it could use them to
// reach what the host reaches. --no-sockets does only that: it is for further
// processes of such a container, which could be handed a socket by the first.
//
// Exit codes are docker's: 127 if the command does not exist, 126 if it cannot
// be executed, 125 if the sockets cannot be had.
package main

import (
	"os"
	"strconv"
	"syscall"
)

const (
	socket  = "/run/safe-run/activate.sock" // where the launcher binds it
	first   = 3                             // SD_LISTEN_FDS_START
	maxFDs  = 253                           // SCM_MAX_FD
	maxText = 256 * maxFDs                  // their names, of at most 255 bytes
)

func main() { run(socket, os.Args[1:]) }

// run does not return.
func run(socket string, args []string) {
	further := len(args) > 0 && args[0] == "--no-sockets"
	held := further || len(args) > 0 && args[0] == "--no-connect"
	if held {
		args = args[1:]
	}
	if len(args) == 0 {
		die(125, "usage: safe-run-activate [--no-connect|--no-sockets] COMMAND [ARG...]")
	}
	path, code, why := find(args[0], os.Getenv("PATH"))
	if why != "" {
		die(code, why)
	}
	var n int
	var names string
	if !further {
		if n, names, why = take(socket); why != "" {
			die(125, "taking the sockets of systemd: "+why)
		}
	}
	if held {
		if err := hold(); err != nil {
			die(125, "keeping the sockets of systemd to what they are for (Landlock): "+err.Error())
		}
	}
	env := syscall.Environ()
	if !further {
		env = append(without(env),
			"LISTEN_PID="+strconv.Itoa(os.Getpid()), "LISTEN_FDS="+strconv.Itoa(n), "LISTEN_FDNAMES="+names)
	}
	err := syscall.Exec(path, args, env)
	code = 126
	if err == syscall.ENOENT { // of a script's interpreter
		code = 127
	}
	die(code, "exec "+path+": "+err.Error())
}

func die(code int, text string) {
	_, _ = syscall.Write(2, []byte(text+"\n"))
	os.Exit(code)
}

// without drops what the image says about sockets.
func without(env []string) []string {
	var kept []string
	for _, kv := range env {
		switch key(kv) {
		case "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES":
		default:
			kept = append(kept, kv)
		}
	}
	return kept
}

func key(kv string) string {
	for i := range len(kv) {
		if kv[i] == '=' {
			return kv[:i]
		}
	}
	return kv
}
