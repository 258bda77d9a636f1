package threats

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/spec"
)

const (
	blockNode = unix.S_IFBLK
	charNode  = unix.S_IFCHR
)

func busyboxPath(t *testing.T) string {
	t.Helper()
	p, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func annotated(a map[string]string) func(*ocispec.Manifest) {
	return func(m *ocispec.Manifest) {
		m.Annotations = a
		m.Config.Annotations = a
		for i := range m.Layers {
			m.Layers[i].Annotations = a
		}
	}
}

// groundDir is a directory of this run every uid can reach.
func groundDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(here.Dir, "row-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// makeDir makes a directory; put a file.
func makeDir(t *testing.T, p string) string {
	t.Helper()
	must(t, os.MkdirAll(p, 0o755))
	return p
}

func put(t *testing.T, p, content string) string {
	t.Helper()
	must(t, os.WriteFile(p, []byte(content), 0o644))
	return p
}

func linkTo(t *testing.T, p, target string) string {
	t.Helper()
	must(t, os.Symlink(target, p))
	return p
}

func makeNode(t *testing.T, p string, kind, major, minor uint32) {
	t.Helper()
	must(t, unix.Mknod(p, kind|0o666, int(unix.Mkdev(major, minor))))
}

func listenTCP(t *testing.T, at string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", at)
	must(t, err)
	return l
}

// listen makes a unix socket somebody listens on.
func listen(t *testing.T, p string) string {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(p), 0o755))
	l, err := net.Listen("unix", p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return p
}

// mounted mounts until the end of the test.
func mounted(t *testing.T, source, target, fs string, flags uintptr, data string) string {
	t.Helper()
	must(t, os.MkdirAll(target, 0o755))
	if err := unix.Mount(source, target, fs, flags, data); err != nil {
		t.Fatalf("mount %s %s on %s: %v", fs, source, target, err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(target, unix.MNT_DETACH)) })
	return target
}

// spellings are the ways to ask for a bind, read-only and not.
func spellings(source, target string) [][]string {
	return [][]string{
		{"-v", source + ":" + target},
		{"-v", source + ":" + target + ":ro"},
		{"--volume=" + source + ":" + target + ":rw"},
		{"--mount", "type=bind,source=" + source + ",target=" + target},
		{"--mount", "type=bind,src=" + source + ",dst=" + target + ",readonly"},
		{"--mount", "destination=" + target + ",type=bind,ro=true,src=" + source + ",bind-recursive=disabled"},
	}
}

// bindsOf asks for each source in two of the ways, in turn.
func bindsOf(all ...string) (out [][]string) {
	for i, s := range all {
		ways := spellings(s, "/x")
		out = append(out, ways[i%len(ways)], ways[(i+3)%len(ways)])
	}
	return out
}

func TestF6(t *testing.T) {
	row(t, "F6")
	dir := groundDir(t)
	root := linkTo(t, filepath.Join(dir, "to-root"), "/")
	etc := linkTo(t, filepath.Join(dir, "to-etc"), "to-root/etc")
	copied := mounted(t, "/", filepath.Join(dir, "copied"), "", unix.MS_BIND, "")
	part := mounted(t, "/etc", filepath.Join(dir, "part"), "", unix.MS_BIND, "")
	shadow := filepath.Join(dir, "numbers")
	if err := os.Link("/etc/shadow", shadow); err != nil { // another file system: a mount is an alias as well
		put(t, shadow, "")
		must(t, unix.Mount("/etc/shadow", shadow, "", unix.MS_BIND, ""))
		t.Cleanup(func() { must(t, unix.Unmount(shadow, unix.MNT_DETACH)) })
	}
	all := attempts{
		"bind-root": bindsOf("/", "//", "/.", "/../", "/etc/..", "/proc/self/root", "/proc/thread-self/root", root, root+"/", root+"/etc/..", copied, copied+"/", filepath.Dir(dir)+"/../../../../..", filepath.Dir(here.Dir)),
		"bind-system|bind-home|bind-kernel|bind-secret|bind-container-store|engine-socket|socket": bindsOf("/etc", "/root", "/home", "/boot", "/dev", "/proc", "/sys", "/run", "/var/run",
			"/var/lib", "/var", "/usr", "/usr/..//etc", etc, root+"/etc", copied+"/etc", part, "/etc/shadow", shadow, root+"/etc/shadow", part+"/shadow"),
		"bind-magic-link|bind-root|bind-system": bindsOf("/proc/self/cwd/../../../../../../etc", "/proc/self/root/etc"),
		// Words of the parser, not of the policy.
		"": {lineOf("--mount", "type=bind,target=/x"), lineOf("-v", "/:/x:ro:ro"), lineOf("-v", "/:/x:ro,nonsense"), lineOf("-v", "~/:/x")},
	}
	for _, p := range []string{"/bin", "/sbin", "/lib"} {
		all["bind-system"] = append(all["bind-system"], []string{"-v", p + ":/x"})
	}
	refusedEach(t, all)
	own := makeDir(t, filepath.Join(dir, "own"))
	runs(t, "-v", own+":/x", "--mount", "type=bind,src="+own+",dst=/y,readonly", "busybox", "true")
}

func TestF7(t *testing.T) {
	row(t, "F7")
	dir := groundDir(t)
	// Sockets of other names and places: what holds one is refused at any depth.
	plain := listen(t, filepath.Join(dir, "a/b/c/agent.1234"))
	docker := listen(t, filepath.Join(dir, "d/e/docker.sock"))
	must(t, os.Link(docker, filepath.Join(dir, "d/hard")), os.Mkdir(filepath.Join(dir, "f"), 0o755), os.Link(docker, filepath.Join(dir, "f/harmless")))
	link := linkTo(t, filepath.Join(dir, "link"), filepath.Join(dir, "d"))
	copied := mounted(t, filepath.Join(dir, "d"), filepath.Join(dir, "copied"), "", unix.MS_BIND, "")
	layer := func(name string) string { return makeDir(t, filepath.Join(dir, "layers", name)) }
	overlay := mounted(t, "overlay", filepath.Join(dir, "overlay"), "overlay", 0,
		"lowerdir="+filepath.Join(dir, "d")+",upperdir="+layer("up")+",workdir="+layer("work"))
	// One nobody listens on any more, and one of another network namespace.
	dead := filepath.Join(dir, "g/dead")
	makeDir(t, filepath.Dir(dead))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	must(t, err)
	l.SetUnlinkOnClose(false)
	must(t, l.Close())
	fifo := filepath.Join(dir, "fifo")
	must(t, unix.Mkfifo(fifo, 0o666))
	makeNode(t, filepath.Join(dir, "block"), blockNode, 8, 0)
	makeNode(t, filepath.Join(dir, "char"), charNode, 1, 3)
	refusedEach(t, attempts{
		"socket":        bindsOf(plain, filepath.Dir(plain), filepath.Join(dir, "a"), dead, filepath.Dir(dead)),
		"engine-socket": bindsOf(docker, filepath.Dir(docker), filepath.Join(dir, "d"), link, link+"/e/docker.sock", copied, copied+"/e", here.Socket),
		"engine-socket|socket|bind-container-store|bind-unreadable": bindsOf(filepath.Join(dir, "d/hard"), filepath.Join(dir, "f"), overlay, overlay+"/e/docker.sock", here.State, filepath.Dir(here.Socket)),
		"bind-fifo":      bindsOf(fifo),
		"bind-device":    bindsOf(filepath.Join(dir, "block"), filepath.Join(dir, "char")),
		"use-api-socket": {lineOf("--use-api-socket"), lineOf("--use-api-socket=true")},
		"bind-system|socket|engine-socket|bind-missing": bindsOf("/run/dbus/system_bus_socket", "/var/run/docker.sock"),
	})
	own := makeDir(t, filepath.Join(dir, "own"))
	put(t, filepath.Join(own, "docker.sock"), "a file with such a name is no socket")
	if out := runs(t, "-v", own+":/x:ro", "busybox", "ls", "/x"); out != "docker.sock\n" {
		t.Errorf("%q", out)
	}
	// The usual names of the field, in a /run of our own.
	mounted(t, "none", "/run", "tmpfs", 0, "mode=755")
	known := attempts{}
	for name, id := range map[string]string{
		"docker.sock": "engine-socket", "containerd/containerd.sock": "engine-socket", "crio/crio.sock": "engine-socket", "podman/podman.sock": "engine-socket",
		"buildkit/buildkitd.sock": "engine-socket", "nri/nri.sock": "engine-socket", "k3s/containerd/containerd.sock": "engine-socket", "cri-dockerd.sock": "engine-socket",
		"libvirt/libvirt-sock": "", "snapd.socket": "", "systemd/private": "", "systemd/journal/socket": "", "systemd/journal/io.systemd.journal": "", "dbus/system_bus_socket": "",
		"user/1000/bus": "", "user/1000/gnupg/S.gpg-agent": "", "user/1000/wayland-0": "", "nscd/socket": "", "containerd/s/0123abcd": "engine-socket",
	} {
		if id == "" {
			id = "socket|engine-socket|bind-system"
		}
		p := listen(t, filepath.Join("/run", name))
		above := id
		if filepath.Dir(p) != "/run" {
			above = "socket|engine-socket|bind-system|bind-container-store"
		}
		known[id] = append(known[id], bindsOf(p)...)
		known[above] = append(known[above], bindsOf(filepath.Dir(p), filepath.Join("/var", p))...)
	}
	known["engine-socket"] = append(known["engine-socket"], bindsOf("/run", "/var/run", "/var/run/")...)
	for id, flags := range known {
		for _, f := range flags {
			turnedDown(t, id, f...)
		}
	}
}

// Every way to write a mount meets the same refusal.
func TestF8(t *testing.T) {
	row(t, "F8")
	dir := groundDir(t)
	root := linkTo(t, filepath.Join(dir, "root"), "/")
	socket := listen(t, filepath.Join(dir, "s/docker.sock"))
	all := attempts{}
	profile := 0
	for source, id := range map[string]string{"/": "bind-root", root: "bind-root", "/etc": "bind-system", "/etc/shadow": "bind-secret", socket: "engine-socket", filepath.Dir(socket): "engine-socket", "/proc/sys": "bind-kernel", "/dev/mem": "bind-device"} {
		ways := spellings(source, "/x")
		for _, text := range []string{"source: " + source + ", target: /x", "source: " + source + ", target: /x, writable: true"} {
			profile++
			way := []string{"--profile", put(t, filepath.Join(dir, strconv.Itoa(profile)+".yaml"), "version: 1\nbinds: [{"+text+"}]\n")}
			if source == "/" { // no profile may say it at all
				all[""] = append(all[""], way)
				continue
			}
			ways = append(ways, way)
		}
		if source == "/dev/mem" {
			if _, err := os.Stat(source); err != nil {
				continue
			}
		}
		all[id] = append(all[id], ways...)
		all["volume-driver"] = append(all["volume-driver"],
			[]string{"--mount", "type=volume,src=f8-v,dst=/x,volume-opt=type=none,volume-opt=o=bind,volume-opt=device=" + source})
	}
	all[""] = append(all[""], []string{"--volume-driver", "rclone", "-v", "f8-v:/x"})
	all["volumes-from"] = [][]string{{"--volumes-from", "f8-other"}}
	all["use-api-socket"] = [][]string{{"--use-api-socket"}}
	refusedEach(t, all)
	verifySeesResults(t)
}

// verifySeesResults: the last look is at the specification itself, so a right
// that came into it by a way nobody thought of is seen.
func verifySeesResults(t *testing.T) {
	t.Helper()
	broken := func(change func(s *specs.Spec)) string {
		s := planned(t, "busybox", "true")
		change(s)
		return spec.Verify(s, spec.VerifyInput{}).Error()
	}
	plain := lines(broken(func(*specs.Spec) {}))
	mount := func(source, target string, options ...string) func(*specs.Spec) {
		return func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Source: source, Destination: target, Type: "bind", Options: options})
		}
	}
	for rule, changes := range map[string][]func(*specs.Spec){
		"mount-sources": {
			mount("/", "/x", "rbind", "rro"), mount("/run/docker.sock", "/x", "bind"), mount("/proc/1/root", "/x", "rbind", "rro", "rnosuid", "rnodev", "rnoexec"),
			mount("/proc/self/fd/3", "/x", "bind", "ro"),
		},
		"mount-order":       {mount("/srv", "/proc/sys", "rbind"), mount("/srv", "/sys/fs", "rbind")},
		"mount-flags":       {mount("/srv", "/x", "rbind", "rro")},
		"capabilities":      {func(s *specs.Spec) { s.Process.Capabilities.Effective = []string{"CAP_SYS_ADMIN"} }},
		"no-new-privileges": {func(s *specs.Spec) { s.Process.NoNewPrivileges = false }},
		"hooks":             {func(s *specs.Spec) { s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/bin/sh"}}} }},
		"namespaces":        {func(s *specs.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[1:] }},
		"seccomp":           {func(s *specs.Spec) { s.Linux.Seccomp.DefaultAction = specs.ActAllow }, func(s *specs.Spec) { s.Linux.Seccomp = nil }},
		"annotations":       {func(s *specs.Spec) { s.Annotations = map[string]string{"run.oci.handler": "x"} }},
		"rootfs-readonly":   {func(s *specs.Spec) { s.Root.Readonly = false }},
	} {
		for i, change := range changes {
			seen := slices.ContainsFunc(lines(broken(change)), func(l string) bool {
				return strings.Contains(l, rule+": ") && !slices.Contains(plain, l)
			})
			if !seen {
				t.Errorf("%s, change %d, is not seen", rule, i)
			}
		}
	}
}
