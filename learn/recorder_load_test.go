package learn

import (
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/safe-run/safe-run/internal/fail"
)

func TestFollowHost(t *testing.T) {
	r := open(t, Denials)
	for _, pid := range []int{os.Getpid(), os.Getppid()} {
		if err := r.Follow(pid); fail.KindOf(err) != fail.Refused {
			t.Errorf("following %d: %v", pid, err)
		}
	}
	if err := r.Follow(1 << 30); fail.KindOf(err) != fail.NotFound {
		t.Errorf("following nobody: %v", err)
	}
}

// TestFexit has the way in of kernels without the tracepoint. On a kernel with
// it, where functions may not be traceable, it may only fail as it should.
func TestFexit(t *testing.T) {
	r, err := openWith(Everything, fexitHook)
	if err != nil {
		if f, ferr := openWith(Everything, tracepointHook); ferr == nil && fail.KindOf(err) == fail.HostCannot {
			_ = f.Close()
			t.Logf("this kernel has the tracepoint alone: %v", err)
			return
		}
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	s := start(t, container{Script: "busybox chown 5 /mnt/file; busybox chmod 644 /mnt/file"})
	if err := r.Follow(s.cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	s.run(t)
	rec, err := r.Read()
	if err != nil {
		t.Fatal(err)
	}
	if got := caps(rec); !slices.Equal(got, []string{"CAP_CHOWN refused chown"}) {
		t.Errorf("recorded %q", got)
	}
}

// TestTypedArguments has the verifier look at the program for checks of
// capabilities with arguments that have types, as at the end of a function.
func TestTypedArguments(t *testing.T) {
	r := open(t, Denials)
	layout, hook, err := kernelFacts(anyHook)
	if err != nil {
		t.Fatal(err)
	}
	if hook != tracepointHook {
		t.Log("TestFexit does so")
		return
	}
	p := &programs{maps: r.maps, l: layout}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "cap_capable", License: "GPL", Instructions: p.capable(0, 1, 3, 4),
	})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	_ = prog.Close()
}
