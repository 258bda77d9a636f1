#!/bin/bash
# Builds a bootable Debian 12 under $VM_DIR: two kernels (6.1, 6.12), systemd, cgroup v2,
# AppArmor. About 90 s. Needs mmdebstrap, e2fsprogs, cpio, busybox-static, xz-utils. Run as root.
set -euo pipefail
D=${VM_DIR:?}; mkdir -p "$D"; cd "$D"
rm -f root.img initrd-*.gz
PACKAGES=systemd,systemd-sysv,dbus,udev,kmod,apparmor,iproute2,iptables,nftables,procps,util-linux,e2fsprogs,curl
# Debian 12 whatever the host is, from the mirrors that the host is set up with.
mirror() {
  local url
  url=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null | sed 's/#.*//' |
    grep -oE "https?://[^ ]+/$1/?( |\$)" | tr -d ' ' | sort -u | head -n 1) || true
  echo "${url:-http://deb.debian.org/$1}"
}
for s in bookworm bookworm-updates; do echo "deb $(mirror debian) $s main"; done >sources.list
echo "deb $(mirror debian-security) bookworm-security main" >>sources.list
mmdebstrap --variant=minbase --mode=root --include="$PACKAGES,linux-image-cloud-amd64,linux-image-6.12-cloud-amd64" \
  --keyring=/usr/share/keyrings/debian-archive-keyring.gpg --aptopt='APT::Install-Recommends "false"' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' bookworm rootfs.tar - <sources.list
rm -rf rootfs; mkdir rootfs; tar -xpf rootfs.tar -C rootfs --numeric-owner; rm rootfs.tar

# the cloud kernels have virtio_blk as a module: one tiny initrd per kernel
for k in rootfs/lib/modules/*; do
  k=${k##*/}; I=$(mktemp -d); mkdir -p "$I"/{bin,mod,proc,sys,dev,newroot}; cp /bin/busybox "$I/bin/"; ln -s busybox "$I/bin/sh"; : >"$I/mod/order"
  for m in virtio_pci virtio_blk; do
    chroot rootfs modprobe -S "$k" --show-depends $m 2>/dev/null | awk '/^insmod/{print $2}' | while read -r f; do
      b=$(basename "${f%.xz}"); [ -e "$I/mod/$b" ] && continue
      case $f in *.xz) xz -dc "rootfs$f" >"$I/mod/$b";; *) cp "rootfs$f" "$I/mod/$b";; esac; echo "$b" >>"$I/mod/order"
    done
  done
  cat >"$I/init" <<'INIT'
#!/bin/sh
b=/bin/busybox
$b mount -t proc proc /proc; $b mount -t sysfs sys /sys; $b mount -t devtmpfs dev /dev
while read m; do $b insmod /mod/$m; done < /mod/order
n=0; while [ ! -b /dev/vda ] && [ $n -lt 100 ]; do $b sleep 0.05; n=$((n+1)); done
$b mount -t ext4 -o rw,noatime /dev/vda /newroot || exec sh
$b mount --move /dev /newroot/dev; $b umount /proc; $b umount /sys
exec $b switch_root /newroot /lib/systemd/systemd
INIT
  chmod +x "$I/init"; (cd "$I" && find . | cpio -o -H newc --quiet | gzip -1) >"initrd-$k.gz"; rm -rf "$I"
done

R=rootfs
echo vmtest >$R/etc/hostname; echo "127.0.0.1 localhost vmtest" >$R/etc/hosts
echo 0123456789abcdef0123456789abcdef >$R/etc/machine-id; echo "/dev/vda / ext4 rw,noatime 0 0" >$R/etc/fstab
chroot $R passwd -d root >/dev/null
for u in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
  getty@tty1.service serial-getty@ttyS0.service systemd-update-utmp.service systemd-random-seed.service systemd-hwdb-update.service \
  systemd-pstore.service systemd-logind.service systemd-journal-flush.service systemd-firstboot.service ldconfig.service \
  getty.target systemd-ask-password-wall.path systemd-ask-password-console.path; do ln -sf /dev/null $R/etc/systemd/system/$u; done
# Debian's two sample profiles cost 10 s of compiling at each boot
mkdir -p $R/etc/apparmor.d/disable
for p in lsb_release nvidia_modprobe; do [ -e $R/etc/apparmor.d/$p ] && ln -sfn /etc/apparmor.d/$p $R/etc/apparmor.d/disable/$p; done
mkdir -p $R/etc/systemd/journald.conf.d $R/etc/systemd/system/multi-user.target.wants
printf '[Journal]\nStorage=volatile\n' >$R/etc/systemd/journald.conf.d/v.conf
cat >$R/usr/local/sbin/guest-run <<'GUEST'
#!/bin/bash
# runs the command on /dev/vdc with the folder on /dev/vdb at /mnt/dir; output and exit code go to two virtio ports
P=/dev/virtio-ports; modprobe -q virtio_console
for i in $(seq 200); do [ -e $P/run.out ] && [ -e $P/run.rc ] && [ -b /dev/vdb ] && [ -b /dev/vdc ] && break; sleep 0.05; done
mkdir -p /mnt/dir; mount -t ext4 /dev/vdb /mnt/dir; tr -d '\0' </dev/vdc >/run/guest.cmd; cd /mnt/dir
exec 3>$P/run.rc; export HOME=/root PATH=/mnt/dir/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
bash /run/guest.cmd >$P/run.out 2>&1 </dev/null; rc=$?
cd /; umount -l /mnt/dir; sync; echo $rc >&3
GUEST
chmod +x $R/usr/local/sbin/guest-run
cat >$R/etc/systemd/system/guest-run.service <<'UNIT'
[Unit]
Description=test command
After=basic.target apparmor.service
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/guest-run
Delegate=yes
TasksMax=infinity
LimitNOFILE=1048576
TimeoutStartSec=infinity
[Install]
WantedBy=multi-user.target
UNIT
ln -sf ../guest-run.service $R/etc/systemd/system/multi-user.target.wants/guest-run.service
truncate -s 4G root.new
mke2fs -q -F -t ext4 -O ^has_journal -E lazy_itable_init=1,nodiscard -m 0 -d $R root.new
mkdir -p boot; cp $R/boot/vmlinuz-* boot/; rm -rf $R
mv root.new root.img
ls -1 initrd-*.gz; echo "ready: $D"
