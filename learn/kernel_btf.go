package learn

import (
	"strings"

	"github.com/cilium/ebpf/btf"

	"github.com/safe-run/safe-run/internal/fail"
)

// kernelTypes finds where members are in the structs of the running kernel.
type kernelTypes struct {
	spec *btf.Spec
	err  error // the first member that was not found
}

// member gives the offset in bytes of a member of a struct, "a.b" for one of a
// struct within it. Members of unnamed structs and unions count as the outer
// struct's.
func (k *kernelTypes) member(name, path string) int {
	types, err := k.spec.AnyTypesByName(name)
	if err == nil {
		for _, t := range types { // modules and other units may use a name twice
			if off, ok := locate(t, strings.Split(path, ".")); ok {
				return off
			}
		}
	}
	if k.err == nil {
		k.err = fail.New(fail.HostCannot, "the recorder does not know this kernel: its BTF has no %s.%s", name, path)
	}
	return 0
}

// size gives the size of a struct in bytes.
func (k *kernelTypes) size(name string) int {
	types, err := k.spec.AnyTypesByName(name)
	if err == nil {
		for _, t := range types {
			if s, ok := t.(*btf.Struct); ok {
				return int(s.Size)
			}
		}
	}
	if k.err == nil {
		k.err = fail.New(fail.HostCannot, "the recorder does not know this kernel: its BTF has no struct %s", name)
	}
	return 0
}

// tracepoint says whether the kernel has a raw tracepoint.
func (k *kernelTypes) tracepoint(name string) bool {
	_, err := k.spec.AnyTypesByName("btf_trace_" + name)
	return err == nil
}

// function says whether the kernel has a function that can be traced by type.
func (k *kernelTypes) function(name string) bool {
	var fn *btf.Func
	return k.spec.TypeByName(name, &fn) == nil
}

func locate(t btf.Type, path []string) (int, bool) {
	var members []btf.Member
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		members = t.Members
	case *btf.Union:
		members = t.Members
	default:
		return 0, false
	}
	for _, m := range members {
		rest := path
		switch m.Name {
		case path[0]:
			rest = path[1:]
		case "":
		default:
			continue
		}
		at := int(m.Offset.Bytes())
		if len(rest) == 0 {
			return at, true
		}
		if off, ok := locate(m.Type, rest); ok {
			return at + off, true
		}
	}
	return 0, false
}

// kernelLayout is where the programs find what they read, in bytes.
type kernelLayout struct {
	taskThreadPid, taskFs, taskFiles, taskTgid, taskSignal, taskCompat int
	taskPid, taskCred                                                  int
	compatMask                                                         int32 // of the bits at taskCompat that mark a 32-bit call
	pidLevel, pidNumbers, upidSize, upidNs, pidnsInum                  int
	signalLive                                                         int
	credUserns, credFsuid, usernsInum                                  int
	fsRootMnt, fsRootDentry, fsPwdMnt, fsPwdDentry                     int
	filesFdt, fdtMax, fdtFd                                            int
	fileMnt, fileDentry, filePrivate                                   int
	dentryParent, dentryName                                           int
	vfsmountRoot, mountMnt, mountParent, mountPoint                    int
	socketType, socketSk, sockProtocol                                 int
	bprmFilename                                                       int
	regNr                                                              int
	regArgs                                                            [6]int
}

func (k *kernelTypes) layout(arch string) (kernelLayout, error) {
	l := kernelLayout{
		taskThreadPid: k.member("task_struct", "thread_pid"),
		taskFs:        k.member("task_struct", "fs"),
		taskFiles:     k.member("task_struct", "files"),
		taskTgid:      k.member("task_struct", "tgid"),
		taskPid:       k.member("task_struct", "pid"),
		taskSignal:    k.member("task_struct", "signal"),
		taskCred:      k.member("task_struct", "cred"),
		pidLevel:      k.member("pid", "level"),
		pidNumbers:    k.member("pid", "numbers"),
		upidSize:      k.size("upid"),
		upidNs:        k.member("upid", "ns"),
		pidnsInum:     k.member("pid_namespace", "ns.inum"),
		signalLive:    k.member("signal_struct", "live"),
		credUserns:    k.member("cred", "user_ns"),
		credFsuid:     k.member("cred", "fsuid"),
		usernsInum:    k.member("user_namespace", "ns.inum"),
		fsRootMnt:     k.member("fs_struct", "root.mnt"),
		fsRootDentry:  k.member("fs_struct", "root.dentry"),
		fsPwdMnt:      k.member("fs_struct", "pwd.mnt"),
		fsPwdDentry:   k.member("fs_struct", "pwd.dentry"),
		filesFdt:      k.member("files_struct", "fdt"),
		fdtMax:        k.member("fdtable", "max_fds"),
		fdtFd:         k.member("fdtable", "fd"),
		fileMnt:       k.member("file", "f_path.mnt"),
		fileDentry:    k.member("file", "f_path.dentry"),
		filePrivate:   k.member("file", "private_data"),
		dentryParent:  k.member("dentry", "d_parent"),
		dentryName:    k.member("dentry", "d_name.name"),
		vfsmountRoot:  k.member("vfsmount", "mnt_root"),
		mountMnt:      k.member("mount", "mnt"),
		mountParent:   k.member("mount", "mnt_parent"),
		mountPoint:    k.member("mount", "mnt_mountpoint"),
		socketType:    k.member("socket", "type"),
		socketSk:      k.member("socket", "sk"),
		sockProtocol:  k.member("sock", "sk_protocol"),
		bprmFilename:  k.member("linux_binprm", "filename"),
	}
	switch arch {
	case "amd64":
		l.regNr = k.member("pt_regs", "orig_ax")
		for i, r := range []string{"di", "si", "dx", "r10", "r8", "r9"} {
			l.regArgs[i] = k.member("pt_regs", r)
		}
		l.taskCompat, l.compatMask = k.member("task_struct", "thread_info.status"), 2 // TS_COMPAT
	case "arm64":
		l.regNr = k.member("pt_regs", "syscallno")
		l.regArgs[0] = k.member("pt_regs", "orig_x0") // regs[0] holds the result
		regs := k.member("pt_regs", "regs")
		for i := 1; i < 6; i++ {
			l.regArgs[i] = regs + 8*i
		}
		l.taskCompat, l.compatMask = k.member("task_struct", "thread_info.flags"), 1<<22 // TIF_32BIT
	default:
		return l, fail.New(fail.HostCannot, "the recorder does not know machines of kind %s", arch)
	}
	return l, k.err
}
