// Package argvtest has command lines of run for tests of what is made of them.
package argvtest

import (
	"io/fs"
	"testing"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// Context is a directory with some files, and a profile.
func Context() cli.Context {
	return cli.Context{
		Cwd: "/home/me",
		LookupEnv: func(name string) (string, bool) {
			v, ok := map[string]string{"HOME": "/home/me", "API_TOKEN": "s3cret"}[name]
			return v, ok
		},
		ReadFile: func(path string, _ int64) ([]byte, error) {
			data, ok := map[string]string{
				"/home/me/env": "A=file\nB=1 2\n", "/home/me/labels": "a=file\n", "/home/me/p.json": `{"defaultAction":"SCMP_ACT_ERRNO"}`,
				"/etc/p.json": `{"defaultAction":"SCMP_ACT_ERRNO"}`,
			}[path]
			if !ok {
				return nil, fail.Wrap(fail.NotFound, fs.ErrNotExist, "%q", path)
			}
			return []byte(data), nil
		},
		Profile: func(ref string, _ *cli.Invocation) (cli.Profile, error) {
			return cli.Profile{Name: ref, Shown: ref, Seccomp: []byte(`{"defaultAction":"SCMP_ACT_ERRNO"}`)}, nil
		},
	}
}

// Parse reads a command line that must be right.
func Parse(t testing.TB, args ...string) spec.Workload {
	t.Helper()
	inv, err := cli.Parse(args, Context())
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return inv.Workload
}

// Lines are command lines that are read, written and read again. Words are
// split at blanks; ~ stands for a blank inside one.
func Lines() []string {
	return []string{
		"img", "img sh -c a~b --rm", "img -- -x", "-- -odd a",
		"--add-host=db:10.0.0.1 --add-host=g=host-gateway --add-host=v6=[::1] img",
		"--annotation=a=b=c --annotation=k --attach=stdout -a STDIN img",
		"--blkio-weight=100 --blkio-weight-device=/dev/sda:100 --device-read-bps=/dev/sda:1m --device-write-bps=/dev/sda:2 --device-read-iops=/dev/sda:3 --device-write-iops=/dev/sda:4 img",
		"--cap-add=CHOWN --cap-drop=ALL --cgroup-parent=x --cgroupns=private --cidfile=id img",
		"--cpu-period=1000 --cpu-quota=-1 --cpu-rt-period=1000 --cpu-rt-runtime=900 --cpu-shares=2 --cpuset-cpus=0-1 --cpuset-mems=0 img",
		"--cpus=1.5 img", "--cpus=.000000001 img", "--cpus=3 img",
		"--detach --detach-keys=ctrl-a,b img", "--detach-keys= img",
		"--device=/dev/fuse --device=/dev/net/tun:/dev/x:rw --device=vendor.com/gpu=0 --device-cgroup-rule=c~1:3~r --gpus=all img",
		"--dns=1.1.1.1 --dns-option=ndots:2 --dns-search=example.com --dns-search=. --domainname=example.com img",
		"--entrypoint= img", "--entrypoint=/bin/s~h img",
		"--env=A=b --env=B= --env=GONE --env=C=$x%y\\z\"q' -e A=2 img",
		"--expose=80 --expose=90-95/udp --group-add=10 --group-add=video img",
		"--health-cmd=curl~localhost~||~exit~1 --health-interval=5s --health-timeout=1m30s --health-start-period=5s --health-start-interval=500ms --health-retries=4 --health-on-failure=kill img",
		`--health-exec=["curl","-f","a~b"] --health-retries=2 img`,
		"--no-healthcheck --health-on-failure=none img", "--health-interval=1h img",
		"--hostname=web --init --interactive --ipc=private --label=a=b=c --label=k img", "--init=false img",
		"--ip=10.0.0.2 --ip6=fd00::2 --mac-address=92:d0:c6:0a:29:33 img",
		"--log-driver=json-file --log-opt=max-size=1m --log-opt=max-file=3 img",
		"--memory=64m --memory-reservation=32m --memory-swap=-1 --memory-swappiness=10 img", "--memory=1.5g --memory-swap=2g img", "--memory=0 img",
		"--name=web --network=none --oom-kill-disable --oom-score-adj=10 --pid=host --pids-limit=-1 --platform=linux/amd64 --privileged img",
		"--network=Web --network-alias=DB --ip=10.0.0.3 img", "--network=host img", "--network=container:abc img", "--network=ns:/proc/1/ns/net img",
		"--network=a --network=name=b,ip=10.1.0.3,alias=x,alias=y,gw-priority=4 --network=c --network-alias=z img",
		"--network=One --network=name=b,gw-priority=4 --network=name=c,gw-priority=9 --network=D --network-alias=Z img",
		"--network=bridge img", "--network=default img",
		"--publish=80:80 --publish=[::1]:8080:80/udp --publish=127.0.0.1::90 --publish=90 --publish=100-102:200-202/sctp --publish=1000-1010:99 --publish-all img",
		"--pull=always --quiet --read-only img", "--read-only=false img", "--pull=never img",
		"--restart=always img", "--restart=on-failure:3 img", "--restart=unless-stopped img", "--restart=on-failure img",
		"--rm --runtime=runc --security-opt=no-new-privileges --security-opt=label:disable img", "--security-opt=seccomp=/etc/p.json img", "--security-opt=seccomp=unconfined img",
		"--shm-size=1m --sig-proxy=false --stop-signal=INT --stop-timeout=-1 --sysctl=net.core.somaxconn=9 --sysctl=net/ipv4/conf/eth0.1/x=1 img",
		"--tmpfs=/t --tmpfs=/u:size=5m,mode=1777,uid=3,gid=0,exec,noatime,mpol=local,nr_inodes=1k,ro --tmpfs=/w:size=50% img",
		"--tty --ulimit=nofile=10:20 --ulimit=core=-1 --ulimit=nproc=7 --use-api-socket --user=1000:10 --userns=host --uts=host img",
		"-v /a:/b -v .:/c:ro,exec,Z,rprivate -v vol:/d:nocopy -v /anon --volume=vol:/e --volume-driver=local --volumes-from=db:ro --workdir=/w/. img",
		"--mount=type=bind,src=./x,dst=/b,readonly,bind-propagation=rprivate,bind-recursive=readonly,exec --mount=type=bind,src=/y,dst=/c,bind-recursive=disabled img",
		`--mount=type=volume,src=vol,dst=/v,volume-nocopy,volume-subpath=a/b,volume-driver=local,volume-label=a=b,volume-label=c,"volume-opt=o=x,y",volume-opt=p=q --mount=dst=/anon img`,
		`--mount=type=tmpfs,dst=/t,tmpfs-size=5m,tmpfs-mode=700,ro --mount=type=image,src=busybox,dst=/i,image-subpath=bin --mount=type=tmpfs,"dst=/t,u" img`,
		"--egress=none img", "--egress=example.com:443,10.0.0.0/8:* --egress=[fd00::/8]:53/udp,192.0.2.7:1-9 img", "--egress=all img",
		"--profile=web --cap-add=CHOWN img", "--sdnotify=healthy --secret=tls --secret=key=/etc/key --secret=id=x,src=/a,uid=3,gid=4,mode=0444 --secret=id=id img", `--secret=id=q,"src=/a,b" --sdnotify=container img`,
	}
}
