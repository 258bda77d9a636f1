// Command mkimage writes a container image archive without a registry or a
// build tool.
//
//	mkimage [-o FILE] [-format docker|oci] [-name NAME] [-compress gzip|zstd] PRESET
//
// PRESET is one of
//
//	busybox [-busybox FILE]          shell image from a static busybox
//	probe   PROGRAM [PROGRAM32]   static programs at /probe, /probe32
//	files   [-busybox FILE] [-n N]   busybox and N small files
//	scratch PROGRAM                  one static program at /program, nothing else
//	nginx   [-debs DIR]              nginx of this host's Debian, downloaded to DIR
//	apache, chrony, haproxy, mariadb, memcached, node, postgres, python, redis, tcpdump  likewise
package main

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/safe-run/safe-run/tests/imagekit"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mkimage:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	fs := flag.NewFlagSet("mkimage", flag.ContinueOnError)
	out := fs.String("o", "-", "archive to write, - for standard output")
	format := fs.String("format", "docker", "docker (docker save) or oci (image layout)")
	name := fs.String("name", "", "reference in the archive (default: the preset's name)")
	compress := fs.String("compress", "", "layer compression: gzip or zstd (default none)")
	arch := fs.String("arch", runtime.GOARCH, "architecture the image claims")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() == 0 {
		return fmt.Errorf("no preset; want one of busybox, probe, files, scratch, %s", strings.Join(slices.Sorted(maps.Keys(servers())), ", "))
	}
	img, err := preset(fs.Arg(0), fs.Args()[1:])
	if err != nil {
		return err
	}
	img.Name = fs.Arg(0) + ":latest"
	if *name != "" {
		img.Name = *name
	}
	img.Platform = ocispec.Platform{OS: "linux", Architecture: *arch}
	img.Docker = *format == "docker"
	for i := range img.Layers {
		img.Layers[i].Compression = *compress
	}
	b, err := imagekit.Build(img)
	if err != nil {
		return err
	}
	return write(*out, stdout, func(w io.Writer) error {
		switch *format {
		case "docker":
			return imagekit.WriteDocker(w, b)
		case "oci":
			return imagekit.WriteOCI(w, b)
		}
		return fmt.Errorf("unknown format %q; want docker or oci", *format)
	})
}

// servers are the presets out of Debian's packages, which are in the folder
// the function gets.
func servers() map[string]func(debs string) (imagekit.Image, error) {
	return map[string]func(string) (imagekit.Image, error){
		"apache":    imagekit.Apache,
		"chrony":    imagekit.Chrony,
		"haproxy":   imagekit.HAProxy,
		"mariadb":   imagekit.MariaDB,
		"memcached": imagekit.Memcached,
		"nginx":     imagekit.Nginx,
		"node":      imagekit.Node,
		"postgres":  imagekit.Postgres,
		"python":    imagekit.Python,
		"redis":     imagekit.Redis,
		"tcpdump":   imagekit.Tcpdump,
	}
}

func preset(name string, args []string) (imagekit.Image, error) {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	busybox := fs.String("busybox", "/bin/busybox", "static busybox to use")
	n := fs.Int("n", 1, "number of files")
	debs := fs.String("debs", "build/debs", "folder of the Debian packages")
	if err := fs.Parse(args); err != nil {
		return imagekit.Image{}, err
	}
	folder, err := filepath.Abs(*debs)
	if err != nil {
		return imagekit.Image{}, err
	}
	if server := servers()[name]; server != nil {
		return server(folder)
	}
	switch name {
	case "busybox":
		return imagekit.Busybox(*busybox)
	case "files":
		return imagekit.Files(*busybox, *n)
	case "scratch":
		if fs.NArg() != 1 {
			return imagekit.Image{}, fmt.Errorf("scratch wants one program")
		}
		return imagekit.Scratch(fs.Arg(0))
	case "probe":
		var programs [][2]string
		for i, p := range fs.Args() {
			if i > 1 {
				return imagekit.Image{}, fmt.Errorf("probe wants one or two programs")
			}
			programs = append(programs, [2]string{[]string{"/probe", "/probe32"}[i], p})
		}
		return imagekit.Probe(programs...)
	}
	return imagekit.Image{}, fmt.Errorf("unknown preset %q; want busybox, probe, files, scratch, or one of %s", name, strings.Join(slices.Sorted(maps.Keys(servers())), ", "))
}

// write gives the archive its name only when it is complete.
func write(path string, stdout io.Writer, fill func(io.Writer) error) error {
	if path == "-" {
		return fill(stdout)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".mkimage-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := fill(f); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
