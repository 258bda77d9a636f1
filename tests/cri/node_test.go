package cri

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// script is a Pod in a user namespace that runs a shell script.
func script(text string, f func(*corev1.Pod, *corev1.Container)) Objects {
	return Objects{Pod: podOf(func(p *corev1.Pod, c *corev1.Container) {
		p.Spec.HostUsers = new(false)
		c.Command, c.Args = []string{"sh", "-c"}, []string{text}
		if f != nil {
			f(p, c)
		}
	})}
}

// TestVolumes: each kind is there, belongs to whom it belongs in a cluster, and
// is read-only where it is there.
func TestVolumes(t *testing.T) {
	host := filepath.Join(here.Dir, "shared")
	if err := os.Mkdir(host, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(host, "file"), []byte("of the node\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	source := map[string]corev1.VolumeSource{
		"config": {ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "config"}}},
		"key":    {Secret: &corev1.SecretVolumeSource{SecretName: "key", DefaultMode: new(int32(0o400))}},
		"disk":   {EmptyDir: &corev1.EmptyDirVolumeSource{}},
		"memory": {EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: new(resource.MustParse("1Mi"))}},
		"claim":  {PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}},
		"host":   {HostPath: &corev1.HostPathVolumeSource{Path: host}},
	}
	with := func(text string, f func(*corev1.Pod, *corev1.Container)) Objects {
		o := script(text, func(p *corev1.Pod, c *corev1.Container) {
			for name, s := range source {
				p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: s})
				c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: "/v/" + name, ReadOnly: name == "host"})
			}
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "config", MountPath: "/etc/app.conf", SubPath: "app.conf"})
			if f != nil {
				f(p, c)
			}
		})
		o.ConfigMaps = map[string]*corev1.ConfigMap{"config": {Data: map[string]string{"app.conf": "setting\n"}}}
		o.Secrets = map[string]*corev1.Secret{"key": {Data: map[string][]byte{"id": []byte("secret\n")}}}
		return o
	}
	for _, c := range []struct {
		name, text, want string
		change           func(*corev1.Pod, *corev1.Container)
	}{
		{"contents", "cat /v/config/app.conf /etc/app.conf /v/key/id /v/host/file", "setting\nsetting\nsecret\nof the node\n", nil},
		{"owners", "stat -c '%u:%g %a' /v/config/app.conf /v/key/id /v/disk /v/memory /v/claim", "0:0 644\n0:0 400\n0:0 777\n0:0 1777\n0:0 777\n", nil},
		{"written", "echo kept > /v/claim/file && echo x > /v/disk/x && echo x > /v/memory/x && echo done", "done\n", nil},
		{"kept", "cat /v/claim/file; ls /v/disk /v/memory", "kept\n/v/disk:\n\n/v/memory:\n", nil},
		{"read-only", "for d in config key host; do touch /v/$d/new && echo $d; done; echo done", "done\n", nil},
		{"limited", "head -c 2000000 /dev/zero 2>/dev/null > /v/memory/x; stat -c %s /v/memory/x", "1048576\n", nil},
		{"fsGroup", "id -G; cat /v/key/id; echo x > /v/disk/x; stat -c %u:%g /v/disk/x", "1000 2000\nsecret\n1000:2000\n", func(p *corev1.Pod, _ *corev1.Container) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{
				RunAsUser: new(int64(1000)), RunAsGroup: new(int64(1000)), FSGroup: new(int64(2000)),
				SupplementalGroupsPolicy: new(corev1.SupplementalGroupsPolicyStrict),
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if e := onNode(t, with(c.text, c.change)); e.Stdout != c.want || e.Code != 0 {
				t.Errorf("%+v, wanted %q", e, c.want)
			}
		})
	}
}

// TestSysctls: those a cluster takes from every Pod, in a user namespace.
func TestSysctls(t *testing.T) {
	const text = "cd /proc/sys/net/ipv4; cat ip_unprivileged_port_start ping_group_range | tr '\\t' ' '"
	e := onNode(t, script(text, func(p *corev1.Pod, _ *corev1.Container) {
		p.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{
			{Name: "net.ipv4.ip_unprivileged_port_start", Value: "1024"},
			{Name: "net.ipv4.ping_group_range", Value: "0 65535"},
		}}
	}))
	if e.Stdout != "1024\n0 65535\n" {
		t.Errorf("%+v", e)
	}
}

// TestRun: order, exit codes, variables; and a Pod that cannot start leaves
// nothing, which Node.Stop would find.
func TestRun(t *testing.T) {
	if node == nil {
		t.Fatal("the node did not start")
	}
	o := script("echo $(A) $(B) $A; echo bad >&2; exit 7", func(p *corev1.Pod, c *corev1.Container) {
		c.Env = []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "$(A)2"}}
		p.Spec.InitContainers = []corev1.Container{{Name: "first", Image: busyboxImage, Command: []string{"echo", "before"}}}
	})
	all, err := node.Run(context.Background(), o)
	if err != nil || all["first"].Stdout != "before\n" || all["app"] != (Ended{7, "1 12 1\n", "bad\n"}) {
		t.Errorf("%+v, %v", all, err)
	}
	for want, change := range map[string]func(*corev1.Pod, *corev1.Container){
		"no such file": func(_ *corev1.Pod, c *corev1.Container) { c.Command = []string{"/missing"} },
		"not found":    func(_ *corev1.Pod, c *corev1.Container) { c.Image = "safe-run-none:latest" },
		"no volume": func(_ *corev1.Pod, c *corev1.Container) {
			c.VolumeMounts = []corev1.VolumeMount{{Name: "x", MountPath: "/x"}}
		},
		"init container": func(p *corev1.Pod, _ *corev1.Container) {
			p.Spec.InitContainers = []corev1.Container{{Name: "bad", Image: busyboxImage, Command: []string{"false"}}}
		},
		"cannot load": func(_ *corev1.Pod, c *corev1.Container) {
			c.SecurityContext.SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: new("none.json")}
		},
		"no ConfigMap other": func(p *corev1.Pod, _ *corev1.Container) {
			p.Spec.Volumes = []corev1.Volume{
				{Name: "m", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
				{Name: "c", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "other"}}}},
			}
		},
	} {
		o := script("true", change)
		if all, err := node.Run(context.Background(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error with %q: %+v, %v", want, all, err)
		}
	}
	if err := node.left(); err == nil || !strings.Contains(err.Error(), "process") || strings.Contains(err.Error(), "mount stayed") {
		// containerd itself is there, and nothing else.
		t.Errorf("left: %v", err)
	}
}
