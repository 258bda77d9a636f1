package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// docker is an engine of docker's own, on a site of its own. Where docker is
// not installed, the packages `make build/docker` unpacks are used.
type docker struct {
	client  string
	env     []string // what the client needs to find it
	version string
	site    *site
	cmd     *exec.Cmd
	log     bytes.Buffer
}

// dockerCgroup is where its containers go.
const dockerCgroup = "safe-run-bench-docker"

func startDocker(here place) (_ *docker, err error) {
	root, err := filepath.Abs("build/docker")
	if err != nil {
		return nil, err
	}
	libs, err := filepath.Glob(root + "/usr/lib/*-linux-gnu*")
	if err != nil {
		return nil, err
	}
	env := []string{
		"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin:" + root + "/usr/sbin:" + root + "/usr/bin",
		"LD_LIBRARY_PATH=" + strings.Join(libs, ":"),
	}
	daemon, err := program("dockerd", root)
	if err != nil {
		return nil, err
	}
	client, err := program("docker", root)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(here.dir, "docker")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "docker.sock")
	d := &docker{client: client, env: append(env, "DOCKER_HOST=unix://"+socket, "DOCKER_CONFIG="+dir)}
	if d.site, err = newSite(); err != nil {
		return nil, err
	}
	// Its mounts and what it keeps in /run are seen by nobody else.
	d.cmd = exec.Command("unshare", "--mount", "sh", "-c", `mount -t tmpfs none /run && exec "$@"`, "sh",
		daemon, "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"), "--host", "unix://"+socket,
		"--init-path", "/usr/bin/tini-static", "--cgroup-parent", dockerCgroup, "--exec-opt", "native.cgroupdriver=cgroupfs")
	d.cmd.Env = append(os.Environ(), env...)
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	if err := startIn(&d.site.host, d.cmd); err != nil {
		d.site.close()
		return nil, err
	}
	if err := d.wait(); err != nil {
		d.stop()
		return nil, fmt.Errorf("dockerd: %w: %s", err, lastLine(d.log.Bytes()))
	}
	for _, i := range []string{"busybox", "nginx"} {
		if _, err := d.output("load", "-q", "-i", filepath.Join("build/images", i+".tar")); err != nil {
			d.stop()
			return nil, err
		}
	}
	return d, nil
}

// program finds one that is installed, or else unpacked below root.
func program(name, root string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"usr/sbin", "usr/bin"} {
		if path := filepath.Join(root, dir, name); exec.Command("test", "-x", path).Run() == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed", name)
}

func (d *docker) wait() error {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		version, err := d.output("version", "--format", "{{.Server.Version}}")
		if err == nil {
			d.version = strings.TrimSpace(version)
			return nil
		}
		if time.Now().After(deadline) || d.cmd.ProcessState != nil {
			return err
		}
	}
}

func (d *docker) output(args ...string) (string, error) {
	cmd := exec.Command(d.client, args...)
	cmd.Env = append(os.Environ(), d.env...)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
		}
		return "", fmt.Errorf("docker %s: %w", args[0], err)
	}
	return string(out), nil
}

// stop ends it and removes its cgroups; its mounts end with its namespace.
func (d *docker) stop() {
	if d == nil {
		return
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	_ = d.cmd.Wait()
	d.site.close()
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		dirs, _ := filepath.Glob(pattern + dockerCgroup)
		for _, dir := range dirs {
			_ = os.Remove(dir)
		}
	}
}

// contender runs a container in the foreground: flags, image, command.
func (d *docker) contender(name string, args ...string) contender {
	return contender{name: name, env: d.env, args: func() []string {
		return append([]string{d.client, "run", "--rm"}, args...)
	}}
}
