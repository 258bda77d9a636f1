package threats

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestF12(t *testing.T) {
	row(t, "F12")
	set := func(all ...string) (out [][]string) {
		for _, a := range all {
			out = append(out, []string{"--sysctl", a})
		}
		return out
	}
	refusedEach(t, attempts{
		"sysctl-host": append(set("kernel.core_pattern=|/bin/sh", "kernel/core_pattern=x", "kernel.modprobe=/bin/sh", "kernel.hostname=x", "kernel.yama.ptrace_scope=0",
			"fs.suid_dumpable=2", "fs.protected_symlinks=0", "vm.overcommit_memory=1", "kernel.unprivileged_bpf_disabled=0", "fs.binfmt_misc.register=x"),
			lineOf("--network", "host", "--sysctl", "net.ipv4.ip_forward=1")),
		"sysctl": set("user.max_user_namespaces=1000"),
		"": set("net.ipv4.ip_forward=1\nkernel.core_pattern=x", "net.../../kernel/core_pattern=x", "net/../kernel/modprobe=/x",
			"../kernel/modprobe=/x", "net", "=1", "net.ipv4.ip_forward"),
	})
	// One of its own is set inside, and only there.
	const name, path = "net.ipv4.ip_default_ttl", "/proc/sys/net/ipv4/ip_default_ttl"
	host, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := runs(t, "--sysctl", name+"=77", "--sysctl", "kernel.shm_rmid_forced=1", "busybox", "cat", path, "/proc/sys/kernel/shm_rmid_forced")
	if now, _ := os.ReadFile(path); out != "77\n1\n" || string(now) != string(host) || string(host) == "77\n" {
		t.Errorf("inside %q, the host before and after: %q %q", out, host, now)
	}
	inModes(t, nil, "for f in kernel/core_pattern kernel/domainname net/ipv4/ip_forward vm/overcommit_memory; do echo 1 >/proc/sys/$f && echo WRITTEN $f; done 2>/dev/null; true", prints(""))
}

func TestF13(t *testing.T) {
	row(t, "F13")
	limit := func(all ...string) (out [][]string) {
		for _, a := range all {
			out = append(out, []string{"--ulimit", a})
		}
		return out
	}
	refusedEach(t, attempts{
		"ulimit":           limit("core=-1", "core=0:-1", "memlock=-1", "nofile=-1", "nofile=1024:-1", "nproc=-1", "nofile=99999999:99999999", "rtprio=99"),
		"oom-score-adj":    {lineOf("--oom-score-adj", "-1000"), lineOf("--oom-score-adj=-1"), lineOf("--oom-score-adj", "-500")},
		"oom-kill-disable": {lineOf("--oom-kill-disable"), lineOf("--oom-kill-disable=true", "-m", "64m")},
		"":                 append(limit("nofile=2:1", "core=unlimited", "nosuch=1", "core", "nofile=1:2:3"), lineOf("--oom-score-adj", "1001"), lineOf("--oom-score-adj", "x")),
	})
	inModes(t, nil, "ulimit -c; ulimit -Hc; cat /proc/self/oom_score_adj; ulimit -l; ulimit -Hn; echo -1 >/proc/self/oom_score_adj", func(t *testing.T, _, out string) {
		l := lines(out)
		if len(l) < 5 || l[0] != "0" || l[1] != "0" {
			t.Fatalf("core dumps: %q", out)
		}
		if adj, err := strconv.Atoi(l[2]); err != nil || adj < 0 {
			t.Errorf("oom_score_adj is %s", l[2])
		}
		if slices.Contains(l[3:5], "unlimited") {
			t.Errorf("memlock, nofile: %q", l[3:5])
		}
		if len(l) != 6 || !strings.Contains(l[5], "denied") {
			t.Errorf("it could be lowered: %q", l[5:])
		}
	})
}

func TestF14(t *testing.T) {
	row(t, "F14")
	refusedEach(t, attempts{
		"group-add": {lineOf("--group-add", "65536"), lineOf("--group-add", "0x0"), lineOf("--group-add", "2147483647")},
		"":          {lineOf("--group-add", "-1"), lineOf("--group-add", "4294967296"), lineOf("--group-add", "docker"), lineOf("--group-add", "")},
	})
	// The groups asked for are those of the container: to the host's kernel
	// they are in its own block.
	s := here.Serve(t, "--rm", "--group-add", "6", "--group-add", "0", "--group-add", "42", "busybox", "sh", "-c", "id -G; sleep 600")
	s.Until(t, func() error {
		if s.Stdout() == "" {
			return fmt.Errorf("no groups yet")
		}
		return nil
	})
	if out := s.Stdout(); out != "0 6 42\n" {
		t.Errorf("inside: %q", out)
	}
	all, err := s.Processes()
	if err != nil || len(all) == 0 {
		t.Fatalf("no processes: %v", err)
	}
	for _, p := range all {
		for _, g := range strings.Fields(p.Status["Groups"]) {
			if n, err := strconv.Atoi(g); err != nil || n < 65536 {
				t.Errorf("%s is in the host's group %s", p.Args, g)
			}
		}
		if len(strings.Fields(p.Status["Groups"])) != 3 {
			t.Errorf("groups %q", p.Status["Groups"])
		}
	}
	// Being in the group of disks opens no disk: the nodes are not there.
	refused(t, "bind-device", lineOf("--group-add", "6", "-v", "/dev/null:/x"))
}
