# The .deb on a Debian that has never seen safe-run: installed, used, upgraded, purged, and then all is as before. Part of guest.sh,
# and the first one.

# all_there: what a purge must leave as it was: files, what systemd, AppArmor and the network know, cgroups, mounts.
all_there() {
	find / -xdev \( -path /mnt -o -path /proc -o -path /var/log -o -path /var/cache -o -path /tmp -o -path '/var/lib/dpkg/*-old' -o -path /var/lib/apt \
		-o -path /root \) -prune -o \( ! -type d -printf '%p %y %#m %U:%G %s\n' -o -printf '%p %y %#m %U:%G\n' \) | grep -v '^/var/lib/dpkg/\(status\|lock\|triggers\|diversions\|available\)'
	find /run -path /run/systemd -prune -o -path /run/udev -prune -o -print
	find /run/systemd/system /run/systemd/transient -mindepth 1 2>/dev/null
	cat /etc/subuid /etc/subgid /etc/passwd /etc/group
	systemctl list-unit-files --no-legend; systemctl list-units --all --no-legend --plain --type service,scope,socket | cut -d' ' -f1 | grep -v '^\(session\|user\|systemd-\|apt\|dpkg\|run-r\)'
	cat /sys/kernel/security/apparmor/profiles
	nft list ruleset; ip -o link | cut -d: -f2; ip -o addr | cut -c1-60; ip route; cat /proc/sys/net/ipv4/ip_forward
	find /sys/fs/cgroup -type d | grep safe
	cut -d' ' -f5 /proc/self/mountinfo
}

part_install() {
	local safe=/usr/bin/safe-run deb u=/etc/systemd/system/box.service was
	deb=$(echo /mnt/dir/safe-run_*.deb)
	all_there | sort >/mnt/dir/out/before
	check 'dpkg -i' 0 'Setting up safe-run' dpkg -i "$deb"
	check 'nothing is enabled' 1 disabled systemctl is-enabled safe-run-restore
	check 'known to systemd' 0 'loaded' systemctl show -p LoadState safe-run-restore
	check 'range of ids' 0 '^safe-run:2000224256:67108864\nsafe-run:2000224256:67108864\n' cat /etc/subuid /etc/subgid
	check load 0 'Loaded' $safe load -i build/images/busybox.tar
	check 'run' 0 'CapEff:\t0{16}\n(.*\n)*safe-run-[0-9a-f]{8} \(enforce\)' safe-run --rm busybox sh -c 'cat /proc/self/status /proc/self/attr/current'
	check 'ids of that range' 0 '\A *0 *20[0-6][0-9]{7} *65536\n' safe-run --rm busybox cat /proc/self/uid_map
	check doctor 0 ' 0 failures' $safe doctor

	# A profile of the site's, made of the abstraction.
	mkdir -p /srv/i
	cat >/srv/i/site-box <<-'END'
		abi <abi/3.0>,
		include <tunables/global>
		profile site-box flags=(attach_disconnected,mediate_deleted) {
		  include <abstractions/safe-run>
		  /** mr,
		  /bin/* ix,
		}
	END
	printf 'version: 1\ngrants:\n  - image: docker.io/library/busybox\n    allow: [apparmor-profile]\n' >/etc/safe-run/policy.yaml
	check 'load a profile' 0 '' apparmor_parser -Kr /srv/i/site-box
	check 'it works' 0 'site-box \(enforce\)\n' $safe run --rm --security-opt apparmor=site-box busybox sh -c 'cat /etc/hosts >/dev/null; cat /proc/self/attr/current'
	check 'and denies' 1 'denied' $safe run --rm --security-opt apparmor=site-box busybox sh -c 'echo no >/tmp/no'
	dmesg -C # of that denial: later parts look for others
	apparmor_parser -R /srv/i/site-box

	# A unit, and one that is none, which an upgrade leaves alone.
	$safe generate systemd --name box --stop-timeout 5 busybox sh -c 'trap "exit 0" TERM; while :; do sleep 0.3; done' >$u
	check 'a unit with the path of the package' 0 '/usr/bin/safe-run run' cat $u
	systemctl daemon-reload
	check 'start it' 0 '' timeout 200 systemctl start box
	check 'one in the background' 0 '' $safe run -d --name stays --restart always --stop-timeout 5 -p 127.0.0.1::80 busybox sh -c 'trap "exit 0" TERM; while :; do sleep 0.3; done'
	systemctl enable -q safe-run-restore
	was=$($safe inspect -f '{{.State.Pid}}' box stays)
	check 'upgrade' 0 'the engine \(process [0-9]+\) is still that of before' dpkg -i "$deb"
	check 'they run on' 0 "^${was//$'\n'/\\n}\n\$" $safe inspect -f '{{.State.Pid}}' box stays
	check 'the unit too' 0 active systemctl is-active box
	check 'still enabled' 0 enabled systemctl is-enabled safe-run-restore

	check 'remove' 0 'stopping 2 container\(s\): (.*\n)*.*stopping the unit box.service' apt-get remove -y safe-run
	check 'no process is left' 1 '^\n$' pgrep -fa '^(safe-run|/usr/bin/safe-run|/usr/lib/safe-run/)'
	check 'the data is' 0 '' test -d /var/lib/safe-run/containers -a -f /etc/safe-run/policy.yaml
	check 'and again' 0 '' dpkg -i "$deb"
	check 'start the unit' 0 '' timeout 200 systemctl start box
	check 'what was kept' 0 stays $safe start stays
	check 'apt purge' 0 'stopping 2 container' apt-get purge -y safe-run
	rm -rf $u /srv/i
	systemctl daemon-reload; systemctl reset-failed
	all_there | sort >/mnt/dir/out/after
	check 'nothing is left' 0 '^\n$' diff /mnt/dir/out/before /mnt/dir/out/after
}
