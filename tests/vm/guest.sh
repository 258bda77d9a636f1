#!/bin/bash
# What safe-run must do on a Debian with systemd, cgroup v2 and AppArmor; runs inside the virtual machine. With VM_TESTS only the
# compiled tests that match it: those of safe-run, and of its packages (VM_UNITS). With VM_SYSTEMD only these parts of units.sh.
exec 2>&1
cd /mnt/dir || exit 1
run=/mnt/dir/build/safe-run
failures=0
# check NAME CODE TEXT COMMAND...: the command ends with CODE and its output matches TEXT.
check() {
	local name=$1 code=$2 text=$3 out rc bound='timeout 120'
	shift 3
	[[ $(type -t "$1") != function ]] || bound=
	out=$($bound "$@" 2>&1 </dev/null); rc=$?
	if [[ $rc = "$code" ]] && grep -qzP -- "$text" <<<"$out"; then
		echo "ok    $name"
	else
		echo "FAIL  $name: exit $rc, wanted $code and /$text/"; sed 's/^/      /' <<<"$out"; failures=$((failures + 1))
	fi
}
box() { local name=$1 code=$2 text=$3; shift 3; check "$name" "$code" "$text" $run --rm "$@"; }

# tests FOLDER NAME FLAGS...: a compiled test; of what failed, all it said is shown.
tests() {
	local dir=$1 name=$2 log=/run/$2.log start=$SECONDS rc
	shift 2
	(set -o pipefail; cd "$dir" && SAFE_RUN_E2E_SLOW=10 ./"$name.test" -test.v -test.timeout 24m "$@" 2>&1 | tee "$log" | sed -un 's/^--- \([A-Z]*\): /      \1 /p'); rc=$?
	if [[ $rc = 0 ]] && grep -q '^--- PASS' "$log"; then
		echo "ok    tests of $name, $((SECONDS - start)) s"
	else
		echo "FAIL  tests of $name: exit $rc, $((SECONDS - start)) s"; grep -v '^=== \|--- PASS' "$log" | sed 's/^/      /'; failures=$((failures + 1))
	fi
}
compiled() {
	tests tests/e2e e2e -test.run "$1"
	modprobe br_netfilter # docker's hosts have it
	# nft of Debian 12 cannot read back what it shows of the table on these kernels; costs say nothing here.
	local skip='ShownByNft|Cost'
	[[ $(uname -r) != 6.1.* ]] || skip+='|NoConnect|Further' # Landlock for TCP: Linux 6.7
	for t in tests/units/*.test; do t=${t##*/}; tests tests/units "${t%.test}" -test.run "$2" -test.skip "$skip"; done
	check 'no denial by AppArmor' 1 '' grep 'apparmor="DENIED"' <(dmesg)
	echo "$failures failed"
	[[ $failures = 0 ]]
	exit
}
if [[ -z ${VM_TESTS:-} ]]; then
	[[ ! -e /var/lib/units/begun || -e /var/lib/units/booting ]] || { echo 'FAIL  the machine went down'; exit 1; }
	. ./units.sh
	[[ -z ${VM_SYSTEMD:-} ]] || { echo "$failures failed"; [[ $failures = 0 ]]; exit; }
fi
[[ -z ${VM_TESTS:-} ]] || compiled "$VM_TESTS" "${VM_UNITS:-$VM_TESTS}"

mv /sbin/apparmor_parser /sbin/parser
for i in busybox probe; do check "load $i" 0 'Loaded' $run load -i build/images/$i.tar; done
box 'no parser' 125 'install the package apparmor' busybox true
mv /sbin/parser /sbin/apparmor_parser

box posture 0 'Seccomp:\t2\n(.*\n)*536870912\n0\n256\nsafe-run-[0-9a-f]+ \(enforce\)' busybox sh -c \
	'grep Seccomp: /proc/self/status; cd /sys/fs/cgroup; cat memory.max memory.swap.max pids.max /proc/self/attr/current'
box probe 0 ' 0 OPEN' safe-run-probe
mkdir -p /srv/d /run/d; echo hello | tee /srv/d/f >/run/d/f; chmod 777 /srv/d
box bind 0 'hello' -u 1000 -v /srv/d:/src busybox sh -c 'cat /src/f; touch /src/g'
check 'ids on disk' 0 '1000' stat -c %u /srv/d/g
case $(uname -r) in # idmapped tmpfs: Linux 6.3
	6.1.*) box 'bind of tmpfs' 125 'tmpfs needs Linux 6.3' -v /run/d:/src busybox cat /src/f ;;
	*) box 'bind of tmpfs' 0 hello -v /run/d:/src busybox cat /src/f ;;
esac
box init 0 docker-init --init busybox cat /proc/1/comm
box volume 0 '' -v data:/v busybox touch /v/x
box 'memory limit' 137 '' -m 64m busybox sh -c 'x=a; while :; do x=$x$x; done'
box 'cpu limit' 0 '50000 100000\n59\n' --cpus 0.5 --cpu-shares 512 busybox cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu.weight
box 'block device limit' 0 'rbps=1048576.*wiops=100' --device-read-bps /dev/vda:1mb --device-write-iops /dev/vda:100 busybox cat /sys/fs/cgroup/io.max
box 'process limit' 2 "can't fork" --pids-limit 5 busybox sh -c 'for i in 1 2 3 4 5 6; do sleep 5 & done'
box 'exit code' 3 '' busybox sh -c 'exit 3'
box refusal 125 'bind-root' -v /:/host busybox true

left() { find /sys/fs/cgroup/safe-run -mindepth 1 -type d; find /run/safe-run/io /run/safe-run/live -mindepth 1; grep -c . /proc/self/mounts; }
before=$(left)
for d in 0.3 0.9 3; do $run --rm busybox sleep 300 & p=$!; sleep $d; kill -9 $p; wait $p 2>/dev/null; done
box 'after kill -9' 0 '' busybox true
check 'nothing left' 0 '' diff <(echo "$before") <(left)

# The engine belongs to no unit: the end of the one that started it is nobody else's.
check 'engine stop' 0 '' $run engine stop
loop='trap "exit 5" TERM; touch /src/up; while :; do sleep 0.2; done'
for u in one two; do
	rm -f /srv/d/up
	systemd-run -q --unit $u $run --rm -u 1000 -v /srv/d:/src busybox sh -c "$loop"
	for _ in $(seq 300); do [[ -e /srv/d/up ]] && break; sleep 0.1; done
done
systemctl stop one
check 'stopped unit' 0 '=5' systemctl show one -p ExecMainStatus
check 'other unit' 0 '^active' systemctl is-active two
systemctl stop two
check 'other unit, stopped' 0 '=5' systemctl show two -p ExecMainStatus
check 'unit exit code' 7 'in' systemd-run --wait --pipe -q $run --rm busybox sh -c 'echo in; exit 7'
# Not those that need a host on which thirty launches at once are quick.
compiled 'Publish|PortInUse|Egress|Neighbours|NetworkVerbs|JoinNetwork|ForwardDropped' .
