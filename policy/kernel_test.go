package policy

import (
	"strings"
	"testing"

	"github.com/safe-run/safe-run/spec"
)

// TestSysctlScopes: spellings, and the namespace of each setting.
func TestSysctlScopes(t *testing.T) {
	for key, want := range map[string]string{
		"net.a": "net.a", "net/a": "net.a", "net/a.b/c": "net.a/b.c", "/a/b": ".a.b", ".a/b": ".a/b", "none": "none", "": "",
	} {
		if got := sysctlName(key); got != want {
			t.Errorf("%q: %q, want %q", key, got, want)
		}
	}
	scopes := map[string]sysctlScope{
		"net.core.somaxconn": scopeNet, "net.ipv4.conf.eth0/1.x": scopeNet, "net.a/b": scopeNet, "user.max_net_namespaces": scopeOther, "fs.mqueue.msg_max": scopeIPC,
		"net./a": scopeHost, "net.a/": scopeHost, "net.a//b": scopeHost, "net..a": scopeHost, ".net": scopeHost, "net.": scopeHost, "": scopeHost, "net": scopeHost,
		"kernel.hostname": scopeHost, "kernel.msgmaxx": scopeHost, "vm.swappiness": scopeHost, "network.x": scopeHost, "users.x": scopeHost,
	}
	for name := range strings.FieldsSeq("msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced") {
		scopes["kernel."+name] = scopeIPC
	}
	for name, want := range scopes {
		if got := scopeOf(name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
	if why := said(t, sysctl("net.ipv4.conf.all.accept_redirects", "1")).GivesAway; !strings.Contains(why, "change its routes") {
		t.Errorf("a setting of routes gives away %q", why)
	}
	const plainOnes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-:@"
	for c := range rune(0x180) {
		want := scopeHost
		if strings.ContainsRune(plainOnes, c) || c == '.' || c == '/' {
			want = scopeNet
		}
		if got := scopeOf("net.a" + string(c) + "b"); got != want {
			t.Errorf("%q: %v", c, got)
		}
	}
}

// TestAnnotationsNobodyGrants: those that act on the runtime, the engine and
// this program, in any case.
func TestAnnotationsNobodyGrants(t *testing.T) {
	for _, key := range []string{"org.systemd.property.TasksMax", "ORG.Systemd.Property.X", "safe-run/id", "containerd.io/x", "io.containerd.x", "io.kubernetes.cri.x", "a b", "a\x1b", ""} {
		if grantableAnnotation(key) {
			t.Errorf("%q can be granted", key)
		}
		if r := said(t, work(func(w *spec.Workload) { w.Annotations = map[string]string{key: "x"} })); r.ID != "annotation" || r.Grant != "" {
			t.Errorf("%q: %+v", key, r)
		}
	}
	for _, key := range []string{"com.example.note", "run.oci.x", "org.systemd.prop", "safe-running", "io.kubernetes.x"} {
		if !grantableAnnotation(key) {
			t.Errorf("%q cannot be granted", key)
		}
	}
}
