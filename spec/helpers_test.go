package spec

import (
	"strings"
)

// testInput is what a launch of a small image with one bind, one volume and
// one tmpfs looks like.
func testInput() Input {
	return Input{
		ID: strings.Repeat("0123456789abcdef", 4),
		Workload: Workload{
			Image: "busybox",
		},
		Image: Image{
			Name: "docker.io/library/busybox:latest", OS: "linux", Arch: "amd64",
			Env: []string{"PATH=/bin:/usr/bin", "LANG=C"}, Cmd: []string{"sh"},
		},
		IDs:    IDBlock{HostUID: 10_000_000, HostGID: 10_000_000, Size: 65536},
		Host:   testFeatures(),
		Limits: DefaultLimits(),
		Files: HostFiles{
			Hosts:      "/var/lib/safe-run/containers/x/hosts",
			Hostname:   "/var/lib/safe-run/containers/x/hostname",
			ResolvConf: "/var/lib/safe-run/containers/x/resolv.conf",
			Init:       "/usr/local/lib/safe-run/engine/tini",
		},
	}
}

func testFeatures() Features {
	return Features{
		Arch: "amd64", Kernel: [2]int{6, 18}, CgroupV2: true,
		Controllers: map[string]bool{"memory": true, "pids": true, "cpu": true, "cpuset": true, "io": true},
		SwapLimit:   true, Seccomp: true, CPUs: 4, CPUSet: "0-3", MemSet: "0",
		NofileHard: 1 << 20, HasResource: true,
		IPv6:      true,
		MaskPaths: []string{"/sys/devices/system/cpu/cpu0/thermal_throttle"},
	}
}

func networks(names ...string) (out []NetworkUse) {
	for _, n := range names {
		out = append(out, NetworkUse{Name: n})
	}
	return out
}

// with gives a test input changed by f.
func with(f func(*Input)) Input {
	in := testInput()
	f(&in)
	return in
}

// rich is an input with every kind of mount, a capability, a device and
// limits.
func rich() Input {
	return with(func(in *Input) {
		in.Mounts = []ResolvedMount{
			{Mount: Mount{Origin: "-v", Type: MountBind, Target: "/src"}, HostPath: "/proc/4711/fd/9"},
			{Mount: Mount{Origin: "-v", Type: MountBind, Target: "/conf", ReadOnly: true}, HostPath: "/proc/4711/fd/10"},
			{Mount: Mount{Origin: "--mount", Type: MountBind, Target: "/opt/one", ReadOnly: true, NonRecursive: true, Exec: true}, HostPath: "/proc/4711/fd/11"},
			{Mount: Mount{Origin: "-v", Type: MountVolume, Source: "data", Target: "/data"}, HostPath: "/var/lib/safe-run/volumes/data/_data"},
			{Mount: Mount{Origin: "image VOLUME", Type: MountVolume, Target: "/var/lib/db"}, HostPath: "/var/lib/safe-run/volumes/anon/_data"},
			{Mount: Mount{Origin: "--mount", Type: MountImage, Target: "/tools"}, HostPath: "/var/lib/safe-run/containers/x/image0"},
			{Mount: Mount{Origin: "--tmpfs", Type: MountTmpfs, Target: "/cache", Tmpfs: TmpfsOptions{Size: 1 << 20, Flags: []string{"exec"}}}},
		}
		in.Workload.CapAdd = []string{"net_bind_service", "NET_ADMIN"}
		in.Grants.Capabilities = []string{"CAP_NET_ADMIN"}
		in.Workload.Init = new(true)
		in.User = User{UID: 1000, GID: 1000, Additional: []uint32{20}}
		in.Workload.Ulimits = []Ulimit{{Name: "nofile", Soft: 100, Hard: 200}}
		in.Workload.Sysctls = map[string]string{"net.core.somaxconn": "1024"}
	})
}
