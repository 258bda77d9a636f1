package policy

import (
	"io/fs"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/safe-run/safe-run/spec"
)

// What the site gives reaches the grants; what was not asked for does not.
func TestGrantsReachTheSpec(t *testing.T) {
	site, err := ParseSite([]byte(`
version: 1
grants:
  - image: busybox
    capabilities: [net_admin, SYS_PTRACE, SYS_TIME]
    devices: [{path: /dev/fuse, permissions: rw}]
    binds: [{source: /etc/app}, {source: /var/mail, readonly: true}]
    sysctls: [user.max_user_namespaces]
    annotations: [com.example.note]
    allow: [userns-host, writable-rootfs, memory-unlimited, pid-host]
`), "test")
	if err != nil {
		t.Fatal(err)
	}
	r := request(
		capAdd("NET_ADMIN", "sys_time"), device(chr(10, 229, "/dev/fuse"), "/dev/fuse", "rw"),
		sysctl("user.max_user_namespaces", "10"), bind("/etc/app", false), bind("/var/mail", true),
		work(func(w *spec.Workload) {
			w.Annotations = map[string]string{"com.example.note": "x", "org.opencontainers.image.title": "y"}
			w.ReadOnly, w.UserNSMode = ptr(false), "host"
			w.Resources.Memory = ptr(int64(0))
		}),
		func(r *Request) { r.Site = site },
	)
	g, refusals := Review(r)
	if len(refusals) > 0 {
		t.Fatalf("%+v", refusals)
	}
	mode := fs.FileMode(0o666)
	dev := specs.LinuxDevice{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229, FileMode: &mode}
	switch {
	case !slices.Equal(g.Capabilities, []string{"CAP_NET_ADMIN", "CAP_SYS_TIME"}),
		len(g.Devices) != 1 || g.Devices[0].Path != dev.Path || g.Devices[0].Minor != 229 || g.Devices[0].Major != 10 || *g.Devices[0].FileMode != mode,
		g.DevicePerms["/dev/fuse"] != "rw",
		!slices.Equal(g.Binds, []string{"/var/mail", "/etc/app"}),
		!slices.Equal(g.Sysctls, []string{"user.max_user_namespaces"}),
		!slices.Equal(g.Annotations, []string{"com.example.note", "org.opencontainers.image.title"}),
		!g.HostUserNS, !g.WritableRootfs, !g.UnlimitedMemory, g.HostPID, g.HostNetwork, g.NewPrivileges:
		t.Errorf("grants: %+v", g)
	}
	// Asked for less, given less.
	if g, _ := Review(request(func(r *Request) { r.Site = site })); len(g.Capabilities) > 0 || g.WritableRootfs || len(g.IDs) > 0 {
		t.Errorf("given without being asked: %+v", g)
	}
	// One thing too many, and nothing is given.
	r.Workload.CapAdd = append(r.Workload.CapAdd, "SYS_ADMIN")
	if g, refusals := Review(r); len(refusals) != 1 || len(g.Capabilities) > 0 || len(g.Devices) > 0 {
		t.Errorf("grants %+v with refusals %+v", g, refusals)
	}
	// More than was given: writable where read-only, more permissions, a node
	// of that name which is another device.
	for name, with := range map[string]func(*Request){
		"bind":   bind("/var/mail", false),
		"device": device(chr(10, 229, "/dev/fuse"), "/dev/fuse", "rwm"),
		"path":   device(chr(10, 200, "/dev/net/tun"), "/dev/fuse", "rw"),
	} {
		if _, refusals := Review(request(with, func(r *Request) { r.Site = site })); len(refusals) != 1 {
			t.Errorf("%s: %+v", name, refusals)
		}
	}
}

func TestGrantsMatchTheImage(t *testing.T) {
	a, b := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	for _, c := range []struct {
		pattern, image, digest string
		want                   bool
	}{
		{"busybox", "busybox", a, true},
		{"docker.io/library/busybox", "busybox:1.36", a, true},
		{"busybox", "index.docker.io/library/busybox", a, true},
		{"busybox", "evil.example/library/busybox", a, false},
		{"busybox", "evil/busybox", a, false},
		{"busybox", "busyboxes", a, false},
		{"quay.io/org/*", "quay.io/org/app:1", a, true},
		{"quay.io/org/*", "quay.io/org/team/app", a, true},
		{"quay.io/org/*", "quay.io/organ/app", a, false},
		{"quay.io/org/*", "quay.io/org", a, false},
		{"registry.example:5000/*", "registry.example:5000/x/y", a, true},
		{"registry.example:5000/*", "registry.example/x/y", a, false},
		{"busybox@" + a, "busybox", a, true},
		{"busybox@" + a, "busybox", b, false},
		{"busybox@" + b, "busybox@" + b, a, true},
		{"busybox@" + a, "busybox@" + b, a, true},
		{"busybox", "NOT/An/Image", a, false},
	} {
		site, err := ParseSite([]byte("version: 1\ngrants: [{image: '"+c.pattern+"', allow: [writable-rootfs]}]"), "t")
		if err != nil {
			t.Fatalf("%s: %v", c.pattern, err)
		}
		r := request(func(r *Request) {
			r.Site, r.Workload.Image, r.Image.Name, r.Image.Digest = site, c.image, c.image, c.digest
			r.Workload.ReadOnly = ptr(false)
		})
		if g, refusals := Review(r); g.WritableRootfs != c.want || (len(refusals) == 0) != c.want {
			t.Errorf("%+v: %+v %+v", c, g, refusals)
		}
	}
}

func TestProfileOfAGrant(t *testing.T) {
	site, err := ParseSite([]byte("version: 1\ngrants: [{image: busybox, profile: web, allow: [writable-rootfs]}]"), "t")
	if err != nil {
		t.Fatal(err)
	}
	for profile, want := range map[string]bool{"web": true, "": false, "other": false} {
		r := request(func(r *Request) { r.Site, r.Profile, r.Workload.ReadOnly = site, profile, ptr(false) })
		if g, _ := Review(r); g.WritableRootfs != want {
			t.Errorf("profile %q: %+v", profile, g)
		}
	}
}

// A review before the image is known refuses what no image could change, and
// gives nothing.
func TestProvisional(t *testing.T) {
	a := "sha256:" + strings.Repeat("a", 64)
	site, err := ParseSite([]byte("version: 1\ngrants: [{image: busybox@"+a+", allow: [writable-rootfs]}]"), "t")
	if err != nil {
		t.Fatal(err)
	}
	r := request(func(r *Request) {
		r.Site, r.Workload.ReadOnly, r.Image, r.Provisional = site, ptr(false), spec.Image{}, true
	})
	if g, refusals := Review(r); len(refusals) > 0 || g.WritableRootfs {
		t.Errorf("%+v %+v", g, refusals)
	}
	r.Workload.Image = "alpine"
	if _, refusals := Review(r); len(refusals) != 1 {
		t.Errorf("another image: %+v", refusals)
	}
	r.Workload.Image, r.Image, r.Provisional = "busybox", spec.Image{Name: "busybox", Digest: "sha256:" + strings.Repeat("b", 64)}, false
	if g, refusals := Review(r); len(refusals) != 1 || g.WritableRootfs {
		t.Errorf("another digest: %+v %+v", g, refusals)
	}
}
