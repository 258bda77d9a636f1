// Package cri runs Pods as a node of Kubernetes does, without Kubernetes: on
// containerd's CRI plugin, asked by as much of a kubelet as fits on a few
// pages. Its tests run a Pod that safe-run exported beside safe-run's own
// container, and compare. It needs root.
package cri

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/safe-run/safe-run/tests/harness"
	"github.com/safe-run/safe-run/tests/imagekit"
)

// Node is a containerd with the CRI plugin, and the kubelet's directories.
// It is in the mount and network namespaces of its process.
type Node struct {
	dir     string // all it writes is below
	ctr     string // program
	cgroup  string // name of the cgroup of all Pods
	daemon  *exec.Cmd
	ended   chan struct{}
	conn    *grpc.ClientConn
	runtime runtimeapi.RuntimeServiceClient
	images  runtimeapi.ImageServiceClient
	blocks  uint32 // of user ids, given so far
}

// parts of dir
func (n *Node) socket() string  { return filepath.Join(n.dir, "containerd.sock") }
func (n *Node) pods() string    { return filepath.Join(n.dir, "kubelet/pods") }
func (n *Node) seccomp() string { return filepath.Join(n.dir, "kubelet/seccomp") }
func (n *Node) claims() string  { return filepath.Join(n.dir, "claims") }

// pauseImage is the process that holds a Pod's namespaces.
const pauseImage = "docker.io/library/safe-run-pause:latest"

// configText: all state below dir, no door for plugins that change
// containers, a network as sites have. Snapshotters, sandboxes, ports and the
// rest are containerd's defaults, which are what exported Pods will meet; but
// that a machine that builds may not be allowed to lower an OOM score.
const configText = `version = 4
root = '{{.Dir}}/root'
state = '{{.Dir}}/state'
imports = []
disabled_plugins = ['io.containerd.nri.v1.nri', 'io.containerd.internal.v1.opt', 'io.containerd.monitor.container.v1.restart', 'io.containerd.tracing.processor.v1.otlp', 'io.containerd.internal.v1.tracing']
[plugins.'io.containerd.server.v1.grpc']
  address = '{{.Dir}}/containerd.sock'
[plugins.'io.containerd.server.v1.ttrpc']
  address = '{{.Dir}}/containerd.sock.ttrpc'
[debug]
  level = 'warn'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '{{.Pause}}'
[plugins.'io.containerd.cri.v1.runtime']
  netns_mounts_under_state_dir = true
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
  runtime_path = '{{.Engine}}/containerd-shim-runc-v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  BinaryName = '{{.Engine}}/runc'
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['{{.Engine}}/cni']
  conf_dir = '{{.Dir}}/cni'
  use_internal_loopback = true
[plugins.'io.containerd.grpc.v1.cri']
  stream_server_address = '127.0.0.1'
  stream_server_port = '0'
`

const networkText = `{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp",
"ipam": {"type": "host-local", "dataDir": "{{.Dir}}/addresses", "ranges": [[{"subnet": "10.91.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
`

// hidden are directories programs write into under fixed names: the cache of
// CNI results, containerd's own, sockets of shims.
var hidden = []string{"/var/lib", "/run/containerd"}

// StartNode starts containerd of repo/build/cri on the shim, runc and CNI
// plugins of repo/build/engine. dir must not exist. The mounts it makes are
// meant for a mount namespace of its own (harness.Isolate).
func StartNode(ctx context.Context, repo, dir string) (*Node, error) {
	engine := filepath.Join(repo, "build/engine")
	n := &Node{dir: dir, ctr: filepath.Join(engine, "ctr"), cgroup: "safe-run-cri-" + fmt.Sprint(os.Getpid())}
	for _, d := range []string{n.pods(), n.seccomp(), n.claims(), filepath.Join(dir, "cni")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	for _, d := range hidden {
		if err := os.MkdirAll(d, 0o711); err != nil {
			return nil, err
		}
		if err := unix.Mount("none", d, "tmpfs", 0, "mode=711"); err != nil {
			return nil, fmt.Errorf("%s: %w", d, err)
		}
	}
	values := struct{ Dir, Engine, Pause string }{dir, engine, pauseImage}
	for file, text := range map[string]string{"config.toml": configText, "cni/10-pods.conflist": networkText} {
		if err := fill(filepath.Join(dir, file), text, values); err != nil {
			return nil, err
		}
	}
	if err := n.start(ctx, filepath.Join(repo, "build/cri/containerd")); err != nil {
		return nil, errors.Join(err, n.Stop())
	}
	return n, nil
}

func fill(file, text string, values any) error {
	var b bytes.Buffer
	t, err := template.New("").Parse(text)
	if err != nil {
		return err
	}
	if err := t.Execute(&b, values); err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o600)
}

func (n *Node) start(ctx context.Context, containerd string) error {
	log, err := os.Create(filepath.Join(n.dir, "containerd.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	n.daemon = exec.Command(containerd, "--config", filepath.Join(n.dir, "config.toml"))
	n.daemon.Stdout, n.daemon.Stderr = log, log
	// The shim looks for runc, too.
	n.daemon.Env = append(os.Environ(), "PATH="+filepath.Dir(n.ctr)+":"+os.Getenv("PATH"))
	// The test may be killed; what it started must not stay.
	n.daemon.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := n.daemon.Start(); err != nil {
		n.daemon = nil
		return err
	}
	n.ended = make(chan struct{})
	go func() {
		defer close(n.ended)
		_ = n.daemon.Wait()
	}()
	n.conn, err = grpc.NewClient("unix://"+n.socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	n.runtime, n.images = runtimeapi.NewRuntimeServiceClient(n.conn), runtimeapi.NewImageServiceClient(n.conn)
	if err := n.await(ctx, n.ready); err != nil {
		return fmt.Errorf("containerd with CRI: %w\n%s", err, n.said())
	}
	return n.loadPause(ctx)
}

// said is the end of containerd's log.
func (n *Node) said() string {
	b, _ := os.ReadFile(filepath.Join(n.dir, "containerd.log"))
	return string(b[max(0, len(b)-4000):])
}

// await asks again until the answer is nil, at most 30 s.
func (n *Node) await(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, harness.Patient(30*time.Second))
	defer cancel()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-n.ended:
			return fmt.Errorf("containerd ended: %w", err)
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (n *Node) ready(ctx context.Context) error {
	s, err := n.runtime.Status(ctx, &runtimeapi.StatusRequest{})
	if err != nil {
		return err
	}
	for _, c := range s.GetStatus().GetConditions() {
		if (c.GetType() == "RuntimeReady" || c.GetType() == "NetworkReady") && !c.GetStatus() {
			return fmt.Errorf("%s: %s", c.GetType(), c.GetMessage())
		}
	}
	return nil
}

// Load imports an archive of images and waits until CRI knows the named one.
func (n *Node) Load(ctx context.Context, archive, name string) error {
	a := harness.Call(time.Minute, n.ctr, "--address", n.socket(), "--namespace", "k8s.io", "images", "import", "--snapshotter", "overlayfs", archive)
	if a.Code != 0 {
		return fmt.Errorf("import %s: %s", archive, a)
	}
	return n.await(ctx, func(ctx context.Context) error {
		s, err := n.images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: name}})
		if err == nil && s.GetImage() == nil {
			err = fmt.Errorf("CRI does not know image %s; imported: %s", name, a)
		}
		return err
	})
}

// loadPause makes the image of the sandboxes: a program that does nothing.
func (n *Node) loadPause(ctx context.Context) error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	img, err := imagekit.Busybox(busybox)
	if err != nil {
		return err
	}
	img.Name, img.Config.Cmd = pauseImage, []string{"sleep", "1000000"}
	built, err := imagekit.Build(img)
	if err != nil {
		return err
	}
	file := filepath.Join(n.dir, "pause.tar")
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := errors.Join(imagekit.WriteOCI(f, built), f.Close()); err != nil {
		return err
	}
	return n.Load(ctx, file, pauseImage)
}

// Stop ends containerd and takes everything away. What Run left behind is an
// error.
func (n *Node) Stop() error {
	var err error
	if n.conn != nil {
		err = n.conn.Close()
	}
	if n.daemon != nil {
		_ = n.daemon.Process.Signal(syscall.SIGTERM)
		select {
		case <-n.ended:
		case <-time.After(harness.Patient(20 * time.Second)):
			_ = n.daemon.Process.Kill()
			<-n.ended
			err = errors.Join(err, errors.New("containerd did not end by SIGTERM"))
		}
	}
	err = errors.Join(err, n.left())
	for _, d := range hidden {
		err = errors.Join(err, unix.Unmount(d, 0))
	}
	if err != nil {
		return fmt.Errorf("%w\nsee %s", err, n.dir)
	}
	return os.RemoveAll(n.dir)
}

// left says which processes, mounts and cgroups are still there.
func (n *Node) left() error {
	var err error
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range lines {
		if b, e := os.ReadFile(file); e == nil && bytes.Contains(b, []byte(n.dir+"/")) {
			err = errors.Join(err, fmt.Errorf("process %s stayed: %s", filepath.Base(filepath.Dir(file)), bytes.ReplaceAll(b, []byte{0}, []byte(" "))))
		}
	}
	mounts, e := os.ReadFile("/proc/self/mountinfo")
	err = errors.Join(err, e)
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], n.dir+"/") {
			err = errors.Join(err, fmt.Errorf("mount stayed: %s", f[4]))
		}
	}
	return errors.Join(err, removeCgroup(n.cgroup))
}

// removeCgroup removes an empty cgroup in every tree: v2 has one, v1 one for
// each controller.
func removeCgroup(path string) error {
	var err error
	for _, trees := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		dirs, _ := filepath.Glob(filepath.Join(trees, path))
		for _, d := range dirs {
			err = errors.Join(err, os.Remove(d))
		}
	}
	return err
}
