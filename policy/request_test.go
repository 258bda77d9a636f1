package policy

import (
	"io/fs"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/spec"
)

func ptr[T any](v T) *T { return &v }

// request is a launch nothing is wrong with.
func request(change ...func(*Request)) Request {
	r := Request{
		Workload: spec.Workload{Image: "busybox", Args: []string{"true"}},
		Image:    spec.Image{Name: "docker.io/library/busybox:latest", Digest: "sha256:" + strings.Repeat("a", 64), Env: []string{"PATH=/bin"}},
		Host:     spec.Features{Seccomp: true, AppArmor: true},
	}
	for _, c := range change {
		c(&r)
	}
	return r
}

func ids(refusals []Refusal) []string {
	var all []string
	for _, r := range refusals {
		all = append(all, r.ID)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func work(change func(*spec.Workload)) func(*Request) {
	return func(r *Request) { change(&r.Workload) }
}

func image(change func(*spec.Image)) func(*Request) {
	return func(r *Request) { change(&r.Image) }
}

func capAdd(names ...string) func(*Request) {
	return work(func(w *spec.Workload) { w.CapAdd = names })
}

func secOpt(opts ...string) func(*Request) {
	return work(func(w *spec.Workload) { w.SecurityOpts = opts })
}

func ulim(name string, soft, hard int64) func(*Request) {
	return work(func(w *spec.Workload) { w.Ulimits = []spec.Ulimit{{Name: name, Soft: soft, Hard: hard}} })
}

func sysctl(key, value string) func(*Request) {
	return work(func(w *spec.Workload) { w.Sysctls = map[string]string{key: value} })
}

func res(change func(*spec.Resources)) func(*Request) {
	return work(func(w *spec.Workload) { change(&w.Resources) })
}

func mnt(m spec.Mount) func(*Request) {
	return func(r *Request) { r.Workload.Mounts = append(r.Workload.Mounts, m) }
}

func tmpfs(o spec.TmpfsOptions) func(*Request) {
	return mnt(spec.Mount{Origin: "--tmpfs", Type: spec.MountTmpfs, Target: "/t", Tmpfs: o})
}

func volume(change func(*spec.Mount)) func(*Request) {
	m := spec.Mount{Origin: "-v", Type: spec.MountVolume, Source: "data", Target: "/data"}
	change(&m)
	return mnt(m)
}

func network(n string) func(*Request) {
	return work(func(w *spec.Workload) { w.Networks, w.NetworkSet = []spec.NetworkUse{{Name: n}}, true })
}

func chr(major, minor uint32, name string) spec.Source {
	return spec.Source{
		Asked: name, Real: name, Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, FS: "devtmpfs",
		Rdev: uint64(major)<<8 | uint64(minor), Aliases: []string{name},
	}
}

func device(s spec.Source, inside, perms string) func(*Request) {
	return func(r *Request) {
		r.Workload.Devices = []spec.Device{{Raw: s.Asked, Host: s.Asked, Container: inside, Permissions: perms}}
		r.DeviceSources = map[int]spec.Source{0: s}
	}
}
