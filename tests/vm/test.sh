#!/bin/bash
# Runs guest.sh in a virtual Debian with systemd, cgroup v2 and AppArmor, which is built in build/vm the first time: each kernel in
# a machine of its own, all at once. Emulated: what there is time for in 25 minutes, or with VM_ALL=1 everything, which takes hours.
# VM_KERNELS="6.12 6.1", VM_PARTS="install basics units threats e2e packages", VM_SYSTEMD="parts of units.sh", VM_TESTS="regular expression" (of
# compiled tests). The results of tests/threats go to build/vm/results/KERNEL, all that tests said to build/vm/results/KERNEL.logs.
set -euo pipefail
cd "$(dirname "$0")/../.."
[[ $(id -u) = 0 ]] || { echo "test-vm needs root" >&2; exit 1; }
# A machine that takes longer is ended: the whole is bounded, and says so.
export VM_DIR=${VM_DIR:-$PWD/build/vm} VM_TIMEOUT=${VM_TIMEOUT:-$([[ -n ${VM_ALL:-} ]] && echo 14400 || echo 2700)}
kernels=${VM_KERNELS:-6.12 6.1}
[[ $VM_DIR/root.img -nt tests/vm/build.sh ]] || {
	mkdir -p "$VM_DIR"
	echo "building the virtual Debian: a minute or two, once" >&2
	tests/vm/build.sh >"$VM_DIR/build.log" 2>&1 || { cat "$VM_DIR/build.log" >&2; exit 1; }
}
share=$(mktemp -d)
trap 'rm -rf "$share"' EXIT
mkdir -p "$share/build/images" "$share/tests" "$share/bin" "$share/out"
cp "$(command -v busybox)" "$share/bin/"
cp -a build/safe-run build/safe-run-faults build/probe build/probe32 build/engine "$share/build/"
cp -a build/images/{busybox,probe,nginx,redis}.tar "$share/build/images/"
for t in build/vm-tests/*.test; do # each in a folder of its own, as deep as its sources
	name=$(basename "$t" .test)
	mkdir -p "$share/tests/$name"
	cp -a "$t" "$share/tests/$name/"
	[[ ! -d tests/$name/testdata ]] || cp -a "tests/$name/testdata" "$share/tests/$name/"
done
cp -a packaging docs README.md LICENSE tests/vm/{guest,units,apparmor,packages}.sh "$share/"
cp -a build/packages/*_amd64.deb "$share/"
settings=$(for v in VM_ALL VM_PARTS VM_TESTS VM_SYSTEMD; do printf '%s=%q ' "$v" "${!v:-}"; done)
results=$VM_DIR/results
# boot KERNEL: its machine, and what it brings back.
boot() {
	local rc=0
	rm -rf "$results/$1" "$results/$1".logs
	mkdir -p "$results/$1.logs"
	VM_REBOOT=' ' VM_KERNEL=$1 VM_OUT=$results/$1.logs tests/vm/run.sh "$share" "$settings bash guest.sh" || rc=$?
	if [[ -d $results/$1.logs/out ]]; then
		mv "$results/$1.logs/out"/* "$results/$1.logs/" 2>/dev/null || true
		mv "$results/$1.logs/$1" "$results/" 2>/dev/null || true
		rmdir "$results/$1.logs/out"
	fi
	[[ $rc != 124 ]] || echo "not done, or gone, after $SECONDS s of at most $VM_TIMEOUT"
	return $rc
}
declare -A running
for k in $kernels; do
	(set -o pipefail; boot "$k" 2>&1 | sed -u "s/^/$k  /") &
	running[$k]=$!
done
failed=0
for k in $kernels; do
	wait "${running[$k]}" || { echo "Linux $k: failed" >&2; failed=1; }
done
echo "$SECONDS s"
exit $failed
