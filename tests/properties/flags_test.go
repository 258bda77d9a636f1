package properties

// words are values of one flag. What is good is accepted somewhere, at least
// with the grants of the generous site; what is bad is refused, is an error, or
// needs a grant nobody gives.
type words struct {
	flag      string
	good, bad []string
	alone     bool   // also takes part without a value
	with      string // what it needs beside itself
}

// flags are all names of docker run, and safe-run's own.
func flags() []words {
	bools := []string{"true", "false", "1", "0"}
	return []words{
		{flag: "add-host", good: []string{"db:10.0.0.1", "db=fd00::1", "gw:host-gateway"}, bad: []string{"db", "a\nb:1.2.3.4", ":1.2.3.4"}},
		{flag: "annotation", good: []string{"org.opencontainers.image.title=x", "com.example.note=1"}, bad: []string{"org.systemd.property.TasksMax=uint64 9", "run.oci.keep_original_groups=1", "io.containerd.x=1", "a\x1b=b", "=x"}},
		{flag: "attach", good: []string{"stdout", "STDERR", "stdin"}, bad: []string{"nothing"}},
		{flag: "blkio-weight", good: []string{"100", "0", "10", "1000"}, bad: []string{"1", "70000", "-1"}},
		{flag: "blkio-weight-device", good: []string{"/dev/sda:100"}, bad: []string{"/dev/sda:1", "/etc/passwd:100", "x"}},
		{flag: "cap-add", good: []string{"CHOWN", "cap_net_bind_service", "NET_RAW", "SETUID", "NET_ADMIN", "sys_ptrace", "SYS_TIME"}, bad: []string{"ALL", "SYS_ADMIN", "CAP_SYS_MODULE", "", "CHOWN,SYS_ADMIN", "CAP_CAP_CHOWN", " BPF"}},
		{flag: "cap-drop", good: []string{"ALL", "CHOWN", "net_raw"}, bad: []string{"EVERYTHING"}},
		{flag: "cgroup-parent", good: []string{"batch", "batch/night_1"}, bad: []string{"/", "..", "a/../b", "/machine.slice", "system.slice:x:y", "/safe-run/x"}},
		{flag: "cgroupns", good: []string{"private", ""}, bad: []string{"host", "container:x"}},
		{flag: "cidfile", good: []string{"/tmp/id"}, bad: []string{"\x1b", "a\x00b"}},
		{flag: "cpu-count", bad: []string{"1", "0"}},
		{flag: "cpu-percent", bad: []string{"1"}},
		{flag: "cpu-period", good: []string{"0", "1000", "100000"}, bad: []string{"-1", "1", "99999999999999999999"}},
		{flag: "cpu-quota", good: []string{"0", "-1", "50000"}, bad: []string{"1", "-2", "x"}},
		{flag: "cpu-rt-period", good: []string{"0"}, bad: []string{"1000"}},
		{flag: "cpu-rt-runtime", good: []string{"0"}, bad: []string{"950000"}},
		{flag: "cpu-shares", good: []string{"0", "2", "1024"}, bad: []string{"-5", "99999999999999999999"}},
		{flag: "cpus", good: []string{"0", "1.5", "0.5"}, bad: []string{"-1", "1000", "nan", "1e9"}},
		{flag: "cpuset-cpus", good: []string{"0", "0-3", "0,2"}, bad: []string{"9", "3-0", "0-", "a"}},
		{flag: "cpuset-mems", good: []string{"0"}, bad: []string{"7"}},
		{flag: "detach", good: bools, bad: []string{"maybe"}, alone: true},
		{flag: "detach-keys", good: []string{"ctrl-a", "ctrl-p,ctrl-q"}, bad: []string{"ctrl-\x1b"}},
		{flag: "device", good: []string{"/dev/fuse", "/dev/fuse:/dev/fuse:rw", "/dev/net/tun:/dev/net/tun:r"}, bad: []string{"/dev/sda", "/dev/mem", "/dev/kvm", "/dev", "/dev/fuse:/dev/null", "/dev/fuse:/proc/x", "/dev/fuse:/dev/fuse:rwx", "vendor.com/gpu=all", "/dev/none", "/srv/www", "/dev/alias"}},
		{flag: "device-cgroup-rule", bad: []string{"a *:* rwm", "c 1:3 r", "b 8:* m"}},
		{flag: "device-read-bps", good: []string{"/dev/sda:1m"}, bad: []string{"/dev/sda:-1", "/dev/none:1m", "/dev/sda"}},
		{flag: "device-read-iops", good: []string{"/dev/sda:100"}, bad: []string{"/dev/sda:x"}},
		{flag: "device-write-bps", good: []string{"/dev/sda:1m"}, bad: []string{"/etc/shadow:1m"}},
		{flag: "device-write-iops", good: []string{"/dev/sda:100"}, bad: []string{":1"}},
		{flag: "disable-content-trust", good: bools, bad: []string{"x"}, alone: true},
		{flag: "dns", good: []string{"1.1.1.1", "fd00::53"}, bad: []string{"localhost", "fe80::1%eth0\n"}},
		{flag: "dns-opt", good: []string{"ndots:2"}, bad: []string{"a\nnameserver 1.1.1.1"}},
		{flag: "dns-option", good: []string{"ndots:2", "edns0"}, bad: []string{"a b\x00"}},
		{flag: "dns-search", good: []string{"example.com", "."}, bad: []string{"a b", "x\n"}},
		{flag: "domainname", good: []string{"example.com"}, bad: []string{"a\nb", "-x", "a/b"}},
		{flag: "entrypoint", good: []string{"sh", "", "/bin/app"}, bad: []string{"a\x00b"}},
		{flag: "env", good: []string{"A=b", "HOME", "NOTHERE", "EMPTY=", "GLOB=*", "LD_PRELOAD=/x", "PATH=/x"}, bad: []string{"=x", "AWS_*", "*", "a\x00=b"}},
		{flag: "env-file", good: []string{"env"}, bad: []string{"missing", "/etc/shadow", "profile.json"}},
		{flag: "expose", good: []string{"80/tcp", "9000-9002"}, bad: []string{"0", "70000", "80/icmp", "9-1"}},
		{flag: "gpus", bad: []string{"all", "1", "device=0", "count=0"}},
		{flag: "group-add", good: []string{"audio", "27", "root"}, bad: []string{"-1", "65536", "nogroup-here", "4294967296", "+1"}},
		{flag: "health-cmd", good: []string{"true", "curl -f http://localhost"}, bad: []string{"a\x00"}},
		{flag: "health-interval", good: []string{"5s", "0"}, bad: []string{"-1s", "1ns"}},
		{flag: "health-retries", good: []string{"3", "0"}, bad: []string{"-1"}},
		{flag: "health-start-interval", good: []string{"5s"}, bad: []string{"x"}},
		{flag: "health-start-period", good: []string{"5s"}, bad: []string{"-5s"}},
		{flag: "health-timeout", good: []string{"5s"}, bad: []string{"1"}},
		{flag: "help", good: []string{"false"}, bad: []string{"x"}},
		{flag: "hostname", good: []string{"web", "web.example.com"}, bad: []string{"a\nb", "a/b", "-x"}},
		{flag: "init", good: bools, bad: []string{"x"}, alone: true},
		{flag: "interactive", good: bools, alone: true},
		{flag: "io-maxbandwidth", bad: []string{"1m"}},
		{flag: "io-maxiops", bad: []string{"1"}},
		{flag: "ip", good: []string{"10.0.0.2"}, bad: []string{"300.0.0.1", "fd00::2"}},
		{flag: "ip6", good: []string{"fd00::2"}, bad: []string{"10.0.0.2", "fe80::1%lo"}},
		{flag: "ipc", good: []string{"private", "none", "shareable", "host", ""}, bad: []string{"container:db", "HOST ", "ns:/proc/1/ns/ipc"}},
		{flag: "isolation", good: []string{"default"}, bad: []string{"hyperv"}},
		{flag: "kernel-memory", good: []string{"6m"}, bad: []string{"x"}},
		{flag: "label", good: []string{"a=b", "c"}, bad: []string{"\x1b=x"}},
		{flag: "label-file", good: []string{"labels"}, bad: []string{"missing"}},
		{flag: "link", bad: []string{"db", "db:alias"}},
		{flag: "link-local-ip", bad: []string{"169.254.1.1", "x"}},
		{flag: "log-driver", good: []string{"json-file", "none", "journald"}, bad: []string{"syslog", "fluentd"}},
		{flag: "log-opt", good: []string{"max-size=1m", "max-file=2"}, bad: []string{"max-size=9000g", "syslog-address=tcp://1.2.3.4", "max-file=0", "max-size=x"}},
		{flag: "mac-address", good: []string{"92:d0:c6:0a:29:33"}, bad: []string{"ff:ff:ff:ff:ff:ff", "x"}},
		{flag: "memory", good: []string{"64m", "2g", "0"}, bad: []string{"-1", "1k", "9999999999g", "64"}},
		{flag: "memory-reservation", good: []string{"32m", "0"}, bad: []string{"900g", "-1"}},
		{flag: "memory-swap", good: []string{"512m", "1g", "0"}, bad: []string{"-1", "1m", "-2"}},
		{flag: "memory-swappiness", good: []string{"-1"}, bad: []string{"101", "-2"}},
		{flag: "mount", good: append(mountWords(), "type=tmpfs,dst=/t,tmpfs-size=1m", "type=volume,src=data,dst=/m", "type=image,src=busybox,dst=/img"), bad: []string{
			"type=bind,src=/,dst=/h", "type=bind,src=/etc,dst=/e", "type=bind,src=/etc/shadow,dst=/s,readonly", "type=bind,src=/srv/www,dst=/proc/sys",
			"type=bind,src=/srv/www,dst=/w,bind-propagation=rshared", "type=volume,src=x,dst=/x,volume-driver=nfs", "type=volume,dst=/x,volume-opt=type=none,volume-opt=o=bind,volume-opt=device=/",
			"type=npipe,src=a,dst=b", "type=cluster,src=a,dst=/b", "type=tmpfs,dst=/", "type=bind,src=relative,dst=/x", "type=tmpfs,dst=/big,tmpfs-size=900g", "type=bind,src=/srv/link,dst=/l,readonly",
		}},
		{flag: "name", good: []string{"web", "web_1.a"}, bad: []string{"../x", "a b", "\x1b"}},
		{flag: "net", good: []string{"none", "bridge", "front"}, bad: []string{"ns:/proc/1/ns/net", "pasta:--x"}},
		{flag: "net-alias", good: []string{"db"}, bad: []string{"a\nb"}, with: "--network=front"},
		{flag: "network", good: []string{"none", "bridge", "front", "host", "container:db", "default"}, bad: []string{"container:../x", "ns:/proc/1/ns/net", "Host", "name=front,driver-opt=a=b", "/x", "name=front,link-local-ip=169.254.1.1"}},
		{flag: "network-alias", good: []string{"db"}, bad: []string{""}, with: "--net=front"},
		{flag: "no-healthcheck", good: bools, alone: true},
		{flag: "oom-kill-disable", good: []string{"false"}, bad: []string{"true"}},
		{flag: "oom-score-adj", good: []string{"0", "100", "1000"}, bad: []string{"-1", "-1000", "1001"}},
		{flag: "pid", good: []string{"host", ""}, bad: []string{"container:db", "private", "ns:/proc/1/ns/pid"}},
		{flag: "pids-limit", good: []string{"10", "1000", "0", "-1"}, bad: []string{"99999999", "x"}},
		{flag: "platform", good: []string{"linux/amd64"}, bad: []string{"windows/amd64", "x/y/z/a"}},
		{flag: "privileged", good: []string{"false"}, bad: []string{"true", "1"}},
		{flag: "publish", good: []string{"80", "127.0.0.1:8080:80", "[::1]:8081:81/udp"}, bad: []string{"0:0", "80:80/icmp", "999999:1", "127.0.0.1"}},
		{flag: "publish-all", good: bools, alone: true},
		{flag: "pull", good: []string{"never", "missing", "always"}, bad: []string{"sometimes"}},
		{flag: "quiet", good: bools, alone: true},
		{flag: "read-only", good: []string{"true", "false"}, bad: []string{"perhaps"}, alone: true},
		{flag: "restart", good: []string{"no", "on-failure:3", "always", "unless-stopped"}, bad: []string{"always:3", "on-failure:-1", "sometimes"}},
		{flag: "rm", good: bools, alone: true},
		{flag: "runtime", good: []string{"runc", "io.containerd.runc.v2"}, bad: []string{"kata", "/tmp/evil", "runsc"}},
		{flag: "security-opt", good: []string{
			"no-new-privileges", "no-new-privileges=true", "seccomp=builtin", "seccomp=profile.json", "apparmor=docker-default", "writable-cgroups=false",
			"seccomp=unconfined", "apparmor=unconfined", "label=disable", "no-new-privileges=false", "apparmor=site-web",
		}, bad: []string{
			"systempaths=unconfined", "label=type:spc_t", "writable-cgroups=true", "writable-cgroups", "seccomp=open.json", "seccomp=missing.json", "seccomp=bad.json",
			"no-new-privileges=maybe", "SECCOMP=unconfined", "apparmor= site-web", "unmask=ALL", "credentialspec=file://x", "proc-opts=hidepid=2", "",
		}},
		{flag: "shm-size", good: []string{"1m", "64m", "128m"}, bad: []string{"0", "-1", "512g", "x"}},
		{flag: "sig-proxy", good: bools, alone: true},
		{flag: "stop-signal", good: []string{"INT", "SIGQUIT", "9"}, bad: []string{"FOO", "0", "99", "9; rm"}},
		{flag: "stop-timeout", good: []string{"3", "0", "-1"}, bad: []string{"-2", "x"}},
		{flag: "storage-opt", bad: []string{"size=1g"}},
		{flag: "sysctl", good: []string{"net.core.somaxconn=9", "kernel.shmmax=65536", "net/ipv4/ip_forward=1", "fs.mqueue.msg_max=10", "user.max_user_namespaces=10", "net.ipv4.conf.all.accept_redirects=1"}, bad: []string{
			"kernel.core_pattern=|/x", "vm.overcommit_memory=1", "kernel/core_pattern=x", "net/../kernel/core_pattern=x", "net..x=1", "fs.file-max=1", "=1", "kernel.sem",
		}},
		{flag: "tmpfs", good: []string{"/t", "/t:exec,size=1m", "/cache:uid=1000,mode=700,noatime", "/dev/shm", "/t:size=50%"}, bad: []string{"/", "/proc", "/t:suid", "/t:dev", "/t:size=900g", "/t:nr_inodes=0", "t", "/t:rshared", "/t:mpol=bind:0,1"}},
		{flag: "tty", good: bools, alone: true},
		{flag: "ulimit", good: []string{"nofile=10", "core=0", "nproc=10:20", "memlock=1048576"}, bad: []string{"core=-1", "nofile=2000000", "memlock=-1", "rtprio=99", "nice=40", "bogus=1", "nofile=20:10", "nproc=-1"}},
		{flag: "use-api-socket", good: []string{"false"}, bad: []string{"true"}},
		{flag: "user", good: []string{"1000", "root", "0:0", "app:app", "1000:27"}, bad: []string{"-1", "65536", "4294967296", "nobody-here", "0x0", "a:b:c", "00"}},
		{flag: "userns", good: []string{"host", ""}, bad: []string{"keep-id", "private", "auto", "container:db"}},
		{flag: "uts", good: []string{"host", ""}, bad: []string{"container:db", "ns:/x", "private"}},
		{flag: "volume", good: append(volumeWords(), "data:/m", "/m", "data:/m:ro,nocopy"), bad: []string{
			"/:/host", "/etc:/e", "/var/run/docker.sock:/s", "/run/docker.sock:/s:ro", "/srv/sock:/s", "/proc:/p", "/sys:/y:ro", "/dev:/d", "/srv/missing:/x", "/home/ann:/h", "/root:/r:ro",
			"/usr/bin:/b", "/srv/www:/w:rshared", "/srv/www:/w:U", "/srv/www:/proc", "/srv/link:/l", "/srv/fifo:/f", "/srv/magic:/m", "/srv/holds:/h", "/srv/www:/", ":/x", "/srv/layer:/l", "/etc/shadow:/s:ro", "/dev/sda:/x", "/srv/deep:/d",
		}},
		{flag: "volume-driver", good: []string{"local"}, bad: []string{"nfs", "rexray"}},
		{flag: "volumes-from", bad: []string{"db", "db:ro"}},
		{flag: "workdir", good: []string{"/w", "/", "/src/app"}, bad: []string{"/proc/self/fd/7", "relative", "/dev/fd/3", "/x/../proc"}},

		{flag: "dry-run", good: []string{"json", "summary"}, bad: []string{"x"}, alone: true},
		{flag: "refusals", good: []string{"text", "json"}, bad: []string{"xml"}},
		{flag: "egress", good: []string{"none", "all", "example.com:443", "10.0.0.0/8:1-65535/udp"}, bad: []string{"169.254.169.254:80", "x", "169.254.0.0/16:*", "a\nb:1"}},
		{flag: "address", good: []string{"/run/containerd/containerd.sock"}, bad: []string{"tcp://1.2.3.4"}},
		{flag: "namespace", good: []string{"default"}, bad: []string{"../x"}},
		{flag: "profile", good: []string{"p.yaml", "nginx", "redis", "postgres"}, bad: []string{"nope", "missing.yaml"}},
		{flag: "explain", good: bools, alone: true},
		{flag: "complain", good: []string{"false"}, bad: []string{"x"}},
		{flag: "record-fd", good: []string{"3"}, bad: []string{"0", "-1"}, with: "--explain"},
		{flag: "health-on-failure", good: []string{"none", "kill", "stop"}, bad: []string{"explode"}},
		{flag: "sdnotify", good: []string{"started", "container", "ignore"}, bad: []string{"x"}},
		{flag: "secret", good: []string{"db=secret", "id=key,src=secret,uid=1000,mode=0400"}, bad: []string{"../x=secret", "a/b=secret", "id=a,src=secret,mode=4755", "id=a,src=secret,uid=99999999"}},
	}
}

// volumeWords and mountWords bind what is free, and what the generous site
// gives.
func volumeWords() []string {
	return []string{
		"/srv/www:/w", "/srv/www:/w:ro", "/srv/www:/w:exec", "/home/ann/project:/p", "/srv/file:/f:ro",
		"/etc/nginx:/etc/nginx:ro", "/etc/app:/a", "/var/mail:/mail:ro", "/srv/dbus:/bus",
	}
}

func mountWords() []string {
	return []string{
		"type=bind,src=/srv/www,dst=/w2", "type=bind,src=/srv/www,dst=/w2,readonly,bind-recursive=disabled", "type=bind,src=/etc/app/conf,dst=/ac",
	}
}
