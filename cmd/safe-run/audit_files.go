package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// dockerRoot is where docker keeps its containers unless it was told another
// place.
const dockerRoot = "/var/lib/docker/containers"

// dockerName looks up what docker alone knows: containerd has neither names nor
// images of its containers. Both are "" if that cannot be found.
func dockerName(root, id string) (name, image string) {
	if len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" {
		return "", ""
	}
	b, err := boundedFile(filepath.Join(root, id, "config.v2.json"))
	if err != nil {
		return "", ""
	}
	var c struct {
		Name   string
		Config struct{ Image string }
	}
	if json.Unmarshal(b, &c) != nil {
		return "", ""
	}
	return strings.TrimPrefix(c.Name, "/"), c.Config.Image
}

// bundleSpec is the specification in the runtime's bundle, for a containerd
// that keeps its state there and does not run; nil if there is none.
func bundleSpec(state, namespace, id string) []byte {
	for _, word := range []string{namespace, id} {
		if word == "" || word != filepath.Base(word) || word == ".." {
			return nil
		}
	}
	b, err := boundedFile(filepath.Join(state, "io.containerd.runtime.v2.task", namespace, id, "config.json"))
	if err != nil {
		return nil
	}
	return b
}

// procFile reads a file of a process, up to 64 KiB.
func procFile(pid int, name string) (string, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	return string(b), err
}

// boundedFile reads a regular file of up to 16 MiB.
func boundedFile(path string) ([]byte, error) {
	const most = 16 << 20
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil && (!st.Mode().IsRegular() || st.Size() > most) {
		err = fmt.Errorf("%s: not a regular file of at most %d bytes", path, most)
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, most))
}
