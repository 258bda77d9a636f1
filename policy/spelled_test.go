package policy

import (
	"testing"

	"github.com/safe-run/safe-run/spec"
)

// TestSpelled reviews binds and devices by their spelling alone.
func TestSpelled(t *testing.T) {
	for _, c := range []struct{ bind, want string }{
		{"/", "bind-root"},
		{"/..", "bind-root"},
		{"/srv/data", ""},
		{"/unknown", ""},
		{"/etc", "bind-system"},
		{"/etc/", "bind-system"},
		{"/etc/../etc/ssh", "bind-secret"},
		{"/home/ann", "bind-home"},
		{"/home/ann/.ssh/id_ed25519", "bind-secret"},
		{"/data/ann/.ssh", "bind-secret"},
		{"/var/lib/docker", "bind-container-store"},
		{"/var/run/docker.sock", "engine-socket"},
		{"/run/docker.sock", "engine-socket"},
		{"/opt/elsewhere/docker.sock", "engine-socket"},
		{"/run/podman", "engine-socket"},
		{"/run/user/1000/podman/podman.sock", "engine-socket"},
		{"/var/run", "bind-system"},
		{"/run", "bind-system"},
		{"/run/dbus/system_bus_socket", "bind-system"},
		{"/srv/mysql/mysqld.sock", "socket"},
		{"/proc", "bind-kernel"},
		{"/sys/fs/cgroup", "bind-kernel"},
		{"/dev/snd", "bind-kernel"},
		{"/dev/sda", "bind-device"},
		{"/dev/kmsg", "bind-device"},
	} {
		r := Request{
			Workload: spec.Workload{Image: "a", Mounts: []spec.Mount{{Origin: "-v", Type: spec.MountBind, Source: c.bind, Target: "/x"}}},
			Sources:  map[int]spec.Source{0: Spelled(c.bind)}, Provisional: true,
		}
		if got := firstID(r); got != c.want {
			t.Errorf("bind of %s: %q, want %q", c.bind, got, c.want)
		}
	}
	for _, c := range []struct{ device, want string }{
		{"/dev/ttyUSB0", "device"},
		{"/dev/net/tun", "device"},
		{"/dev/dri/renderD128", "device"},
		{"/dev/bus/usb/001/002", "device"},
		{"/dev/nvme0", "device"},
		{"/dev/fuse", "device"},
		{"/dev/mapper/control", "device"},
		{"/dev/sda1", "device-forbidden"},
		{"/dev/nvme0n1p1", "device-forbidden"},
		{"/dev/mmcblk0", "device-forbidden"},
		{"/dev/mapper/root", "device-forbidden"},
		{"/dev/disk/by-id/x", "device-forbidden"},
		{"/dev/mem", "device-forbidden"},
		{"/dev/snd", "device-forbidden"},
		{"/dev", "device-forbidden"},
		{"/etc/passwd", "device"},
	} {
		r := Request{
			Workload:      spec.Workload{Image: "a", Devices: []spec.Device{{Raw: c.device, Host: c.device, Container: "/dev/inside", Permissions: "rwm"}}},
			DeviceSources: map[int]spec.Source{0: SpelledDevice(c.device)}, Provisional: true,
		}
		if got := firstID(r); got != c.want {
			t.Errorf("device %s: %q, want %q", c.device, got, c.want)
		}
	}
}

func firstID(r Request) string {
	_, refusals := Review(r)
	if len(refusals) == 0 {
		return ""
	}
	return refusals[0].ID
}
