#!/bin/bash
# run.sh DIR 'command': boots a throw-away VM from $VM_DIR (see build.sh), copies DIR to /mnt/dir inside (DIR/bin is first on
# PATH), runs the command there as root under systemd, streams its output and exits with its exit code. About 25 s plus the command.
#   VM_KERNEL=6.12|6.1   VM_MEM=3072 (MiB)   VM_TIMEOUT=600 (s)   VM_APPEND="more kernel arguments"   VM_CONSOLE=file
#   VM_OUT=folder gets /mnt/dir/out back     VM_SMP=1 (2 is a third faster, but emulated SMP has panicked)
#   VM_REBOOT=" " lets it boot again, on the same disks; the command is then run again
# What of the processor costs an emulated one much, and tests nothing, is off.
set -u
V=${VM_DIR:?} DIR=${1:?DIR} CMD=${2:?command}
INITRD=$(ls "$V"/initrd-"${VM_KERNEL:-6.12}".*.gz 2>/dev/null | head -n 1); [ -n "$INITRD" ] || { echo "run.sh: no VM under $V: run build.sh first" >&2; exit 125; }
K=${INITRD##*/initrd-}; K=${K%.gz}
T=$(mktemp -d "$V/run.XXXXXX"); trap 'rm -rf "$T"' EXIT
printf '%s\n' "$CMD" >"$T/cmd"; truncate -s %4096 "$T/cmd"
truncate -s $(( $(du -sm --apparent-size "$DIR" | cut -f1) * 5 / 4 + 256 ))M "$T/dir.img"
mke2fs -q -F -t ext4 -O ^has_journal -E root_owner=0:0,lazy_itable_init=1,nodiscard -m 0 -d "$DIR" "$T/dir.img" || exit 125
: >"$T/rc"; mkfifo "$T/out"; cat "$T/out" & CAT=$!   # a fifo: a chardev at end of file would block the guest
TMPDIR=$T timeout --foreground -k 5 "${VM_TIMEOUT:-600}" qemu-system-x86_64 -accel tcg,thread=multi,tb-size=1024 -cpu max,la57=off,-erms,-pku,-smap,-smep,-umip \
  -M q35,usb=off,vmport=off,hpet=off -m "${VM_MEM:-3072}" -smp "${VM_SMP:-1}" -nodefaults -no-user-config -display none ${VM_REBOOT:--no-reboot} \
  -kernel "$V/boot/vmlinuz-$K" -initrd "$INITRD" \
  -append "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on tsc=reliable apparmor=1 security=apparmor systemd.show_status=0 systemd.unified_cgroup_hierarchy=1 ${VM_APPEND:-}" \
  -drive file="$V/root.img",if=none,id=r,format=raw,snapshot=on,cache=unsafe,aio=threads -device virtio-blk-pci,drive=r \
  -drive file="$T/dir.img",if=none,id=w,format=raw,cache=unsafe -device virtio-blk-pci,drive=w \
  -drive file="$T/cmd",if=none,id=c,format=raw,readonly=on -device virtio-blk-pci,drive=c -device virtio-rng-pci -device virtio-serial-pci \
  -chardev file,id=out,path="$T/out" -device virtserialport,chardev=out,name=run.out \
  -chardev file,id=rc,path="$T/rc" -device virtserialport,chardev=rc,name=run.rc -serial file:"${VM_CONSOLE:-$T/console}" </dev/null
q=$?; : <>"$T/out"; wait $CAT   # qemu may not have got to opening it
[ -z "${VM_OUT:-}" ] || { mkdir -p "$VM_OUT"; debugfs -R "rdump /out $VM_OUT" "$T/dir.img" >/dev/null 2>&1; }
rc=$(tr -dc 0-9 <"$T/rc")
[ -n "$rc" ] || { echo "run.sh: the guest gave no exit code (qemu ended with $q)" >&2; tail -n 20 "${VM_CONSOLE:-$T/console}" >&2; exit 124; }
exit "$rc"
