package launcher

import (
	"context"
	"maps"
	"time"

	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/internal/volumes"
	"github.com/safe-run/safe-run/spec"
)

// register gives the container its id, lock, record, name and ids.
func (r *run) register() (err error) {
	v := r.Reservation
	if v == nil {
		v = r.Reserve()
	}
	<-v.done
	r.entry = v.entry
	r.rec = store.Record{
		ID: v.id, Block: v.block, Name: r.Workload.Name, Labels: r.labels(), Image: r.Image.Name, Digest: r.Image.Digest,
		Keep: !r.Workload.Remove, Phase: store.PhaseCreating, Created: time.Now().UTC(),
		Namespace: r.Namespace, Address: r.Address,
	}
	r.noteSupervision()
	if v.err != nil {
		return v.err
	}
	if err := r.placeInUnit(); err != nil {
		return err
	}
	cgroup, err := spec.CgroupPath(r.unitCgroup(), r.Workload.CgroupParent, r.rec.ID)
	if err != nil {
		return err
	}
	r.rec.Cgroup = cgroup
	if r.Grants.HostUserNS {
		if err := r.IDs.Release(v.block, v.id); err != nil {
			return err
		}
		r.rec.Block = spec.IDBlock{}
	}
	// The record is there before the name, the ids and the volumes it speaks
	// of, so that whoever cleans up after a crash knows them.
	r.completeVolumes()
	if err := r.Store.Save(r.rec); err != nil {
		return err
	}
	// Before a volume is made or used: by it others see that it is.
	r.asked = store.Asked{Workload: r.Workload, Image: r.Image, Caller: r.Caller}
	if err := r.Store.SaveAsked(r.rec.ID, r.asked); err != nil {
		return err
	}
	if r.rec.Name != "" {
		holder, err := r.entry.TakeName(r.rec.Name)
		if err != nil {
			if holder == "" || !r.freeName(holder) {
				return err
			}
			if _, err = r.entry.TakeName(r.rec.Name); err != nil {
				return err
			}
		}
	}
	if err := fault("name"); err != nil {
		return err
	}
	return nil
}

// noteSupervision puts into the record what others must know of how the
// container is supervised.
func (r *run) noteSupervision() {
	w := r.Workload
	signal := w.StopSignal
	if signal == "" {
		signal = r.Image.StopSignal
	}
	r.rec.StopSignal, _ = spec.StopSignal(signal) // judged with the rest
	r.rec.StopAfter = 10
	if w.StopTimeout != nil {
		r.rec.StopAfter = *w.StopTimeout
	}
	r.rec.Detached, r.rec.Restart, r.rec.Typed = w.Detach, w.Restart, w.Image
	r.rec.TTY, r.rec.Stdin, r.rec.LogDriver = w.TTY, w.Interactive, r.Log.Driver
	_, r.rec.Checked = spec.HealthOf(w, r.Image)
	if r.Unit != nil {
		r.rec.Unit = r.Unit.Name
	}
}

// labels are the image's and those of the command line, which win. They stay
// in safe-run's own record: containerd acts on some labels (CVE-2026-53488).
func (r *run) labels() map[string]string {
	all := maps.Clone(r.Image.Labels)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, r.Workload.Labels)
	return all
}

// freeName buries a dead launcher's container so that its name can be used.
func (r *run) freeName(id string) bool {
	if r.Store.Supervised(id) {
		return false
	}
	rec, err := r.Store.Load(id)
	again := r.Unit != nil && rec.Unit == r.Unit.Name // what a unit's last run left is the unit's
	if err == nil && rec.Keep && rec.Phase != store.PhaseCreating && !again {
		return false
	}
	e := r.Store.Capture(id)
	if e == nil {
		return false
	}
	rec.Keep = rec.Keep && !again
	return r.bury(context.Background(), e, rec) == nil
}

// completeVolumes completes the mounts: the image's volumes become anonymous
// ones. None of them exists yet.
func (r *run) completeVolumes() {
	for i := range r.Workload.Mounts {
		m := &r.Workload.Mounts[i]
		if m.Type == spec.MountVolume && m.Source == "" {
			m.Source = volumes.Anonymous()
			r.rec.Anonymous = append(r.rec.Anonymous, m.Source)
		}
	}
	for _, v := range r.Image.Volumes {
		if r.mountAt(v) {
			continue
		}
		m := spec.Mount{Origin: "image VOLUME", Type: spec.MountVolume, Source: volumes.Anonymous(), Target: v}
		r.Workload.Mounts = append(r.Workload.Mounts, m)
		r.rec.Anonymous = append(r.rec.Anonymous, m.Source)
	}
}

func (r *run) mountAt(target string) bool {
	for _, m := range r.Workload.Mounts {
		if m.Target == target {
			return true
		}
	}
	return false
}

// askedPaths are the paths inside the image that this launch depends on.
func (r *run) askedPaths() []string {
	var ask []string
	if wd := r.workdir(); wd != "" && wd != "/" {
		ask = append(ask, wd)
	}
	for _, m := range r.Workload.Mounts {
		ask = append(ask, m.Target)
	}
	return append(ask, "/var/tmp")
}

func (r *run) workdir() string {
	if r.Workload.Workdir != "" {
		return r.Workload.Workdir
	}
	return r.Image.Workdir
}
