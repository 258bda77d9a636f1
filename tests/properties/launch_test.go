package properties

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/logs"
	"github.com/safe-run/safe-run/policy"
	"github.com/safe-run/safe-run/profiles"
	"github.com/safe-run/safe-run/spec"
)

// launch is everything a launch is made of.
type launch struct {
	argv    []string // after the verb
	profile string   // content of p.yaml, YAML
	image   string   // configuration of the image, JSON
	site    string   // the site's policy, YAML; "": there is none
	host    spec.Features
	// service: it is started by a systemd unit with a delegated cgroup, that
	// waits for notifications and passes sockets.
	service bool
}

func (l launch) String() string {
	return fmt.Sprintf("argv %q\nprofile:\n%s\nimage: %s\nsite:\n%s\nhost %+v, service %v", l.argv, l.profile, l.image, l.site, l.host, l.service)
}

// outcome is what becomes of a launch: a specification, refusals, or an error.
type outcome struct {
	inv      *cli.Invocation
	in       spec.Input
	spec     *specs.Spec
	sources  map[int]spec.Source
	devices  map[int]spec.Source
	refusals []policy.Refusal
	err      error
	at       string // stage the error is from
}

func (o outcome) accepted() bool { return o.err == nil && len(o.refusals) == 0 && o.spec != nil }

const containerID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// run takes a launch through the pure path of the run verb, up to the
// specification. What the launcher finds out is given as it would.
func (l launch) run() (o outcome) {
	stage := func(at string, err error) bool {
		if err != nil {
			o.at, o.err = at, err
		}
		return err != nil
	}
	ctx := cli.Context{LookupEnv: lookupEnv, Cwd: home, ReadFile: readFile, Profile: l.findProfile}
	var err error
	o.inv, err = cli.Parse(l.argv, ctx)
	if stage("command line", err) || o.inv.Help {
		return o
	}
	w := &o.inv.Workload
	site := policy.Site{}
	if l.site != "" {
		if site, err = policy.ParseSite([]byte(l.site), "policy.yaml"); stage("site", err) {
			return o
		}
	}
	img, err := spec.ImageFromConfig([]byte(l.image))
	if stage("image", err) {
		return o
	}
	img.Name, img.Digest, img.ChainID = "docker.io/library/busybox:latest", "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("c", 64)
	if strings.Contains(w.Image, "other") {
		img.Name = "docker.io/library/other:latest"
	}
	o.sources, o.devices = map[int]spec.Source{}, map[int]spec.Source{}
	for i, m := range w.Mounts {
		if m.Type == spec.MountBind {
			o.sources[i] = sourceOf(m.Source)
		}
	}
	for i, d := range w.Devices {
		if !d.CDI {
			o.devices[i] = sourceOf(d.Host)
		}
	}
	rq := policy.Request{
		Workload: *w, Sources: o.sources, DeviceSources: o.devices, Host: l.host, Site: site, Profile: w.Profile,
		CheckSeccomp: func(b []byte) error {
			_, err := profiles.ParseSeccomp(b, profiles.Options{Arch: l.host.Arch})
			return err
		},
		Provisional: true,
	}
	if _, o.refusals = policy.Review(rq); len(o.refusals) > 0 {
		return o
	}
	if _, err := logs.Parse(w.LogDriver, w.LogOpts); stage("log", err) {
		return o
	}
	rq.Image, rq.Provisional = img, false
	grants, refusals := policy.Review(rq)
	if o.refusals = refusals; len(refusals) > 0 {
		return o
	}
	for i := range w.Publish {
		if p := &w.Publish[i]; !p.HostIP.IsValid() {
			p.HostIP = site.PublishDefault()
		}
	}
	o.in, err = l.input(*w, img, site, grants)
	if stage("input", err) {
		return o
	}
	o.spec, err = spec.Build(o.in)
	stage("build", err)
	return o
}

// input is what the launcher builds the specification from.
func (l launch) input(w spec.Workload, img spec.Image, site policy.Site, g spec.Grants) (spec.Input, error) {
	in := spec.Input{
		ID: containerID, Image: img, Host: l.host, Limits: site.Limits(), Grants: g,
		BlockDevices: map[string]uint64{"/dev/sda": unix.Mkdev(8, 0)},
	}
	if !g.HostUserNS {
		in.IDs = spec.IDBlock{HostUID: 10_000_000, HostGID: 20_000_000, Size: 65536}
	}
	for i := range w.Mounts {
		if m := &w.Mounts[i]; m.Type == spec.MountVolume && m.Source == "" {
			m.Source = "anonymous"
		}
	}
	for _, v := range img.Volumes {
		if !slices.ContainsFunc(w.Mounts, func(m spec.Mount) bool { return m.Target == v }) {
			w.Mounts = append(slices.Clone(w.Mounts), spec.Mount{Origin: "image VOLUME", Type: spec.MountVolume, Source: "anonymous", Target: v})
		}
	}
	in.Workload = w
	asked := w.User
	if asked == "" {
		asked = img.User
	}
	var err error
	if in.User, err = spec.ResolveUser(asked, w.GroupAdd, []byte(passwd), []byte(groups)); err != nil {
		return in, err
	}
	dir, run := "/var/lib/safe-run/containers/"+containerID, "/run/safe-run/io/"+containerID
	in.Files = spec.HostFiles{Hosts: dir + "/hosts", Hostname: dir + "/hostname", ResolvConf: dir + "/resolv.conf"}
	if w.Init != nil && *w.Init {
		in.Files.Init = "/usr/lib/safe-run/engine/tini"
	}
	if len(w.Secrets) > 0 {
		in.Files.Secrets = run + "/secrets"
	}
	if l.service && !w.Detach {
		if l.host.CgroupV2 {
			in.CgroupParent = "/system.slice/web.service"
		}
		if w.SDNotify == spec.NotifyContainer {
			in.Files.Notify = run + "/notify"
		}
		in.Files.Activate, in.Files.ActivateSocket = "/usr/lib/safe-run/engine/safe-run-activate", run+"/activate.sock"
	}
	for i, m := range w.Mounts {
		at := fmt.Sprintf("%s/mount%d", run, i)
		r := spec.ResolvedMount{Mount: m}
		switch m.Type {
		case spec.MountBind, spec.MountVolume:
			r.HostPath, r.Mapped = at, in.IDs.Size != 0
		case spec.MountImage:
			r.HostPath = fmt.Sprintf("%s/image%d", dir, i)
		}
		in.Mounts = append(in.Mounts, r)
	}
	in.DeviceSources = map[string]string{}
	for i, d := range w.Devices {
		in.DeviceSources[d.Container] = fmt.Sprintf("/proc/4711/fd/%d", 20+i)
	}
	for _, n := range w.Networks {
		if _, joins := n.JoinedContainer(); joins {
			in.JoinNetwork, in.JoinSysfs = "/proc/4711/fd/8", run+"/sys"
		}
	}
	if l.host.AppArmor && !g.UnconfinedAppArmor {
		in.AppArmorProfile = ownAppArmor
		if g.NamedAppArmor {
			in.AppArmorProfile = w.AppArmorProfile()
		}
	}
	if l.host.SELinux && !g.LabelDisable {
		in.SELinuxLabel, in.SELinuxMountLabel = ownLabel, "system_u:object_r:container_file_t:s0:c1,c2"
	}
	return in, nil
}

const (
	ownAppArmor = "safe-run-default"
	ownLabel    = "system_u:system_r:container_t:s0:c1,c2"
)

// findProfile finds p.yaml and the embedded profiles.
func (l launch) findProfile(ref string, _ *cli.Invocation) (cli.Profile, error) {
	loaded := profiles.Loaded{}
	var err error
	if profiles.IsFile(ref) {
		if filepath.Base(ref) != "p.yaml" {
			return cli.Profile{}, fail.New(fail.NotFound, "no such profile")
		}
		loaded.Profile, err = profiles.Parse([]byte(l.profile), ref)
	} else {
		loaded, err = profiles.Find(ref, readFile, "")
	}
	if err != nil {
		return cli.Profile{}, err
	}
	p := loaded.Profile
	filter, err := loaded.SeccompJSON(readFile)
	if err != nil {
		return cli.Profile{}, err
	}
	return cli.Profile{Name: loaded.Name, Shown: ref, Image: p.Image, Flags: p.Flags(), Seccomp: filter}, nil
}

// text is the specification as one string, to compare it with another.
func (o outcome) text() string {
	b, err := json.Marshal(o.spec)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
