// Package learn records what a container asks of the kernel, and makes of it a
// profile of the least privileges, or an explanation of what was denied.
package learn

import (
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Recording is what was seen of a container, from the moment its own program
// was executed; the runtime's preparations are not in it. Same events are
// counted together. All strings in it come from the container and are hostile.
type Recording struct {
	Started      time.Time       `json:"started"`
	Ended        time.Time       `json:"ended"` // zero while it runs
	Capabilities []CapabilityUse `json:"capabilities,omitempty"`
	Syscalls     []SyscallUse    `json:"syscalls,omitempty"` // with Everything only
	Paths        []PathUse       `json:"paths,omitempty"`
	Sockets      []SocketUse     `json:"sockets,omitempty"`
	Refused      []RefusedCall   `json:"refused,omitempty"`
	Written      []Written       `json:"written,omitempty"` // what is in the overlay's upper directory
	// Links say where paths lead that go through links of the root file system.
	Links map[string]string `json:"links,omitempty"`
	// Unlisted are names that were looked up and are not on the egress list.
	Unlisted []string `json:"unlisted,omitempty"`

	Peak   Peak    `json:"peak"`
	Limits Reached `json:"limits"`
	Exit   int     `json:"exit"`           // exit code of the program
	Lost   uint64  `json:"lost,omitempty"` // events that could not be kept
	Had    Had     `json:"had"`
}

// Had is what the recorded container was given.
type Had struct {
	Image        string        `json:"image,omitempty"` // with its digest
	Capabilities []string      `json:"capabilities,omitempty"`
	Mounts       []specs.Mount `json:"mounts,omitempty"`
	Hidden       []HiddenDir   `json:"hidden,omitempty"` // directories of the image below the default tmpfs
	Memory       int64         `json:"memory,omitempty"` // limit in bytes, 0: none
	Pids         int64         `json:"pids,omitempty"`   // limit, 0: none
	OwnSeccomp   bool          `json:"ownSeccomp,omitempty"`
	Egress       bool          `json:"egress,omitempty"` // connections were held to a list
}

// CapabilityUse is a capability the kernel asked for.
type CapabilityUse struct {
	Name    string `json:"name"`              // CAP_CHOWN
	Refused bool   `json:"refused,omitempty"` // not held, and the call failed with EPERM or EACCES
	Host    bool   `json:"host,omitempty"`    // asked for in a user namespace that is not the container's: cannot be given
	Syscall string `json:"syscall"`
	Process string `json:"process"` // command name, at most 15 bytes
	Count   uint64 `json:"count"`
}

// SyscallUse is a system call that was made and not refused by the filter.
type SyscallUse struct {
	Name    string `json:"name"`
	Arg     uint64 `json:"arg,omitempty"` // of socket, socketpair: the family; clone, unshare: flags; prctl: option; ioctl: request; personality: persona
	Process string `json:"process"`
	Count   uint64 `json:"count"`
}

// RefusedCall is a system call that failed with EPERM, EACCES or ENOSYS,
// without a path, a socket address or a capability that would tell why: the
// filter, or a limit.
type RefusedCall struct {
	Name    string     `json:"name"`
	Arg     uint64     `json:"arg,omitempty"` // as in SyscallUse
	Errno   unix.Errno `json:"errno"`
	Process string     `json:"process"`
	Count   uint64     `json:"count"`
}

// PathUse is a path that was written to, made, changed or executed, or that
// was to be and was refused.
type PathUse struct {
	Path         string     `json:"path"`            // absolute in the container, or as the program gave it if that cannot be told
	Errno        unix.Errno `json:"errno,omitempty"` // EROFS, EACCES, EPERM, ENOSPC; 0: it was done
	Syscall      string     `json:"syscall"`
	Write        bool       `json:"write,omitempty"`        // else it was only to be read or executed
	Capabilities []string   `json:"capabilities,omitempty"` // refused in this call
	UID          uint32     `json:"uid"`                    // file system uid of the process, inside
	Process      string     `json:"process"`
	Count        uint64     `json:"count"`
}

// SocketUse is an address a socket was bound or connected to.
type SocketUse struct {
	Bind    bool       `json:"bind,omitempty"` // else connected
	Proto   string     `json:"proto"`          // tcp, udp, unix, other
	Address string     `json:"address"`        // ADDRESS:PORT, or path of a unix socket
	Port    uint16     `json:"port,omitempty"`
	Errno   unix.Errno `json:"errno,omitempty"`
	Process string     `json:"process"`
	Count   uint64     `json:"count"`
}

// Written is one directory or file that a run has made or changed in its root
// file system.
type Written struct {
	Path  string `json:"path"`
	Dir   bool   `json:"dir,omitempty"`
	New   bool   `json:"new,omitempty"` // the image has nothing at this path
	Bytes int64  `json:"bytes,omitempty"`
	// Of the directory it is in, in the image (of the next one up that the image has).
	Parent      string `json:"parent"`
	ParentMode  uint32 `json:"parentMode"`
	ParentUID   uint32 `json:"parentUID"` // inside
	ParentGID   uint32 `json:"parentGID"`
	ParentHolds bool   `json:"parentHolds,omitempty"` // files of the image lie in or below it
}

// Peak is the most that was in use at once.
type Peak struct {
	Memory int64            `json:"memory,omitempty"` // bytes
	Pids   int64            `json:"pids,omitempty"`
	Tmpfs  map[string]int64 `json:"tmpfs,omitempty"` // bytes, by mount point
}

// Reached says which limits stopped something.
type Reached struct {
	Memory bool     `json:"memory,omitempty"` // a process was killed for lack of memory
	Pids   bool     `json:"pids,omitempty"`   // a fork was refused
	Tmpfs  []string `json:"tmpfs,omitempty"`  // mount points that were full
}
