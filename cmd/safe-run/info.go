package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/host"
)

// hostInfo is what `info` tells, with docker's names.
type hostInfo struct {
	ID                string
	Containers        int
	ContainersRunning int
	ContainersPaused  int
	ContainersStopped int
	Images            int
	Driver            string
	MemoryLimit       bool
	SwapLimit         bool
	CPUCfsPeriod      bool `json:"CpuCfsPeriod"`
	CPUCfsQuota       bool `json:"CpuCfsQuota"`
	CPUShares         bool
	CPUSet            bool
	PidsLimit         bool
	LoggingDriver     string
	CgroupDriver      string
	CgroupVersion     string
	KernelVersion     string
	OperatingSystem   string
	OSVersion         string
	OSType            string
	Architecture      string
	NCPU              int
	MemTotal          int64
	DockerRootDir     string
	Name              string
	Labels            []string
	ExperimentalBuild bool
	ServerVersion     string
	Runtimes          map[string]struct{}
	DefaultRuntime    string
	Swarm             struct{ LocalNodeState string }
	InitBinary        string
	SecurityOptions   []string
	Warnings          []string
	ContainerdVersion string // not docker's
	SafeRunVersion    string // not docker's
}

func infoVerb() *cobra.Command {
	var e endpoint
	var format string
	c := &cobra.Command{Use: "info [OPTIONS]", Short: "Show what there is on this host", Args: exactly(0), RunE: func(c *cobra.Command, _ []string) error {
		return e.with(c.Context(), func(ctx context.Context, s *session) error {
			i, err := gatherInfo(ctx, s)
			if err != nil {
				return err
			}
			if format != "" {
				return render(os.Stdout, format, []hostInfo{i})
			}
			i.print()
			return nil
		})
	}}
	c.Long = `Show what there is on this host: containers, images, versions, and what the
kernel has of cgroups and security modules. What of it safe-run can use, doctor says.`
	c.Example = `  safe-run info
  safe-run info -f '{{json .SecurityOptions}}'`
	e.flags(c)
	c.Flags().StringVarP(&format, "format", "f", "", "json, or a Go template")
	return c
}

func gatherInfo(ctx context.Context, s *session) (hostInfo, error) {
	v, err := s.images.Client.Version(ctx)
	if err != nil {
		return hostInfo{}, fail.Wrap(fail.HostCannot, err, "containerd at %s", s.at().Address)
	}
	list, err := s.images.Client.ImageService().List(ctx)
	if err != nil {
		return hostInfo{}, fail.Wrap(fail.Internal, err, "list images")
	}
	f := host.Probe()
	i := hostInfo{
		Images: len(list), Driver: s.images.Snapshotter, LoggingDriver: "json-file", CgroupDriver: "cgroupfs", CgroupVersion: "1",
		MemoryLimit: f.Controllers["memory"], SwapLimit: f.SwapLimit, CPUCfsPeriod: f.Controllers["cpu"], CPUCfsQuota: f.Controllers["cpu"],
		CPUShares: f.Controllers["cpu"], CPUSet: f.Controllers["cpuset"], PidsLimit: f.Controllers["pids"],
		OSType: "linux", NCPU: f.CPUs, DockerRootDir: s.launcher.Store.Root, ServerVersion: dockerVersion, Labels: []string{},
		Runtimes: map[string]struct{}{"runc": {}}, DefaultRuntime: "runc", InitBinary: "docker-init",
		ContainerdVersion: v.Version, SafeRunVersion: version,
	}
	i.Swarm.LocalNodeState = "inactive"
	if f.CgroupV2 {
		i.CgroupVersion = "2"
	}
	for _, o := range []struct {
		has  bool
		text string
	}{
		{f.AppArmor, "name=apparmor"},
		{f.Seccomp, "name=seccomp,profile=builtin"},
		{f.SELinux, "name=selinux"},
		{true, "name=userns"},
		{f.CgroupV2, "name=cgroupns"},
		{true, "name=no-new-privileges"},
	} {
		if o.has {
			i.SecurityOptions = append(i.SecurityOptions, o.text)
		}
	}
	i.system()
	return i, i.count(s)
}

// count counts the containers.
func (i *hostInfo) count(s *session) error {
	st := s.launcher.Store
	ids, err := st.IDs()
	if err != nil {
		return err
	}
	for _, id := range ids {
		rec, err := st.Load(id)
		if err != nil {
			continue
		}
		i.Containers++
		switch {
		case !st.Supervised(id):
			i.ContainersStopped++
		case rec.Paused:
			i.ContainersPaused++
		default:
			i.ContainersRunning++
		}
	}
	return nil
}

// system adds what the kernel says of itself.
func (i *hostInfo) system() {
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		i.KernelVersion = unix.ByteSliceToString(u.Release[:])
		i.Architecture = unix.ByteSliceToString(u.Machine[:])
		i.Name = unix.ByteSliceToString(u.Nodename[:])
	}
	var m unix.Sysinfo_t
	if unix.Sysinfo(&m) == nil {
		i.MemTotal = int64(m.Totalram) * int64(m.Unit)
	}
	i.OperatingSystem = "Linux"
	b, err := os.ReadFile("/etc/os-release")
	if err != nil || len(b) > 64<<10 {
		return
	}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch value = strings.Trim(value, `"'`); key {
		case "PRETTY_NAME":
			i.OperatingSystem = value
		case "VERSION_ID":
			i.OSVersion = value
		}
	}
}

func (i hostInfo) print() {
	var b strings.Builder
	fmt.Fprintf(&b, "Client: safe-run\n Version:    %s\n Context:    default\n\n", i.SafeRunVersion)
	fmt.Fprintf(&b, "Server:\n Containers: %d\n  Running: %d\n  Paused: %d\n  Stopped: %d\n Images: %d\n", i.Containers, i.ContainersRunning, i.ContainersPaused, i.ContainersStopped, i.Images)
	for _, l := range [][2]string{
		{"Server Version", i.ServerVersion},
		{"Storage Driver", i.Driver},
		{"Logging Driver", i.LoggingDriver},
		{"Cgroup Driver", i.CgroupDriver},
		{"Cgroup Version", i.CgroupVersion},
		{"Swarm", i.Swarm.LocalNodeState},
		{"Runtimes", "runc"},
		{"Default Runtime", i.DefaultRuntime},
		{"containerd version", i.ContainerdVersion},
		{"Security Options", "\n  " + strings.Join(i.SecurityOptions, "\n  ")},
		{"Kernel Version", i.KernelVersion},
		{"Operating System", i.OperatingSystem},
		{"OSType", i.OSType},
		{"Architecture", i.Architecture},
		{"CPUs", fmt.Sprint(i.NCPU)},
		{"Total Memory", units.BytesSize(float64(i.MemTotal))},
		{"Name", i.Name},
		{"Docker Root Dir", i.DockerRootDir},
	} {
		fmt.Fprintf(&b, " %s: %s\n", l[0], l[1])
	}
	fmt.Print(printable(b.String()))
}

// versions is what `docker version` tells, with docker's names.
type versions struct {
	Client clientVersion
	Server *serverVersion
}

type clientVersion struct {
	Platform          struct{ Name string }
	Version           string
	APIVersion        string `json:"ApiVersion"`
	DefaultAPIVersion string
	GitCommit         string
	GoVersion         string
	Os                string
	Arch              string
	BuildTime         string
	Context           string
}

type serverVersion struct {
	Platform      struct{ Name string }
	Components    []component
	Version       string
	APIVersion    string `json:"ApiVersion"`
	MinAPIVersion string
	GitCommit     string
	GoVersion     string
	Os            string
	Arch          string
	KernelVersion string
}

type component struct{ Name, Version string }

// dockerAPI is the version of docker's API that belongs to dockerVersion.
const dockerAPI = "1.48"

// dockerVersionVerb is `version` under the name docker.
func dockerVersionVerb() *cobra.Command {
	var e endpoint
	var format string
	c := &cobra.Command{Use: "version [OPTIONS]", Short: "Print the version", Args: exactly(0), RunE: func(c *cobra.Command, _ []string) error {
		v := versions{Client: clientVersion{
			Version: dockerVersion, APIVersion: dockerAPI, DefaultAPIVersion: dockerAPI, GitCommit: "safe-run-" + version,
			GoVersion: runtime.Version(), Os: runtime.GOOS, Arch: runtime.GOARCH, Context: "default",
		}}
		v.Client.Platform.Name = "safe-run " + version
		err := needRoot()
		if err == nil {
			var s *session
			if s, err = connect(c.Context(), e.address, e.namespace, nil); err == nil {
				err = v.server(c.Context(), s)
			}
		}
		if format != "" {
			if err != nil && strings.Contains(format, "Server") {
				return err
			}
			return errors.Join(render(os.Stdout, format, []versions{v}), err)
		}
		v.print()
		return err
	}}
	c.Example = `  docker version
  docker version -f '{{.Server.Version}}'`
	e.flags(c)
	c.Flags().StringVarP(&format, "format", "f", "", "json, or a Go template")
	return c
}

func (v *versions) server(ctx context.Context, s *session) error {
	c, err := s.images.Client.Version(ctx)
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "containerd at %s", s.at().Address)
	}
	var i hostInfo
	i.system()
	v.Server = &serverVersion{
		Platform: v.Client.Platform, Version: dockerVersion, APIVersion: dockerAPI, MinAPIVersion: dockerAPI,
		GitCommit: v.Client.GitCommit, GoVersion: v.Client.GoVersion, Os: v.Client.Os, Arch: v.Client.Arch, KernelVersion: i.KernelVersion,
		Components: []component{{"safe-run", version}, {"containerd", c.Version}},
	}
	return nil
}

func (v versions) print() {
	fmt.Printf("Client: %s\n Version:           %s\n API version:       %s\n Go version:        %s\n Git commit:        %s\n OS/Arch:           %s/%s\n Context:           %s\n",
		v.Client.Platform.Name, v.Client.Version, v.Client.APIVersion, v.Client.GoVersion, v.Client.GitCommit, v.Client.Os, v.Client.Arch, v.Client.Context)
	if v.Server == nil {
		return
	}
	fmt.Printf("\nServer: %s\n", v.Server.Platform.Name)
	for _, c := range v.Server.Components {
		fmt.Printf(" %s:\n  Version:          %s\n", printable(c.Name), printable(c.Version))
	}
}
