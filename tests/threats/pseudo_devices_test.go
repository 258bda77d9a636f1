package threats

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestP9(t *testing.T) {
	row(t, "P9")
	a := here.Run("run", "--rm", "-v", "p9-data:/data", denImage, "cat", "/proc/self/mountinfo")
	defer here.Run("volume", "rm", "p9-data")
	if a.Code != 0 {
		t.Fatal(a)
	}
	if !strings.Contains(a.Stdout, here.Dir) {
		t.Error("mountinfo shows no path of the host: the catalogue says more than is so")
	}
	// Of the host's file systems it shows what was made for this container.
	for _, l := range lines(a.Stdout) {
		f := strings.Fields(l)
		fs := f[slices.Index(f, "-")+1]
		if root := f[3]; root != "/" && !slices.Contains([]string{"proc", "sysfs", "cgroup", "cgroup2", "devtmpfs", "devpts", "tmpfs"}, fs) &&
			!strings.HasPrefix(root, here.Dir) && !strings.Contains(root, filepath.Base(here.Dir)) {
			t.Errorf("a mount of the host's: %s", l)
		}
	}
	// Nothing leads to where these paths say.
	paths := regexp.MustCompile(regexp.QuoteMeta(here.Dir)+`[^ ,:]*`).FindAllString(a.Stdout, -1)
	slices.Sort(paths)
	script := "for p in " + strings.Join(slices.Compact(paths), " ") + "; do for r in '' /proc/1/root /proc/self/cwd; do [ -e $r$p ] && echo $r$p; done; done; true"
	inModes(t, nil, script, prints(""))
	// What names this one machine is root's.
	inModes(t, nil, "cd /sys/class/dmi/id 2>/dev/null && cat product_serial product_uuid board_serial chassis_serial 2>/dev/null; cat /etc/machine-id /proc/sys/kernel/hostname | grep -v '^[0-9a-f]\\{12\\}$'; true",
		func(t *testing.T, _, out string) {
			if out != "" && !strings.HasPrefix(out, "cat: can't open '/etc/machine-id'") {
				t.Errorf("printed %q", out)
			}
		})
}

// harmless are the devices a container may use: their numbers in the device
// cgroup (Linux's devices.txt), and what the runtime adds.
var harmless = map[string]string{
	"c 1:3 rwm": "null", "c 1:5 rwm": "zero", "c 1:7 rwm": "full", "c 1:8 rwm": "random", "c 1:9 rwm": "urandom",
	"c 5:0 rwm": "tty", "c 5:1 rwm": "console", "c 5:2 rwm": "ptmx", "c 136:* rwm": "pts",
	"c *:* m": "making a node, which the user namespace refuses", "b *:* m": "the same", "c 10:200 rwm": "tun: there is no node of it",
}

func TestP10(t *testing.T) {
	row(t, "P10")
	stopped(t, "dev-kmsg", "dev-disk", "dev-mem")
	probed(t, "dev-other", "dev-clocks", "mknod-block", "mknod-mem")
	inModes(t, nil, "ls /dev | sort | tr '\\n' ' '; find /dev -type b", prints("fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero "))
	inModes(t, nil, "for d in kmsg fuse kvm mem net/tun loop-control sda vda; do (: </dev/$d) 2>/dev/null && echo $d; done; true", prints(""))
	disk := filepath.Join(t.TempDir(), "disk")
	if err := unix.Mknod(disk, unix.S_IFBLK|0o666, int(unix.Mkdev(8, 0))); err != nil {
		t.Fatal(err)
	}
	memory := filepath.Join(t.TempDir(), "memory")
	if err := unix.Mknod(memory, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 1))); err != nil {
		t.Fatal(err)
	}
	refused(t, "device-forbidden", []string{"--device", disk}, []string{"--device", disk + ":/dev/null"}, []string{"--device", memory + ":/dev/x:r"}, []string{"--device", "/dev"})
	refused(t, "device", []string{"--device", "/dev/kmsg"}, []string{"--device", "/dev/kmsg:/dev/x:r"})
	refused(t, "device-cgroup-rule", []string{"--device-cgroup-rule", "a *:* rwm"}, []string{"--device-cgroup-rule", "b 8:0 r"})
	refused(t, "device-cdi", []string{"--device", "vendor.com/class=name"})
	refused(t, "", []string{"-v", disk + ":/dev/x"}, []string{"-v", "/dev:/x"}, []string{"-v", "/dev/kmsg:/x"})

	// What the device cgroup permits of nodes that were there all the same.
	detached(t, "p10-list", denImage, "sleep", "600")
	groups, err := os.ReadFile("/proc/" + hostPID(t, "p10-list") + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^\d+:devices:(.*)$`).FindSubmatch(groups)
	if m == nil {
		return // with cgroup v2 it is a program in the kernel
	}
	list, err := os.ReadFile(filepath.Join("/sys/fs/cgroup/devices", string(m[1]), "devices.list"))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines(string(list)) {
		if harmless[l] == "" {
			t.Errorf("the device cgroup permits %s", l)
		}
	}
}

func TestP11(t *testing.T) {
	row(t, "P11")
	kinds := []string{"debugfs", "tracefs", "bpf", "securityfs", "efivarfs", "pstore", "configfs", "binfmt_misc", "selinuxfs", "fusectl", "hugetlbfs", "nfsd", "rpc_pipefs"}
	inModes(t, nil, `awk '{ for (i = 7; i < NF; i++) if ($i == "-") print $(i + 1) }' /proc/self/mountinfo | sort -u`, func(t *testing.T, _, out string) {
		if !strings.Contains(out, "overlay") {
			t.Errorf("printed %q", out)
		}
		for _, kind := range lines(out) {
			if slices.Contains(kinds, kind) {
				t.Errorf("%s is mounted", kind)
			}
		}
	})
	var flags [][]string
	sources := []string{"/sys", "/sys/kernel", "/sys/kernel/debug", "/sys/kernel/tracing", "/sys/fs/bpf", "/sys/kernel/security", "/sys/firmware", "/sys/fs/pstore", "/sys/fs/cgroup", "/proc", "/proc/sys", "/proc/fs"}
	// The same file systems in an innocent place, and by an innocent name.
	dir := t.TempDir()
	for _, kind := range []string{"debugfs", "securityfs", "tracefs", "bpf", "pstore", "configfs", "sysfs", "proc"} {
		at := filepath.Join(dir, kind)
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if unix.Mount(kind, at, kind, 0, "") != nil {
			continue // this kernel has none
		}
		t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
		link := filepath.Join(dir, "link-"+kind)
		if err := os.Symlink(at, link); err != nil {
			t.Fatal(err)
		}
		sources = append(sources, at, link)
	}
	if len(sources) < 14 {
		t.Errorf("only %q to try", sources)
	}
	sources = append(sources, dir) // what is mounted below goes along
	for i, s := range sources {
		if _, err := os.Stat(s); err != nil {
			continue
		}
		flags = append(flags, []string{"-v", s + ":/x:ro"})
		if i%3 == 0 {
			flags = append(flags, []string{"--mount", "type=bind,src=" + s + ",dst=/x"})
		}
	}
	refused(t, "", flags...)
}

func TestP12(t *testing.T) {
	row(t, "P12")
	inModes(t, nil, "rm -f /dev/shm/*; dd if=/dev/zero of=/dev/shm/x bs=1M count=65 2>&1 | grep -o 'No space left on device'; df -k /dev/shm | awk 'NR == 2 { print $2 }'; rm /dev/shm/x", prints("No space left on device\n65536\n"))
	detached(t, "p12-one", denImage, "sh", "-c", "echo secret >/dev/shm/p12; sleep 600")
	patient(t, func() error {
		_, err := os.Stat("/proc/" + hostPID(t, "p12-one") + "/root/dev/shm/p12")
		return err
	})
	inModes(t, nil, "ls /dev/shm/p12 2>/dev/null; cat /proc/sysvipc/shm /proc/sysvipc/msg /proc/sysvipc/sem | wc -l", prints("3\n"))
	own, err := os.Readlink("/proc/self/ns/ipc")
	if err != nil {
		t.Fatal(err)
	}
	if of, err := os.Readlink("/proc/" + hostPID(t, "p12-one") + "/ns/ipc"); err != nil || of == own {
		t.Errorf("its IPC namespace is %s, the host's %s (%v)", of, own, err)
	}
	refused(t, "ipc-host", []string{"--ipc", "host"})
	refused(t, "ipc-join", []string{"--ipc", "container:p12-one"})
	// It is memory, and counted.
	a := here.Run("run", "--rm", "--shm-size", "256m", "-m", "24m", "--memory-swap", "24m", denImage, "dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M", "count=100")
	if a.Code == 0 || strings.Contains(a.Stderr, "100+0 records out") {
		t.Errorf("100 MiB of shared memory in 24 MiB: %s", a)
	}
	refused(t, "", []string{"--shm-size", "-1"}, []string{"--shm-size", "1000t"})
}

func TestP13(t *testing.T) {
	row(t, "P13")
	stopped(t, "clock_settime", "settimeofday", "adjtimex", "unshare-time")
	probed(t, "dev-clocks")
	inModes(t, nil, "date -s 2001-01-01 >/dev/null; hwclock -w; adjtimex -t 10001 2>&1 >/dev/null; date +%Y", func(t *testing.T, _, out string) {
		l := lines(out)
		if len(l) < 3 || !strings.Contains(out, "date: can't set date: Operation not permitted") || l[len(l)-1] < "2024" {
			t.Errorf("printed %q", out)
		}
	})
	refused(t, "cap-host-only", []string{"--cap-add", "SYS_TIME"}, []string{"--cap-add", "WAKE_ALARM"})
	for _, dev := range []string{"/dev/rtc", "/dev/rtc0", "/dev/ptp0", "/dev/hpet"} {
		refused(t, "", []string{"--device", dev})
	}
}
