package learn

import (
	"bytes"
	"encoding/binary"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// kernelTypes finds where members are in the structs of the running kernel.
//
// A general reader of BTF makes an index of all the kernel's types, which
// takes longer than all the rest of a recorder's start. This one goes over
// them once and notes what is asked for. Format: Documentation/bpf/btf.rst.
type kernelTypes struct {
	types, strings []byte
	marks          []int            // where every markEvery-th type is
	structs        map[string][]int // modules and other units may use a name twice
	tracepoint     bool             // there is one for checks of capabilities
	function       bool             // cap_capable can be traced by type
	err            error            // the first member that was not found
}

const (
	btfMagic   = 0xeb9f
	markEvery  = 64
	maxQualify = 16 // typedefs and the like around a type
	maxNested  = 8  // structs in structs

	btfStruct, btfUnion, btfTypedef, btfFunc = 4, 5, 8, 12
)

// structNames are the structs that layout asks for.
func structNames() []string {
	return []string{
		"task_struct", "pid", "upid", "pid_namespace", "signal_struct", "cred", "user_namespace", "fs_struct", "files_struct", "fdtable",
		"file", "dentry", "vfsmount", "mount", "socket", "sock", "linux_binprm", "pt_regs",
	}
}

// withKernelTypes hands the kernel's types to use, which must not keep them.
func withKernelTypes(use func(*kernelTypes) error) error {
	const where = "/sys/kernel/btf/vmlinux"
	failed := func(err error) error {
		return fail.Wrap(fail.HostCannot, err, "the recorder needs the kernel's types in %s (CONFIG_DEBUG_INFO_BTF)", where)
	}
	f, err := os.Open(where)
	if err != nil {
		return failed(err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return failed(err)
	}
	// Since Linux 6.16 it can be mapped, which spares a copy.
	data, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err == nil {
		defer func() { _ = unix.Munmap(data) }()
	} else if data, err = os.ReadFile(where); err != nil {
		return failed(err)
	}
	k, err := readTypes(data, structNames())
	if err != nil {
		return err
	}
	return use(k)
}

// readTypes goes over the types in data.
func readTypes(data []byte, structs []string) (*kernelTypes, error) {
	bad := func() (*kernelTypes, error) {
		return nil, fail.New(fail.HostCannot, "the recorder does not know this kernel: its BTF is of another form")
	}
	if len(data) < 24 || binary.NativeEndian.Uint16(data) != btfMagic {
		return bad()
	}
	part := func(at int) []byte {
		from := uint64(word(data, 4)) + uint64(word(data, at))
		to := from + uint64(word(data, at+4))
		if to > uint64(len(data)) {
			return nil
		}
		return data[from:to]
	}
	k := &kernelTypes{types: part(8), strings: part(16), structs: map[string][]int{}}
	if len(k.strings) == 0 || k.strings[len(k.strings)-1] != 0 {
		return bad()
	}
	for _, name := range structs {
		k.structs[name] = nil
	}
	for at, n := 0, 0; at < len(k.types); n++ {
		if n%markEvery == 0 {
			k.marks = append(k.marks, at)
		}
		size := k.sizeOf(at)
		if size == 0 || at+size > len(k.types) {
			return bad()
		}
		switch k.kind(at) {
		case btfStruct, btfUnion:
			name := k.name(at)
			if list, ok := k.structs[string(name)]; ok {
				k.structs[string(name)] = append(list, at)
			}
		case btfTypedef:
			k.tracepoint = k.tracepoint || string(k.name(at)) == "btf_trace_cap_capable"
		case btfFunc:
			k.function = k.function || string(k.name(at)) == "cap_capable"
		}
		at += size
	}
	return k, nil
}

func word(b []byte, at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }

func (k *kernelTypes) kind(at int) int { return int(word(k.types, at+4) >> 24 & 31) }

func (k *kernelTypes) name(at int) []byte {
	off := word(k.types, at)
	if uint64(off) >= uint64(len(k.strings)) {
		return nil
	}
	s := k.strings[off:]
	return s[:bytes.IndexByte(s, 0)] // the last string ends as well
}

// sizeOf gives the bytes a type's description takes, 0 if they are not known.
func (k *kernelTypes) sizeOf(at int) int {
	const head = 12
	if at+head > len(k.types) {
		return 0
	}
	n := int(word(k.types, at+4) & 0xffff)
	switch k.kind(at) {
	case 2, 7, 8, 9, 10, 11, 12, 16, 18: // pointer, forward, typedef, volatile, const, restrict, function, float, type tag
		return head
	case 1, 14, 17: // integer, variable, declaration tag
		return head + 4
	case 3: // array
		return head + 12
	case btfStruct, btfUnion, 15, 19: // and section, enum of 64 bits
		return head + 12*n
	case 6, 13: // enum, function's prototype
		return head + 8*n
	}
	return 0
}

// find gives where a type is, past its qualifiers and names.
func (k *kernelTypes) find(id uint32) (at int, ok bool) {
	for range maxQualify {
		if id == 0 || int((id-1)/markEvery) >= len(k.marks) {
			return 0, false
		}
		at = k.marks[(id-1)/markEvery]
		for range (id - 1) % markEvery {
			at += k.sizeOf(at)
		}
		if at >= len(k.types) {
			return 0, false
		}
		switch k.kind(at) {
		case btfTypedef, 9, 10, 11, 18:
			id = word(k.types, at+8)
		default:
			return at, true
		}
	}
	return 0, false
}

// locate gives the offset in bytes of a member of the struct at a place.
func (k *kernelTypes) locate(at int, path []string, deep int) (int, bool) {
	if kind := k.kind(at); kind != btfStruct && kind != btfUnion || deep > maxNested {
		return 0, false
	}
	bitfields := word(k.types, at+4)>>31 != 0
	for m := at + 12; m < at+k.sizeOf(at); m += 12 {
		rest := path
		switch name := k.name(m); {
		case string(name) == path[0]:
			rest = path[1:]
		case len(name) != 0:
			continue
		}
		bits := word(k.types, m+8)
		if bitfields {
			bits &= 0xffffff
		}
		if len(rest) == 0 {
			return int(bits / 8), true
		}
		if in, ok := k.find(word(k.types, m+4)); ok {
			if off, ok := k.locate(in, rest, deep+1); ok {
				return int(bits/8) + off, true
			}
		}
	}
	return 0, false
}

// member gives the offset in bytes of a member of a struct, "a.b" for one of a
// struct within it. Members of unnamed structs and unions count as the outer
// struct's.
func (k *kernelTypes) member(name, path string) int {
	for _, at := range k.structs[name] {
		if off, ok := k.locate(at, strings.Split(path, "."), 0); ok {
			return off
		}
	}
	if k.err == nil {
		k.err = fail.New(fail.HostCannot, "the recorder does not know this kernel: its BTF has no %s.%s", name, path)
	}
	return 0
}

// size gives the size of a struct in bytes.
func (k *kernelTypes) size(name string) int {
	if i := slices.IndexFunc(k.structs[name], func(at int) bool { return k.kind(at) == btfStruct }); i >= 0 {
		return int(word(k.types, k.structs[name][i]+8))
	}
	if k.err == nil {
		k.err = fail.New(fail.HostCannot, "the recorder does not know this kernel: its BTF has no struct %s", name)
	}
	return 0
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
