package audit

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// inKernel writes a string as mountinfo has it: mangle() and seq_path() escape
// these bytes and no others (fs/proc_namespace.c).
func inKernel(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(" \t\n\\", s[i]) >= 0 {
			fmt.Fprintf(&b, `\%03o`, s[i])
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// FuzzParseMountinfo: any bytes are an error, or as many mounts as lines, the
// same in one piece as line by line.
func FuzzParseMountinfo(f *testing.F) {
	f.Add([]byte("36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"))
	f.Add([]byte("1 2 0:3 net:[4026531840] /run/ns rw shared:7 master:8 propagate_from:2 - nsfs nsfs rw\n5 1 0:9 / / ro - tmpfs  rw"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseMountinfo(b)
		if err != nil {
			if len(err.Error()) > 1000 || strings.ContainsAny(err.Error(), "\x00\x1b\r\n") {
				t.Fatalf("%q", err)
			}
			return
		}
		i := 0
		for line := range strings.Lines(string(b)) {
			e, err := parseMount(line)
			if err != nil || i >= len(got) || fmt.Sprint(e) != fmt.Sprint(got[i]) {
				t.Fatalf("%q: %v", line, err)
			}
			i++
		}
		if i != len(got) {
			t.Fatalf("%d mounts in %d lines", len(got), i)
		}
	})
}

// FuzzMountNames: what a container calls its directories and file systems does
// not change what is read of the mount, or of others.
func FuzzMountNames(f *testing.F) {
	f.Add("/", "/mnt 2", "tmpfs", "a\\b", "rw,size=64k", "shared:2")
	f.Add("/a\u00a0-\u00a0proc\u00a0x\u00a0rw", "/b\rro\r-\rtmpfs\rx\rrw", "fuse.x", "", "rw", "master:1")
	f.Add("//deleted", "/-", "-", "-", "-", "-x")
	f.Fuzz(func(t *testing.T, root, point, fs, source, super, peer string) {
		if strings.ContainsAny(root+point+fs+source+super+peer, "\x00") || strings.ContainsAny(super+peer, " \t\n\\") || fs == "" || super == "" || peer == "-" {
			return // the kernel makes no such line
		}
		lines := fmt.Sprintf("36 35 98:0 %s %s rw,nosuid %s - %s %s %s\n", inKernel(root), inKernel(point), peer, inKernel(fs), inKernel(source), super) +
			"37 36 0:5 / /next ro - tmpfs none rw\n"
		got, err := parseMountinfo([]byte(lines))
		if err != nil || len(got) != 2 {
			t.Fatalf("%q: %v, %v", lines, got, err)
		}
		e := got[0]
		if e.id != 36 || e.dev != "98:0" || e.root != root || e.point != point || !slices.Equal(e.options, []string{"rw", "nosuid"}) || strings.Join(e.super, ",") != super {
			t.Fatalf("%q is %+v", lines, e)
		}
		if e.shared != strings.HasPrefix(peer, "shared:") || e.slave != strings.HasPrefix(peer, "master:") || e.fs != inKernel(fs) {
			t.Fatalf("%q is %+v", lines, e)
		}
		if got[1].point != "/next" || !got[1].has("ro") {
			t.Fatalf("%q is %+v", lines, got[1])
		}
	})
}
