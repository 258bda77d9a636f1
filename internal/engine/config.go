package engine

import (
	"os"
	"path/filepath"
	"strings"
)

// disabled are the plugins the engine does not load: what safe-run has no use
// for should not be there to be attacked, and costs start time.
var disabled = []string{
	// Kubernetes, and a door for plugins that change containers afterwards.
	"io.containerd.cri.v1.images",
	"io.containerd.cri.v1.runtime",
	"io.containerd.grpc.v1.cri",
	"io.containerd.nri.v1.nri",
	// Starts containers by their labels (the way of CVE-2026-53488).
	"io.containerd.monitor.container.v1.restart",
	// Installs programs out of images.
	"io.containerd.internal.v1.opt",
	// Snapshotters and differs for which no host setup is done.
	"io.containerd.snapshotter.v1.btrfs",
	"io.containerd.snapshotter.v1.zfs",
	"io.containerd.snapshotter.v1.devmapper",
	"io.containerd.snapshotter.v1.blockfile",
	"io.containerd.snapshotter.v1.erofs",
	"io.containerd.differ.v1.erofs",
	"io.containerd.mount-handler.v1.erofs",
	// Telemetry.
	"io.containerd.internal.v1.tracing",
	"io.containerd.tracing.processor.v1.otlp",
	"io.containerd.monitor.task.v1.cgroups",
	"io.containerd.http.v1.pprof",
	"io.containerd.server.v1.debug",
	"io.containerd.server.v1.metrics",
	"io.containerd.server.v1.grpc-tcp",
}

// required are the plugins without which the engine is of no use. containerd
// would start without those that fail to load, for want of disk space say,
// and stay so for as long as it runs.
var required = []string{
	"io.containerd.content.v1.content",
	"io.containerd.snapshotter.v1.overlayfs",
	"io.containerd.metadata.v1.bolt",
	"io.containerd.gc.v1.scheduler",
	"io.containerd.shim.v1.manager",
	"io.containerd.runtime.v2.task",
	"io.containerd.mount-manager.v1.bolt",
	"io.containerd.grpc.v1.containers",
	"io.containerd.grpc.v1.content",
	"io.containerd.grpc.v1.diff",
	"io.containerd.grpc.v1.events",
	"io.containerd.grpc.v1.images",
	"io.containerd.grpc.v1.leases",
	"io.containerd.grpc.v1.namespaces",
	"io.containerd.grpc.v1.snapshots",
	"io.containerd.grpc.v1.tasks",
	"io.containerd.grpc.v1.version",
}

// config is the engine's containerd configuration. Paths have passed
// plainPath, so literal strings hold them. There is no "imports": nothing from
// /etc/containerd applies.
func (e *Engine) config() string {
	var b strings.Builder
	line := func(s ...string) {
		for _, p := range s {
			b.WriteString(p)
		}
		b.WriteByte('\n')
	}
	line("# Written by safe-run at each start; changes are lost.")
	line("version = 4")
	line("root = '", e.root, "'")
	line("state = '", e.state, "'")
	line("imports = []")
	list := func(name string, plugins []string) {
		line(name, " = [")
		for _, p := range plugins {
			line("  '", p, "',")
		}
		line("]")
	}
	list("disabled_plugins", disabled)
	list("required_plugins", required)
	line("[debug]")
	line("  level = 'warn'")
	line("[timeouts]")
	// A second containerd on the same data gives up instead of waiting for ever.
	line("  'io.containerd.timeout.bolt.open' = '10s'")
	line("[plugins.'io.containerd.server.v1.grpc']")
	line("  address = '", e.Address(), "'")
	line("[plugins.'io.containerd.server.v1.ttrpc']")
	line("  address = '", e.Address(), ".ttrpc'")
	if s := filepath.Join(e.state, "s"); len(s) <= maxShimDir {
		line("[plugins.'io.containerd.shim.v1.manager']")
		line("  socket_dir = '", s, "'")
	}
	line("[plugins.'io.containerd.gc.v1.scheduler']")
	// The first collection waits until the launch that started the engine is
	// likely to be done.
	line("  startup_delay = '5s'")
	line("  pause_threshold = 0.02")
	line("  deletion_threshold = 0")
	line("  mutation_threshold = 100")
	line("  schedule_delay = '0s'")
	return b.String()
}

// maxShimDir is the longest directory containerd takes for shim sockets
// (maxSocketDirLen in its core/runtime/v2). With a longer one its default,
// /run/containerd/s, is used; socket names there are hashes and cannot clash.
const maxShimDir = 42

// writeConfig replaces the configuration file as a whole.
func (e *Engine) writeConfig() error {
	tmp := e.configPath() + ".new"
	if err := os.WriteFile(tmp, []byte(e.config()), 0o600); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return os.Rename(tmp, e.configPath())
}
