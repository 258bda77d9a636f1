package threats

import (
	"archive/tar"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/safe-run/safe-run/tests/imagekit"
)

// hostileRoots: places where the container's own mounts and files go.
func hostileRoots(s surroundings) (rows []hostile) {
	add := func(h hostile) { rows = append(rows, h) }
	outside := strings.Repeat("../", 30) + s.dir + "/made"
	for _, d := range []string{"dev", "proc", "sys", "tmp", "run", "etc"} {
		for what, to := range map[string]string{
			"the host": s.dir + "/made", "out": outside, "a descriptor": "/proc/self/fd/8", "the place above": "..", "itself": d,
		} {
			add(hostile{name: fmt.Sprintf("root: /%s is a link to %s", d, what), image: withFiles(imagekit.Symlink(d, to)), want: unrun, says: "symbolic link"})
		}
		add(hostile{name: fmt.Sprintf("root: /%s is a file", d), image: replaced(imagekit.File(d, 0o644, "x")), want: unrun})
	}
	add(hostile{name: "root: /proc is /etc", image: replaced(imagekit.Symlink("proc", "/etc")), want: unrun, says: "symbolic link"})
	add(hostile{name: "root: /dev is a FIFO", image: replaced(imagekit.Entry{Path: "dev", Type: '6', Mode: 0o644}), want: unrun})
	add(hostile{name: "root: no directories at all", image: func(img *imagekit.Image) {
		for _, e := range img.Layers[0].Entries {
			if e.Path == "bin/busybox" {
				img.Layers[0].Entries = []imagekit.Entry{{Path: "sh", Mode: 0o755, Body: e.Body}}
			}
		}
	}, args: []string{"/sh", "-c", "echo RAN"}, want: unrunOrInert, check: printed("RAN\n")})
	for _, l := range [][2]string{
		{"dev/null", "/proc/sys/kernel/core_pattern"},
		{"dev/console", "/proc/sys/kernel/core_pattern"},
		{"dev/pts", s.dir + "/made"},
		{"dev/shm", outside},
		{"dev/mqueue", "/proc"},
		{"dev/ptmx", "/proc/sysrq-trigger"},
		{"proc/sys", s.dir + "/made"},
		{"sys/fs", "/proc"},
		{"etc/hosts", outside},
		{"etc/hostname", "/proc/sysrq-trigger"},
		{"etc/resolv.conf", s.dir + "/made"},
		{"etc/mtab", outside},
	} {
		rows = append(rows, hostile{
			name: fmt.Sprintf("root: /%s is a link to %.40s", l[0], strings.TrimPrefix(l[1], s.dir)),
			// core_pattern of the host must be what it was, and is looked at by R3.
			image: withFiles(imagekit.Symlink(l[0], l[1])), flags: []string{"--add-host", "x:10.1.2.3"}, want: unrunOrInert, check: printed("RAN\n"),
		})
	}
	add(hostile{
		name: "root: /etc/hosts is a FIFO", image: withFiles(imagekit.Entry{Path: "etc/hosts", Type: '6', Mode: 0o666}),
		flags: []string{"--add-host", "x:10.1.2.3"}, want: unrunOrInert, check: printed("RAN\n"),
	})
	add(hostile{
		name: "root: /etc/resolv.conf is a directory", image: withFiles(imagekit.Dir("etc/resolv.conf", 0o755)),
		flags: []string{"--add-host", "x:10.1.2.3"}, want: unrunOrInert, check: printed("RAN\n"),
	})
	add(hostile{name: "root: a mount goes below a link to the host", flags: []string{"-v", "/data/made"}, want: unrunOrInert, check: printed("RAN\n"), image: withFiles(imagekit.Symlink("data", s.dir))})
	return rows
}

// hostileEntries: what a layer can hold.
func hostileEntries(s surroundings) (rows []hostile) {
	add := func(h hostile) { rows = append(rows, h) }
	busybox := func(edit func(body []byte) []imagekit.Entry) func(*imagekit.Image) {
		return func(img *imagekit.Image) {
			for _, e := range img.Layers[0].Entries {
				if e.Path == "bin/busybox" {
					img.Layers = append(img.Layers, imagekit.Layer{Entries: edit(e.Body)})
				}
			}
		}
	}
	const allCaps = "\x01\x00\x00\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
	add(hostile{
		name: "files: setuid root", args: []string{"/setuid/busybox", "id", "-u"}, flags: []string{"-u", "1000"}, want: inert, check: printed("1000\n"),
		image: busybox(func(body []byte) []imagekit.Entry {
			return []imagekit.Entry{imagekit.Dir("setuid", 0o755), {Path: "setuid/busybox", Mode: 0o6755, Body: body}}
		}),
	})
	add(hostile{
		name: "files: every file capability", args: []string{"/capable/busybox", "grep", "-c", "Cap[PEA].*0000000000000000", "/proc/self/status"}, flags: []string{"-u", "1000"},
		// The kernel refuses to execute it: what the file wants is more than the bounding set has.
		want: unrunOrInert, check: without("0\n", "1\n", "2\n"),
		image: busybox(func(body []byte) []imagekit.Entry {
			return []imagekit.Entry{imagekit.Dir("capable", 0o755), {Path: "capable/busybox", Mode: 0o755, Body: body, Xattrs: map[string]string{"security.capability": allCaps}}}
		}),
	})
	add(hostile{
		name: "files: device nodes", args: []string{"sh", "-c", "for f in /disk /mem /port /kmsg /fuse /tun /loop; do dd if=$f bs=1 count=1 >/dev/null 2>&1 && echo $f; (: >$f) 2>/dev/null && echo $f; done; echo denied"}, want: unrunOrInert, check: printed("denied\n"),
		image: withFiles(imagekit.Device("disk", 'b', 8, 0, 0o666), imagekit.Device("mem", 'c', 1, 1, 0o666), imagekit.Device("port", 'c', 1, 4, 0o666), imagekit.Device("kmsg", 'c', 1, 11, 0o666),
			imagekit.Device("fuse", 'c', 10, 229, 0o666), imagekit.Device("tun", 'c', 10, 200, 0o666), imagekit.Device("loop", 'b', 7, 0, 0o666)),
	})
	add(hostile{
		name: "files: ids no container has", want: unrunOrInert, args: []string{"sh", "-c", "cat /far; stat -c %u /far"}, check: without("secret"),
		image: withFiles(imagekit.Entry{Path: "far", Mode: 0o600, UID: 1 << 20, GID: 1 << 20, Body: []byte("secret")}),
	})
	up := strings.Repeat("../", 30)
	xattr := func(path, name, value string) imagekit.Entry {
		return imagekit.Entry{Path: path, Type: tar.TypeDir, Mode: 0o755, Xattrs: map[string]string{name: value}}
	}
	for name, entries := range map[string][]imagekit.Entry{
		"dot dot":                           {imagekit.File(up+s.marker, 0o644, "x")},
		"dot dot behind a directory":        {imagekit.Dir("d", 0o755), imagekit.File("d/"+up+s.marker, 0o644, "x")},
		"an absolute path":                  {imagekit.File(s.marker, 0o644, "x")},
		"a hard link out":                   {imagekit.Hardlink("stolen", up+"etc/shadow")},
		"an absolute hard link":             {imagekit.Hardlink("stolen", "/etc/shadow")},
		"a hard link to a link out":         {imagekit.Symlink("l", "/etc/shadow"), imagekit.Hardlink("stolen", "l")},
		"a hard link through a link":        {imagekit.Symlink("e", "/etc"), imagekit.Hardlink("stolen", "e/shadow")},
		"a file behind a link":              {imagekit.Symlink("out", filepath.Dir(s.marker)), imagekit.File("out/"+filepath.Base(s.marker), 0o644, "x")},
		"a file behind a link up":           {imagekit.Symlink("out", up+filepath.Dir(s.marker)), imagekit.File("out/"+filepath.Base(s.marker), 0o644, "x")},
		"a file through a link":             {imagekit.Symlink("f", s.marker), imagekit.File("f", 0o644, "x")},
		"a directory through a link":        {imagekit.Symlink("f", s.dir), imagekit.Dir("f", 0o777), imagekit.File("f/marker", 0o644, "x")},
		"modes through a link":              {imagekit.Symlink("m", "/etc/shadow"), imagekit.Entry{Path: "m", Type: tar.TypeSymlink, Mode: 0o777, Link: "/etc/shadow"}},
		"an opaque directory of overlay":    {xattr("e", "trusted.overlay.opaque", "y")},
		"a redirect of overlay":             {xattr("e", "trusted.overlay.redirect", "/../../../../etc")},
		"a redirect of overlay, for users":  {xattr("e", "user.overlay.redirect", "/../../../../etc")},
		"a metacopy of overlay":             {{Path: "stolen", Mode: 0o644, Xattrs: map[string]string{"trusted.overlay.metacopy": "", "trusted.overlay.redirect": "/etc/shadow"}}},
		"an attribute of 100 KiB":           {xattr("e", "user.x", strings.Repeat("x", 100<<10))},
		"an attribute of no name":           {xattr("e", "evil", "x")},
		"labels of security modules":        {xattr("e", "security.selinux", "unconfined_t\x00"), xattr("f", "security.apparmor", "unconfined")},
		"a whiteout of the whole system":    {imagekit.File(".wh..wh..opq", 0o644, "")},
		"a whiteout that goes up":           {imagekit.File(".wh...", 0o644, ""), imagekit.File("etc/.wh...", 0o644, "")},
		"a whiteout of nothing":             {imagekit.File(".wh.", 0o644, ""), imagekit.File("etc/.wh.", 0o644, "")},
		"a whiteout of itself":              {imagekit.File("etc/.wh..", 0o644, "")},
		"a whiteout behind a link":          {imagekit.Symlink("out", s.dir), imagekit.File("out/.wh.engine", 0o644, ""), imagekit.File("out/.wh..wh..opq", 0o644, "")},
		"files of aufs":                     {imagekit.File(".wh..wh.plnk/1.2", 0o644, "x"), imagekit.Hardlink("stolen", ".wh..wh.plnk/1.2")},
		"a whiteout device":                 {imagekit.Device("etc/passwd", 'c', 0, 0, 0)},
		"a path of 5000 bytes":              {imagekit.File(strings.Repeat("x/", 2500)+"f", 0o644, "x")},
		"a thousand directories deep":       {imagekit.Dir(strings.Repeat("d/", 1000), 0o755)},
		"names of escape codes":             {imagekit.File("\x1b]0;x\x07", 0o644, "x"), imagekit.File("a\nb", 0o644, "x")},
		"a name of 300 bytes":               {imagekit.File(strings.Repeat("x", 300), 0o644, "x")},
		"a link of 5000 bytes":              {imagekit.Symlink("l", strings.Repeat("x/", 2500))},
		"one name, file and directory":      {imagekit.File("x", 0o644, "x"), imagekit.File("x/y", 0o644, "x")},
		"the root as a file":                {imagekit.File(".", 0o644, "x")},
		"the root as a link":                {imagekit.Symlink(".", "/etc"), imagekit.Symlink("/", "/etc")},
		"an entry of an unknown kind":       {{Path: "x", Type: 'Z', Mode: 0o644}},
		"a FIFO and a node nobody has":      {{Path: "x", Type: '6', Mode: 0o666}, imagekit.Device("y", 'b', 1<<20, 1<<20, 0o666)},
		"ids beyond those of the kernel":    {{Path: "x", Mode: 0o644, UID: 1<<32 - 1, GID: 1<<32 - 1}},
		"ids that are negative":             {{Path: "x", Mode: 0o644, UID: -2, GID: -2}},
		"a thousand names of one file":      append([]imagekit.Entry{imagekit.File("x", 0o644, "x")}, names(1000, "x")...),
		"links in a chain of a hundred":     chain(100),
		"a device in place of the loader":   {imagekit.Device("lib64/ld-linux-x86-64.so.2", 'c', 1, 3, 0o755)},
		"a setuid directory all may change": {{Path: "x/", Mode: 0o7777}},
	} {
		add(hostile{
			name: "layer: " + name, image: withFiles(entries...), want: unrunOrInert, args: []string{"/bin/sh", "-c", "cat /stolen /m /e/passwd /f/passwd; ls -A /e; true"},
			check: without("root:", "shadow", s.secret),
		})
	}
	return rows
}

// names are hard links to a file.
func names(n int, to string) (entries []imagekit.Entry) {
	for i := range n {
		entries = append(entries, imagekit.Hardlink(fmt.Sprint("name", i), to))
	}
	return entries
}

// chain is links each to the next, and the last to the first.
func chain(n int) (entries []imagekit.Entry) {
	for i := range n {
		entries = append(entries, imagekit.Symlink(fmt.Sprint("c", i), fmt.Sprint("c", (i+1)%n)))
	}
	return append(entries, imagekit.Symlink("etc/passwd", "/c0"))
}

// hostileLayers: streams that are no layers, or not the layer they say.
func hostileLayers() (rows []hostile) {
	layer := func(name string, w fate, says string, l imagekit.Layer) {
		rows = append(rows, hostile{name: "layer: " + name, want: w, says: says, check: printed("RAN\n"), image: func(img *imagekit.Image) {
			img.Layers = append(img.Layers, l)
		}})
	}
	ustar := func(edit func(h []byte)) []byte {
		h := make([]byte, 512)
		copy(h, "file")
		copy(h[100:], "0000644\x000000000\x000000000\x0000000000001\x0000000000000\x00")
		h[156] = '0'
		copy(h[257:], "ustar\x0000")
		edit(h)
		copy(h[148:], "        ")
		sum := 0
		for _, c := range h {
			sum += int(c)
		}
		copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
		return append(h, make([]byte, 1536)...)
	}
	layer("no tar", unloaded, "damaged", imagekit.Layer{Raw: []byte(strings.Repeat("junk", 1000))})
	layer("one byte", unloaded, "damaged", imagekit.Layer{Raw: []byte("x")})
	layer("half a header", unloaded, "damaged", imagekit.Layer{Raw: ustar(func([]byte) {})[:300]})
	layer("a file that is cut", unloaded, "damaged", imagekit.Layer{Raw: ustar(func(h []byte) { copy(h[124:], "00000077777\x00") })})
	layer("a negative size", unloaded, "", imagekit.Layer{Raw: ustar(func(h []byte) {
		for i := 124; i < 136; i++ {
			h[i] = 0xff
		}
	})})
	layer("a size of exabytes", unloaded, "", imagekit.Layer{Raw: ustar(func(h []byte) { copy(h[124:136], "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff") })})
	layer("NUL in a name", unrunOrInert, "", imagekit.Layer{Raw: ustar(func(h []byte) { copy(h, "a\x00b") })})
	layer("a name of 900 KiB", unloaded, "", imagekit.Layer{Stream: rawPAX('x', record("path", strings.Repeat("x", 900<<10)))})
	layer("a record of 8 MiB", unloaded, "", imagekit.Layer{Stream: func(w io.Writer) error {
		return rawPAX('x', record("path", strings.Repeat("x", 8<<20)))(w)
	}})
	layer("a global record", unrunOrInert, "", imagekit.Layer{Stream: rawPAX('g', record("path", "/etc/passwd"))})
	layer("a record without a length", unloaded, "", imagekit.Layer{Stream: rawPAX('x', "999999999 path=x\n")})
	layer("more behind its end", unrunOrInert, "", imagekit.Layer{Stream: func(w io.Writer) error {
		_, err := w.Write(append(make([]byte, 4096), strings.Repeat("junk", 1<<20)...))
		return err
	}})
	return rows
}

// record of an extended header, with its length.
func record(key, value string) string {
	n := len(key) + len(value) + 3
	for n != len(fmt.Sprintf("%d %s=%s\n", n, key, value)) {
		n++
	}
	return fmt.Sprintf("%d %s=%s\n", n, key, value)
}

// paxHeader is an extended header of the next entry, whatever it says.
func paxHeader(kind byte, body string) []byte {
	h := make([]byte, 512)
	copy(h, "pax")
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	copy(h[124:], fmt.Sprintf("%011o\x0000000000000\x00", len(body)))
	h[156] = kind
	copy(h[257:], "ustar\x0000")
	copy(h[148:], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	pad := (512 - len(body)%512) % 512
	return append(append(h, body...), make([]byte, pad)...)
}

func rawPAX(kind byte, body string) func(io.Writer) error {
	return func(w io.Writer) error {
		if _, err := w.Write(paxHeader(kind, body)); err != nil {
			return err
		}
		tw := tar.NewWriter(w)
		if err := tw.WriteHeader(&tar.Header{Name: "file", Mode: 0o644}); err != nil {
			return err
		}
		return tw.Close()
	}
}
