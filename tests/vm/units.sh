# Containers as services of systemd, and what outlives a boot; part of guest.sh. After units_reboot the machine boots twice more,
# and each time goes on in units_booted.
. ./apparmor.sh
safe=/usr/local/bin/safe-run
units=/run/systemd/system

# within SECONDS COMMAND...: the command succeeds some day.
within() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1 </dev/null; do ((SECONDS < end)) || return 1; sleep 0.3; done
}
not() { ! "$@"; }
# eventually NAME COMMAND...: what it says when it did not come true is shown with what systemd knows of the unit at hand.
eventually() {
	local name=$1
	shift
	if within "${patience:-90}" "$@"; then echo "ok    $name"; else
		echo "FAIL  $name: not true after 90 s: $*"; failures=$((failures + 1))
		{ "$@"; systemctl status -n 30 -l "$unit"; ps -eo pid,ppid,cgroup:60,args | grep -v ' \['; } 2>&1 | cut -c1-300 | sed 's/^/      /'
	fi
}
# begin NAME LINES ARGUMENTS...: starts a unit with the lines in [Service] whose command is safe-run run --name NAME.
begin() { write "$@" && timeout "${wait:-300}" systemctl start "$unit"; }
write() {
	unit=$1
	{
		printf '[Service]\n%b\nExecStart=%s run' "$2" "$safe"
		printf '%s\n' --name "$1" "${@:3}" | sed -e 's/["\\]/\\&/g; s/[$%]/&&/g; s/.*/ "&"/' | tr -d '\n'
		echo
	} >"$units/$1.service"
	systemctl daemon-reload
}
service='Type=notify\nNotifyAccess=main\nDelegate=yes\nKillMode=mixed'
finish() { systemctl stop "$unit"; systemctl reset-failed "$unit" 2>/dev/null; rm -f "$units/$unit.service"; systemctl daemon-reload; }
show() { systemctl show "$unit" -p "$1" --value; }
state() { [[ $(show ActiveState) = "$1" ]]; }
is() { [[ $(show "$1") = $2 ]]; }
equal() { check "$1" 0 "^$3\n?\$" show "$2"; }
group() { systemctl show "$unit" -p ControlGroup --value; }
inside() { find "/sys/fs/cgroup$(group)" -name cgroup.procs -path '*/safe-run-*' -exec cat {} +; }
journal() { journalctl -q -o cat -u "$unit"; }
said() { journal | grep -qe "$1"; }
running() { [[ $($safe inspect -f '{{.State.Status}}' "$1") = running ]]; }

units_install() {
	check 'install' 0 '' packaging/install.sh '' /usr/local
	for i in busybox probe; do check "load $i" 0 'Loaded' $safe load -i build/images/$i.tar; done
	mkdir -p /srv/u && chmod 777 /srv/u && rm -f /srv/u/*
}

units_notify() {
	begin healthy "$service\nTimeoutStartSec=40" --rm --sdnotify healthy -v /srv/u:/u --health-cmd 'test -e /u/ok' --health-interval 1s \
		--health-retries 1000 --health-start-period 10m busybox sh -c 'trap "exit 7" TERM; touch /u/up; while :; do sleep 0.1; done' &
	unit=healthy
	eventually 'program of a unit that is not healthy runs' test -e /srv/u/up
	eventually 'its status' is StatusText 'running, health: starting'
	[[ -z ${VM_ALL:-} ]] || sleep 45 # more than TimeoutStartSec=: it is extended
	equal 'not active before it is healthy' ActiveState activating
	touch /srv/u/ok
	eventually 'active when healthy' state active
	wait $!
	eventually 'status when healthy' is StatusText 'running, health: healthy'
	systemctl stop healthy
	equal 'exit status of the container' ExecMainStatus 7
	finish
	begin ends "$service" --rm busybox sh -c 'sleep 2; exit 9'
	eventually 'a unit ends with its container' is ExecMainStatus 9
	equal 'and has failed' Result exit-code
	finish
	# The program inside says when.
	begin inside "$service" --rm --sdnotify container safe-run-probe notify READY=1 'STATUS=all is well' MAINPID=1
	equal 'active when the program says so' ActiveState active
	equal 'what the program says' StatusText 'all is well'
	finish
	[[ -n ${VM_ALL:-} ]] || return 0
	wait=25 begin silent "$service" --rm --sdnotify container busybox sleep 500
	equal 'not active when the program says nothing' ActiveState activating
	finish
}

units_limits() {
	begin below "$service\nMemoryMax=200M\nTasksMax=60" --rm -m 400m busybox sh -c 'while :; do sleep 1; done'
	check 'cgroup below the unit' 0 '^/system.slice/below.service/safe-run-[0-9a-f]{64}\n$' \
		sh -c "sed s/^0:://p -n /proc/\$($safe inspect -f '{{.State.Pid}}' below)/cgroup"
	check 'systemd-cgls' 0 'safe-run-[0-9a-f]+' systemd-cgls -u below.service
	check 'stats of a unit' 0 '[0-9]' $safe stats --no-stream below
	finish
	begin hog "$service\nMemoryMax=120M\nMemorySwapMax=0" --rm -m 400m busybox sh -c 'sleep 3; x=a; while :; do x=$x$x; done'
	eventually 'MemoryMax= kills the hog' not state active
	check 'it was for memory' 0 'oom-kill|137' systemctl show hog -p Result -p ExecMainStatus
	finish
	begin tasks "$service\nTasksMax=45" --rm busybox sh -c 'for i in $(seq 60); do sleep 100 & done; wait'
	eventually 'TasksMax= binds' said "can't fork"
	finish
	begin plain 'Type=notify\nNotifyAccess=main' --rm busybox sh -c 'trap "exit 4" TERM; while :; do sleep 0.1; done'
	equal 'without Delegate=' ActiveState active
	check 'its notice' 0 '^1\n$' sh -c 'journalctl -q -o cat -u plain | grep -c Delegate=yes'
	check 'its cgroup' 0 '^/safe-run/' sh -c "sed s/^0:://p -n /proc/\$($safe inspect -f '{{.State.Pid}}' plain)/cgroup"
	systemctl stop plain
	equal 'and its exit status' ExecMainStatus 4
	finish
}

units_kill() {
	local keep mode pids
	for keep in --rm --rm=false; do
		# With the default control-group, systemd only asks the container's processes to end, for TimeoutStopSec=.
		for mode in mixed control-group; do
			[[ -n ${VM_ALL:-} || $keep$mode = --rmcontrol-group || $keep$mode = --rm=falsemixed ]] || continue
			begin killed "${service/mixed/$mode}\nTimeoutStopSec=80" $keep busybox sleep 500
			pids=$(inside)
			check "kill -9: processes inside, $keep, $mode" 0 . echo $pids
			systemctl kill --kill-whom=main -s KILL killed
			within 5 not kill -0 $pids; check 'nothing runs 5 s later' 1 '' ps -o pid,args -p "${pids//$'\n'/,}"
			within 60 is ActiveState failed
			if [[ $keep = --rm=false ]]; then # it is there to be looked at
				check 'what is kept of it' 0 'Exited' $safe ps -a --filter name=killed
			fi
			check 'start again' 0 '' timeout 120 systemctl restart killed
			equal 'and active' ActiveState active
			systemctl stop killed
			[[ $keep = --rm ]] || check 'remove it' 0 killed $safe rm killed
			finish
		done
	done
}

units_stop() {
	local mode
	for mode in mixed ${VM_ALL:+control-group}; do
		local s=${service/mixed/$mode} start
		begin term "$s\nTimeoutStopSec=60" --rm --stop-timeout 5 busybox sh -c 'trap "" TERM; while :; do sleep 1; done'
		start=$SECONDS
		systemctl stop term
		check "a program that does not heed SIGTERM, $mode" 0 '' test $((SECONDS - start)) -lt 45
		equal 'it was killed' ExecMainStatus 137
		equal 'by safe-run' Result exit-code
		finish
		begin usr1 "$s\nTimeoutStopSec=90" --rm --stop-signal USR1 --stop-timeout 60 busybox sh -c 'trap "echo usr1; exit 6" USR1; trap "echo term" TERM; while :; do sleep 0.1; done'
		systemctl stop usr1
		equal "the container's stop signal, $mode" ExecMainStatus 6
		# With control-group SIGTERM comes from systemd itself to all processes.
		[[ $mode = control-group ]] || check 'and no other' 0 '^usr1\n$' journalctl -q -o cat -u usr1 --grep '^(usr1|term)$'
		finish
	done
}

units_logs() {
	begin talks "$service" --rm=false busybox sh -c 'echo out-line; echo err-line >&2; while :; do sleep 1; done'
	eventually 'stdout in the journal' said '^out-line$'
	eventually 'stderr in the journal' said '^err-line$'
	sleep 3
	check 'each once' 0 '^2\n$' sh -c 'journalctl -q -o cat --since -1h | grep -cE "^(out|err)-line$"'
	check 'under the unit' 0 'UNIT=talks.service' sh -c 'journalctl -q -o verbose -u talks | grep _SYSTEMD_UNIT'
	check 'logs says where' 1 'journalctl -u talks' $safe logs talks
	check 'the log driver' 0 passthrough $safe inspect -f '{{.HostConfig.LogConfig.Type}}' talks
	finish; $safe rm -f talks >/dev/null
	begin keeps "$service" --rm --log-driver json-file busybox sh -c 'echo kept-line; while :; do sleep 1; done'
	check 'json-file in a unit' 0 '^kept-line\n$' eventual_logs keeps
	finish
	begin sends "$service" --rm --log-driver journald busybox sh -c 'echo sent-line; echo err-line >&2; while :; do sleep 1; done'
	check 'logs of journald' 0 'sent-line' eventual_logs sends
	check 'journald names the container' 0 sent-line journalctl -q -o cat CONTAINER_NAME=sends
	finish
}
eventual_logs() { within 60 sh -c "$safe logs $1 | grep -q ."; $safe logs "$1"; }

units_watchdog() {
	rm -f /srv/u/sick
	begin dog "$service\nWatchdogSec=20\nRestart=on-failure\nRestartSec=1" --rm --sdnotify healthy -v /srv/u:/u --health-cmd 'test ! -e /u/sick' \
		--health-interval 1s --health-retries 2 busybox sh -c 'while :; do sleep 1; done'
	sleep 30
	equal 'the watchdog is fed' NRestarts 0
	equal 'and the unit active' ActiveState active
	touch /srv/u/sick
	eventually 'status when unhealthy' is StatusText 'running, health: unhealthy'
	eventually 'unhealthy: systemd restarts it' is NRestarts '[1-9]*'
	rm /srv/u/sick
	eventually 'healthy again' state active
	check 'it was the watchdog' 0 'Watchdog timeout' journalctl -q -o cat -u dog --grep 'Watchdog timeout'
	finish
	touch /srv/u/sick
	begin quick "${service}\nRestart=no" --rm --health-on-failure kill -v /srv/u:/u --health-cmd 'test ! -e /u/sick' --health-interval 1s --health-retries 1 busybox sleep 500
	eventually '--health-on-failure kill' is ExecMainStatus 137
	rm /srv/u/sick
	finish
}

units_sockets() {
	write unixact "$service" --rm --network none safe-run-probe activated
	printf '[Socket]\nListenStream=/run/unixact.sock\nFileDescriptorName=door\n' >$units/unixact.socket
	write tcpact "$service" --rm --network none safe-run-probe activated
	printf '[Socket]\nListenStream=127.0.0.1:7070\n' >$units/tcpact.socket
	systemctl daemon-reload
	systemctl start unixact.socket tcpact.socket
	unit=unixact
	check 'a UNIX socket answers' 0 '^hello from door\n$' curl -s --http0.9 --max-time 100 --unix-socket /run/unixact.sock http://x/
	equal 'and the unit is active' ActiveState active
	unit=tcpact
	case $(uname -r) in # Landlock for TCP: Linux 6.7
		6.1.*)
			check 'TCP is not answered' 0 '' not curl -sf --http0.9 --max-time 20 http://127.0.0.1:7070/
			eventually 'TCP needs Linux 6.7' said 'needs Linux 6.7' ;;
		*)
			check 'a TCP socket answers' 0 '^hello from tcpact.socket\n$' curl -s --http0.9 --max-time 100 http://127.0.0.1:7070/
			check 'and again' 0 '^hello from tcpact.socket\n$' curl -s --http0.9 --max-time 100 http://127.0.0.1:7070/ ;;
	esac
	systemctl stop unixact.socket tcpact.socket unixact tcpact 2>/dev/null
	rm -f $units/{unix,tcp}act.{socket,service}; systemctl daemon-reload; systemctl reset-failed
}

units_secrets() {
	mkdir -p -m 700 /etc/credstore; (umask 077; printf 'top-secret-word' >/etc/credstore/key)
	begin hides "$service\nLoadCredential=key:/etc/credstore/key" --rm --secret key -u 1000 busybox sh -c \
		'stat -c "%a %u" /run/secrets/key; md5sum </run/secrets/key; env; cat /proc/1/cmdline; touch /run/secrets/x; while :; do sleep 1; done'
	eventually 'mode and owner of a credential' said '^400 1000$'
	eventually 'its content' said "$(printf top-secret-word | md5sum | cut -c1-32)"
	check 'not to be found' 1 '' grep -rs 'top-secret-[w]ord' <(journalctl -q -b -o export) <($safe inspect hides) <(systemctl show hides) /var/lib/safe-run/containers \
		<(cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null)
	finish
}

units_generate() {
	unit=made
	(cd $units && $safe generate systemd -n --name made --stop-timeout 3 --label 'a=b c "d" $e %f' --health-cmd 'test -e /etc/passwd' --health-interval 1s busybox \
		sh -c 'trap "exit 143" TERM; while :; do sleep 0.1; done') || echo 'FAIL  generate'
	check 'verify a generated unit' 0 '^\n$' systemd-analyze verify $units/made.service
	systemctl daemon-reload
	check 'start it' 0 '' timeout 120 systemctl start made
	equal 'it is active' ActiveState active
	check 'its label' 0 '^b c "d" \$e %f\n$' $safe inspect -f '{{.Config.Labels.a}}' made
	systemctl stop made
	equal 'its stop is no failure' Result success
	finish
	$safe run -d --name was --restart always -v kept:/data -e A=b -m 100m busybox sh -c 'touch /data/x; exec sleep 500' >/dev/null
	unit=was
	$safe generate systemd was >$units/was.service 2>/run/notice
	check 'unit of a container' 0 'rm -f was' cat /run/notice
	check 'verify it' 0 '^\n$' systemd-analyze verify $units/was.service
	$safe rm -f was >/dev/null
	systemctl daemon-reload
	check 'start that' 0 '' timeout 120 systemctl start was
	equal 'it is active' ActiveState active
	check 'its volume' 0 'x' $safe exec was ls /data
	finish
}

# What export writes runs, is restarted, stops, and is read back as what it was written from.
units_export() {
	unit=shipped
	local at=/run/shipped line
	rm -rf $at; mkdir -p $at
	local words=(--name shipped --user 1000 --cap-add NET_BIND_SERVICE -m 100m --tmpfs /scratch:size=8m --restart always --stop-timeout 5 --label 'a=b "c" $d %e'
		--health-cmd 'test -e /tmp/up' --health-interval 1s -p 127.0.0.1:8077:80 busybox
		sh -c 'touch /tmp/up; mkdir /tmp/www; echo served >/tmp/www/x; trap "exit 143" TERM; httpd -f -p 80 -h /tmp/www & while :; do sleep 0.2; done')
	check 'export a unit' 0 'shipped.service' $safe export systemd -o $at "${words[@]}"
	cp $at/shipped.service $units/
	check 'verify it' 0 '^\n$' systemd-analyze verify $units/shipped.service
	systemctl daemon-reload
	check 'start it' 0 '' timeout 120 systemctl start shipped
	equal 'active when healthy' ActiveState active
	check 'what it may do' 0 'CapBnd:\t0000000000000400\nNoNewPrivs:\t1\nSeccomp:\t2' $safe exec shipped sh -c 'grep -E "CapBnd|NoNewPrivs|Seccomp:" /proc/1/status | sort'
	check 'port 80 as user 1000' 0 '^served\n$' curl -s --max-time 60 http://127.0.0.1:8077/x
	check 'its label' 0 '^b "c" \$d %e\n$' $safe inspect -f '{{.Config.Labels.a}}' shipped
	systemctl kill --kill-whom=main -s KILL shipped
	eventually 'restarted after kill -9' is NRestarts '[1-9]*'
	eventually 'and active again' state active
	check 'stop it' 0 '' systemctl stop shipped
	equal 'its stop is no failure' Result success
	check 'nothing of it is left' 0 '^\n$' $safe ps -aq --filter name=shipped
	check 'import the unit' 0 'safe-run run .*--profile .*/shipped.yaml' $safe import -o $at/back $at/shipped.service
	line=$($safe import --force -o $at/back $at/shipped.service 2>/dev/null)
	check 'and export it again' 0 'shipped.service' bash -c "$safe export systemd -o $at/again ${line#safe-run run}"
	check 'the same unit' 0 '^\n$' diff $at/shipped.service $at/again/shipped.service
	finish
}

# Services of a compose file, and what it takes to refuse one.
units_compose() {
	local at=/run/composed
	rm -rf $at; mkdir -p $at
	cat >$at/compose.yaml <<'YAML'
services:
  store:
    image: busybox
    command: sh -c 'mkdir /tmp/w; echo stored >/tmp/w/x; exec httpd -f -p 8080 -h /tmp/w'
    read_only: true
    cap_drop: [ALL]
    user: "1000"
    networks: [back]
    healthcheck: {test: ["CMD", "wget", "-qO-", "http://127.0.0.1:8080/x"], interval: 1s, retries: 60}
  front:
    image: busybox
    command: sleep 5000
    depends_on: {store: {condition: service_healthy}}
    networks: [back]
    deploy: {resources: {limits: {memory: 64M, pids: 20}}}
networks: {back: {internal: true}}
YAML
	check 'compose up' 0 '' $safe compose -f $at/compose.yaml up -d
	check 'found by name' 0 '^stored\n$' $safe compose -f $at/compose.yaml exec front wget -qO- http://store:8080/x
	check 'no way out' 1 '' $safe compose -f $at/compose.yaml exec front nc -w 5 192.0.2.1 80 -e true
	check 'its limits' 0 '^67108864\n20\n$' $safe compose -f $at/compose.yaml exec front sh -c 'cd /sys/fs/cgroup; cat memory.max pids.max'
	check 'compose down' 0 '' $safe compose -f $at/compose.yaml down -v
	check 'nothing is left' 0 '^\n$' $safe ps -aq
	sed -i 's/command: sleep 5000/privileged: true/' $at/compose.yaml
	check 'refused with its line' 125 'compose.yaml:12' $safe compose -f $at/compose.yaml up -d
	check 'nothing was started' 0 '^\n$' $safe ps -aq
}

units_detached() {
	systemd-run -q --unit oneshot --wait -p Type=oneshot $safe run -d --name outlives busybox sleep 5000
	unit=oneshot
	check 'a unit that detached has ended' 3 'inactive' systemctl is-active oneshot
	check 'its container runs' 0 '' running outlives
	check 'nothing in the unit' 1 '' test -e /sys/fs/cgroup/system.slice/oneshot.service
	check 'it answers' 0 in $safe exec outlives echo in
	$safe rm -f outlives >/dev/null
	systemd-run -q --scope --unit session sh -c "$safe run -d --name session busybox sleep 5000"
	systemctl stop session.scope 2>/dev/null
	check 'a container outlives its session' 0 '' running session
	$safe rm -f session >/dev/null
}

# What asks the kernel for BPF: the recorder, and learning with it.
units_learn() {
	cp bin/busybox /bin/ # what the recorder's tests run
	tests learn -test.run 'Recorder|Follow|Fexit|Types|Typed|Scratch' # the others ask the kernel nothing
	# One after the other: a trial that fails takes three times what one takes that works.
	tests profiles -test.parallel 1 -test.run 'TestLearn/^(nginx|redis|busybox)$|TestExplain|TestNothingIsLost'
}

# The containers that boots are about. Written to disk before the machine goes.
units_reboot() {
	unit=safe-run-restore
	check 'enable the restore unit' 0 '' systemctl enable safe-run-restore
	for r in unless-stopped=unless always=always unless-stopped=stopped always=always-stopped on-failure=failing no=never; do
		check "run ${r#*=}" 0 '' $safe run -d --stop-timeout 3 --restart "${r%=*}" --name "${r#*=}" -p 127.0.0.1::80 busybox sh -c 'trap "exit 5" TERM; while :; do sleep 0.2; done'
	done
	check 'stop two' 0 '' $safe stop stopped always-stopped
	check 'no denial by AppArmor' 1 '' grep 'apparmor="DENIED"' <(dmesg)
	boot orderly
}
boot() {
	echo "$1 $failures" >/var/lib/units/booting
	sync
	echo "      booting again: $1"
	mkdir -p $units/guest-run.service.d # the end of this one powers off otherwise
	printf '[Unit]\nSuccessAction=none\nFailureAction=none\n' >$units/guest-run.service.d/boot.conf
	systemctl daemon-reload
	case $1 in
		orderly) systemctl start --no-block --job-mode=replace-irreversibly reboot.target ;; # reboot asks logind, which is not there
		cut) echo b >/proc/sysrq-trigger ;;
	esac
	sleep infinity
}
units_booted() {
	local how
	read -r how failures </var/lib/units/booting
	rm /var/lib/units/booting
	unit=safe-run-restore
	eventually "restored after a boot, $how" is ActiveState active
	# The end of the machine is a failure of what it ended.
	for c in unless always always-stopped failing; do eventually "$how: $c runs" running $c; done
	for c in stopped never; do check "$how: $c does not" 0 'exited' $safe inspect -f '{{.State.Status}}' $c; done
	check "$how: it answers" 0 in $safe exec always echo in
	check "$how: its port" 0 '127.0.0.1:[1-9]' $safe port always 80
	check 'no denial by AppArmor' 1 '' grep 'apparmor="DENIED"' <(dmesg)
	if [[ $how = orderly ]]; then
		check 'stop one again' 0 '' $safe stop always-stopped
		boot cut
	fi
	check 'restart of the restore unit' 0 '' systemctl restart safe-run-restore
	check 'and they run' 0 '' running unless
	check 'disable it' 0 '' systemctl disable --now safe-run-restore
	check 'its end ends none' 0 '' running unless
	check 'remove all' 0 never $safe rm -f unless always always-stopped stopped failing never
}

part_units() {
	local t began some='limits notify stop kill sockets secrets detached export compose apparmor'
	[[ -z ${VM_ALL:-} ]] || some+=' logs shared watchdog generate learn lesson'
	units_install
	for t in ${VM_SYSTEMD:-$some}; do
		began=$SECONDS
		"units_$t"
		echo "      units, $t: $((SECONDS - began)) s"
		dmesg | grep 'apparmor="DENIED"' && echo "      ^ in $t"
	done
}
part_reboot() { if [[ -e /var/lib/units/booting ]]; then units_booted; else units_reboot; fi; }
