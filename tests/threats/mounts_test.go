package threats

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/tests/imagekit"
)

// denVolume is a volume that lasts as long as the tests.
const denVolume = "m-rows"

// denMounts are the flags of a container with everything that can be written.
// The directory is below here.Dir and goes with it.
func denMounts(t *testing.T) []string {
	t.Helper()
	dir := makeDir(t, filepath.Join(here.Dir, "m-rows"))
	return []string{"-v", dir + ":/bind", "-v", denVolume + ":/volume", "-v", "/anonymous", "--tmpfs", "/tmpfs:size=1m,nr_inodes=50", "--shm-size", "1m"}
}

// startSleeper starts a process in a group of its own.
func startSleeper(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// mountLine is a line of mountinfo.
type mountLine struct {
	at, fs  string
	options []string // of the mount and its file system
	extra   []string // shared:N, master:N
}

func mountinfo(t *testing.T, text string) (all []mountLine) {
	t.Helper()
	for _, l := range lines(text) {
		f := strings.Fields(l)
		dash := slices.Index(f, "-")
		if dash < 6 || len(f) < dash+4 {
			t.Fatalf("mountinfo: %q", l)
		}
		all = append(all, mountLine{f[4], f[dash+1], slices.Concat(strings.Split(f[5], ","), strings.Split(f[dash+3], ",")), f[6:dash]})
	}
	if len(all) < 8 {
		t.Fatalf("mountinfo: %q", text)
	}
	return all
}

func (m mountLine) has(option string) bool { return slices.Contains(m.options, option) }

// node says whether it is one of the harmless device files, or a mask that is one.
func (m mountLine) node() bool {
	return m.fs == "devtmpfs" && (slices.Contains([]string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}, m.at) || strings.HasPrefix(m.at, "/proc/") || strings.HasPrefix(m.at, "/sys/"))
}

func TestM5(t *testing.T) {
	row(t, "M5")
	own := makeDir(t, filepath.Join(groundDir(t), "own"))
	all := attempts{}
	for _, target := range []string{
		"/proc", "/proc/", "/proc/sys", "/proc/self", "/proc/1/attr", "/sys", "/sys/fs/cgroup", "/sys/firmware", "/dev", "/dev/null", "/dev/pts", "/dev/mqueue", "/dev/console",
		"/a/../proc", "//proc", "/./proc/../proc/sys", "/dev/shm/../null", "/etc/ld.so.preload", "/etc/../etc/ld.so.preload", "/sbin/docker-init", "/.dockerenv",
	} {
		all["mount-target"] = append(all["mount-target"],
			lineOf("-v", own+":"+target), lineOf("-v", "m5-volume:"+target), lineOf("-v", target), lineOf("--mount", "type=tmpfs,dst="+target), lineOf("--tmpfs", target))
	}
	all[""] = [][]string{
		{"-v", own + ":relative"},
		{"-v", own + ":/"},
		{"-v", own + ":/a/.."},
		{"-v", own + ":"},
		{"--tmpfs", "relative"},
		{"--mount", "type=bind,src=" + own + ",dst=x"},
		{"-v", own + ":/x\ny"},
		{"--tmpfs", "/"},
	}
	refusedEach(t, all)
	// A link of the image is no way there either: the mount is made inside the
	// image's root, where /way leads to the container's own /proc.
	img := busyboxNamed(t, "m5-links")
	img.Layers = append(img.Layers, imagekit.Layer{Entries: []imagekit.Entry{imagekit.Symlink("way", "/proc"), imagekit.Symlink("dots", "../../../../../sys"), imagekit.Symlink("node", "/dev")}})
	loaded(t, img)
	for _, target := range []string{"/way", "/way/sys", "/dots", "/node"} {
		a := here.Run("--rm", "-v", own+":"+target, img.Name, "sh", "-c", "echo RAN")
		if a.Code != 125 || strings.Contains(a.Stdout, "RAN") {
			t.Errorf("%s: %s", target, a)
		}
	}
	runs(t, "-v", own+":/data", "-v", own+":/dev/shm/x", "busybox", "true")
}

// A read-only bind is read-only below as well.
func TestM6(t *testing.T) {
	row(t, "M6")
	dir := groundDir(t)
	tree, other := makeDir(t, filepath.Join(dir, "tree")), makeDir(t, filepath.Join(dir, "other"))
	mounted(t, other, filepath.Join(tree, "sub"), "", unix.MS_BIND, "")
	const name = "m6-den"
	a := here.Run("run", "-d", "--name", name, "-v", tree+":/ro:ro", "-v", tree+":/rw", "--mount", "type=bind,src="+tree+",dst=/m,readonly", "busybox", "sleep", "600")
	if a.Code != 0 {
		t.Fatal(a)
	}
	defer here.Run("rm", "-f", name)
	try := func(p string) string {
		a := here.Run("exec", name, "sh", "-c", "touch "+p+" 2>&1; mount -o remount,rw "+filepath.Dir(p)+" 2>/dev/null; touch "+p+" 2>/dev/null && echo WRITTEN")
		return a.Stdout
	}
	for _, p := range []string{"/ro/x", "/ro/sub/x", "/m/x", "/m/sub/x"} {
		if out := try(p); !strings.Contains(out, "Read-only file system") || strings.Contains(out, "WRITTEN") {
			t.Errorf("%s: %q", p, out)
		}
	}
	if out := try("/rw/sub/x"); out != "WRITTEN\n" {
		t.Errorf("the same mount, writable: %q", out)
	}
	refused(t, "", lineOf("--mount", "type=bind,src="+tree+",dst=/x,readonly,bind-recursive=writable"), lineOf("-v", tree+":/x:rw,ro"))
}

func TestM7(t *testing.T) {
	row(t, "M7")
	dir := groundDir(t)
	tree := makeDir(t, filepath.Join(dir, "tree"))
	all := attempts{}
	for _, p := range []string{"shared", "rshared", "slave", "rslave"} {
		all["mount-propagation"] = append(all["mount-propagation"],
			lineOf("-v", tree+":/x:"+p), lineOf("-v", tree+":/x:ro,"+p), lineOf("--mount", "type=bind,src="+tree+",dst=/x,bind-propagation="+p))
	}
	all[""] = [][]string{{"-v", tree + ":/x:unbindable"}, {"--mount", "type=bind,src=" + tree + ",dst=/x,bind-propagation=public"}, {"--mount", "type=tmpfs,dst=/x,bind-propagation=shared"}}
	refusedEach(t, all)
	inModes(t, denMounts(t), "cat /proc/self/mountinfo", func(t *testing.T, _, out string) {
		for _, m := range mountinfo(t, out) {
			if len(m.extra) > 0 {
				t.Errorf("%s travels: %v", m.at, m.extra)
			}
		}
	})
	// A mount the host makes afterwards does not come in, even where the host
	// shares it.
	mounted(t, tree, tree, "", unix.MS_BIND, "")
	must(t, unix.Mount("", tree, "", unix.MS_SHARED, ""), os.Mkdir(filepath.Join(tree, "late"), 0o755))
	const name = "m7-den"
	if a := here.Run("run", "-d", "--name", name, "-v", tree+":/x", "busybox", "sleep", "600"); a.Code != 0 {
		t.Fatal(a)
	}
	defer here.Run("rm", "-f", name)
	mounted(t, "none", filepath.Join(tree, "late"), "tmpfs", 0, "")
	put(t, filepath.Join(tree, "late/seen"), "")
	if a := here.Run("exec", name, "ls", "/x/late"); a.Code != 0 || a.Stdout != "" {
		t.Errorf("it came in: %s", a)
	}
}

func TestM8(t *testing.T) {
	row(t, "M8")
	const script = `cat /proc/self/mountinfo; echo ==
for d in /bind /volume /anonymous /tmpfs; do cp /bin/busybox $d/s && chmod 755 $d/s; for m in 4755 2755 u+s g+s 6777; do chmod $m $d/s && echo "SET $m $d"; done; mknod $d/n b 8 0 && echo NODE; mknod $d/c c 1 1 && echo NODE; done 2>/dev/null; true`
	dir := denMounts(t)
	inModes(t, dir, script, func(t *testing.T, _, out string) {
		info, rest, _ := strings.Cut(out, "==\n")
		if rest != "" {
			t.Errorf("made: %q", rest)
		}
		for _, m := range mountinfo(t, info) {
			masked := m.fs == "tmpfs" && m.has("ro") && m.has("nr_inodes=1")
			if !m.has("nosuid") && m.at != "/" && !m.node() && !masked {
				t.Errorf("%s has no nosuid: %v", m.at, m.options)
			}
			if !m.has("nodev") && !slices.Contains([]string{"/", "/dev", "/dev/pts", "/dev/console"}, m.at) && !m.node() && !masked {
				t.Errorf("%s has no nodev: %v", m.at, m.options)
			}
		}
	})
	// To the host's users the file is an ordinary one.
	st, err := os.Stat(filepath.Join(here.Dir, "m-rows/s"))
	if err != nil || st.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 {
		t.Errorf("on the host: %v %v", st.Mode(), err)
	}
}

func TestM9(t *testing.T) {
	row(t, "M9")
	tmpfs := func(all ...string) (out [][]string) {
		for _, o := range all {
			out = append(out, []string{"--tmpfs", "/x:" + o})
		}
		return out
	}
	refusedEach(t, attempts{
		"tmpfs-size":  append(tmpfs("size=100g", "size=1g"), lineOf("--mount", "type=tmpfs,dst=/x,tmpfs-size=100g")),
		"tmpfs-flags": tmpfs("suid", "dev", "size=1m,suid", "exec,dev"),
		"shm-size":    {lineOf("--shm-size", "100g")},
		"":            append(tmpfs("size=0", "nr_inodes=0", "nr_blocks=0", "size=-1", "size=150%", "size=1m,nonsense", "mpol=bind:9", "size=10m\n"), lineOf("--shm-size=-1")),
	})
	if out := runs(t, "--shm-size", "0", "busybox", "sh", "-c", "df -k /dev/shm | tail -1"); !strings.Contains(out, " 65536 ") {
		t.Errorf("0 is the usual size: %q", out)
	}
	// Every one has a size and a number of files, and both hold.
	inModes(t, denMounts(t), `cat /proc/self/mountinfo; echo ==; rm -rf /tmpfs/* /dev/shm/*
for d in /tmpfs /dev/shm; do dd if=/dev/zero of=$d/big bs=64k count=64 2>&1 | grep -o 'No space left on device'; stat -c %s $d/big; rm $d/big; done
i=0; while touch /tmpfs/f$i 2>/tmp/why && [ $i -lt 100 ]; do i=$((i+1)); done; grep -o 'No space left on device' /tmp/why; [ $i -lt 51 ] && echo bounded; rm -f /tmpfs/f*`, func(t *testing.T, _, out string) {
		info, rest, _ := strings.Cut(out, "==\n")
		if rest != strings.Repeat("No space left on device\n1048576\n", 2)+"No space left on device\nbounded\n" {
			t.Errorf("filled: %q", rest)
		}
		for _, m := range mountinfo(t, info) {
			sized := slices.ContainsFunc(m.options, regexp.MustCompile(`^size=[1-9]`).MatchString) && slices.ContainsFunc(m.options, regexp.MustCompile(`^nr_inodes=[1-9]`).MatchString)
			// The root of the cgroup hierarchies of version 1 is read-only.
			if m.fs == "tmpfs" && !sized && !strings.HasPrefix(m.at, "/sys/fs/cgroup") {
				t.Errorf("%s without bounds: %v", m.at, m.options)
			}
			if m.fs == "tmpfs" && m.has("rw") && !m.has("ro") && (!m.has("nosuid") || !m.has("noexec")) {
				t.Errorf("%s: %v", m.at, m.options)
			}
		}
	})
}

func TestM10(t *testing.T) {
	row(t, "M10")
	inModes(t, denMounts(t), `for d in /run /tmp /dev/shm /dev/mqueue /var/tmp /dev; do cp /bin/busybox $d/b 2>/dev/null; chmod 755 $d/b 2>/dev/null; $d/b true 2>/dev/null && echo "RAN in $d"; /lib64/ld-linux-x86-64.so.2 $d/b true 2>/dev/null && echo "LOADED from $d"; rm -f $d/b; done; /bin/busybox true && echo usual`, prints("usual\n"))
}

func TestM11(t *testing.T) {
	row(t, "M11")
	script := `cat /proc/self/mountinfo; echo ==
for d in /bind /volume /anonymous /tmpfs /tmp; do printf '#!/bin/sh\necho RAN\n' >$d/s.sh && chmod 755 $d/s.sh && $d/s.sh; done 2>/dev/null; true`
	inModes(t, denMounts(t), script, func(t *testing.T, _, out string) {
		info, rest, _ := strings.Cut(out, "==\n")
		if rest != "" {
			t.Errorf("what was written was executed: %q", rest)
		}
		for _, m := range mountinfo(t, info) {
			if !m.has("ro") && !m.has("noexec") && !m.node() {
				t.Errorf("%s is writable and executable: %v", m.at, m.options)
			}
		}
	})
	// It is the mount: one that says exec can be executed.
	if out := runs(t, "--tmpfs", "/x:exec", "busybox", "sh", "-c", "cp /bin/busybox /x/echo && /x/echo asked for"); out != "asked for\n" {
		t.Errorf("%q", out)
	}
}

func TestM12(t *testing.T) {
	row(t, "M12")
	inModes(t, nil, `for p in /x /bin/x /etc/passwd /usr/x /root/x /home/x /var/x; do touch $p && echo "WRITTEN $p"; done 2>/dev/null; mount -o remount,rw / 2>/dev/null && echo REMOUNTED; touch /x`, prints("touch: /x: Read-only file system\n"))
	refused(t, "writable-rootfs", lineOf("--read-only=false"))
	runs(t, "--tmpfs", "/data", "busybox", "touch", "/data/x")
}
