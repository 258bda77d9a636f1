# The ranges of subordinate ids in /etc/subuid and /etc/subgid; part of the
# packages' scripts. No user safe-run is made: a range needs none, and shadow's
# tools keep clear of every line, whosever it is.

subids_record=$state/added-subids
subids_count=67108864 # 1024 containers

# subids_lock FILE: locks it as shadow's tools do (lib/commonio.c): a file
# with the process id, linked to FILE.lock. A lock of a process that is gone is
# nobody's.
subids_lock() {
	echo "$$" >"$1.$$"
	for _ in $(seq 300); do
		if ln "$1.$$" "$1.lock" 2>/dev/null; then
			rm -f "$1.$$"
			return 0
		fi
		holder=$(tr -dc 0-9 2>/dev/null <"$1.lock" || :)
		if [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null; then
			rm -f "$1.lock"
			continue
		fi
		sleep 0.1
	done
	rm -f "$1.$$"
	say "$1 is locked by process $holder"
	return 1
}

# locked COMMAND...: with both files locked, in the order of useradd.
locked() {
	subids_lock $etc/subuid || return 1
	subids_lock $etc/subgid || { rm -f $etc/subuid.lock; return 1; }
	rc=0
	"$@" || rc=$?
	rm -f $etc/subuid.lock $etc/subgid.lock
	return $rc
}

# has_entry FILE: whether it gives safe-run a range, by name or by number.
has_entry() {
	[ -f "$1" ] || return 1
	number=$(awk -F: '$1 == "safe-run" { print $3; exit }' $etc/passwd)
	awk -F: -v n="${number:-safe-run}" '{ sub(/^[ \t]+/, "", $1) } $1 == "safe-run" || $1 == n { found = 1 } END { exit !found }' "$1"
}

# free_range prints the first id of a range that nobody has: no line of the
# two files, no user, no group. It is looked for where neither useradd (100000
# to 600100000) nor systemd-nspawn (524288 to 1879048191, see "Summary" in
# https://systemd.io/UIDS-GIDS) nor SSSD (200000 to 2000200000 for users of a
# directory, who are in no file: ldap_idmap_range_max in sssd-ldap(5)) hands out
# any; then where systemd-nspawn does, as safe-run would without a line.
free_range() {
	# A file need not end in a line's end.
	for f in subuid subgid; do
		[ ! -f $etc/$f ] || { sed 's/^/range:/' $etc/$f; echo; }
	done | cat - $etc/passwd $etc/group | awk -F: -v size=$subids_count '
		BEGIN { n = 0 }
		function number(s) { return s ~ /^[0-9]+$/ && length(s) <= 10 }
		function take(from, to) { first[n] = from; end[n++] = to }
		$1 == "range" && number($3) {
			# A line without a usable count may be meant to own all from there on.
			take($3 + 0, number($4) && $4 > 0 ? $3 + $4 : 4294967295)
			next
		}
		$1 != "range" && number($3) { take($3 + 0, $3 + 1) }
		function look(low, high,   at, again, i) {
			for (at = low; at + size <= high; ) {
				again = 0
				for (i = 0; i < n; i++)
					if (first[i] < at + size && end[i] > at) {
						at = int((end[i] + 65535) / 65536) * 65536
						again = 1
					}
				if (!again) { printf "%.0f\n", at; return 1 }
			}
			return 0
		}
		END { if (!look(2000224256, 2147352576)) look(524288, 1879048192) }'
}

append() {
	if [ -s "$1" ] && [ -n "$(tail -c 1 "$1")" ]; then echo >>"$1"; fi
	echo "$2" >>"$1"
}

# What was there before is written down first: that a crash leaves a line
# nobody knows of is worse than a record of a line that is not there.
subids_write() {
	for f in $etc/subuid $etc/subgid; do
		# Somebody may have been faster.
		if has_entry $f; then return 0; fi
	done
	start=$(free_range)
	if [ -z "$start" ]; then
		say "no range of $subids_count ids is free: none was added to $etc/subuid and $etc/subgid (see: safe-run doctor)"
		return 0
	fi
	[ -d $state ] || mkdir -m 0711 $state
	(
		umask 077
		for f in subuid subgid; do
			[ -e $etc/$f ] || echo "$f new"
			echo "$f safe-run:$start:$subids_count"
		done >$subids_record
	)
	for f in subuid subgid; do
		[ -e $etc/$f ] || (umask 022; : >$etc/$f)
		append $etc/$f "safe-run:$start:$subids_count"
	done
}

# subids_add gives safe-run a range if it has none. Without one it takes its
# ids from those systemd leaves to containers, so that a failure here is told
# and is no failure of the installation.
subids_add() {
	u=0 g=0
	if has_entry $etc/subuid; then u=1; fi
	if has_entry $etc/subgid; then g=1; fi
	case $u$g in
	11) return 0 ;;
	10 | 01)
		say "only one of $etc/subuid and $etc/subgid has a range for safe-run: add the line to the other"
		return 0
		;;
	esac
	if [ -L $etc/subuid ] || [ -L $etc/subgid ]; then
		say "$etc/subuid or $etc/subgid is a link: no range was added"
		return 0
	fi
	locked subids_write || :
}

# subids_erase takes the very lines out that were added, each once.
subids_erase() {
	for f in subuid subgid; do
		line=$(sed -n "s/^$f \(safe-run:.*\)/\1/p" $subids_record | head -n 1)
		if [ -z "$line" ] || [ ! -f $etc/$f ] || [ -L $etc/$f ]; then continue; fi
		if grep -qxF "$line" $etc/$f; then
			cp -a $etc/$f $etc/$f.safe-run
			awk -v line="$line" '$0 == line && !done { done = 1; next } { print }' $etc/$f >$etc/$f.safe-run
			mv -f $etc/$f.safe-run $etc/$f
		fi
		if grep -qx "$f new" $subids_record && [ ! -s $etc/$f ]; then rm -f $etc/$f; fi
	done
	rm -f $subids_record
}

subids_remove() {
	[ -f $subids_record ] || return 0
	locked subids_erase || :
}
