package threats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/engine"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/tests/imagekit"
)

// keep loads an image made of a good one, for the time of a test.
func keep(t *testing.T, name string, edits ...func(*imagekit.Image)) {
	t.Helper()
	readyCorpus(t)
	img := tried.good
	img.Name = name + ":latest"
	img.Layers = slices.Clone(tried.good.Layers)
	allOf(edits...)(&img)
	a, err := load(here.Dir, img)
	if err != nil || a.Code != 0 {
		t.Fatalf("load %s: %v %s", name, err, a)
	}
	t.Cleanup(func() { here.Run("rmi", name) })
}

func TestR5(t *testing.T) {
	row(t, "R5")
	label := here.Run("run", "--rm", denImage, "cat", "/proc/self/attr/current")
	// A runtime whose write of a label, a filter, or a setting went elsewhere.
	u := withUnfaithful(t)
	if a := u.ground.Run("run", "--rm", "busybox", "echo", "RAN"); a.Stdout != "RAN\n" {
		t.Fatal(a)
	}
	u.found(t, `s/"seccomp":{/"unknown":{/`, "Seccomp")
	u.found(t, `s/"noNewPrivileges":true/"unknown":true/`, "NoNewPrivs")
	if enabled, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled"); strings.HasPrefix(string(enabled), "Y") {
		if !strings.Contains(label.Stdout, "(enforce)") || strings.Contains(label.Stdout, "unconfined") {
			t.Errorf("the label: %s", label)
		}
		u.found(t, `s/"apparmorProfile":"[^"]*"/"apparmorProfile":""/`, "")
	} else if label.Code == 0 && strings.Contains(label.Stdout, "(") {
		t.Errorf("a label on a host without AppArmor: %s", label)
	} else {
		refused(t, "", []string{"--security-opt", "apparmor=r5-no-such-profile"})
	}
}

func TestR6(t *testing.T) {
	row(t, "R6")
	hostileImages(t, "root:")
}

func TestR7(t *testing.T) {
	row(t, "R7")
	hostileImages(t, "volume:", "root: /proc", "root: /sys")
	refused(t, "mount-target", []string{"-v", "/proc"}, []string{"-v", "/dev/x/../../proc/self"}, []string{"--mount", "type=volume,target=/sys/fs/cgroup"})
}

func TestR12(t *testing.T) {
	row(t, "R12")
	hostileImages(t, "volume: content", "volume: behind")
	const canary = "r12-canary"
	file := filepath.Join(here.Dir, canary)
	if err := os.WriteFile(file, []byte(canary), 0o644); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(file)
	up := strings.Repeat("../", 40)
	keep(t, "r12-image",
		configured(func(c *imagekit.Config) { c.Volumes = imagekit.Set("/v", "/w") }),
		withFiles(imagekit.Symlink("v", here.Dir), imagekit.Dir("w", 0o755), imagekit.File("w/own", 0o644, "own"), imagekit.Symlink("w/a", file), imagekit.Symlink("w/b", up+here.Dir)))
	for _, flags := range [][]string{nil, {"-v", "r12-volume:/v"}, {"-v", "r12-volume:/w"}} {
		a := here.Run(slices.Concat([]string{"run", "--rm"}, flags, []string{"r12-image", "sh", "-c", "find /v /w | xargs cat; cat /w/a /w/b/" + canary})...)
		if strings.Contains(a.Stdout, canary) {
			t.Errorf("%q: a file of the host: %s", flags, a)
		}
		if a.Code != 125 && !strings.Contains(a.Stdout, "own") {
			t.Errorf("%q: the volume has not even the image's own file: %s", flags, a)
		}
		here.Run("volume", "rm", "r12-volume")
	}
}

// oddUsers read as another user, by one reader or another.
var oddUsers = []string{
	"2147483648", "4294967296", "4294967295:0", "-1", "0x0", "1e1", " 0", "+0", "00", "0:4294967296", "0:-1", "1000:0x0", "18446744073709551616", "65536", "\uff10", "0 ", "0,0",
}

func TestR13(t *testing.T) {
	row(t, "R13")
	hostileImages(t, "user:", "passwd: ids")
	var all [][]string
	for _, u := range oddUsers {
		all = append(all, []string{"--user", u}, []string{"-u=" + u})
	}
	refused(t, "", all...)
	d := denOf(t, nil)
	for _, u := range oddUsers {
		if u == "00" { // nothing but another spelling of root
			continue
		}
		if a := here.Run("exec", "--user", u, d.name, "echo", "RAN"); a.Code == 0 || a.Stdout != "" {
			t.Errorf("exec --user %q: %s", u, a)
		}
	}
	// What is no trick works, so that the refusals mean something.
	if a := here.Run("run", "--rm", "--user", "65535:65535", denImage, "id", "-u"); a.Stdout != "65535\n" {
		t.Errorf("the largest id there is: %s", a)
	}
}

func TestR14(t *testing.T) {
	row(t, "R14")
	hostileImages(t, "user: a number that is a name")
	const name = "99999999999999999999"
	keep(t, "r14-image", withFiles(imagekit.File("etc/passwd", 0o644, name+":x:0:0::/:/bin/sh\n4294967296:x:0:0::/:/bin/sh\nword:x:1234:5::/:/bin/sh\n"), imagekit.File("etc/group", 0o644, name+":x:0:\n")))
	for _, u := range []string{name, "4294967296", "0:" + name, "word:" + name} {
		if a := here.Run("run", "--rm", "--user", u, "r14-image", "echo", "RAN"); a.Code != 125 || a.Stdout != "" {
			t.Errorf("--user %s: %s", u, a)
		}
	}
	if a := here.Run("run", "--rm", "--user", "word", "r14-image", "id", "-u"); a.Stdout != "1234\n" {
		t.Errorf("a name that is one: %s", a)
	}
}

func TestR15(t *testing.T) {
	row(t, "R15")
	hostileImages(t, "labels: that steer", "document: annotations that steer")
	marker, program := filepath.Join(here.Dir, "r15-marker"), filepath.Join(here.Dir, "r15-program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\ntouch "+marker+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(program)
	steering := map[string]string{
		"containerd.io/restart.loguri": "binary://" + program, "containerd.io/restart.status": "running", "containerd.io/restart.policy": "always",
		"containerd.io/restart.explicitly-stopped": "false", "containerd.io/gc.root": "x", "containerd.io/gc.ref.content.evil": "sha256:" + strings.Repeat("0", 64),
		"io.cri-containerd.kind": "sandbox", "nerdctl/state-dir": "/etc", "safe-run/name": "evil", "com.docker.compose.project": "x",
	}
	keep(t, "r15-image", configured(func(c *imagekit.Config) { c.Labels = steering }))
	// The container is a record until it is removed, which containerd's monitor would act on.
	t.Cleanup(func() { here.Run("rm", "-f", "r15-container") })
	a := here.Run("run", "-d", "--name", "r15-container", "r15-image", "sh", "-c", "exit 3")
	if a.Code != 0 {
		t.Fatal(a)
	}
	if a := here.Run("wait", "r15-container"); a.Stdout != "3\n" {
		t.Errorf("%s", a)
	}
	var what []string
	for _, c := range lines(here.Ctr(t, "containers", "ls", "-q")) {
		what = append(what, here.Ctr(t, "containers", "info", c))
	}
	what = append(what, here.Ctr(t, "images", "ls"), here.Ctr(t, "snapshots", "--snapshotter", "overlayfs", "ls"))
	for label := range steering {
		for _, text := range what {
			if label != "containerd.io/gc.root" && strings.Contains(text, label) {
				t.Errorf("containerd got %s: %s", label, text)
			}
		}
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("a program named by a label was run")
	}
}

func TestR16(t *testing.T) {
	row(t, "R16")
	hostileImages(t, "document: config type")
	for _, words := range [][]string{{"checkpoint", "create", "x", "y"}, {"checkpoint", "ls", "x"}, {"start", "--checkpoint", "x", "y"}} {
		if a := here.Run(words...); a.Code == 0 || strings.TrimSpace(a.Stderr) == "" {
			t.Errorf("%q: %s", words, a)
		}
	}
}

func TestR17(t *testing.T) {
	row(t, "R17")
	hostileImages(t, "document: config, 16 MiB", "document: config, half a million", "document: config, deep", "document: five thousand layers", "document: 16 MiB", "labels:", "index: nested", "index: of 1500", "archive: index of")
	engines := 0
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range all {
		args, _ := os.ReadFile(file)
		var pid int
		if _, err := fmt.Sscanf(file, "/proc/%d/cmdline", &pid); err == nil && strings.Contains(string(args), filepath.Join(here.State, "engine", "config.toml")) {
			engines++
			if kib := residentKiB(pid); kib > 200<<10 || kib == 0 {
				t.Errorf("containerd has %d KiB", kib)
			}
		}
	}
	if engines != 1 {
		t.Errorf("%d processes of containerd", engines)
	}
}

func TestR18(t *testing.T) {
	row(t, "R18")
	runc := filepath.Join(here.Repo, "build/engine/runc")
	for version, good := range map[string]bool{
		"v2.4.2": true, "2.0.0": true, "2.1.1": true, "2.1.0": false, "2.1.0-rc.1": false, "2.0.0-rc.1": false, "1.7.27": false, "1.5.3": false, "1.99.0": false, "": false, "new": false, "v3\x1b[2J": false,
	} {
		cache := t.TempDir()
		// Twice: a bad verdict is not kept.
		for range 2 {
			err := engine.Floors(context.Background(), engine.FloorQuery{
				Runtime: runc, PID: os.Getpid(), Cache: cache,
				Version: func(context.Context) (string, error) { return version, nil },
			})
			if good && err != nil || !good && (!errors.Is(err, engine.ErrBelowFloor) || fail.KindOf(err) != fail.HostCannot) {
				t.Errorf("containerd %q: %v", version, err)
			}
		}
	}
	hostileImages(t, "layer: a file behind a link", "layer: a directory through a link", "layer: modes through a link", "layer: a file through a link")
}

func TestR21(t *testing.T) {
	row(t, "R21")
	hostileImages(t, "archive:")
}

func TestR23(t *testing.T) {
	row(t, "R23")
	hostileImages(t, "workdir: below")
	made := filepath.Join(here.Dir, "r23-made")
	up := strings.Repeat("../", 40)
	keep(t, "r23-image", withFiles(imagekit.Symlink("a", made), imagekit.Symlink("b", up+made), imagekit.Symlink("c", here.Dir)))
	for _, dir := range []string{"/a", "/a/b/c", "/b/x", "/c/r23-made/x", "/c/../r23-made"} {
		here.Run("run", "--rm", "-w", dir, "r23-image", "true")
		d := denOf(t, nil)
		here.Run("exec", "-w", dir, d.name, "true")
		if _, err := os.Lstat(made); err == nil {
			t.Fatalf("-w %s made a directory on the host", dir)
		}
	}
	// Nobody's ownership is changed either.
	st, err := os.Stat(here.Dir)
	if err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("%v %v", st, err)
	}
}

func TestR24(t *testing.T) {
	row(t, "R24")
	hostileImages(t, "environment: the caller's")
	t.Setenv("R24_SECRET", "f00d-r24")
	inModes(t, nil, "env | grep -c f00d; true", prints("0\n"))
	refused(t, "env-wildcard", []string{"-e", "R24*"}, []string{"--env", "*"})
	// The user may hand on what she names.
	if a := here.Run("run", "--rm", "-e", "R24_SECRET", denImage, "sh", "-c", "echo $R24_SECRET"); a.Stdout != "f00d-r24\n" {
		t.Errorf("%s", a)
	}
}

func TestR26(t *testing.T) {
	row(t, "R26")
	u := withUnfaithful(t)
	dir := filepath.Dir(u.edit)
	runc := filepath.Join(dir, "engine", "runc")
	out := here.Repo + "/build/engine/runc"
	a := onHost(t, out, "features")
	var all map[string]any
	if err := json.Unmarshal([]byte(a.Stdout), &all); err != nil {
		t.Fatalf("%v: %s", err, a)
	}
	real, err := filepath.EvalSymlinks(out)
	if err != nil {
		t.Fatal(err)
	}
	before := u.ground.Inventory(t)
	for what, edit := range map[string]struct{ from, to, says string }{
		"nothing":           {"\x00", "", ""},
		"recursive options": {`"rro"`, `"rro-not"`, "rro"},
		"idmapped mounts":   {`"idmap":{"enabled":true}`, `"idmap":{"enabled":false}`, "idmapped"},
		"user namespaces":   {`"user"`, `"loser"`, "user"},
		"seccomp":           {`"seccomp":{`, `"seccomp-not":{`, "seccomp"},
		"its name":          {`org.opencontainers.runc.version`, `org.example.version`, "neither"},
		"a newer version":   {`"org.opencontainers.runc.version":"`, `"org.opencontainers.runc.version":"1.1.5-`, "1.1.5"},
	} {
		b, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(b), edit.from, edit.to)
		if edit.says != "" && text == string(b) {
			t.Fatalf("%s: not among the features", what)
		}
		script := fmt.Sprintf("#!/bin/sh\nif [ \"$1\" = features ]; then cat <<'EOF'\n%s\nEOF\nexit; fi\nexec %s \"$@\"\n", text, real)
		if err := errors.Join(os.WriteFile(runc+".new", []byte(script), 0o755), os.Rename(runc+".new", runc)); err != nil {
			t.Fatal(err)
		}
		a := u.ground.Run("run", "--rm", "busybox", "echo", "RAN")
		switch {
		case edit.says == "" && a.Stdout != "RAN\n":
			t.Fatalf("with all features: %s", a)
		case edit.says != "" && (a.Code != 125 || strings.Contains(a.Stdout, "RAN") || !strings.Contains(a.Stderr, edit.says)):
			t.Errorf("a runtime without %s: %s", what, a)
		}
	}
	patient(t, func() error { return u.same(t, before) })
}
