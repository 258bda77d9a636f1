package dockerjson

import "github.com/safe-run/safe-run/spec"

// Image is an image as `docker image inspect` prints it.
type Image struct {
	ID            string `json:"Id"` // digest of what its names point to
	RepoTags      []string
	RepoDigests   []string
	Parent        string
	Comment       string
	Created       string
	DockerVersion string
	Author        string
	Config        *ImageConfig
	Architecture  string
	Variant       string `json:",omitempty"`
	Os            string
	OsVersion     string `json:",omitempty"`
	Size          int64  // bytes, unpacked
	GraphDriver   GraphDriver
	RootFS        RootFS
	Metadata      struct{ LastTagTime string }
	Manifest      string // not docker's: digest of the manifest for this host
}

// ImageConfig is what containers of an image are made from.
type ImageConfig struct {
	User         string
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Env          []string
	Entrypoint   []string
	Cmd          []string
	Healthcheck  *Healthcheck        `json:",omitempty"`
	Volumes      map[string]struct{} `json:",omitempty"`
	WorkingDir   string
	Labels       map[string]string
	StopSignal   string `json:",omitempty"`
}

// GraphDriver is the snapshotter.
type GraphDriver struct {
	Data map[string]string
	Name string
}

// RootFS are the layers, by the digests of their content.
type RootFS struct {
	Type   string
	Layers []string
}

// NewImage describes an image by what it asks for. Its names, size and layers
// are the caller's to fill in.
func NewImage(i spec.Image) Image {
	o := Image{
		ID: i.Target, RepoTags: []string{}, RepoDigests: []string{}, Created: instant(i.Created),
		Architecture: i.Arch, Os: i.OS, GraphDriver: GraphDriver{Name: "overlayfs"}, RootFS: RootFS{Type: "layers"},
		Manifest: i.Digest,
		Config: &ImageConfig{
			User: i.User, Env: i.Env, Entrypoint: i.Entrypoint, Cmd: i.Cmd, WorkingDir: i.Workdir, Labels: i.Labels, StopSignal: i.StopSignal,
			Healthcheck: healthcheck(spec.Healthcheck{}, i.Health),
		},
	}
	o.Metadata.LastTagTime = "0001-01-01T00:00:00Z"
	for _, p := range portNames(i.Exposed) {
		o.Config.ExposedPorts = with(o.Config.ExposedPorts, p)
	}
	for _, v := range i.Volumes {
		o.Config.Volumes = with(o.Config.Volumes, v)
	}
	return o
}
