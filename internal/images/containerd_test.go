package images

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/snapshots"
)

// engine is the containerd of this test run, started by the first test that
// needs it.
var engine struct {
	once   sync.Once
	dir    string
	socket string
	stop   func()
	err    error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if engine.stop != nil {
		engine.stop()
	}
	if engine.dir != "" {
		os.RemoveAll(engine.dir)
	}
	os.Exit(code)
}

const engineConfig = `version = 4
root = %[1]q
state = %[2]q
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri",
  "io.containerd.nri.v1.nri", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[plugins."io.containerd.internal.v1.opt"]
  path = %[3]q
[plugins."io.containerd.server.v1.grpc"]
  address = %[4]q
[plugins."io.containerd.server.v1.ttrpc"]
  address = %[5]q
`

func startEngine(dir string) (stop func(), err error) {
	_, self, _, _ := runtime.Caller(0)
	bin := filepath.Join(filepath.Dir(self), "../../build/engine/containerd")
	if _, err := os.Stat(bin); err != nil {
		return nil, fmt.Errorf("these tests need the engine; run `make engine` first (%w)", err)
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("these tests need root: containerd mounts")
	}
	engine.socket = filepath.Join(dir, "c.sock")
	config := filepath.Join(dir, "config.toml")
	text := fmt.Sprintf(engineConfig, dir+"/root", dir+"/state", dir+"/opt", engine.socket, engine.socket+".ttrpc")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(bin, "--config", config)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	}
	for range 200 {
		c, err := containerd.New(engine.socket, containerd.WithTimeout(time.Second))
		if err == nil {
			_, err = c.Version(context.Background())
			c.Close()
			if err == nil {
				return stop, nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	stop()
	out, _ := os.ReadFile(log.Name())
	return nil, fmt.Errorf("containerd did not start: %s", out)
}

// newStore gives a Store in a containerd namespace of the test's own.
func newStore(t testing.TB) (*Store, context.Context) {
	t.Helper()
	engine.once.Do(func() {
		if engine.dir, engine.err = os.MkdirTemp("", "images-test-"); engine.err == nil {
			engine.stop, engine.err = startEngine(engine.dir)
		}
	})
	if engine.err != nil {
		t.Fatal(engine.err)
	}
	ns := strings.ToLower(strings.Map(func(r rune) rune {
		if r == '/' || r == '_' || r == ' ' || r == '#' {
			return '-'
		}
		return r
	}, t.Name()))
	if len(ns) > 60 {
		ns = ns[len(ns)-60:]
	}
	c, err := containerd.New(engine.socket, containerd.WithDefaultNamespace(strings.Trim(ns, "-")))
	if err != nil {
		t.Fatal(err)
	}
	s := New(c)
	s.CertsDir = ""
	ctx := context.Background()
	t.Cleanup(func() {
		// Namespaces share content: what stays would spare the next test its
		// downloads.
		list, _ := s.Client.ImageService().List(ctx)
		for _, i := range list {
			_ = s.Client.ImageService().Delete(ctx, i.Name, images.SynchronousDelete())
		}
		c.Close()
	})
	return s, ctx
}

// inventory lists all that containerd holds in the namespace.
func inventory(t testing.TB, s *Store) []string {
	t.Helper()
	ctx := context.Background()
	var all []string
	imgs, err := s.Client.ImageService().List(ctx)
	check(t, err)
	for _, i := range imgs {
		all = append(all, "image "+i.Name)
	}
	leases, err := s.Client.LeasesService().List(ctx)
	check(t, err)
	for _, l := range leases {
		all = append(all, "lease "+l.ID)
	}
	check(t, s.Client.ContentStore().Walk(ctx, func(i content.Info) error {
		all = append(all, "content "+i.Digest.String())
		return nil
	}))
	statuses, err := s.Client.ContentStore().ListStatuses(ctx)
	check(t, err)
	for _, st := range statuses {
		all = append(all, "ingest "+st.Ref)
	}
	check(t, s.Client.SnapshotService(s.Snapshotter).Walk(ctx, func(_ context.Context, i snapshots.Info) error {
		all = append(all, "snapshot "+i.Name)
		return nil
	}))
	sort.Strings(all)
	return all
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
