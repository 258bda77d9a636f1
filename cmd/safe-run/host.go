package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/opencontainers/selinux/go-selinux/label"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/engine"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/launcher"
	"github.com/safe-run/safe-run/policy"
	"github.com/safe-run/safe-run/profiles"
	"github.com/safe-run/safe-run/spec"
)

// floors refuses a runtime or containerd with known ways out, unless the site
// accepts old ones.
func floors(ctx context.Context, s *session, site policy.Site) error {
	runc, err := s.at().Runtime("runc")
	if err != nil {
		return err
	}
	err = engine.Floors(ctx, engine.FloorQuery{
		Runtime: runc, PID: s.at().PID, Cache: s.launcher.Store.Run,
		Version: func(ctx context.Context) (string, error) {
			v, err := s.launcher.Client.Version(ctx)
			return v.Version, err
		},
	})
	if site.AllowOldRuntime && errors.Is(err, engine.ErrBelowFloor) {
		return nil
	}
	return err
}

// blockDevices looks up the numbers of the devices that throttles name.
func blockDevices(r spec.Resources) (map[string]uint64, error) {
	numbers := map[string]uint64{}
	for _, t := range slices.Concat(r.ReadBPS, r.WriteBPS, r.ReadIOPS, r.WriteIOPS) {
		numbers[t.Path] = 0
	}
	for _, d := range r.BlkioWeightDevice {
		numbers[d.Path] = 0
	}
	for p := range numbers {
		var st unix.Stat_t
		if err := unix.Stat(p, &st); err != nil {
			return nil, fail.Wrap(fail.Usage, err, "device %q", p)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFBLK {
			return nil, fail.New(fail.Usage, "%q is not a block device", p)
		}
		numbers[p] = st.Rdev
	}
	return numbers, nil
}

// systemDirs are searched for host programs, whatever PATH the caller has.
var systemDirs = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

func findSystem(names ...string) (string, error) {
	for _, n := range names {
		for _, d := range systemDirs {
			p := filepath.Join(d, n)
			if _, err := exec.LookPath(p); err == nil {
				return p, nil
			}
		}
	}
	return "", fail.New(fail.HostCannot, "%s is not installed", names[0]).Hint("install the package %s", names[0])
}

// initPath finds the static init for --init: the engine's own, or a package's.
func initPath(s *session) string { return initIn(s.engineBin()) }

// initIn looks in the engine's directory first.
func initIn(bin string) string {
	if p := inDir(bin, "tini", "catatonit"); p != "" {
		return p
	}
	p, err := findSystem("tini-static", "catatonit")
	if err != nil {
		return ""
	}
	return p
}

// engineBin is the directory of the engine's programs, "" if there is none.
func (s *session) engineBin() string {
	if e := s.at().Engine; e != nil {
		return e.Bin()
	}
	bin, _ := engine.Locate() // it need not be the one that runs
	return bin
}

// inDir finds a program in a directory, "" if it has none of them.
func inDir(bin string, names ...string) string {
	if bin == "" {
		return ""
	}
	for _, n := range names {
		p := filepath.Join(bin, n)
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return ""
}

// appArmor chooses the container's AppArmor profile: the built-in one, one the
// site has loaded, or the built-in one narrowed by the workload's rules. The
// last is loaded by the launcher, which knows its containers.
func appArmor(ctx context.Context, rq *launcher.Request, f spec.Features) error {
	named := rq.Workload.AppArmorProfile()
	own := named == "" || policy.OwnAppArmor(named)
	switch {
	case rq.Workload.AppArmor != nil:
		if !own {
			return fail.New(fail.Usage, "--security-opt apparmor=%.64q, and a profile with AppArmor rules: they exclude each other", named).
				Hint("leave one of them out")
		}
		if !f.AppArmor {
			return fail.New(fail.HostCannot, "the profile has AppArmor rules, and this kernel has no AppArmor").
				Hint("boot it with lsm=...,apparmor, or take the rules out of the profile")
		}
		_, run := place()
		n, err := launcher.NarrowAppArmor(rq.Workload, rq.Grants, run)
		rq.AppArmorProfile = n.Name
		return err
	case named == "unconfined", rq.Grants.UnconfinedAppArmor:
		return nil
	case !own:
		if !rq.Grants.NamedAppArmor {
			return fail.New(fail.Refused, "--security-opt apparmor=%.64q is not granted", named)
		}
		rq.AppArmorProfile = named
		return profiles.RequireAppArmor(named)
	case f.AppArmor:
		rq.AppArmorProfile = profiles.AppArmorName()
		return profiles.LoadAppArmor(ctx)
	}
	return nil
}

// confine sees to the security module's profile or label.
func confine(ctx context.Context, rq *launcher.Request, f spec.Features) error {
	if err := appArmor(ctx, rq, f); err != nil {
		return err
	}
	if f.SELinux && !rq.Grants.LabelDisable {
		// A random pair of categories separates containers from each other.
		process, mount, err := label.InitLabels(nil)
		if err != nil {
			return fail.Wrap(fail.HostCannot, err, "SELinux label")
		}
		rq.SELinuxLabel, rq.SELinuxMountLabel = process, mount
	}
	return nil
}

func needRoot() error {
	if os.Geteuid() != 0 {
		return fail.New(fail.HostCannot, "safe-run needs root: it talks to containerd and makes namespaces").Hint("run it with sudo")
	}
	return nil
}
