#!/bin/bash
# Runs guest.sh in a virtual Debian with systemd, cgroup v2 and AppArmor, which is built in build/vm the first time: each kernel in
# a machine of its own, all at once. Emulated, so it takes some minutes. VM_KERNELS="6.12 6.1", VM_TESTS="regular expression",
# VM_SYSTEMD="parts of units.sh"
set -euo pipefail
cd "$(dirname "$0")/../.."
export VM_DIR=${VM_DIR:-$PWD/build/vm} VM_TIMEOUT=${VM_TIMEOUT:-4200}
[[ $(id -u) = 0 ]] || { echo "test-vm needs root" >&2; exit 1; }
[[ $VM_DIR/root.img -nt tests/vm/build.sh ]] || tests/vm/build.sh
share=$(mktemp -d)
trap 'rm -rf "$share"' EXIT
mkdir -p "$share/build/images" "$share/tests/e2e" "$share/tests/profiles" "$share/bin"
cp "$(command -v busybox)" "$share/bin/"
cp -a build/safe-run build/safe-run-faults build/probe build/probe32 build/engine "$share/build/"
cp -a build/images/{busybox,probe,nginx,redis}.tar "$share/build/images/"
cp -a build/vm-tests "$share/tests/units"
mv "$share/tests/units/e2e.test" "$share/tests/e2e/"
mv "$share/tests/units/"{profiles,learn}.test "$share/tests/profiles/"
cp -a tests/e2e/testdata "$share/tests/e2e/"
cp -a packaging docs README.md LICENSE tests/vm/{guest,units,apparmor}.sh "$share/"
declare -A running
for k in ${VM_KERNELS:-6.12 6.1}; do
	(VM_REBOOT=' ' VM_KERNEL=$k tests/vm/run.sh "$share" "VM_TESTS='${VM_TESTS:-}' VM_UNITS='${VM_UNITS:-}' VM_SYSTEMD='${VM_SYSTEMD:-}' bash guest.sh" 2>&1 | sed -u "s/^/$k  /") &
	running[$k]=$!
done
failed=0
for k in "${!running[@]}"; do
	wait "${running[$k]}" || { echo "Linux $k: failed" >&2; failed=1; }
done
exit $failed
