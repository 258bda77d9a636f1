package policy

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/spec"
)

// guardedPaths reads testdata/guarded.txt: paths by heading.
func guardedPaths(t *testing.T) map[string][]string {
	t.Helper()
	data, err := os.ReadFile("testdata/guarded.txt")
	if err != nil {
		t.Fatal(err)
	}
	paths, heading := map[string][]string{}, ""
	for line := range strings.Lines(string(data)) {
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "\t"):
			paths[heading] = append(paths[heading], strings.Fields(line)...)
		default:
			heading = strings.TrimSpace(line)
		}
	}
	return paths
}

// TestGuardedPaths has each path of the table do its job: the path itself and
// what lies below it, writable and read-only.
func TestGuardedPaths(t *testing.T) {
	// Others of the table say more of these.
	other := map[string]string{
		"/root/.config/git": "bind-secret", "/home/ann/.config/git": "bind-secret", // hold a file of passwords
		"/home/some.file": "bind-home", // a home like any
	}
	table, seen := guards(), 0
	for heading, paths := range guardedPaths(t) {
		rule, words, ok := strings.Cut(heading, ": ")
		if !ok {
			continue
		}
		itself, below, _ := strings.Cut(words, ", below ")
		for _, pattern := range paths {
			seen++
			p := strings.ReplaceAll(pattern, "*", "ann")
			for _, c := range []struct{ name, refused string }{{p, itself}, {strings.TrimSuffix(p, "/") + "/some.file", below}} {
				for _, writable := range []bool{true, false} {
					want := c.refused == "all binds" || c.refused == "writable binds" && writable
					v, found := judgeName(table, c.name, writable)
					if other[c.name] != "" {
						if !found || v.rule != other[c.name] {
							t.Errorf("%s: %+v", c.name, v)
						}
						continue
					}
					if found != want || found && v.rule != rule {
						t.Errorf("%s, writable %v: %v %+v, want %v by %s", c.name, writable, found, v, want, rule)
					}
				}
			}
		}
	}
	if seen != len(table) {
		t.Errorf("%d paths in testdata/guarded.txt, %d in the table", seen, len(table))
	}
}

// TestSecretNames: directories of keys, wherever they are.
func TestSecretNames(t *testing.T) {
	for _, name := range []string{".ssh", ".gnupg", ".aws", ".kube", ".azure"} {
		for _, p := range []string{"/srv/homes/ann/" + name, "/data/" + name + "/x"} {
			if v, found := judgeName(guards(), p, false); !found || v.rule != "bind-secret" {
				t.Errorf("%s: %+v", p, v)
			}
		}
		if v, found := judgeName(guards(), "/data/x"+name, false); found {
			t.Errorf("/data/x%s: %+v", name, v)
		}
	}
}

// TestKnownPaths: what is looked for on the host by identity is the whole
// table, but for what has no one place, and the state of this program.
func TestKnownPaths(t *testing.T) {
	paths := guardedPaths(t)
	known := KnownPaths("/state/of/ours", "/run/of/ours")
	want := []string{"/state/of/ours", "/run/of/ours"}
	for heading, list := range paths {
		if strings.Contains(heading, ": ") {
			want = append(want, slices.DeleteFunc(slices.Clone(list), func(p string) bool { return strings.Contains(p, "*") })...)
		}
	}
	sameSet(t, "sensitive paths", known.Sensitive, want)
	sameSet(t, "sockets", known.Sockets, slices.Concat(paths["sockets of engines"], paths["sockets of services"]))
}

// sameSet compares two lists as sets.
func sameSet(t *testing.T, what string, got, want []string) {
	t.Helper()
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if slices.Equal(got, want) {
		return
	}
	for _, p := range got {
		if !slices.Contains(want, p) {
			t.Errorf("%s: %q is one too many", what, p)
		}
	}
	for _, p := range want {
		if !slices.Contains(got, p) {
			t.Errorf("%s: %q is missing", what, p)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d, want %d", what, len(got), len(want))
	}
}

// TestSockets: a socket is an engine's by its path, by the name it has
// elsewhere if that is one nobody else uses, and by another path of the same
// object.
func TestSockets(t *testing.T) {
	paths := guardedPaths(t)
	for _, sock := range paths["sockets of engines"] {
		if !isEngineSocket(sock, spec.Source{}) {
			t.Errorf("%s is taken for the socket of something else", sock)
		}
		if !isEngineSocket("/srv/x", spec.Source{Aliases: []string{"/srv/x", sock}}) {
			t.Errorf("another name of %s is taken for something else", sock)
		}
	}
	for _, sock := range paths["sockets of services"] {
		if isEngineSocket(sock, spec.Source{}) {
			t.Errorf("%s is taken for an engine's", sock)
		}
	}
	for sock, want := range map[string]bool{
		"/srv/docker.sock": true, "/srv/x/containerd.sock": true, "docker.sock": true, "/run/containerd/s/0af": true,
		"/srv/app/unix.socket": false, "/srv/app/metrics.sock": false, "/srv/app/debug.sock": false, "/srv/app.sock": false, "/run/containerd/s": false,
	} {
		if isEngineSocket(sock, spec.Source{}) != want {
			t.Errorf("%s: want %v", sock, want)
		}
	}
}

// TestMostSeriousNameIsTold: of several reasons to refuse a source, what is
// refused even to read comes first, then the path itself, what it lies in, what
// it holds, and then the order of the table.
func TestMostSeriousNameIsTold(t *testing.T) {
	table := []guard{
		{"/a", "first", write, write},
		{"/a/b", "second", all, all},
		{"/a/b/c", "third", all, all},
		{"/a/b/c", "fourth", all, all},
		{"/x/y", "holder", write, write},
		{"/x", "owner", write, write},
	}
	for _, c := range []struct {
		name     string
		writable bool
		rule     string
		rel      relation
	}{
		{"/a", true, "second", above}, // it holds what nobody reads
		{"/a", false, "second", above},
		{"/a/b", true, "second", same},
		{"/a/b/c", true, "third", same}, // before what it lies in, and in the order of the table
		{"/a/b/c/d", false, "second", inside},
		{"/x", true, "owner", same},
		{"/x/y", true, "holder", same},
		{"/x/z", true, "owner", inside},
		{"/x/.ssh/id", false, "bind-secret", same},
	} {
		v, found := judgeName(table, c.name, c.writable)
		if !found || v.rule != c.rule || v.rel != c.rel {
			t.Errorf("%s: %+v, want %s", c.name, v, c.rule)
		}
	}
	if _, found := judgeName(table, "/x", false); found {
		t.Error("a read-only bind of what is guarded against writing is refused")
	}
	// Of the names of one source, too, whatever their order.
	for _, names := range [][]string{{"/a", "/a/b", "/q"}, {"/q", "/a/b", "/a"}} {
		c, found := nameConcern(table, names, true)
		if !found || c.rule != "second" || c.note != "it is /a/b" {
			t.Errorf("%q: %+v", names, c)
		}
	}
	if c, found := nameConcern(table, []string{"/a/b/c/d", "/x/z"}, true); !found || c.rule != "second" {
		t.Errorf("%+v", c)
	}
	// Of two that weigh the same, the first.
	if c, _ := nameConcern(table, []string{"/q/.ssh", "/r/.ssh"}, true); c.note != "it is /q/.ssh" {
		t.Errorf("%+v", c)
	}
	if c, found := nameConcern(table, []string{"/q", "/r"}, true); found {
		t.Errorf("%+v", c)
	}
}

// TestWhyASource: the words for how a source lies to what is guarded.
func TestWhyASource(t *testing.T) {
	for _, c := range []struct {
		path     string
		readonly bool
		want     string
	}{
		{"/etc", true, "(it is /etc)"},
		{"/boot/grub", true, "(it lies in /boot)"},
		{"/etc/ssl", true, "(it holds /etc/ssl/private)"},
		{"/etc/nginx", false, "(writable, in /etc)"},
		{"/var/log", false, "(writable: /var/log)"},
		{"/proc/sys", true, "the kernel's own files, which change or reveal the host (it lies in /proc)"},
	} {
		_, refusals := Review(request(bind(c.path, c.readonly)))
		if len(refusals) != 1 || !strings.Contains(refusals[0].GivesAway, c.want) {
			t.Errorf("%s: %+v, want %q", c.path, refusals, c.want)
		}
	}
}

// TestMountsAreSpelledAsTyped: a refusal repeats the flag.
func TestMountsAreSpelledAsTyped(t *testing.T) {
	for want, m := range map[string]spec.Mount{
		"-v /etc:/e":       {Origin: "-v", Type: spec.MountBind, Source: "/etc", Target: "/e"},
		"-v /etc:/e:ro":    {Origin: "-v", Type: spec.MountBind, Source: "/etc", Target: "/e", ReadOnly: true},
		"-v /e":            {Origin: "-v", Type: spec.MountVolume, Target: "/e"},
		"--volume d:/e":    {Origin: "--volume", Type: spec.MountVolume, Source: "d", Target: "/e"},
		"--volume d:/e:ro": {Origin: "--volume", Type: spec.MountVolume, Source: "d", Target: "/e", ReadOnly: true},
		"--mount type=bind,source=/etc,target=/e":          {Origin: "--mount", Type: spec.MountBind, Source: "/etc", Target: "/e"},
		"--mount type=bind,source=/etc,target=/e,readonly": {Origin: "--mount", Type: spec.MountBind, Source: "/etc", Target: "/e", ReadOnly: true},
		"--mount type=tmpfs,target=/e":                     {Origin: "--mount", Type: spec.MountTmpfs, Target: "/e"},
		"--tmpfs /e":                                       {Origin: "--tmpfs", Type: spec.MountTmpfs, Source: "x", Target: "/e"},
		"image VOLUME /e":                                  {Origin: "image VOLUME", Type: spec.MountVolume, Source: "x", Target: "/e"},
		"mount /e":                                         {Target: "/e"},
		`-v "/a\nb:/e"`:                                    {Origin: "-v", Source: "/a\nb", Target: "/e"},
	} {
		if got := mountFlag(m); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// kernelFiles are the file systems of the kernel, by name and number: of
// linux/magic.h, or -1 where the kernel gives them none of their own.
func kernelFiles() map[string]int64 {
	return map[string]int64{
		"anon_inodefs": 0x09041934, "autofs": 0x0187, "binder": 0x6c6f6f70, "binfmt_misc": 0x42494e4d, "bpf": 0xcafe4a11, "cgroup": 0x27e0eb,
		"cgroup2": 0x63677270, "configfs": 0x62656570, "debugfs": 0x64626720, "devpts": 0x1cd1, "devtmpfs": -1, "efivarfs": 0xde5e81e4,
		"functionfs": -1, "fusectl": 0x65735543, "mqueue": 0x19800202, "nfsd": 0x6e667364, "nsfs": 0x6e736673, "openpromfs": 0x9fa1,
		"pipefs": 0x50495045, "proc": 0x9fa0, "pstore": 0x6165676c, "resctrl": 0x7655821, "rpc_pipefs": 0x67596969, "securityfs": 0x73636673,
		"selinuxfs": 0xf97cff8c, "smackfs": 0x43415d53, "sockfs": 0x534f434b, "sysfs": 0x62656572, "tracefs": 0x74726163, "xenfs": 0xabba1974,
	}
}

func TestKernelFileSystems(t *testing.T) {
	for name, magic := range kernelFiles() {
		if !isKernelFS(name, 0) {
			t.Errorf("%s is not known by its name", name)
		}
		if magic > 0 && !isKernelFS("", magic) {
			t.Errorf("%s is not known by its number %#x", name, magic)
		}
	}
	for name, magic := range map[string]int64{"ext4": 0xef53, "xfs": 0x58465342, "tmpfs": 0x01021994, "nfs4": 0x6969, "overlay": 0x794c7630, "": 0, "btrfs": 0x9123683e} {
		if isKernelFS(name, magic) {
			t.Errorf("%s is taken for the kernel's", name)
		}
	}
	if len(kernelFS()) != len(kernelFiles()) {
		t.Errorf("%d file systems, and %d here", len(kernelFS()), len(kernelFiles()))
	}
}
