package threats

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/tests/harness"
	"github.com/safe-run/safe-run/tests/imagekit"
)

// What the image has at a volume's place is copied without what has power.
func TestM14(t *testing.T) {
	row(t, "M14")
	img := busyboxNamed(t, "m14-volume")
	img.Config.Volumes = imagekit.Set("/v")
	plain := imagekit.File("v/setuid", 0o4755, "#!/bin/sh\n")
	img.Layers = append(img.Layers, imagekit.Layer{Entries: []imagekit.Entry{
		imagekit.Dir("v", 0o755), plain, imagekit.File("v/setgid", 0o2755, ""), imagekit.File("v/plain", 0o640, "content"),
		imagekit.Symlink("v/shadow", "/etc/shadow"), imagekit.Symlink("v/up", "../../../../../../etc"), imagekit.Symlink("v/root", "/"),
		imagekit.Device("v/disk", 'b', 8, 0, 0o666), imagekit.Device("v/mem", 'c', 1, 1, 0o666),
		{Path: "v/caps", Type: '0', Mode: 0o755, Xattrs: map[string]string{"security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}},
		imagekit.Dir("v/d", 0o2777),
	}})
	loaded(t, img)
	for _, flags := range [][]string{nil, {"-v", "m14-named:/v"}} {
		a := here.Run(slices.Concat([]string{"run", "-d", "--name", "m14-den"}, flags, []string{img.Name, "sleep", "600"})...)
		if a.Code != 0 {
			t.Fatal(a)
		}
		where := strings.TrimSpace(here.Run("inspect", "-f", "{{(index .Mounts 0).Source}}", "m14-den").Stdout)
		judgeCopy(t, where)
		if a := here.Run("exec", "m14-den", "cat", "/v/plain", "/v/shadow"); !strings.HasPrefix(a.Stdout, "content") || strings.Contains(a.Stdout, ":") {
			t.Errorf("inside: %s", a)
		}
		here.Run("rm", "-f", "-v", "m14-den")
	}
	if a := here.Run("volume", "rm", "m14-named"); a.Code != 0 {
		t.Error(a)
	}
}

func judgeCopy(t *testing.T, dir string) {
	t.Helper()
	if !strings.HasPrefix(dir, here.Root) {
		t.Fatalf("the volume is at %q", dir)
	}
	names := 0
	err := filepath.Walk(dir, func(p string, st os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		names++
		if st.Mode()&(os.ModeSetuid|os.ModeSetgid|os.ModeDevice) != 0 {
			t.Errorf("%s is %v", p, st.Mode())
		}
		if n, err := unix.Llistxattr(p, make([]byte, 4096)); err == nil && n > 0 && st.Mode().IsRegular() {
			t.Errorf("%s has extended attributes", p)
		}
		return nil
	})
	if err != nil || names < 8 {
		t.Errorf("%d files: %v", names, err)
	}
	if l, err := os.Readlink(filepath.Join(dir, "shadow")); err != nil || l != "/etc/shadow" {
		t.Errorf("the link was followed: %q %v", l, err)
	}
}

func TestM15(t *testing.T) {
	row(t, "M15")
	dir := groundDir(t)
	own := makeDir(t, filepath.Join(dir, "own"))
	refused(t, "", lineOf("-v", own+":/x:idmap"), lineOf("-v", own+":/x:idmap=uids=0-0-1;gids=0-0-1"), lineOf("--mount", "type=bind,src="+own+",dst=/x,idmap"),
		lineOf("--mount", "type=bind,src="+own+",dst=/x,idmap=uids=@0-0-1"), lineOf("--mount", "type=volume,src=m15,dst=/x,idmap"), lineOf("--uidmap", "0:0:1"), lineOf("--userns", "auto"))
	// Files keep their owners; with that alone nobody becomes anybody: no
	// program can be left that changes ids, and no id outside the block exists.
	out := runs(t, "-v", own+":/x", "busybox", "sh", "-c", "cp /bin/busybox /x/b; chmod 4755 /x/b 2>/dev/null && echo SETUID; chown 70000 /x/b 2>/dev/null && echo CHOWNED; cat /proc/self/uid_map")
	var inside, outside, size int
	if _, err := fmt.Sscan(out, &inside, &outside, &size); err != nil || inside != 0 || outside < 65536 || size != 65536 {
		t.Errorf("%q: %v", out, err)
	}
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(own, "b"), &st))
	if st.Uid != 0 || st.Mode&0o6000 != 0 {
		t.Errorf("on the host it is of uid %d, mode %o", st.Uid, st.Mode)
	}
	// Who may start containers does not become root of files by that.
	underSudo(t, someUser)
	refused(t, "bind-caller", lineOf("-v", own+":/x"), lineOf("-v", filepath.Join(own, "b")+":/x"))
	theirs := owned(t, makeDir(t, filepath.Join(dir, "theirs")), someUser, 0o700)
	runs(t, "-u", fmt.Sprint(someUser), "-v", theirs+":/x", "busybox", "touch", "/x/file")
	if err := unix.Stat(filepath.Join(theirs, "file"), &st); err != nil || st.Uid != someUser {
		t.Errorf("of uid %d: %v", st.Uid, err)
	}
}

func TestM16(t *testing.T) {
	row(t, "M16")
	own := owned(t, makeDir(t, filepath.Join(groundDir(t), "own")), someUser, 0o750)
	put(t, filepath.Join(own, "file"), "")
	refusedEach(t, attempts{
		"bind-home": {lineOf("-v", "/home:/h:Z"), lineOf("-v", "/home:/h:z"), lineOf("-v", "/root:/h:Z")}, "bind-system": {lineOf("-v", "/usr:/u:Z"), lineOf("-v", "/usr:/u:ro,z")},
		"": {
			lineOf("-v", own+":/x:U"), lineOf("-v", own+":/x:O"), lineOf("-v", own+":/x:O,upperdir=/tmp/u"), lineOf("-v", own+":/x:Z,U"), lineOf("--mount", "type=bind,src="+own+",dst=/x,U=true"),
			lineOf("--mount", "type=bind,src="+own+",dst=/x,relabel=private"), lineOf("-v", own+":/x:zZ"),
		},
	})
	// On a host without SELinux z does nothing; with it, it is refused.
	a := here.Run("--rm", "-v", own+":/x:z", "busybox", "true")
	if _, err := os.Stat("/sys/fs/selinux/enforce"); (err == nil) != (a.Code == 125) {
		t.Errorf("z: %s", a)
	}
	var st unix.Stat_t
	if err := unix.Stat(own, &st); err != nil || st.Uid != someUser || st.Mode&0o7777 != 0o750 {
		t.Errorf("%+v %v", st, err)
	}
	must(t, unix.Stat(filepath.Join(own, "file"), &st))
	if n, err := unix.Llistxattr(own, make([]byte, 4096)); st.Uid != 0 || err == nil && n > 0 && a.Code != 0 {
		t.Errorf("uid %d, %d bytes of attributes", st.Uid, n)
	}
}

// A secret is nowhere but in memory, and goes with the container whatever
// happens to the launcher.
func TestM18(t *testing.T) {
	row(t, "M18")
	const marker = "m18-marker-of-a-secret"
	file := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(file, []byte(marker), 0o600))
	before := here.Inventory(t)
	found := func() string {
		a := harness.Call(60e9, "grep", "-rlsF", "--exclude-dir=engine", "--devices=skip", marker, here.Root, here.State)
		return a.Stdout
	}
	s := here.Serve(t, "--rm", "--secret", "token="+file, "busybox", "sh", "-c", "stat -c '%a %u' /run/secrets/token; sha256sum </run/secrets/token; grep /run/secrets /proc/self/mounts | cut -d' ' -f3 | sort -u; sleep 600")
	s.Until(t, func() error {
		if len(lines(s.Stdout())) < 3 {
			return fmt.Errorf("printed %q", s.Stdout())
		}
		return nil
	})
	if out := s.Stdout(); out != fmt.Sprintf("400 0\n%x  -\ntmpfs\n", sha256.Sum256([]byte(marker))) {
		t.Errorf("inside: %q", out)
	}
	for _, p := range lines(found()) {
		var fs unix.Statfs_t
		if err := unix.Statfs(p, &fs); err == nil && fs.Type != unix.TMPFS_MAGIC {
			t.Errorf("the secret is on disk: %s", p)
		}
	}
	s.Stop(syscall.SIGKILL)
	if a := here.Run("images", "-q"); a.Code != 0 { // any command cleans up
		t.Fatal(a)
	}
	if left := found(); left != "" {
		t.Errorf("it stays in %s", left)
	}
	harness.Same(t, before, here.Inventory(t))
}
