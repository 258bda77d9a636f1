package policy

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/spec"
)

// TestEachAllow: each word of allow switches on one thing.
func TestEachAllow(t *testing.T) {
	for id, want := range map[string]spec.Grants{
		"userns-host": {HostUserNS: true}, "network-host": {HostNetwork: true}, "pid-host": {HostPID: true}, "ipc-host": {HostIPC: true}, "uts-host": {HostUTS: true},
		"seccomp-unconfined": {UnconfinedSeccomp: true}, "apparmor-unconfined": {UnconfinedAppArmor: true}, "apparmor-profile": {NamedAppArmor: true},
		"label-disable": {LabelDisable: true}, "new-privileges": {NewPrivileges: true}, "writable-rootfs": {WritableRootfs: true},
		"memory-unlimited": {UnlimitedMemory: true}, "pids-unlimited": {UnlimitedPids: true}, "publish-address": {},
	} {
		var got spec.Grants
		grant(&got, allow(id))
		switches := func(g spec.Grants) [13]bool {
			return [13]bool{
				g.HostUserNS, g.HostNetwork, g.HostPID, g.HostIPC, g.HostUTS, g.UnconfinedSeccomp, g.UnconfinedAppArmor, g.NamedAppArmor,
				g.LabelDisable, g.NewPrivileges, g.WritableRootfs, g.UnlimitedMemory, g.UnlimitedPids,
			}
		}
		if switches(got) != switches(want) {
			t.Errorf("%s: %+v", id, got)
		}
	}
	if n := len(allowIDs()); n != 14 {
		t.Errorf("%d words, 14 here", n)
	}
}

// TestGrantsOfSeveral: two devices keep their permissions, and a rule lifted
// twice is told once.
func TestGrantsOfSeveral(t *testing.T) {
	r := request(sited("grants: [{image: busybox, capabilities: [NET_ADMIN, SYS_PTRACE], devices: [{path: /dev/fuse}, {path: /dev/net/tun, permissions: r}]}]"),
		capAdd("NET_ADMIN", "SYS_PTRACE", "net_admin"), func(r *Request) {
			r.Workload.Devices = []spec.Device{{Raw: "/dev/fuse", Host: "/dev/fuse", Container: "/dev/fuse", Permissions: "rw"}, {Raw: "/dev/net/tun", Host: "/dev/net/tun", Container: "/dev/net/tun", Permissions: "r"}}
			r.DeviceSources = map[int]spec.Source{0: chr(10, 229, "/dev/fuse"), 1: chr(10, 200, "/dev/net/tun")}
		})
	g, refusals := Review(r)
	if len(refusals) > 0 || g.DevicePerms["/dev/fuse"] != "rw" || g.DevicePerms["/dev/net/tun"] != "r" || !slices.Equal(g.Capabilities, []string{"CAP_NET_ADMIN", "CAP_SYS_PTRACE"}) {
		t.Errorf("%+v %+v", g, refusals)
	}
	if !slices.Equal(g.IDs, []string{"capability", "device"}) {
		t.Errorf("lifted: %q", g.IDs)
	}
}

// TestGrantsOfOneKind: an entry of a list gives that one thing of the list.
func TestGrantsOfOneKind(t *testing.T) {
	for _, c := range []struct {
		file string
		with func(*Request)
	}{
		{"allow: [pid-host]", work(func(w *spec.Workload) { w.ReadOnly = ptr(false) })},
		{"capabilities: [NET_ADMIN]", capAdd("SYS_PTRACE")},
		{"sysctls: [user.max_net_namespaces]", sysctl("user.max_user_namespaces", "1")},
		{"annotations: [com.example.a]", work(func(w *spec.Workload) { w.Annotations = map[string]string{"com.example.b": "x"} })},
		{"binds: [{source: /etc/app}]", bind("/etc/apps", false)},
		{"binds: [{source: /etc/app/conf}]", bind("/etc/app", false)},
		{"devices: [{path: /dev/fuse}]", device(chr(10, 200, "/dev/net/tun"), "/dev/net/tun", "r")},
	} {
		with := with(sited("grants: [{image: busybox, "+c.file+"}]"), c.with)
		if r := said(t, with); r.Grant == "" {
			t.Errorf("%s: %+v", c.file, r)
		}
	}
	if (allowed{[]Grant{{Devices: []DeviceGrant{{"/dev/x", "rwm"}}}}}).permits(Need{Key: "devices", Value: "/dev/x", Perms: "r"}) {
		t.Error("a device nobody looked at is permitted")
	}
	// A grant for everybody holds for profiles as well.
	if got := refused(sited("grants: [{image: busybox, allow: [writable-rootfs]}]"), func(r *Request) { r.Profile, r.Workload.ReadOnly = "web", ptr(false) }); got != "" {
		t.Errorf("a profile loses the grant of its image: %s", got)
	}
	// Settings have one name, however the site spells it.
	if got := refused(sited("grants: [{image: busybox, sysctls: [user/max_user_namespaces]}]"), sysctl("user.max_user_namespaces", "1")); got != "" {
		t.Errorf("a grant spelled with slashes: %s", got)
	}
}

// TestPatterns: which repositories an image of a grant means.
func TestPatterns(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for text, want := range map[string]pattern{
		"busybox":                   {repository: "docker.io/library/busybox"},
		"busybox@" + digest:         {repository: "docker.io/library/busybox", digest: digest},
		"quay.io/org/*":             {repository: "quay.io/org", below: true},
		"quay.io/*":                 {repository: "quay.io", below: true},
		"registry.example:5000/*":   {repository: "registry.example:5000", below: true},
		"org/*":                     {repository: "docker.io/library/org", below: true},
		"quay.io/org.x/*":           {repository: "quay.io/org.x", below: true},
		"localhost:5000/app":        {repository: "localhost:5000/app"},
		"index.docker.io/library/x": {repository: "docker.io/library/x"},
		"index.docker.io/a/b/*":     {repository: "docker.io/a/b", below: true},
	} {
		if got, err := parsePattern(text); err != nil || got != want {
			t.Errorf("%q: %+v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "*", "-bad.x/*", "a..b_/*", "busybox:1", "UPPER", "a b"} {
		if got, err := parsePattern(text); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

// TestGrantsOfADigest: an image asked for by its digest, and one whose digest
// is not known yet.
func TestGrantsOfADigest(t *testing.T) {
	a, b := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	for _, c := range []struct {
		pattern, asked, digest string
		provisional, want      bool
	}{
		{"busybox", "busybox@" + b, a, false, true},
		{"busybox@" + a, "busybox", "", false, false},
		{"busybox@" + a, "busybox", "", true, true},
		{"busybox@" + a, "busybox", b, true, false},
		{"busybox@" + a, "busybox@" + b, "", true, false},
		{"busybox@" + a, "busybox@" + a, "", true, true},
		{"busybox@" + a, "busybox@" + b, "", false, false},
	} {
		p, err := parsePattern(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		r := Request{Workload: spec.Workload{Image: c.asked}, Image: spec.Image{Digest: c.digest}, Provisional: c.provisional}
		if got := p.matches(&r); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// TestSiteEdges: numbers of a policy file, at the bound and outside ("" loads).
func TestSiteEdges(t *testing.T) {
	for file, says := range map[string]string{
		"limits: {default: {pids: 1}}":                              "",
		"limits: {max: {pids: 1}}":                                  "",
		"limits: {max: {pids: 0}}":                                  "more than 0",
		"limits: {max: {memory: 0}}":                                "not a size",
		"limits: {max: {shm: 1}}":                                   "",
		"limits: {default: {pids: 8}, max: {pids: 8}}":              "",
		"limits: {default: {memory: 6m}}":                           "",
		"limits: {default: {memory: 6291455}}":                      "at least 6m",
		"limits: {max: {memory: 6m}}":                               "",
		"limits: {max: {memory: 6291455}}":                          "at least 6m",
		"limits: {max: {cpus: 0}}":                                  "more than 0",
		"limits: {max: {cpus: -1}}":                                 "more than 0",
		"limits: {max: {cpus: 0.01}}":                               "",
		"limits: {max: {cpus: 65536}}":                              "",
		"limits: {max: {cpus: 65537}}":                              "more than 0",
		"registries: [exa mple.io]":                                 "not a host name",
		"registries: [quay]":                                        "not a host name",
		"registries: [localhost]":                                   "",
		"registries: ['localhost:5000']":                            "",
		"grants: [{image: a, devices: [{path: /dev/../dev/fuse}]}]": "canonical path",
		"grants: [{image: a, devices: [{path: /dev}]}]":             "canonical path",
	} {
		_, err := ParseSite([]byte("version: 1\n"+file), "t")
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", file, err, says)
		}
	}
	s, err := ParseSite([]byte("version: 1\nlimits: {max: {pids: 1}}"), "t")
	if err != nil || s.Limits().Pids != 1 {
		t.Errorf("%+v %v", s.Limits(), err)
	}
}

// TestLoadSite: a file in a place only root can change.
func TestLoadSite(t *testing.T) {
	dir, err := os.MkdirTemp("/run", "policy-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for content, want := range map[string]bool{"version: 1\nrequire-lsm: true\n": true, "version: 7\n": false} {
		file := dir + "/p.yaml"
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := LoadSite(file); (err == nil) != want || s.RequireLSM != want {
			t.Errorf("%q: %+v %v", content, s, err)
		}
	}
}
