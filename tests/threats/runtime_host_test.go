package threats

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/tests/harness"
)

func TestR11(t *testing.T) {
	row(t, "R11")
	refused(t, "network-host", []string{"--network", "host"}, []string{"--net=host"})
	names := `awk '$8 ~ /^@/ {print $8}' /proc/net/unix | sort -u`
	l, err := new(unixListener).listen("r11-control")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	inModes(t, nil, names, func(t *testing.T, _, out string) {
		if strings.Contains(out, "r11-control") || strings.Contains(out, "containerd") {
			t.Errorf("abstract sockets of the host: %s", out)
		}
	})
	// In the network of the host, with the site's grant, the names are those of the
	// host; none of them is containerd's or a shim's, nor ours.
	granted(t, "allow: [network-host]")
	a := here.Run("run", "--rm", "--network", "host", denImage, "sh", "-c", names)
	if a.Code != 0 || !strings.Contains(a.Stdout, "@r11-control") {
		t.Fatalf("not the network of the host: %s", a)
	}
	for _, word := range []string{"containerd", "shim", "safe-run", "runc", "docker"} {
		if strings.Contains(a.Stdout, word) {
			t.Errorf("a service of the engine can be reached: %s", a.Stdout)
		}
	}
}

// unixListener holds an abstract name.
type unixListener struct{ fd int }

func (u *unixListener) listen(name string) (*unixListener, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	u.fd = fd
	return u, errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + name}), unix.Listen(fd, 1))
}

func (u *unixListener) Close() { _ = unix.Close(u.fd) }

func TestR19(t *testing.T) {
	row(t, "R19")
	d := denOf(t, nil)
	id := strings.TrimSpace(here.Run("inspect", "--format", "{{.Id}}", d.name).Stdout)
	// Below what others may pass through, which the container's own ids must,
	// nothing can be listed, and what holds files of images is closed.
	for _, dir := range []string{here.Root, here.State, filepath.Join(here.Root, "engine"), filepath.Join(here.State, "engine")} {
		st, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm()&0o066 != 0 || st.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Errorf("%s has mode %o", dir, st.Mode().Perm())
		}
	}
	nobody := func(script string) harness.Answer {
		cmd := exec.Command("/bin/sh", "-c", script)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return harness.Answer{Code: cmd.ProcessState.ExitCode(), Stdout: string(out)}
	}
	if a := nobody("ls " + here.Dir); a.Code != 0 {
		t.Fatalf("a user of the host does not even get to the tests: %s", a)
	}
	snapshots := filepath.Join(here.Root, "engine/io.containerd.snapshotter.v1.overlayfs/snapshots")
	if _, err := os.Stat(snapshots + "/1/fs/bin/busybox"); err != nil {
		t.Fatalf("where the files of images are has changed: %v", err)
	}
	for _, p := range []string{
		here.Root, here.State, here.Root + "/containers", here.Root + "/containers/" + id, here.Root + "/volumes", here.Root + "/cache",
		here.State + "/io", here.State + "/live", snapshots, snapshots + "/1/fs/bin/busybox",
		here.Root + "/engine/containerd.log", here.Root + "/engine/io.containerd.metadata.v1.bolt/meta.db", here.Socket, here.State + "/engine/config.toml",
	} {
		if a := nobody("ls -l " + p + "/ || cat " + p + " || " + p + " && echo SEEN"); strings.Contains(a.Stdout, "SEEN") {
			t.Errorf("a user of the host can look at %s: %s", p, a)
		}
	}
}

func TestR20(t *testing.T) {
	row(t, "R20")
	const name = "r20-attached"
	detached(t, name, denImage, "sh", "-c", "while :; do echo line; sleep 0.01; done")
	shims := func() (all []int) {
		id := strings.TrimSpace(here.Run("inspect", "--format", "{{.Id}}", name).Stdout)
		dirs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, d := range dirs {
			b, _ := os.ReadFile(d)
			args := strings.Split(string(b), "\x00")
			shim := strings.Contains(args[0], "containerd-shim") && slices.Contains(args, id)
			ours, _ := os.Readlink(filepath.Dir(d) + "/exe")
			if shim || ours == here.Bin && supervises(filepath.Dir(d), id) {
				pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(d)))
				all = append(all, pid)
			}
		}
		return all
	}
	cycles := func(n int) {
		for i := range n {
			client := exec.Command(here.Bin, "attach", "--no-stdin", "--sig-proxy=false", name)
			out, err := client.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := client.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := out.Read(make([]byte, 10)); err != nil {
				t.Errorf("attach: %v", err)
			}
			_ = client.Process.Signal([]os.Signal{syscall.SIGKILL, syscall.SIGTERM}[i%2])
			_ = client.Wait()
		}
	}
	cycles(3)
	pids := shims()
	if len(pids) != 2 {
		t.Fatalf("a shim and a supervisor: %v", pids)
	}
	open := func() (n int) {
		for _, pid := range pids {
			fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
			threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
			n += len(fds) + len(threads)/8
		}
		return n
	}
	memory := func() (sum int) {
		for _, pid := range pids {
			sum += residentKiB(pid)
		}
		return sum
	}
	fds, kib := open(), memory()
	cycles(50)
	patient(t, func() error {
		if n := open(); n > fds+3 {
			return fmt.Errorf("%d descriptors and threads after 50 attaches, %d before", n, fds)
		}
		return nil
	})
	if n := memory(); n > kib+20<<10 {
		t.Errorf("%d KiB after 50 attaches, %d before", n, kib)
	}
	if a := here.Run("attach", "--no-stdin", "r20-no-such"); a.Code == 0 {
		t.Errorf("%s", a)
	}
}

// supervises: the process has the container's lock open.
func supervises(proc, id string) bool {
	links, _ := filepath.Glob(proc + "/fd/*")
	for _, l := range links {
		if to, _ := os.Readlink(l); strings.Contains(to, id) {
			return true
		}
	}
	return false
}

func residentKiB(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for _, l := range lines(string(b)) {
		if f := strings.Fields(l); len(f) > 1 && f[0] == "VmRSS:" {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	return 0
}

func TestR22(t *testing.T) {
	row(t, "R22")
	dir := t.TempDir()
	outside := filepath.Join(here.Dir, "r22-outside")
	if err := errors.Join(os.Mkdir(outside, 0o777), os.Chmod(outside, 0o777), os.WriteFile(outside+"/f", []byte("canary"), 0o666), os.WriteFile(dir+"/g", []byte("mine"), 0o644)); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(outside)
	t.Cleanup(func() { here.Run("volume", "rm", "r22-volume") })
	// What a container can put in the way: links, and programs that unpack.
	detached(t, "r22-copied", "-v", "r22-volume:/v", "--tmpfs", "/x:exec", denImage, "sh", "-c", `mkdir /v/d; echo inside >/v/d/f
ln -s `+strings.Repeat("../", 40)+outside+` /v/l; ln -s /etc/shadow /v/s
for p in tar xz gzip unpigz sh; do printf '#!/bin/sh\ntouch /v/executed\n' >/x/$p; chmod 755 /x/$p; done; touch /v/ready; sleep 1000`)
	volume := filepath.Join(here.Root, "volumes/r22-volume/_data")
	patient(t, func() error { _, err := os.Stat(volume + "/ready"); return err })
	stop := harness.Exchange(volume+"/d", volume+"/l")
	defer stop()
	in, out := 0, 0
	for i := range 12 {
		if here.Run("cp", dir+"/g", "r22-copied:/v/d/g").Code == 0 {
			in++
		}
		to := filepath.Join(dir, fmt.Sprint("out", i))
		if here.Run("cp", "-L", "r22-copied:"+[]string{"/v/d/f", "/v/d/.", "/v/s"}[i%3], to).Code == 0 {
			out++
		}
	}
	stop()
	if in == 0 || out == 0 {
		t.Errorf("no copy worked in one direction: %d in, %d out", in, out)
	}
	entries, err := os.ReadDir(outside)
	b, _ := os.ReadFile(outside + "/f")
	if err != nil || len(entries) != 1 || string(b) != "canary" {
		t.Errorf("on the host: %v %q %v", entries, b, err)
	}
	err = filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if b, _ := os.ReadFile(p); strings.Contains(string(b), "canary") || strings.Contains(string(b), "root:") {
				t.Errorf("%s was read on the host", p)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(volume + "/executed"); err == nil {
		t.Error("a program of the container was executed")
	}
}

func TestR25(t *testing.T) {
	row(t, "R25")
	refused(t, "gpus", []string{"--gpus", "all"})
	refused(t, "device-cdi", []string{"--device", "nvidia.com/gpu=all"})
	refused(t, "runtime", []string{"--runtime", "nvidia"}, []string{"--runtime", "/tmp/evil"})
	refused(t, "annotation", []string{"--annotation", "run.oci.hooks.stdout=/tmp/x"}, []string{"--annotation", "cdi.k8s.io/x=nvidia.com/gpu=all"})
	for _, flags := range [][]string{nil, {"--init"}, {"-t"}, {"-v", "r25-volume:/data"}, {"--health-cmd", "true"}, {"-e", "LD_PRELOAD=/evil.so"}, {"--network", "none"}, {"-p", "127.0.0.1:0:80"}} {
		s, text := drySpec(t, flags...)
		if s.Hooks != nil || strings.Contains(text, `"hooks"`) {
			t.Errorf("%q: hooks %+v", flags, s.Hooks)
		}
	}
	// And what containerd was given.
	var given struct{ Spec map[string]json.RawMessage }
	id := strings.TrimSpace(here.Run("inspect", "--format", "{{.Id}}", denOf(t, nil).name).Stdout)
	if err := json.Unmarshal([]byte(here.Ctr(t, "containers", "info", id)), &given); err != nil || given.Spec["process"] == nil {
		t.Fatalf("containerd's own account: %v", err)
	}
	if h := given.Spec["hooks"]; h != nil {
		t.Errorf("hooks: %s", h)
	}
}
