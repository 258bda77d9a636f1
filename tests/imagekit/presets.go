package imagekit

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"sort"
	"strings"
)

const (
	passwd = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
	group  = "root:x:0:\nuser:x:1000:\nwheel:x:10:user\nnogroup:x:65534:\n"
	path   = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// Skeleton is what any small image has: the usual directories, passwd with
// root and user (1000:1000), group.
func Skeleton() []Entry {
	home := Dir("home/user", 0o755)
	home.UID, home.GID = 1000, 1000
	return []Entry{
		Dir("bin", 0o755), Dir("dev", 0o755), Dir("etc", 0o755), Dir("home", 0o755), home,
		Dir("opt", 0o755), Dir("proc", 0o555), Dir("root", 0o700), Dir("run", 0o755), Dir("sys", 0o555),
		Dir("tmp", 0o1777), Dir("usr", 0o755), Dir("usr/bin", 0o755),
		Dir("var", 0o755), Dir("var/tmp", 0o1777),
		File("etc/passwd", 0o644, passwd), File("etc/group", 0o644, group),
	}
}

// Scratch is an image with nothing but one static program at /program, for
// what must work without a shell, passwd or any directory.
func Scratch(program string) (Image, error) {
	body, err := static(program)
	if err != nil {
		return Image{}, err
	}
	return Image{
		Config: Config{Entrypoint: []string{"/program"}},
		Layers: []Layer{{Entries: []Entry{{Path: "program", Mode: 0o755, Body: body}}}},
	}, nil
}

// Busybox is a shell image from a static busybox of the host: every applet in
// /bin, as in docker's image of that name.
func Busybox(binary string) (Image, error) {
	entries, err := busyboxEntries(binary)
	if err != nil {
		return Image{}, err
	}
	return Image{
		Config: Config{Cmd: []string{"sh"}, Env: []string{path}},
		Layers: []Layer{{Entries: entries}},
	}, nil
}

func busyboxEntries(binary string) ([]Entry, error) {
	body, err := static(binary)
	if err != nil {
		return nil, err
	}
	out, err := exec.Command(binary, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list the applets of %s: %w", binary, err)
	}
	applets := strings.Fields(string(out))
	sort.Strings(applets)
	entries := append(Skeleton(), Entry{Path: "bin/busybox", Mode: 0o755, Body: body})
	for _, a := range applets {
		if a != "busybox" && !strings.Contains(a, "/") {
			entries = append(entries, Hardlink("bin/"+a, "bin/busybox"))
		}
	}
	return append(entries, Hardlink("usr/bin/env", "bin/busybox")), nil
}

// Files is Busybox and a second layer of n small files below /files, at most
// 1000 in a directory.
func Files(binary string, n int) (Image, error) {
	img, err := Busybox(binary)
	if err != nil {
		return Image{}, err
	}
	entries := make([]Entry, 0, n+n/1000+2)
	entries = append(entries, Dir("files", 0o755))
	for i := range n {
		dir := fmt.Sprintf("files/%03d", i/1000)
		if i%1000 == 0 {
			entries = append(entries, Dir(dir, 0o755))
		}
		entries = append(entries, File(fmt.Sprintf("%s/%06d", dir, i), 0o644, fmt.Sprintln("file", i)))
	}
	img.Layers = append(img.Layers, Layer{Entries: entries})
	return img, nil
}

// Probe is an image of static programs given as image path and host path,
// with the Skeleton. The first one is the entrypoint.
func Probe(programs ...[2]string) (Image, error) {
	if len(programs) == 0 {
		return Image{}, fmt.Errorf("no program given")
	}
	entries := Skeleton()
	for _, p := range programs {
		body, err := static(p[1])
		if err != nil {
			return Image{}, err
		}
		entries = append(entries, Entry{Path: strings.TrimPrefix(p[0], "/"), Mode: 0o755, Body: body})
	}
	return Image{
		Config: Config{Entrypoint: []string{programs[0][0]}, Env: []string{path}},
		Layers: []Layer{{Entries: entries}},
	}, nil
}

// static reads a program and makes sure it runs without any library.
func static(program string) ([]byte, error) {
	f, err := elf.Open(program)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, fmt.Errorf("%s needs shared libraries; a static program is wanted (Debian: apt-get install busybox-static)", program)
		}
	}
	return os.ReadFile(program)
}
