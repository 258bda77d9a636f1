# AppArmor profiles of a profile file, and those of a site; part of units.sh.
loaded() { grep '^safe-run-p-' /sys/kernel/security/apparmor/profiles; }
count() { loaded | wc -l; }
# label NAME: what a container's first process is under.
label() { cat "/proc/$($safe inspect -f '{{.State.Pid}}' "$1")/attr/apparmor/current"; }
same() { [[ $("${@:2}") = "$1" ]]; }
none() { ! loaded && [[ -z $(ls /run/safe-run/apparmor) ]]; }

answers='curl -fsS http://127.0.0.1:30090/'
# lesson FILE FLAGS...: what learn says.
lesson() { timeout 900 $safe learn -o "$@"; }

units_apparmor() {
	local d=/srv/aa p named='--rm --security-opt apparmor=site-web'
	check 'no denial by AppArmor so far' 1 '' grep 'apparmor="DENIED"' <(dmesg)
	mkdir -p $d
	cat >$d/narrow.yaml <<-'END'
		version: 1
		apparmor:
		  files:
		    - {path: "/**", access: mr}
		    - {path: "/bin/sh", access: ix}
		    - {path: "/bin/cat", access: ix}
		    - {path: "/bin/sleep", access: ix}
		    - {path: "/tmp/ok/", access: w}
		    - {path: "/tmp/ok/**", access: rw}
	END
	sed 's#/tmp/ok#/tmp/other#' $d/narrow.yaml >$d/other.yaml
	p="--profile $d/narrow.yaml"
	check 'the label is a profile of its own' 0 '(^|\n)safe-run-p-[0-9a-f]{16} \(enforce\)\n$' $safe run --rm $p busybox cat /proc/self/attr/current
	check 'removed with the container' 0 '' none
	check 'what it may write' 0 '^yes\n$' $safe run --rm --tmpfs /tmp/ok $p busybox sh -c 'echo yes >/tmp/ok/x; cat /tmp/ok/x'
	check 'and what not' 1 'Permission denied' $safe run --rm $p busybox sh -c 'echo no >/tmp/no'
	check 'the same without rules' 0 '^no\n$' $safe run --rm busybox sh -c 'echo no >/tmp/no; cat /tmp/no'
	check 'what it may not execute' 126 'ermission denied' $safe run --rm $p busybox sh -c '/bin/ls /'
	check 'what was asked for from outside needs no x' 0 'proc' $safe run --rm $p busybox ls /
	check 'devices, standard streams, a pipe' 0 '^in\n$' sh -c "echo in | $safe run --rm -i $p busybox sh -c 'cat /proc/version >/dev/null; cat /dev/stdin | cat'"
	check 'a terminal' 0 'tty' script -qec "$safe run --rm -t $p busybox sh -c 'echo tty >/dev/tty'" /dev/null
	check 'files of safe-run, --init' 0 'localhost' $safe run --rm --init $p busybox cat /etc/hosts
	check 'only the capabilities it has' 0 '' $safe run --rm --user 5 --cap-add NET_BIND_SERVICE $p busybox sh -c :
	check 'a user, an id' 0 '' $safe run --rm --cap-add SETUID --cap-add SETGID $p busybox sh -c :
	check 'all gone' 0 '' none

	# A profile of the site's.
	printf 'profile site-web flags=(attach_disconnected) {\n file,\n capability,\n deny /tmp/no w,\n}\n' >$d/site-web
	printf 'version: 1\napparmor: {name: site-web}\n' >$d/named.yaml
	check 'load a profile' 0 '' apparmor_parser -Kr $d/site-web
	check 'not granted' 125 'apparmor-profile' $safe run $named busybox true
	check 'nor when a profile file names it' 125 'apparmor-profile' $safe run --rm --profile $d/named.yaml busybox true
	mkdir -p /etc/safe-run
	printf 'version: 1\ngrants:\n  - image: docker.io/library/busybox\n    allow: [apparmor-profile]\n' >/etc/safe-run/policy.yaml
	check 'granted' 0 '^site-web \(enforce\)\n$' $safe run $named busybox cat /proc/self/attr/current
	check 'and enforced' 1 'Permission denied' $safe run $named busybox sh -c 'echo no >/tmp/no'
	check 'named in a profile file' 0 '^site-web \(enforce\)\n$' $safe run --rm --profile $d/named.yaml busybox cat /proc/self/attr/current
	check 'the site keeps its own' 0 'site-web \(enforce\)' cat /sys/kernel/security/apparmor/profiles
	printf 'profile site-web flags=(attach_disconnected,complain) {\n}\n' >$d/site-web
	apparmor_parser -Kr $d/site-web
	check 'one that only complains' 125 'not enforced' $safe run $named busybox true
	apparmor_parser -R $d/site-web
	check 'one that is not there' 125 'no AppArmor profile' $safe run $named busybox true
	check 'nor when a profile file names it' 125 'no AppArmor profile' $safe run --rm --profile $d/named.yaml busybox true
	check 'a flag wins over the rules' 125 'no AppArmor profile' $safe run $named $p busybox true
	rm /etc/safe-run/policy.yaml
	mv /sbin/apparmor_parser /sbin/parser
	check 'no parser' 125 'install the package apparmor' $safe run --rm $p busybox true
	mv /sbin/parser /sbin/apparmor_parser
	check 'all gone' 0 '' none
	dmesg -C # later parts look for denials
}

# Rules that several containers have, over stops, restarts and killed launchers.
units_shared() {
	local d=/srv/aa p first
	p="--profile $d/narrow.yaml"
	for c in aa1 aa2; do check "run $c" 0 '' $safe run -d --name $c --tmpfs /tmp/ok $p busybox sleep 5000; done
	first=$(label aa1)
	check 'one profile for two containers' 0 '^1\n$' count
	check 'exec has it' 0 "^${first%% *} " $safe exec aa1 cat /proc/self/attr/current
	check 'and is held to it' 1 'Permission denied' $safe exec aa1 sh -c 'echo no >/tmp/no'
	check 'run another' 0 '' $safe run -d --name aa3 --profile $d/other.yaml busybox sleep 5000
	check 'two profiles' 0 '^2\n$' count
	check 'the first is what it was' 0 '' same "$first" label aa1
	check 'loaded again by who has it' 0 '' $safe run --rm $p busybox cat /proc/version
	check 'remove one of two' 0 '' $safe rm -f aa2
	check 'the other is still confined' 0 '' same "$first" label aa1
	check 'and held to it' 1 'Permission denied' $safe exec aa1 sh -c 'echo no >/tmp/no'
	check 'remove the last' 0 '' $safe rm -f aa1
	check 'its profile is gone, the other not' 0 '^1\n$' count
	check 'stop' 0 '' $safe stop -t 1 aa3
	check 'gone with the end' 0 '' none
	check 'start again' 0 '' $safe start aa3
	check 'loaded again' 0 '^safe-run-p-[0-9a-f]{16} \(enforce\)\n$' label aa3
	check 'restart' 0 '' $safe restart -t 1 aa3
	check 'still there' 0 '^safe-run-p-[0-9a-f]{16} \(enforce\)\n$' label aa3
	check 'remove it' 0 '' $safe rm -f aa3
	check 'all gone' 0 '' none

	# Launchers that are killed.
	$safe run --rm --name aa4 $p busybox sleep 5000 &
	unit=none
	eventually 'a container runs' running aa4
	kill -9 $!; wait $! 2>/dev/null
	check 'kill -9: the profile stays until somebody cleans up' 0 '^1\n$' count
	check 'the next command' 0 '' $safe run --rm busybox true
	check 'has cleaned up' 0 '' none
	SAFE_RUN_FAULT=apparmor:kill build/safe-run-faults run --rm $p busybox sh -c :
	check 'killed before it was loaded' 0 'safe-run-p-' ls /run/safe-run/apparmor
	check 'the next command' 0 '' $safe run --rm busybox true
	check 'has cleaned up' 0 '' none
	# Many at once, of two profiles, that begin and end.
	for i in 1 2 3 4 5 6; do
		timeout 240 $safe run --rm --profile $d/$([[ $i -gt 3 ]] && echo narrow || echo other).yaml busybox cat /proc/self/attr/current >$d/out$i 2>&1 &
	done
	wait
	check 'six at once are all confined' 0 '^6\n$' sh -c "cat $d/out* | grep -c '^safe-run-p-.* (enforce)'"
	check 'all gone' 0 '' none
	dmesg -C
}

# Rules that learn writes, and proves here.
units_lesson() {
	local d=/srv/aa
	mkdir -p $d
	check 'load nginx' 0 'Loaded' $safe load -i build/images/nginx.tar
	check 'learn rules' 0 '(?s)^(?!.*not proved).*removed: CAP_DAC_OVERRIDE.*needed: --cap-add CHOWN.*proved in [0-9]+ runs' \
		lesson $d/nginx.yaml --apparmor -p 127.0.0.1:30090:80 --check "$answers" nginx
	check 'they are in the profile' 0 '"?/run/nginx.pid"?\n *access: rwlk' cat $d/nginx.yaml
	check 'all gone' 0 '' none
	install bin/busybox $d/busybox # the image has no shell
	local tools="--tmpfs /opt -v $d/busybox:/busybox:ro,exec"
	check 'run by the profile' 0 '' $safe run -d --name aa5 --profile $d/nginx.yaml $tools nginx
	unit=none
	eventually 'it answers' $answers
	check 'the label' 0 '^safe-run-p-[0-9a-f]{16} \(enforce\)\n$' label aa5
	check 'what it never wrote to' 1 'Permission denied' $safe exec aa5 /busybox sh -c 'echo no >/opt/no'
	check 'what it never executed' 126 'Permission denied' $safe exec aa5 /busybox sh -c '/busybox echo no'
	check 'what it did' 0 '' $safe exec aa5 /busybox sh -c 'echo yes >/tmp/yes'
	check 'remove it' 0 '' $safe rm -f aa5
	check 'its profile is gone' 0 '' none
	awk '/^[a-z]/ { drop = /^apparmor:/ } !drop' $d/nginx.yaml >$d/loose.yaml
	check 'the same without rules' 0 '^no\n$' $safe run --rm --profile $d/loose.yaml $tools --entrypoint /busybox nginx sh -c 'echo no >/opt/no; /busybox cat /opt/no'
	# All that can be done to a file, and a name that is another one each time.
	check 'learn of a script' 0 '(?s)added: the AppArmor rule /opt/dir/\* rwlk.*needed: writing to /opt.*proved in [0-9]+ runs' lesson $d/script.yaml --apparmor busybox sh -ec \
		'cd /opt; echo x >a; mv a b; ln b c; ln -s b d; cat d; chmod 700 .; mkdir e; rmdir e; mkfifo f; t=$(mktemp /opt/t.XXXXXX); echo y >$t; rm $t c d f b
		echo z >/tmp/z; mkdir dir; echo >dir/$(cut -c1-5 /proc/sys/kernel/random/uuid | tr 0-9 g-p)'
	check 'the rules stay' 0 '/opt/dir/\*' cat $d/script.yaml
	check 'all gone' 0 '' none
	dmesg -C
}
