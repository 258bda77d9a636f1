package learn

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// capHook is the way into the kernel by which checks of capabilities are seen.
type capHook int

const (
	anyHook        capHook = iota
	tracepointHook         // Linux 6.14
	fexitHook              // the end of the function, before
)

// load makes the programs and attaches them. Maps and links are in r even
// with an error.
func (r *Recorder) load(hook capHook) error {
	if err := mayLoad(); err != nil {
		return err
	}
	layout, hook, err := kernelFacts(hook)
	if err != nil {
		return err
	}
	if r.maps, err = newRecorderMaps(r.mode); err != nil {
		return refusedByKernel(err, "the recorder's maps")
	}
	if err := r.fillShapes(); err != nil {
		return err
	}
	p := &programs{mode: r.mode, maps: r.maps, l: layout, execNr: r.calls.nr["execve"]}
	p.regsLow, p.regsLen = layout.regNr, 0
	for _, off := range layout.regArgs {
		p.regsLow = min(p.regsLow, off)
	}
	for _, off := range append([]int{layout.regNr}, layout.regArgs[:]...) {
		p.regsLen = max(p.regsLen, off+8-p.regsLow)
	}
	if p.regsLen > areaRegsSize {
		return fail.New(fail.HostCannot, "the recorder does not know this kernel: its pt_regs is larger than it has been")
	}
	for _, t := range []struct {
		name string
		ins  asm.Instructions
	}{
		// What starts counting comes last.
		{"sys_exit", p.callEnd()},
		{"sched_process_exit", p.exit()},
		{"sched_process_fork", p.fork()},
		{"cap_capable", nil},
		{"sched_process_exec", p.exec()},
	} {
		err := error(nil)
		switch {
		case t.ins != nil:
			err = r.attachTracepoint(t.name, t.ins)
		case hook == tracepointHook:
			err = r.attachTracepoint(t.name, p.capable(0, 1, 3, 4))
		default:
			err = r.attachFexit(t.name, p.capable(0, 1, 2, 4))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// kernelFacts gives what the programs must know of the kernel, and the hook to
// use.
func kernelFacts(hook capHook) (layout kernelLayout, _ capHook, err error) {
	err = withKernelTypes(func(types *kernelTypes) error {
		if hook == anyHook {
			hook = fexitHook
			if types.tracepoint {
				hook = tracepointHook
			}
		}
		if hook == fexitHook && !types.function {
			return fail.New(fail.HostCannot, "the recorder cannot see checks of capabilities: this kernel has neither the tracepoint cap_capable (Linux 6.14) "+
				"nor a function of that name that can be traced")
		}
		var err error
		layout, err = types.layout(runtime.GOARCH)
		return err
	})
	return layout, hook, err
}

func (r *Recorder) attachTracepoint(name string, ins asm.Instructions) error {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: programName(name), Type: ebpf.RawTracepoint, License: "GPL", Instructions: ins})
	if err != nil {
		return refusedByKernel(err, "the program for "+name)
	}
	r.programs = append(r.programs, prog)
	l, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: name, Program: prog})
	if err != nil {
		return refusedByKernel(err, "raw tracepoint "+name)
	}
	r.links = append(r.links, l)
	return nil
}

func (r *Recorder) attachFexit(name string, ins asm.Instructions) error {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: programName(name), Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFExit, AttachTo: name, License: "GPL", Instructions: ins,
	})
	if err != nil {
		return refusedByKernel(err, "the program for the function "+name)
	}
	r.programs = append(r.programs, prog)
	l, err := link.AttachTracing(link.TracingOptions{Program: prog})
	if err != nil {
		return refusedByKernel(err, "tracing of the function "+name+" (CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS)")
	}
	r.links = append(r.links, l)
	return nil
}

// programName keeps to the 15 bytes the kernel has for it.
func programName(hook string) string {
	if s := "sr_" + strings.TrimPrefix(hook, "sched_process_"); len(s) <= 15 {
		return s
	}
	return "saferun"
}

// fillShapes puts the table of calls where the programs look it up.
func (r *Recorder) fillShapes() error {
	for name, shape := range callShapes() {
		nr, ok := r.calls.nr[name]
		if !ok {
			continue // not on this machine
		}
		if err := r.maps.shape.Put(uint32(nr), shape.pack()); err != nil {
			return refusedByKernel(err, "the recorder's table of calls")
		}
	}
	return nil
}

// mayLoad says what is missing before the kernel only says EPERM.
func mayLoad() error {
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); errors.Is(err, fs.ErrNotExist) {
		return fail.New(fail.HostCannot, "the recorder needs the kernel's types in /sys/kernel/btf/vmlinux, and there is no such file (CONFIG_DEBUG_INFO_BTF)")
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fail.Wrap(fail.HostCannot, err, "reading the recorder's own capabilities")
	}
	has := func(c int) bool { return data[c/32].Effective&(1<<(c%32)) != 0 }
	if !has(unix.CAP_SYS_ADMIN) {
		for _, c := range []struct {
			nr   int
			name string
		}{{unix.CAP_BPF, "CAP_BPF"}, {unix.CAP_PERFMON, "CAP_PERFMON"}} {
			if !has(c.nr) {
				return fail.New(fail.HostCannot, "the recorder needs %s to load its programs into the kernel", c.name).Hint("run it as root")
			}
		}
	}
	if b, err := os.ReadFile("/sys/kernel/security/lockdown"); err == nil && strings.Contains(string(b), "[confidentiality]") {
		return fail.New(fail.HostCannot, "the kernel is locked down (confidentiality): no program may read its memory, so nothing can be recorded")
	}
	return nil
}

// refusedByKernel is the error of something the kernel would not have.
func refusedByKernel(err error, what string) error {
	var v *ebpf.VerifierError
	switch {
	case errors.As(err, &v):
		return fail.Wrap(fail.HostCannot, err, "this kernel does not take %s", what)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fail.Wrap(fail.HostCannot, err, "the kernel refuses %s: CAP_BPF and CAP_PERFMON in the host's own user namespace are needed", what)
	}
	return fail.Wrap(fail.HostCannot, err, "the recorder cannot use %s on this kernel", what)
}
