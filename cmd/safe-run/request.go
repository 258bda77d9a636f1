package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/host"
	"github.com/safe-run/safe-run/internal/logs"
	"github.com/safe-run/safe-run/internal/source"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/internal/systemd"
	"github.com/safe-run/safe-run/launcher"
	"github.com/safe-run/safe-run/policy"
	"github.com/safe-run/safe-run/profiles"
	"github.com/safe-run/safe-run/spec"
)

// judgement is a workload with the facts it is judged by: the site's policy of
// this moment, what the host can do, what the sources of its mounts are.
type judgement struct {
	w        *spec.Workload
	site     policy.Site
	features spec.Features
	set      *source.Set // held open until close
	rq       policy.Request
}

// judge opens what the workload binds with the rights of the caller; nil is
// this process.
func judge(w *spec.Workload, caller *cli.Caller) (*judgement, error) {
	site, err := policy.LoadSite(sitePolicy)
	if err != nil {
		return nil, err
	}
	features := host.Probe()
	stateRoot, stateRun := place()
	known := policy.KnownPaths(stateRoot, stateRun)
	known.Own = filepath.Join(stateRun, "io")
	var (
		as  source.Rights
		uid uint32
	)
	if caller != nil {
		as, uid = caller.Do, caller.UID
	}
	set, err := source.GatherAs(as, w.Mounts, w.Devices, known)
	if err != nil {
		return nil, err
	}
	return &judgement{w, site, features, set, policy.Request{
		Workload: *w, Sources: set.Sources, DeviceSources: set.Devices, Stores: []string{stateRoot, stateRun}, Host: features, Site: site,
		Profile: w.Profile, Caller: uid,
		CheckSeccomp: func(b []byte) error {
			_, err := profiles.ParseSeccomp(b, profiles.Options{Arch: features.Arch})
			return err
		},
	}}, nil
}

func (j *judgement) close() { j.set.Close() }

// review gives the grants, or the refusals. Without an image, only what is
// refused whatever the image says.
func (j *judgement) review(img *spec.Image) (spec.Grants, []policy.Refusal) {
	j.rq.Provisional = img == nil
	if img != nil {
		j.rq.Image = *img
	}
	return policy.Review(j.rq)
}

// request makes the launcher's request of a reviewed workload.
func (j *judgement) request(ctx context.Context, s *session, img spec.Image, grants spec.Grants) (launcher.Request, error) {
	w := j.w
	for i := range w.Publish { // the policy has seen them as they were typed
		if p := &w.Publish[i]; !p.HostIP.IsValid() {
			p.HostIP = j.site.PublishDefault()
		}
	}
	blocks, err := blockDevices(w.Resources)
	if err != nil {
		return launcher.Request{}, err
	}
	lr := launcher.Request{
		Workload: *w, Image: img, Host: j.features, Limits: j.site.Limits(), Grants: grants,
		Sources:  j.set.Sources,
		InitPath: initPath(s), BlockDevices: blocks, ActivatePath: activatePath(s),
		ResolveImage: func(ctx context.Context, ref string) (spec.Image, error) {
			return resolve(ctx, s, ref, w.Platform, w.Pull, true)
		},
		Unpack:         func(ctx context.Context) error { return s.images.Unpack(ctx, img, nil) },
		Attest:         attest(),
		PublishDefault: j.site.PublishDefault(),
	}
	return lr, confine(ctx, &lr, j.features)
}

// renew judges a stored workload by the policy of today and makes a request
// of it.
func (s *session) renew(ctx context.Context, rec store.Record, asked store.Asked, unit *systemd.Unit) (launcher.Request, error) {
	w := asked.Workload
	w.Pull = "never" // it runs the image it was made from
	j, err := judge(&w, callerOf(asked.Caller))
	if err != nil {
		return launcher.Request{}, err
	}
	rq, err := func() (launcher.Request, error) {
		grants, refusals := j.review(&asked.Image)
		if len(refusals) > 0 {
			return launcher.Request{}, refused(refusals)
		}
		if err := floors(ctx, s, j.site); err != nil {
			return launcher.Request{}, err
		}
		rq, err := j.request(ctx, s, asked.Image, grants)
		if err != nil {
			return rq, err
		}
		rq.Caller = asked.Caller
		if rq.Log, err = logs.Parse(rec.LogDriver, w.LogOpts); err != nil {
			return rq, err
		}
		rq.Secrets, err = secrets(w.Secrets, callerOf(asked.Caller), unit)
		return rq, err
	}()
	if err != nil {
		j.close()
		return rq, err
	}
	rq.Close = j.close
	return rq, nil
}

// refused is what stands in a record when the policy does not let a container
// be started again.
func refused(r []policy.Refusal) error {
	var all []string
	for _, x := range r {
		all = append(all, x.ID)
	}
	return fail.New(fail.Refused, "the policy refuses it now: %s", strings.Join(all, ", ")).
		Hint("safe-run policy show prints the rules in force")
}

func callerOf(c *store.Caller) *cli.Caller {
	if c == nil {
		return nil
	}
	return &cli.Caller{UID: c.UID, GID: c.GID, Groups: c.Groups}
}

// maxSecret bounds one secret, as systemd does its credentials.
const maxSecret = 1 << 20

// secrets reads the contents of secrets: files with the caller's rights, and
// credentials of the unit.
func secrets(asked []spec.Secret, caller *cli.Caller, unit *systemd.Unit) (contents [][]byte, err error) {
	for _, s := range asked {
		var b []byte
		switch {
		case s.Source != "":
			b, err = caller.ReadFile(s.Source, maxSecret)
		case unit == nil:
			err = fail.New(fail.NotFound, "there are no credentials outside of a systemd unit").
				Hint("name a file: --secret %s=FILE; or set LoadCredential=%s:FILE in the unit", s.ID, s.ID)
		default:
			b, err = unit.Credential(s.ID)
		}
		if err != nil {
			return nil, fail.Wrap(fail.KindOf(err), err, "--secret %s", s.ID)
		}
		contents = append(contents, b)
	}
	return contents, nil
}

// serviceUnit is the systemd unit this process is the service of. A container
// in the background belongs to none.
func serviceUnit(w *spec.Workload) (*systemd.Unit, error) {
	if w.Detach {
		return nil, nil // none
	}
	return systemd.Detect(os.Getenv)
}

// activatePath is the program that passes sockets on, beside the engine's.
func activatePath(s *session) string { return inDir(s.engineBin(), "safe-run-activate") }
