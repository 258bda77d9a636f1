package learn

import (
	"encoding/binary"
	"runtime"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// TestTypes: what is found in the kernel's types is what a general reader of
// BTF finds.
func TestTypes(t *testing.T) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	err = withKernelTypes(func(k *kernelTypes) error {
		for name, path := range map[string]string{
			"task_struct": "signal", "pid": "numbers", "user_namespace": "ns.inum", "fs_struct": "root.mnt", "file": "f_path.dentry",
			"dentry": "d_name.name", "sock": "sk_protocol", "socket": "type", "linux_binprm": "filename",
		} {
			var s *btf.Struct
			if err := spec.TypeByName(name, &s); err != nil {
				t.Fatal(err)
			}
			want, ok := generalMember(s, strings.Split(path, "."))
			if got := k.member(name, path); !ok || got != want {
				t.Errorf("%s.%s at %d, wanted %d, %v", name, path, got, want, ok)
			}
			if got := k.size(name); got != int(s.Size) {
				t.Errorf("%s has %d bytes, wanted %d", name, got, s.Size)
			}
		}
		if _, err := spec.AnyTypesByName("btf_trace_cap_capable"); (err == nil) != k.tracepoint {
			t.Errorf("tracepoint: %v, wanted %v", k.tracepoint, err)
		}
		var fn *btf.Func
		if err := spec.TypeByName("cap_capable", &fn); (err == nil) != k.function {
			t.Errorf("function: %v, wanted %v", k.function, err)
		}
		l, err := k.layout(runtime.GOARCH)
		if err != nil || l.taskCred == 0 || l.pidnsInum == 0 {
			t.Errorf("layout %+v, %v", l, err)
		}
		for _, missing := range []string{"no_such", "task_struct"} {
			if k.member(missing, "no_such") != 0 || k.err == nil {
				t.Errorf("%s.no_such was found", missing)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// generalMember finds a member in the words of the general reader.
func generalMember(t btf.Type, path []string) (int, bool) {
	var list []btf.Member
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		list = t.Members
	case *btf.Union:
		list = t.Members
	}
	for _, m := range list {
		rest := path
		if m.Name == path[0] {
			rest = path[1:]
		} else if m.Name != "" {
			continue
		}
		if len(rest) == 0 {
			return int(m.Offset.Bytes()), true
		}
		if off, ok := generalMember(m.Type, rest); ok {
			return int(m.Offset.Bytes()) + off, true
		}
	}
	return 0, false
}

// FuzzTypes: no types, however wrong, stop the reader or lead it out of them.
func FuzzTypes(f *testing.F) {
	f.Add([]byte{})
	f.Add(smallTypes())
	f.Fuzz(func(_ *testing.T, data []byte) {
		k, err := readTypes(data, []string{"a", "b"})
		if err != nil {
			return
		}
		k.member("a", "x.y")
		k.member("b", "z")
		k.size("a")
	})
}

// smallTypes is a struct a with a member x, itself a struct.
func smallTypes() []byte {
	words := func(list ...uint32) (b []byte) {
		for _, w := range list {
			b = binary.NativeEndian.AppendUint32(b, w)
		}
		return b
	}
	types := words(1, btfStruct<<24|1, 8, 3, 2, 32, 0, btfStruct<<24|1, 4, 5, 0, 0)
	names := []byte("\x00a\x00x\x00y\x00")
	head := binary.NativeEndian.AppendUint16(nil, btfMagic)
	head = append(append(head, 1, 0), words(24, 0, uint32(len(types)), uint32(len(types)), uint32(len(names)))...)
	return append(append(head, types...), names...)
}

func TestSmallTypes(t *testing.T) {
	k, err := readTypes(smallTypes(), []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	if got := k.member("a", "x.y"); got != 4 || k.err != nil {
		t.Errorf("a.x.y at %d, %v", got, k.err)
	}
	for n := range smallTypes() {
		if _, err := readTypes(smallTypes()[:n], []string{"a"}); err == nil {
			t.Errorf("the first %d bytes are taken for types", n)
		}
	}
}

func BenchmarkTypes(b *testing.B) {
	for b.Loop() {
		if _, _, err := kernelFacts(anyHook); err != nil {
			b.Fatal(err)
		}
	}
}
