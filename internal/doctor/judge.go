package doctor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
)

// floor is the first kernel whose overlayfs takes idmapped layers.
var floor = [2]int{5, 19}

func kernel(f Facts) []Check {
	l := list{area: "kernel"}
	l.either(slices.Compare(f.Features.Kernel[:], floor[:]) >= 0, Fail, "kernel-version",
		"Linux "+f.Release, "Linux "+f.Release+", which cannot give a container's ids to the layers of an image",
		"install Linux 5.19 or later; 6.1 and later are tested")
	l.either(f.Features.Seccomp, Fail, "seccomp", "system calls can be filtered", "system calls cannot be filtered",
		"boot a kernel with CONFIG_SECCOMP_FILTER")
	l.either(f.Root, Warn, "root", "asked as root", "not asked as root of the host: some answers below are unknown", "run it with sudo, outside of the container it is in, if it is in one")
	l.either(f.Features.HasResource, Note, "cap-sys-resource", "hard limits can be raised",
		"this process lacks CAP_SYS_RESOURCE: hard limits cannot be raised, nor an OOM score lowered", "run it outside of the container it is in")
	l.add(nofile(f), "nofile", "raise LimitNOFILE= of the session or unit", "up to %d open files for a container", f.Features.NofileHard)
	for _, s := range []struct{ name, want, why string }{
		{"kernel.unprivileged_bpf_disabled", "12", "any user of this host can load BPF programs; containers cannot"},
		{"dev.tty.legacy_tiocsti", "0", "a program can press keys in its terminal; containers cannot, their filter denies it"},
		{"kernel.dmesg_restrict", "1", "any user of this host reads the kernel's log; containers cannot"},
	} {
		if v := f.Sysctls[s.name]; v != "" && !strings.Contains(s.want, v) {
			l.add(Note, s.name, "sysctl "+s.name+"="+s.want[:1], "%s is %s: %s", s.name, v, s.why)
		}
	}
	return l.all
}

func nofile(f Facts) Level {
	if f.Features.NofileHard < 1024 {
		return Warn
	}
	return OK
}

func cgroups(f Facts) []Check {
	l := list{area: "cgroups"}
	l.either(f.Features.CgroupV2, Warn, "cgroup-version", "version 2", "the version 1 hierarchy",
		"boot with systemd.unified_cgroup_hierarchy=1")
	for _, c := range []struct {
		name  string
		level Level
		for_  string
	}{
		{"memory", Fail, "the memory limit, which every container has"},
		{"pids", Fail, "the limit of processes, which every container has"},
		{"devices", Fail, "the list of devices, which every container has"},
		{"cpu", Warn, "--cpus, --cpu-shares"},
		{"cpuset", Note, "--cpuset-cpus"},
	} {
		l.either(f.Features.Controllers[c.name], c.level, "cgroup-"+c.name, c.name,
			c.name+" is not there for "+c.for_, "enable the controller: cgroup_enable="+c.name+" on the kernel's command line, or Delegate=yes in the unit")
	}
	io := "io"
	if !f.Features.CgroupV2 {
		io = "blkio"
	}
	l.either(f.Features.Controllers[io], Note, "cgroup-io", io, io+" is not there for --blkio-weight, --device-read-bps", "enable the controller "+io)
	l.either(f.Features.SwapLimit, Fail, "swap-limit", "swap is limited with memory", "the kernel does not account swap: a memory limit would not hold",
		"boot with swapaccount=1, and without cgroup.memory=noswap")
	return l.all
}

func users(f Facts) []Check {
	l := list{area: "users"}
	l.either(f.Users.MaxUserNS != "0" && f.Users.MaxUserNS != "", Fail, "user-namespaces", "user namespaces", "user namespaces are switched off",
		"sysctl user.max_user_namespaces=65536")
	switch {
	case f.Users.Error != "":
		l.add(Fail, "subordinate-ids", "add safe-run:524288:67108864 to /etc/subuid and /etc/subgid, or a range nobody else has", "%s", f.Users.Error)
	case f.Users.Entry:
		l.add(OK, "subordinate-ids", "", "blocks of ids for %d containers, of the user safe-run's own range", f.Users.Blocks)
	default:
		l.add(OK, "subordinate-ids", "", "blocks of ids for %d containers, of systemd's range for containers", f.Users.Blocks)
	}
	return l.all
}

// word is a name fit for a line: mounts of FUSE are made and named by anybody.
func word(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` || strings.Contains(s, " ") {
		return q
	}
	return s
}

func storage(f Facts) []Check {
	l := list{area: "storage"}
	l.either(f.Storage.Overlay, Fail, "overlayfs", "overlayfs", "the kernel has no overlayfs", "modprobe overlay, or boot a kernel with CONFIG_OVERLAY_FS")
	for _, fs := range f.Storage.Idmap {
		if fs.Error == "" {
			l.add(OK, "idmap", "", "binds of %s on %s get the container's ids", word(fs.Type), word(fs.Path))
			continue
		}
		l.add(Note, "idmap", "keep what containers bind on ext4, xfs or btrfs; tmpfs needs Linux 6.3", "no bind of %s on %s: it cannot be idmapped (%s)", word(fs.Type), word(fs.Path), fs.Error)
	}
	for _, s := range f.Storage.Space {
		level := OK
		switch {
		case s.Bytes < 16<<20 || s.Total > 0 && s.Inodes < 64:
			level = Fail
		case s.Bytes < 1<<30 || s.Total > 0 && s.Inodes*20 < s.Total:
			level = Warn
		}
		inodes := ""
		if s.Total > 0 {
			inodes = fmt.Sprintf(", %d inodes", s.Inodes)
		}
		l.add(level, "space", "safe-run system prune removes images and containers that are not used", "%s: %s free%s", s.Path, units.BytesSize(float64(s.Bytes)), inodes)
	}
	return l.all
}

func engine(f Facts) []Check {
	l := list{area: "engine"}
	e := f.Engine
	old := Fail
	if e.AllowOld {
		old = Warn
	}
	switch {
	case e.Problem != "":
		l.add(Fail, "containerd", "install containerd 2.0 or later with runc and start it, or safe-run with its own engine (make install)", "%s", e.Problem)
	case e.Old != "":
		l.add(old, "containerd", "update containerd, or install safe-run with its own engine (make install)", "%s", e.Old)
	case !e.Running:
		l.add(OK, "containerd", "", "safe-run's own at %s, started by the first launch", e.Address)
	default:
		l.add(OK, "containerd", "", "%s at %s", e.Version, e.Address)
	}
	switch {
	case e.TooOld != "":
		l.add(old, "runtime", "update runc to 1.3.6, 1.4.3, 1.5.0 or later", "%s", e.TooOld)
	case e.Runtime != "":
		l.add(OK, "runtime", "", "%s, without known ways out, with all that is needed", e.Runtime)
	}
	switch e.Remap {
	case "yes":
		l.add(OK, "snapshotter", "", "overlayfs gives a container's ids to layers without a copy")
	case "no":
		l.add(Warn, "snapshotter", "use a kernel and file system on which overlayfs takes idmapped layers (Linux 5.19; ext4, xfs, btrfs)",
			"the snapshotter copies an image for each container to give it its ids")
	}
	l.either(f.Init != "", Note, "init", f.Init+" for --init", "no small init for --init", "install the package tini, or safe-run with its own engine")
	return l.all
}

func lsm(f Facts) []Check {
	l := list{area: "security modules"}
	switch {
	case f.Features.AppArmor && f.LSM.Parser != "":
		l.add(OK, "lsm", "", "AppArmor, with %s", f.LSM.Parser)
	case f.Features.AppArmor:
		l.add(Fail, "lsm", "install the package apparmor", "AppArmor is on, and apparmor_parser, which loads the profile, is missing")
	case f.LSM.SELinux == "enforcing":
		l.add(OK, "lsm", "", "SELinux, enforcing")
	case f.LSM.SELinux != "":
		l.add(Warn, "lsm", "setenforce 1", "SELinux is %s: it denies nothing", f.LSM.SELinux)
	default:
		l.add(Warn, "lsm", "boot with lsm=...,apparmor (Debian, Ubuntu, SUSE) or SELinux (Fedora, RHEL)", "neither AppArmor nor SELinux: one layer less")
	}
	return l.all
}

func network(f Facts) []Check {
	l := list{area: "network"}
	switch {
	case f.Net.Denied && !f.Root:
		l.add(Note, "nftables", "run it with sudo", "nftables: not known, only root may ask")
	case f.Net.Denied:
		l.add(Fail, "nftables", "run it with CAP_NET_ADMIN, outside of the container it is in; without it only --network none works", "nftables: this process may not use it (%s)", f.Net.NFTables)
	default:
		l.either(f.Net.NFTables == "", Fail, "nftables", "nftables", "nftables: "+f.Net.NFTables, "modprobe nf_tables; without it only --network none works")
	}
	for _, c := range f.Net.Cut {
		l.add(Note, "firewall", "nothing to do: a launch puts a rule of its own before that end; `safe-run network inspect bridge` shows it",
			"the chain %s drops what is forwarded", c)
	}
	if f.Net.Legacy {
		l.add(Note, "firewall", "use iptables-nft, if container traffic is dropped", "there are rules of the older iptables, which nftables does not show")
	}
	forward := func(v string) string {
		if v == "1" {
			return "on"
		}
		return "off; a launch with a published port or outbound traffic turns it on, with a guard"
	}
	l.add(OK, "forwarding", "", "IPv4 forwarding is %s", forward(f.Net.Forward4))
	if f.Net.IPv6 {
		l.add(OK, "forwarding-6", "", "IPv6 forwarding is %s", forward(f.Net.Forward6))
	} else {
		l.add(Note, "ipv6", "boot without ipv6.disable=1", "no IPv6")
	}
	return l.all
}

func directories(f Facts) []Check {
	l := list{area: "directories"}
	for _, d := range f.Dirs {
		l.either(d.Problem == "", Fail, "directory", d.Path+" is root's alone", d.Path+": "+d.Problem,
			"chown root: and chmod 0711 (or 0700) "+d.Path+", after looking at what somebody may have put there")
	}
	return l.all
}

func learning(f Facts) []Check {
	l := list{area: "learn"}
	switch {
	case f.Learn.Recorder == "":
		l.add(OK, "recorder", "", "learn, --explain and --complain work")
	case !f.Root:
		l.add(Note, "recorder", "run it with sudo", "learn, --explain and --complain: not known, only root may ask")
	case !f.Learn.BTF:
		l.add(Warn, "recorder", "boot a kernel with CONFIG_DEBUG_INFO_BTF", "learn, --explain and --complain do not work: the kernel does not describe its types (/sys/kernel/btf/vmlinux)")
	default:
		l.add(Warn, "recorder", "boot a kernel with CONFIG_BPF_SYSCALL, and without lockdown=confidentiality", "learn, --explain and --complain do not work: %s", f.Learn.Recorder)
	}
	return l.all
}

func rest(f Facts) []Check {
	l := list{area: "site"}
	l.either(f.Policy == "", Fail, "policy", "the site's policy is well-formed, or there is none", f.Policy, "`safe-run policy check` tells more")
	l.either(f.Systemd, Note, "systemd", "systemd: units, notification and socket activation work", "no systemd: nothing brings containers back after a reboot", "start `safe-run start --restore` at boot, if containers have --restart")
	return l.all
}
