#!/bin/sh
# What the packages' scripts share; build.sh puts it in front of each. It is
# POSIX sh with awk, and needs nothing of the package: a purge comes after it.
set -e

etc=/etc
state=/var/lib/safe-run
run=/run/safe-run
proc=/proc
program=${program:-/usr/bin/safe-run}
unit=safe-run-restore.service
# As the kernel names it: without links.
engine=$(readlink -f "${program%/bin/*}/lib" || echo "${program%/bin/*}/lib")/safe-run/engine

say() { echo "safe-run: $*" >&2; }

# In a chroot the kernel's state, and with bind mounts /run, are the host's.
chrooted() {
	[ -e /proc/1/root/. ] && [ "$(stat -Lc %d:%i /)" != "$(stat -Lc %d:%i /proc/1/root/.)" ]
}

systemd_runs() { [ -d /run/systemd/system ] && ! chrooted; }

reload_systemd() { if systemd_runs; then systemctl daemon-reload >/dev/null 2>&1 || :; fi; }

# engine_processes lists which processes of root execute a file of an engine,
# also one that was replaced since. Two installations share the state. Anybody
# may execute the files, or others in a place with the same name: that is no
# engine. Who owns /proc/PID says nothing of a process that cannot be dumped.
engine_processes() {
	for p in $proc/[0-9]*; do
		case $(readlink "$p/exe" 2>/dev/null) in
		"$engine"/* | /usr/lib/safe-run/engine/* | /usr/local/lib/safe-run/engine/*)
			if [ "$(awk '$1 == "Uid:" { print $3 }' "$p/status" 2>/dev/null)" = 0 ]; then echo "${p#"$proc"/}"; fi
			;;
		esac
	done
}

# unit_of ID: the system's unit whose cgroup a container is in, if any. Above
# it are slices alone: what is below user.slice, or below another unit, was
# named by whom that is delegated to.
unit_of() {
	pid=$("$program" inspect -f '{{.State.Pid}}' "$1" 2>/dev/null) || return 0
	sed -n -e '\|^0::/user\.slice/|d' -e 's|^0::/\([^/]*\.slice/\)*\([^/]*\.service\)/safe-run-[0-9a-f]*$|\2|p' "$proc/$pid/cgroup" 2>/dev/null
}

# stop_all stops what runs, and then the engine: without the program nobody
# would supervise it. What was started by a unit is stopped by its unit, which
# would start it again. Nothing is removed.
stop_all() {
	if chrooted || [ ! -d $run ]; then return 0; fi
	round=0
	while :; do
		if ! ids=$("$program" ps -q --no-trunc); then
			[ -n "$(engine_processes)" ] || break
			say "cannot tell which containers run, so the package stays"
			return 1
		fi
		[ -n "$ids" ] || break
		round=$((round + 1))
		if [ $round -gt 3 ]; then
			say "these containers run again after they were stopped; stop what starts them:"
			"$program" ps >&2
			return 1
		fi
		if [ $round = 1 ]; then
			say "stopping $(echo "$ids" | wc -l) container(s): $("$program" ps --format '{{.Names}}' | tr '\n' ' ')"
		fi
		for id in $ids; do
			u=
			if systemd_runs; then u=$(unit_of "$id"); fi
			if [ -n "$u" ]; then
				say "stopping the unit $u"
				systemctl stop "$u" || :
			fi
		done
		# shellcheck disable=SC2086 # one word each
		"$program" stop $ids >/dev/null 2>&1 || :
	done
	"$program" engine stop >/dev/null || { say "the engine does not stop, so the package stays"; return 1; }
}

# tell_of_engine says that an upgrade leaves the engine as it is: to end it
# would take containerd from under all that runs. Supervisors and shims run
# their old files on as well, and new containers get new ones.
tell_of_engine() {
	if chrooted; then return 0; fi
	for p in $(engine_processes); do
		case $(readlink "/proc/$p/exe") in
		*/containerd" (deleted)")
			say "the engine (process $p) is still that of before. Containers run on. The new one is started after"
			say "  safe-run engine stop            # when no container runs"
			say "  safe-run engine stop --force    # with them: they run on, and the next command starts the new one"
			;;
		esac
	done
}

# mounts_below DIR: the mount points strictly below it, the last made first.
mounts_below() {
	awk -v top="$1/" 'index($5, top) == 1 { line[n++] = $5 } END { while (n) print line[--n] }' /proc/self/mountinfo
}

# unmount_below DIR: unmounts all that is mounted below it, or fails. Nothing
# is ever deleted through a mount.
unmount_below() {
	tries=0
	while [ -n "$(mounts_below "$1")" ]; do
		tries=$((tries + 1))
		[ $tries -le 5 ] || { say "$1 has mounts that do not go, so nothing of it is deleted: $(mounts_below "$1" | tr '\n' ' ')"; return 1; }
		mounts_below "$1" | while IFS= read -r m; do
			# The kernel writes blanks and backslashes as \ooo.
			m=$(printf '%b.' "$(printf '%s' "$m" | sed 's/\\\([0-7][0-7][0-7]\)/\\0\1/g')")
			umount "${m%.}" 2>/dev/null || umount -l "${m%.}" 2>/dev/null || :
		done
	done
}

# delete_tree DIR: deletes it. A link, or a file system of its own, stays, and
# only what is in the latter goes.
delete_tree() {
	if [ -L "$1" ]; then
		say "$1 is a link to $(readlink "$1"), which stays"
		rm -f "$1"
		return 0
	fi
	[ -d "$1" ] || return 0
	unmount_below "$1" || return 0
	if awk -v top="$1" '$5 == top { found = 1 } END { exit !found }' /proc/self/mountinfo; then
		find "$1" -xdev -mindepth 1 -delete || :
	else
		rm -rf --one-file-system "$1" || :
	fi
}

# forget_kernel takes out of the kernel what containers share, and what is
# there only when something was killed at the wrong moment.
forget_kernel() {
	if chrooted; then return 0; fi
	profiles=/sys/kernel/security/apparmor
	if [ -w $profiles/.remove ]; then
		# The built-in profile, and those made of it; others are the site's.
		grep -oE '^safe-run-([0-9a-f]{8}|p-[0-9a-f]{16}) ' $profiles/profiles 2>/dev/null | while read -r name; do
			printf %s "$name" >$profiles/.remove 2>/dev/null || :
		done
	fi
	if command -v nft >/dev/null; then nft delete table inet safe-run 2>/dev/null || :; fi
	if command -v ip >/dev/null; then
		for link in /sys/class/net/saferun0 /sys/class/net/sr-????????; do
			[ ! -d "$link/bridge" ] || ip link delete "${link##*/}" 2>/dev/null || :
		done
	fi
	for g in /sys/fs/cgroup/safe-run /sys/fs/cgroup/safe-run.supervisors /sys/fs/cgroup/*/safe-run /sys/fs/cgroup/*/safe-run.supervisors; do
		# Only what is empty can be removed.
		[ ! -d "$g" ] || find "$g" -depth -type d -exec rmdir {} + 2>/dev/null || :
	done
}

# forget_containerd deletes what is in safe-run's namespace of the host's
# containerd, if that was used: images, and containers that were kept.
forget_containerd() {
	socket=/run/containerd/containerd.sock
	if chrooted || [ ! -S $socket ] || ! command -v ctr >/dev/null; then return 0; fi
	c="timeout 60 ctr -a $socket -n safe-run"
	timeout 60 ctr -a $socket namespaces list -q 2>/dev/null | grep -qx safe-run || return 0
	for id in $($c containers list -q 2>/dev/null); do $c containers delete "$id" >/dev/null 2>&1 || :; done
	for id in $($c leases list -q 2>/dev/null); do $c leases delete "$id" >/dev/null 2>&1 || :; done
	for name in $($c images list -q 2>/dev/null); do $c images delete --sync "$name" >/dev/null 2>&1 || :; done
	# Children before their parents: what has some cannot be removed.
	for _ in 1 2 3 4 5 6 7 8; do
		left=$($c snapshots --snapshotter overlayfs list 2>/dev/null | awk 'NR > 1 { print $1 }')
		[ -n "$left" ] || break
		for s in $left; do $c snapshots --snapshotter overlayfs delete "$s" >/dev/null 2>&1 || :; done
	done
	$c content list -q 2>/dev/null | while read -r d; do $c content delete "$d" >/dev/null 2>&1 || :; done
	timeout 60 ctr -a $socket namespaces remove safe-run >/dev/null 2>&1 ||
		say "the namespace safe-run of the host's containerd could not be removed"
}

# forget_unit removes the links by which the unit was enabled.
forget_unit() {
	for link in /etc/systemd/system/*.wants/$unit /etc/systemd/system/*.requires/$unit; do
		[ ! -L "$link" ] || rm -f "$link"
	done
}

# forget_state deletes what ran, and ids that were added; purge all else too.
forget_state() {
	left=$(chrooted || engine_processes)
	if [ -n "$left" ]; then
		say "nothing is deleted while the engine or containers run: process" $left
		return 1
	fi
	forget_kernel
	subids_remove
	delete_tree $run
}

purge() {
	forget_containerd
	forget_state || return 0
	delete_tree $state
	delete_tree $state-compose # secrets whose content stands in compose files
	delete_tree $etc/safe-run
	forget_unit
}
