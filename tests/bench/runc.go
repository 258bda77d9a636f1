package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// runcOfSameSpec is the floor: runc alone, with the specification safe-run
// made, without containerd, shim, snapshot, images or streams.
func runcOfSameSpec(here place) (contender, error) {
	fail := func(err error) (contender, error) {
		return contender{}, fmt.Errorf("runc run of the same specification: %w", err)
	}
	out, err := exec.Command(here.safeRun, "--rm", "--network", "none", "--dry-run", "busybox", "true").Output()
	if err != nil {
		return fail(err)
	}
	var spec specs.Spec
	if err := json.Unmarshal(out, &spec); err != nil {
		return fail(err)
	}
	bundle := filepath.Join(here.dir, "bundle")
	rootfs := filepath.Join(bundle, "rootfs")
	if err := unpack(here, rootfs); err != nil {
		return fail(err)
	}
	spec.Root = &specs.Root{Path: rootfs, Readonly: true}
	if spec.Linux != nil {
		spec.Linux.CgroupsPath = "/safe-run-bench"
	}
	// The generated files (hosts, hostname) are made at a launch only; three
	// binds more or less do not show.
	var mounts []specs.Mount
	for _, m := range spec.Mounts {
		if m.Type == "bind" {
			if _, err := os.Stat(m.Source); err != nil {
				continue
			}
		}
		mounts = append(mounts, m)
	}
	spec.Mounts = mounts
	b, err := json.Marshal(spec)
	if err != nil {
		return fail(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), b, 0o600); err != nil {
		return fail(err)
	}
	c := contender{name: "runc run (the same specification, nothing around it)", args: func() []string {
		return []string{here.runc, "run", "--bundle", bundle, fmt.Sprintf("bench-%d", time.Now().UnixNano())}
	}}
	if _, err := c.run(); err != nil {
		return fail(err)
	}
	return c, nil
}

// unpack gives runc a root file system that the container's ids can read.
func unpack(here place, rootfs string) error {
	for _, d := range []string{"bin", "dev", "etc", "proc", "sys", "tmp", "run", "var/tmp", "root"} {
		if err := os.MkdirAll(filepath.Join(rootfs, d), 0o755); err != nil {
			return err
		}
	}
	if _, err := output("cp", "/bin/busybox", filepath.Join(rootfs, "bin/busybox")); err != nil {
		return err
	}
	return os.Symlink("busybox", filepath.Join(rootfs, "bin/true"))
}
