package main

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/containers"

	"github.com/safe-run/safe-run/audit"
	"github.com/safe-run/safe-run/internal/fail"
)

func TestFindContainers(t *testing.T) {
	other := strings.Replace(longID, "0", "f", 1)
	made := func(ns, id string, pid int, labels map[string]string) candidate {
		return candidateOf("/run/c.sock", ns, containers.Container{ID: id, Labels: labels}, pid)
	}
	pod := func(name string) map[string]string {
		return map[string]string{
			"io.kubernetes.pod.name": "web-1", "io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.uid": "u",
			"io.kubernetes.container.name": name,
		}
	}
	c := census{all: []candidate{
		made("default", longID, 10, map[string]string{"nerdctl/name": "web"}),
		made("moby", other, 11, nil),
		made("k8s.io", "aaaa", 12, pod("nginx")),
		made("k8s.io", "bbbb", 13, pod("")),
		made("default", "done", 0, nil),
		made("default", "twin", 14, nil),
		made("x", "twin", 15, nil),
	}}
	for _, tt := range []struct {
		ref, namespace string
		pid            int
		kind           fail.Kind
	}{
		{"web", "", 10, 0},
		{longID, "", 10, 0},
		{"0123", "", 10, 0},
		{"f", "", 11, 0},
		{"nginx", "", 12, 0},
		{"shop/web-1/nginx", "", 12, 0},
		{"web-1/POD", "", 13, 0},
		{"done", "", 0, fail.Conflict},
		{"twin", "", 0, fail.Conflict},
		{"twin", "x", 15, 0},
		{"web", "moby", 0, fail.NotFound},
		{"nosuch", "", 0, fail.NotFound},
		{"", "", 0, fail.NotFound},
		{"\x1b[31m", "", 0, fail.NotFound},
	} {
		got, err := c.find(tt.ref, filter{namespace: tt.namespace})
		if got.PID != tt.pid || (tt.pid == 0) != (err != nil) || err != nil && fail.KindOf(err) != tt.kind {
			t.Errorf("%q: process %d, %v", tt.ref, got.PID, err)
		}
	}
	if _, err := c.find("twin", filter{}); !strings.Contains(err.Error(), "namespace x") {
		t.Errorf("does not tell them apart: %v", err)
	}
	if got := len(c.live(filter{})); got != 6 {
		t.Errorf("%d live ones", got)
	}
	for i := range c.all {
		if c.all[i].live {
			c.all[i].met = &audit.Neighbour{ID: c.all[i].ID}
		}
	}
	// Those of a pod share on purpose; of the same id in another namespace not.
	if got := c.neighbours(c.all[2]); len(got) != 4 {
		t.Errorf("neighbours of one in a pod: %+v", got)
	}
	if got := c.neighbours(c.all[5]); len(got) != 5 {
		t.Errorf("neighbours of twin: %+v", got)
	}
}

func TestDockerName(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, longID), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, longID, "config.v2.json"), []byte(`{"ID":"x","Name":"/web","Config":{"Image":"nginx:1"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if name, image := dockerName(root, longID); name != "web" || image != "nginx:1" {
		t.Errorf("%q, %q", name, image)
	}
	for _, id := range []string{"", "..", strings.Replace(longID, "0", "1", 1), "../" + longID[3:]} {
		if name, _ := dockerName(root, id); name != "" {
			t.Errorf("%q: %q", id, name)
		}
	}
}

func TestBundleSpec(t *testing.T) {
	state := t.TempDir()
	dir := filepath.Join(state, "io.containerd.runtime.v2.task", "ns", "id")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := bundleSpec(state, "ns", "id"); string(got) != "{}" {
		t.Errorf("%q", got)
	}
	for _, bad := range [][2]string{{"..", "id"}, {"ns", "../id"}, {"", "id"}, {"ns", "nosuch"}} {
		if got := bundleSpec(state, bad[0], bad[1]); got != nil {
			t.Errorf("%q: %q", bad, got)
		}
	}
}

func TestCgroupID(t *testing.T) {
	for _, c := range []struct{ cgroup, want string }{
		{"0::/machine.slice/libpod-" + longID + ".scope\n", longID},
		{"0::/kubepods.slice/crio-" + longID + ".scope/container\n", longID},
		{"2:cpu:/docker/" + longID + "\n1:name=systemd:/docker/" + longID + "\n", longID},
		{"0::/kubepods/x:cri-containerd:" + longID + "\n", longID},
		{"0::/user.slice\n", ""},
		{"", ""},
		{"0::/" + longID + "/" + strings.Replace(longID, "0", "1", 1) + "\n", ""},
	} {
		if got := cgroupID(c.cgroup); got != c.want {
			t.Errorf("%q: %q", c.cgroup, got)
		}
	}
	if !rootCgroup("2:cpu:/\n0::/\n") || rootCgroup("2:cpu:/x\n0::/\n") {
		t.Error("rootCgroup")
	}
}

func TestByPID(t *testing.T) {
	var c census
	if _, err := c.byPID(0); fail.KindOf(err) != fail.Usage {
		t.Error(err)
	}
	if _, err := c.byPID(1 << 30); fail.KindOf(err) != fail.NotFound {
		t.Error(err)
	}
	if got, err := c.byPID(os.Getpid()); err != nil || got.PID != os.Getpid() || got.ID != "" {
		t.Errorf("%+v, %v", got, err)
	}
	c.all = []candidate{{Subject: audit.Subject{ID: "me", PID: os.Getpid()}, live: true}}
	if got, err := c.byPID(os.Getpid()); err != nil || got.ID != "me" {
		t.Errorf("%+v, %v", got, err)
	}
}

// A socket that is not there, one nobody serves, and one that never answers
// are no obstacles.
func TestDeafEngines(t *testing.T) {
	t.Parallel() // most of it is waiting
	dir := t.TempDir()
	listen := func(name string) net.Listener {
		l, err := net.Listen("unix", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		return l
	}
	if _, err := inventory(t.Context(), filepath.Join(dir, "nosuch")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("not there: %v", err)
	}
	if err := listen("dead").Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := inventory(t.Context(), filepath.Join(dir, "dead")); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dead: %v", err)
	}
	mute := listen("mute")
	defer mute.Close()
	start := time.Now()
	if _, err := inventory(t.Context(), filepath.Join(dir, "mute")); err == nil || errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("mute: %v", err)
	}
	if took := time.Since(start); took > 10*answersAt {
		t.Errorf("it took %s", took)
	}
}

// A number that was given to another process after the engine was asked is
// not the container's.
func TestAnotherProcess(t *testing.T) {
	f, err := audit.Look(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	now := sinceBoot()
	if f.Started <= 0 || f.Started > now || now-f.Started > time.Hour {
		t.Errorf("began at %s, now it is %s", f.Started, now)
	}
	for asked, want := range map[time.Duration]bool{0: false, now: false, f.Started: false, f.Started - 1: true} {
		c := candidate{Subject: audit.Subject{ID: "x", PID: os.Getpid()}, asked: asked}
		if c.another(f.Started) != want {
			t.Errorf("asked at %s, began at %s", asked, f.Started)
		}
	}
	c := candidate{Subject: audit.Subject{ID: "x", PID: os.Getpid()}, asked: 1}
	if _, err := look(c, nil, ""); fail.KindOf(err) != fail.NotFound {
		t.Error(err)
	}
}
