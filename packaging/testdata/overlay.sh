#!/bin/bash
# overlay.sh DEB IMAGE: installs the package, uses and removes it for
# real, on this host's file system under an overlay: nothing of the host
# changes. It has to be the first process of a pid namespace, in mount and
# network namespaces of its own:
#
#   unshare --mount --net --pid --fork --mount-proc bash overlay.sh ...
#
# Prints "FAIL ..." for all that is not as it should be, and "done".
# Its control groups are below one of its own (CGROUP), which it sees as the
# root: a purge removes empty ones, and others have theirs on this machine.
set -u
exec 2>&1
hierarchies() { awk '{ for (i = 1; i <= NF; i++) if ($i == "-") { if ($(i+1) ~ /^cgroup2?$/) print $5, $(i+1), $(i+3) } }' /proc/self/mountinfo; }
if [[ ${1:-} != inside && ${1:-} != own ]]; then
	while read -r at _ _; do
		mkdir "$at/$CGROUP" || exit 1
		for f in cpus mems; do [[ ! -e $at/cpuset.$f ]] || cat "$at/cpuset.$f" >"$at/$CGROUP/cpuset.$f"; done
		echo 0 >"$at/$CGROUP/cgroup.procs" || exit 1
	done < <(hierarchies)
	exec unshare --cgroup bash "$0" own "$@"
fi
if [[ $1 = own ]]; then
	set -e
	shift
	deb=$(realpath "$1") image=$(realpath "$2") self=$(realpath "$0")
	t=$(mktemp -d)
	mount -t tmpfs -o size=2g tmpfs "$t"
	mkdir "$t/upper" "$t/work" "$t/root"
	mount -t overlay -o "lowerdir=/,upperdir=$t/upper,workdir=$t/work" overlay "$t/root"
	cd "$t/root"
	for d in run tmp var/lib mnt; do mount -t tmpfs -o mode=0755 tmpfs $d; done
	chmod 1777 tmp
	cp -a /var/lib/dpkg var/lib/
	# What is compared afterwards.
	mkdir mnt/{old,upper,lower,in}
	mount --bind "$t/upper" mnt/upper
	mount --bind / mnt/lower
	cp "$deb" mnt/in/safe-run.deb
	cp "$image" mnt/in/image.tar
	cp "$self" mnt/in/overlay.sh
	mount --rbind /dev dev
	own=$(hierarchies)
	mount --rbind /sys sys
	while read -r at kind options; do
		umount "$t/root$at"
		if [[ $kind = cgroup2 ]]; then
			mount -t cgroup2 none "$t/root$at"
			mkdir "$t/root$at/init" # what has processes cannot give its controllers on
			echo 0 >"$t/root$at/init/cgroup.procs"
			for c in $(<"$t/root$at/cgroup.controllers"); do echo "+$c" >"$t/root$at/cgroup.subtree_control" 2>/dev/null || true; done
		else
			mount -t cgroup -o "${options#rw,}" none "$t/root$at"
		fi
	done <<<"$own"
	mount -t proc proc proc
	ip link set lo up
	pivot_root . mnt/old # a user namespace is not for who is in a chroot
	cd /
	umount -l /mnt/old
	rmdir "/mnt/lower$t" 2>/dev/null || true
	exec bash /mnt/in/overlay.sh inside
fi

export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
unset SAFE_RUN_ROOT SAFE_RUN_STATE
bad() { echo "FAIL $*"; }
ok() { local what=$1; shift; local out; out=$("$@" 2>&1) || bad "$what: $out"; }
# is WHAT WANTED COMMAND...
is() { local what=$1 want=$2 out; shift 2; out=$("$@" 2>/mnt/in/said); [[ $out = "$want" ]] || bad "$what: $out, wanted $want: $(</mnt/in/said)"; }
not() { ! "$@"; }
install() { dpkg --force-depends -i /mnt/in/safe-run.deb; }
engine() { pgrep -f '^/usr/lib/safe-run/engine/containerd ' || true; }
# what is there besides the overlay
seen() {
	find /run /tmp /var/lib -path /var/lib/dpkg -prune -o -printf '%p %y %#m %U\n' | sort
	find /var/lib/dpkg -name '*safe-run*'
	ip -o link | cut -d' ' -f2; nft list tables 2>/dev/null; cat /proc/sys/net/ipv4/ip_forward
}

printf 'alice:100000:65536\nbob:2000224256:70000' >/etc/subuid
printf 'alice:100000:65536\ncarol:2000355328:1' >/etc/subgid
cp /etc/subuid /etc/subgid /mnt/in/
seen >/mnt/in/before

ok install install
range=safe-run:2000420864:67108864
is 'range of uids' "$range" tail -n 1 /etc/subuid
is 'range of gids' "$range" tail -n 1 /etc/subgid
is 'others keep theirs' 2 grep -c 'alice\|bob' /etc/subuid
ok load safe-run load -q -i /mnt/in/image.tar
is 'a container' hi safe-run --rm busybox echo hi
is 'its ids' yes safe-run --rm --network none busybox awk '$2 >= 2000420864 && $2 < 2000420864 + 67108864 { print "yes" }' /proc/self/uid_map
ok 'one in the background' safe-run run -d --name stays --restart always -v data:/data -p 127.0.0.1::80 busybox sh -c 'trap "exit 0" TERM; while :; do sleep 0.1; done'
pid=$(safe-run inspect -f '{{.State.Pid}}' stays)
daemon=$(engine)
[[ $pid -gt 1 && $daemon -gt 1 ]] || bad "pids: $pid, $daemon"

# An upgrade, which ends nothing.
out=$(install 2>&1) || bad "upgrade: $out"
[[ $out = *'engine (process '*' is still that of before'* ]] || bad "upgrade says: $out"
is 'the same container' "$pid" safe-run inspect -f '{{.State.Pid}}' stays
is 'the same engine' "$daemon" engine
is 'one range' 1 grep -c ^safe-run: /etc/subuid
is 'new ones run beside' two safe-run --rm busybox echo two
ok exec safe-run exec stays true

# A removal stops, and keeps data.
out=$(dpkg -r safe-run 2>&1) || bad "remove: $out"
[[ $out = *'stopping 1 container(s): stays'* ]] || bad "remove says: $out"
ok 'it was stopped' not kill -0 "$pid"
is 'no engine' '' engine
is 'nor supervisors' '' pgrep -fa '^(safe-run|/usr/bin/safe-run|/usr/lib/safe-run/)'
ok 'volumes stay' test -d /var/lib/safe-run/volumes/data
ok 'the range stays' grep -qx "$range" /etc/subuid
ok 'again' install
is 'kept container' stays safe-run ps -a --format '{{.Names}}'
is 'started again' stays safe-run start stays

# What somebody else starts again makes the removal fail.
mv /usr/bin/safe-run /usr/bin/safe-run.real
cat >/usr/bin/safe-run <<-'END'
	#!/bin/sh
	/usr/bin/safe-run.real "$@"
	rc=$?
	[ "$1" != stop ] || /usr/bin/safe-run.real start stays >/dev/null
	exit $rc
END
chmod 755 /usr/bin/safe-run
if out=$(dpkg -r safe-run 2>&1); then bad "removed beside what starts containers: $out"; else
	[[ $out = *'run again after they were stopped'*stays* ]] || bad "remove says: $out"
fi
mv /usr/bin/safe-run.real /usr/bin/safe-run
is 'it runs' running safe-run inspect -f '{{.State.Status}}' stays
ok 'still installed' safe-run version
echo 'version: 1' >/etc/safe-run/policy.yaml
echo >>/etc/apparmor.d/abstractions/safe-run

# A disk of the site's, mounted in a volume, keeps its files.
mkdir -p /var/lib/safe-run/volumes/disk/'a b' /mnt/in/disk
touch /mnt/in/disk/precious
mount --bind /mnt/in/disk /var/lib/safe-run/volumes/disk/'a b'

# The kernel's cgroups and profiles are those of the host: others use them.
ok 'remove it again' dpkg -r safe-run
mkdir /mnt/in/cgroup
mount --rbind /sys/fs/cgroup /mnt/in/cgroup
mount --make-rprivate /mnt/in/cgroup
for m in /sys/fs/cgroup /sys/kernel/security; do umount -R $m 2>/dev/null; mount -t tmpfs tmpfs $m || bad "cannot hide $m"; done
mkdir -p /sys/fs/cgroup/{safe-run/x/y,memory/safe-run,other} /sys/kernel/security/apparmor
printf '%s (enforce)\n' safe-run-0a1b2c3d safe-run-p-0123456789abcdef safe-run-mine docker-default >/sys/kernel/security/apparmor/profiles
touch /sys/kernel/security/apparmor/.remove
# A secret of a compose project, and what a compose that was killed left.
mkdir -m 0700 -p /var/lib/safe-run-compose/shop
touch /var/lib/safe-run-compose/shop/{token,.env-1}
ok purge dpkg -P safe-run
is 'the last profile unloaded' safe-run-p-0123456789abcdef cat /sys/kernel/security/apparmor/.remove
is 'cgroups' $'/sys/fs/cgroup\n/sys/fs/cgroup/memory\n/sys/fs/cgroup/other' bash -c 'find /sys/fs/cgroup | sort'
ok 'a mounted disk keeps its files' test -e /mnt/in/disk/precious
is 'nothing is mounted' '' grep -E '/safe-run|/a.040b' /proc/self/mountinfo

# Nothing is left.
ok 'no /etc/safe-run' test ! -e /etc/safe-run
ok 'no secrets of compose' test ! -e /var/lib/safe-run-compose
ok 'subuid as it was' diff <(cat /mnt/in/subuid; echo) /etc/subuid
ok 'subgid as it was' diff <(cat /mnt/in/subgid; echo) /etc/subgid
seen >/mnt/in/after
ok 'nothing left' diff /mnt/in/before /mnt/in/after
cd /mnt/upper
find . -mindepth 1 -printf '%y %P\n' | while read -r kind path; do
	case $path in etc/subuid | etc/subgid | etc/safe-run | var/log/* | var/cache/* | mnt | tmp) continue ;; esac
	case $kind in
	d) [[ -d /mnt/lower/$path ]] || bad "left: /$path" ;;
	f) cmp -s "$path" "/mnt/lower/$path" || bad "left, or changed: /$path" ;;
	*) bad "left, or removed: $kind /$path" ;;
	esac
done

# Where the host has a containerd, what safe-run had in it goes as well, and that of others stays.
umount /sys/fs/cgroup # the one that was hidden
mount --rbind /mnt/in/cgroup /sys/fs/cgroup
ok 'install once more' install
mkdir /tmp/ctd
cp /usr/lib/safe-run/engine/{containerd,containerd-shim-runc-v2,runc,ctr} /usr/local/bin/
PATH=/usr/local/bin:$PATH containerd --root /tmp/ctd/root --state /run/containerd >/tmp/ctd/log 2>&1 &
host=$!
export PATH=/usr/local/bin:$PATH
for _ in $(seq 100); do ctr version >/dev/null 2>&1 && break; sleep 0.1; done
ok 'an image of others' ctr -n other images import --no-unpack /mnt/in/image.tar
ok load safe-run load -q -i /mnt/in/image.tar
ok 'run' safe-run run --network none --name kept busybox true
ok 'run another' safe-run run -d --network none --name runs busybox sleep 1000
is 'in the containerd of the host' 2 bash -c 'ctr -n safe-run containers list -q | wc -l'
ok 'remove that' dpkg -r safe-run
mount -t tmpfs tmpfs /sys/fs/cgroup
ok 'purge it' dpkg -P safe-run
is 'its namespace is gone' other ctr namespaces list -q
is 'others keep their images' 1 bash -c 'ctr -n other images list -q | wc -l'
is 'no content but theirs' yes bash -c '[[ $(find /tmp/ctd/root/io.containerd.content.v1.content/blobs -type f | wc -l) = $(ctr -n other content list -q | wc -l) ]] && echo yes'
is 'no snapshots' '' find /tmp/ctd/root/io.containerd.snapshotter.v1.overlayfs/snapshots -mindepth 1
ok 'no state' test ! -e /var/lib/safe-run -a ! -e /run/safe-run
kill $host
wait $host
is 'processes' '' pgrep -fa 'safe-run|containerd'
echo done
