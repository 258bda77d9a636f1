package launcher

import (
	"path/filepath"
	"slices"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// plan builds the OCI spec and passes it through the last gate.
func (r *run) plan(f facts) error {
	files := filesIn(r.entry.Dir)
	in, err := r.input(f, files)
	if err != nil {
		return err
	}
	if err := r.writeNames(files); err != nil {
		return err
	}
	if err := fault("files"); err != nil {
		return err
	}
	r.spec, err = assemble(in)
	return err
}

// input is all the spec is built from.
func (r *run) input(f facts, files spec.HostFiles) (spec.Input, error) {
	w := r.Workload
	user := w.User
	if user == "" {
		user = r.Image.User
	}
	u, err := spec.ResolveUser(user, w.GroupAdd, f.Passwd, f.Group)
	if err != nil {
		return spec.Input{}, err
	}
	if w.Init != nil && *w.Init {
		if r.InitPath == "" {
			return spec.Input{}, fail.New(fail.HostCannot, "--init needs a static tini or catatonit").Hint("install the package tini, or catatonit")
		}
		files.Init = r.InitPath
	}
	if len(w.Secrets) > 0 {
		files.Secrets = filepath.Join(r.entry.IO, secretsDir)
	}
	if r.passesNotify() {
		files.Notify = filepath.Join(r.entry.IO, notifySocket)
	}
	if r.activated() {
		if r.ActivatePath == "" {
			return spec.Input{}, fail.New(fail.HostCannot, "socket activation needs the program safe-run-activate, which is not installed").Hint("make install")
		}
		files.Activate, files.ActivateSocket = r.ActivatePath, filepath.Join(r.entry.IO, activateSocket)
		if files.ActivateFenced, err = r.fenced(); err != nil {
			return spec.Input{}, err
		}
	}
	return spec.Input{
		CgroupParent: r.unitCgroup(),
		ID:           r.rec.ID, Workload: w, Image: r.Image, User: u, IDs: r.rec.Block,
		Host: r.Host, Limits: r.Limits, Grants: r.Grants, Mounts: f.placed(r.resolvedMounts()), Files: files, DeviceSources: r.deviceSources(), BlockDevices: r.BlockDevices,
		JoinNetwork: r.joined.path(), JoinSysfs: r.joined.sysfsPath(r.entry),
		AppArmorProfile: r.AppArmorProfile, SELinuxLabel: r.SELinuxLabel, SELinuxMountLabel: r.SELinuxMountLabel,
	}, nil
}

func (r *run) hostname() string {
	if r.Workload.Hostname != "" {
		return r.Workload.Hostname
	}
	return r.rec.ID[:12]
}

// resolvedMounts gives each mount its place on the host.
func (r *run) resolvedMounts() []spec.ResolvedMount {
	var out []spec.ResolvedMount
	images := 0
	for i, m := range r.Workload.Mounts {
		rm := spec.ResolvedMount{Mount: m}
		switch m.Type {
		case spec.MountBind, spec.MountVolume:
			rm.HostPath = filepath.Join(r.Store.Run, "io", r.rec.ID, mountName(i))
			rm.Mapped = r.rec.Block.Size != 0
			rm.IsFile = m.Type == spec.MountBind && !r.Sources[i].Mode.IsDir()
		case spec.MountImage:
			rm.HostPath = imageDir(filepath.Join(r.Store.Root, "containers", r.rec.ID), images)
			if m.Subpath != "" {
				rm.HostPath = filepath.Join(r.Store.Run, "io", r.rec.ID, mountName(i))
			}
			images++
		}
		out = append(out, rm)
	}
	return out
}

// placed puts mounts where their targets lead in the image: Debian's /var/run is
// a link to /run, and what is mounted at either stands for our own tmpfs there.
func (f facts) placed(mounts []spec.ResolvedMount) (out []spec.ResolvedMount) {
	typed := map[string]string{}
	for _, m := range mounts {
		at := m.Target
		if to := f.Leads[at]; to != "" {
			m.Target = to
		}
		// Of --tmpfs /run and --tmpfs /var/run the later one is seen.
		if before, there := typed[m.Target]; there && before != at && m.Type == spec.MountTmpfs {
			out = slices.DeleteFunc(out, func(o spec.ResolvedMount) bool { return o.Target == m.Target && o.Type == spec.MountTmpfs })
		}
		typed[m.Target] = at
		out = append(out, m)
	}
	return out
}

// mapped are the sources mountSources idmapped.
func (r *run) mapped() (sources []string) {
	for _, m := range r.resolvedMounts() {
		if m.Mapped {
			sources = append(sources, m.HostPath)
		}
	}
	return sources
}
