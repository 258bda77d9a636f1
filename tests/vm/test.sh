#!/bin/bash
# Runs guest.sh in a virtual Debian with systemd, cgroup v2 and AppArmor, which is built in build/vm the first time. Emulated:
# some minutes for each kernel. VM_KERNELS="6.12 6.1"
set -euo pipefail
cd "$(dirname "$0")/../.."
export VM_DIR=${VM_DIR:-$PWD/build/vm}
[[ $(id -u) = 0 ]] || { echo "test-vm needs root" >&2; exit 1; }
need=()
for p in mmdebstrap=mmdebstrap qemu-system-x86=qemu-system-x86_64 e2fsprogs=mke2fs cpio=cpio busybox-static=busybox xz-utils=xz; do
	command -v "${p#*=}" >/dev/null || need+=("${p%%=*}")
done
if [[ ${#need[@]} -gt 0 ]]; then
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${need[@]}" >&2
fi
[[ -e $VM_DIR/root.img ]] || tests/vm/build.sh
share=$(mktemp -d)
trap 'rm -rf "$share"' EXIT
mkdir "$share/build"
cp -a build/safe-run build/engine build/images "$share/build/"
cp tests/vm/guest.sh "$share/"
failed=0
for k in ${VM_KERNELS:-6.12 6.1}; do
	echo "== Linux $k"
	VM_KERNEL=$k tests/vm/run.sh "$share" 'bash /mnt/dir/guest.sh' || failed=1
done
exit $failed
