package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"

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
	runc := ""
	if s.target.Engine != nil {
		runc = filepath.Join(s.target.Engine.Bin(), "runc")
	} else {
		var err error
		// containerd finds the runtime by its own PATH, which is the system's.
		if runc, err = findSystem("runc"); err != nil {
			return err
		}
	}
	err := engine.Floors(ctx, engine.FloorQuery{
		Runtime: runc, PID: s.target.PID, Cache: s.launcher.Store.Run,
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
func initPath(s *session) string {
	if e := s.target.Engine; e != nil {
		for _, n := range []string{"tini", "catatonit"} {
			p := filepath.Join(e.Bin(), n)
			if _, err := os.Stat(p); err == nil {
				return p
			}
		}
	}
	p, err := findSystem("tini-static", "catatonit")
	if err != nil {
		return ""
	}
	return p
}

// confine sees to the security module's profile.
func confine(ctx context.Context, rq *launcher.Request, site policy.Site, f spec.Features) error {
	if f.AppArmor && !rq.Grants.UnconfinedAppArmor {
		if err := profiles.LoadAppArmor(ctx); err != nil {
			return err
		}
		rq.AppArmorProfile = profiles.AppArmorName()
	}
	if site.RequireLSM && !f.AppArmor && !f.SELinux {
		return fail.New(fail.HostCannot, "the site requires AppArmor or SELinux, and this kernel has neither enabled")
	}
	return nil
}
