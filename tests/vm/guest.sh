#!/bin/bash
# What safe-run must do on a Debian with systemd, cgroup v2 and AppArmor; runs inside the virtual machine. See test.sh for the
# variables.
exec 2>&1
cd /mnt/dir || exit 1
run=/mnt/dir/build/safe-run
failures=0
export SAFE_RUN_E2E_SLOW=${SAFE_RUN_E2E_SLOW:-6} SAFE_RUN_THREATS_RESULTS=/mnt/dir/out
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

# tests NAME FLAGS...: a compiled test; what fails and what takes long is shown at once, in the end all that a failed one said. The
# rest is in out/.
tests() {
	local name=$1 log=/mnt/dir/out/${as:-$1}.log start=$SECONDS rc
	shift
	(set -o pipefail; cd "tests/$name" && ./"$name.test" -test.v -test.timeout "$([[ -n ${VM_ALL:-} ]] && echo 3h || echo 20m)" "$@" 2>&1 | tee "$log" | sed -uEn 's/^--- FAIL: /      FAIL /p; s/^--- PASS: (.* \(([2-9].|[0-9]{3,})\.)/      \1/p'); rc=$?
	if [[ $rc = 0 ]] && grep -q '^--- PASS' "$log"; then
		echo "ok    tests of ${as:-$name}: $(grep -c '^--- PASS' "$log"), $((SECONDS - start)) s"
	else
		echo "FAIL  tests of ${as:-$name}: exit $rc, $((SECONDS - start)) s"; told "$log"; failures=$((failures + 1))
	fi
}
# told LOG: what tests that failed said, without those that passed.
told() { grep -v '^=== \(RUN\|PAUSE\|CONT\)\|--- PASS' "$1" | cut -c1-600 | tail -n 300 | sed 's/^/      /'; }

part_basics() {
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
	check 'doctor' 0 '(?s)version 2; memory; pids;.*AppArmor, with .*Containers run here.* 0 failures' $run doctor
	check 'audited' 0 '' $run run -d --name audited busybox sleep 1000
	check 'audit' 0 'audited' $run audit --fail-on high audited
	check 'audited, removed' 0 '' $run rm -f audited

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
}

part_e2e() {
	# What the catalogue of threats does not try.
	local some='^TestScript$/^(first-steps|least-privilege|doctor|audit)$|^(TestClockSet|TestOOM|TestAuditPrivileged|TestPublishLoopback|TestEgress)$'
	[[ -z ${VM_ALL:-} ]] || some='.'
	tests e2e -test.run "${VM_TESTS:-$some}"
	check 'no denial by AppArmor' 1 '' grep 'apparmor="DENIED"' <(dmesg)
}

# In the short run the rows that this kernel, its security module and its control groups decide; then whole sections of the catalogue,
# as long as there is time to begin one.
part_threats() {
	local s left= budget=${VM_BUDGET:-600}
	if [[ -n ${VM_ALL:-}${VM_TESTS:-} ]]; then
		tests threats -test.run "${VM_TESTS:-.}" $([[ -n ${VM_ALL:-} ]] || echo -test.short)
		return
	fi
	as=threats-kernel tests threats -test.short -test.run '^Test(K(8|10|15|19)|P(1|4|6)|R10|U4|M15|C(4|8)|E[123])$'
	for s in P C M U E N K R F L I; do
		if [[ $SECONDS -gt $budget ]]; then left+=" $s"; continue; fi
		as=threats-$s tests threats -test.short -test.run "^Test$s[0-9]+\$"
	done
	[[ -z $left ]] || echo "      threats, not in the time there is:$left"
}

part_packages() {
	modprobe br_netfilter # docker's hosts have it
	# nft of Debian 12 cannot read back what it shows of the table on these kernels; costs say nothing here.
	local skip='ShownByNft|Cost'
	[[ $(uname -r) != 6.1.* ]] || skip+='|NoConnect|Further' # Landlock for TCP: Linux 6.7
	for t in network netfilter systemd safe-run-activate; do tests $t -test.run "${VM_TESTS:-.}" -test.skip "$skip"; done
}

. ./units.sh
. ./packages.sh
parts=${VM_PARTS:-basics units e2e threats${VM_ALL:+ packages reboot}}
# A package knows nothing of kernels: one of them will do. It comes first, on a machine that has never seen safe-run.
[[ -n ${VM_PARTS:-}${VM_TESTS:-}${VM_SYSTEMD:-} || -z ${VM_ALL:-} && $(uname -r) = 6.1.* ]] || parts="install $parts"
[[ -z ${VM_TESTS:-} ]] || parts=${VM_PARTS:-e2e threats}
[[ -z ${VM_SYSTEMD:-} ]] || parts=${VM_PARTS:-units}
mkdir -p /var/lib/units out
if [[ -e /var/lib/units/booting ]]; then parts=reboot; elif [[ -e /var/lib/units/begun ]]; then echo 'FAIL  the machine went down'; exit 1; fi
touch /var/lib/units/begun; sync
for part in $parts; do
	# The first start reads all from disk, which a loaded machine may not do in the time an engine has.
	[[ $part = install ]] || for _ in 1 2 3; do $run engine start && break; done
	part_began=$SECONDS failed_before=$failures
	echo "      $part"
	part_$part
	echo "      $part: $((failures - failed_before)) failed, $((SECONDS - part_began)) s"
done
echo "$failures failed, $SECONDS s"
[[ $failures = 0 ]]
