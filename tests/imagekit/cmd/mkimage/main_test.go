package main

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestRun(t *testing.T) {
	for _, c := range []struct {
		args []string
		has  string
	}{
		{[]string{"busybox"}, "manifest.json"},
		{[]string{"-format", "oci", "-compress", "gzip", "busybox"}, "index.json"},
		{[]string{"-name", "x:v1", "files", "-n", "10"}, "manifest.json"},
		{[]string{"probe", "/bin/busybox", "/bin/busybox"}, "manifest.json"},
		{[]string{"-compress", "zstd", "scratch", "/bin/busybox"}, "manifest.json"},
	} {
		var stdout bytes.Buffer
		if err := run(c.args, &stdout); err != nil {
			t.Fatalf("%q: %v", c.args, err)
		}
		out := filepath.Join(t.TempDir(), "x.tar")
		if err := run(append([]string{"-o", out}, c.args...), nil); err != nil {
			t.Fatalf("%q: %v", c.args, err)
		}
		data, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, stdout.Bytes()) {
			t.Errorf("%q: file and standard output differ", c.args)
		}
		if !holds(data, c.has) {
			t.Errorf("%q: no %s", c.args, c.has)
		}
	}
	for _, args := range [][]string{nil, {"nothing"}, {"scratch"}, {"probe"}, {"-format", "x", "busybox"}, {"-compress", "x", "busybox"}} {
		dir := t.TempDir()
		if err := run(append([]string{"-o", filepath.Join(dir, "x")}, args...), nil); err == nil {
			t.Errorf("%q: accepted", args)
		}
		if entries, _ := os.ReadDir(dir); len(entries) > 0 {
			t.Errorf("%q: left %v", args, entries)
		}
	}
}

func holds(data []byte, name string) bool {
	tr := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := tr.Next()
		if err == io.EOF || err != nil {
			return false
		}
		if h.Name == name {
			return true
		}
	}
}
