#!/bin/bash
# install.sh [--uninstall] [DESTDIR [PREFIX]]: copies what was built, or what
# the archive holds this lies in, below PREFIX (/usr/local) in DESTDIR; or
# removes exactly that. stage.sh says what is where.
#
# safe-run finds its engine at ../lib/safe-run/engine, seen from itself.
# systemd looks for units below /usr/lib and /usr/local/lib; with another
# PREFIX the unit goes to /etc/systemd/system. It is not enabled. A list of
# what was installed is in PREFIX/lib/safe-run/installed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
uninstall=
[[ ${1:-} != --uninstall ]] || { uninstall=1; shift; }
dest=${1:-} prefix=${2:-/usr/local}
[[ $prefix =~ ^/[A-Za-z0-9_./@:+-]*$ && $prefix != *..* ]] || {
	echo "a PREFIX of other than plain characters cannot stand in a unit: $prefix" >&2; exit 1; }
[[ -z $dest || $dest = /* ]] || dest=$PWD/$dest
prefix=/$(sed 's|^/*||; s|/*$||; s|//*|/|g' <<<"$prefix")
root=${prefix%/}
list=$root/lib/safe-run/installed

# gone FILE LIST: removes what LIST says and KEEP does not: files, then those
# directories that an installation has made and nothing is in.
gone() {
	local kind path keep=${2:-/dev/null}
	while IFS=' ' read -r kind path; do
		[[ $path = /* && $path != *..* ]] || { echo "$1: not a line of this list: $kind $path" >&2; return 1; }
		[[ $kind != f ]] || grep -qxF "f $path" "$keep" || rm -f "$dest$path"
	done <"$1"
	while IFS=' ' read -r kind path; do
		[[ $kind != d ]] || grep -qxF "d $path" "$keep" || rmdir "$dest$path" 2>/dev/null || true
	done < <(tac "$1")
}

if [[ $uninstall ]]; then
	[[ -f $dest$list ]] || { echo "nothing is installed here: there is no $dest$list" >&2; exit 1; }
	if [[ -z $dest && $(id -u) = 0 && -d /run/safe-run ]]; then
		[[ -z $("$root/bin/safe-run" ps -q) ]] || {
			echo "containers run; stop them first: safe-run stop \$(safe-run ps -q)" >&2; exit 1; }
		"$root/bin/safe-run" engine stop >/dev/null
	fi
	was=$(mktemp)
	trap 'rm -f "$was"' EXIT
	cp "$dest$list" "$was"
	gone "$was"
	echo "removed from $dest$prefix. Images, volumes, containers and the policy are kept: /var/lib/safe-run, /var/lib/safe-run-compose, /etc/safe-run" >&2
	exit
fi

new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
tree=$here
[[ -f $here/bin/safe-run ]] || { tree=$new/tree; "$here/stage.sh" "$tree"; }

# What names the program names it where it will be.
cp -R "$tree" "$new/placed"
tree=$new/placed
sed -i "s|=/usr/local/bin/safe-run |=$root/bin/safe-run |" "$tree"/lib/systemd/system/* \
	$(find "$tree/share/doc/safe-run/examples" -type f)
sed -i "s|^program=.*|program=$root/bin/safe-run|" "$tree/share/doc/safe-run/purge.sh"

units=$root/lib/systemd/system
[[ $prefix = /usr || $prefix = /usr/local ]] || units=/etc/systemd/system
# place DIRECTORY: where one of the tree goes, in $to.
place() {
	case $1 in
	etc | etc/*) to=/$1 ;;
	lib/systemd/system | lib/systemd/system/*) to=$units${1#lib/systemd/system} ;;
	lib/systemd) to=${units%/*} ;;
	*) to=$root/$1 ;;
	esac
}
declare -A before listed
# made PATH: makes a directory, and those above it, and lists those that are
# new, or were when it was installed before.
made() {
	local d=$1
	[[ -n $d && $d != / ]] || return 0
	made "${d%/*}"
	if [[ ! -d $dest$d ]]; then install -d -m 0755 "$dest$d"; elif [[ ! ${before[$d]:-} || ${listed[$d]:-} ]]; then return 0; fi
	listed[$d]=1
	echo "d $d" >>"$new/list"
}

: >"$new/list"
if [[ -f $dest$list ]]; then cp "$dest$list" "$new/before"; else : >"$new/before"; fi
while IFS=' ' read -r kind path; do
	[[ $kind != d ]] || before[$path]=1
done <"$new/before"
# DESTDIR itself is nobody's to remove.
[[ -z $dest ]] || install -d "$dest"
shopt -s nullglob
while IFS= read -r d; do
	place "$d"
	made "$to"
	texts=()
	for f in "$tree/$d"/*; do
		[[ -f $f ]] || continue
		echo "f $to/${f##*/}" >>"$new/list"
		if [[ ! -x $f ]]; then texts+=("$f"); continue; fi
		# Into a new file, that takes the place of the old one: it may be running.
		install -m 0755 "$f" "$dest$to/${f##*/}.new"
		mv -f "$dest$to/${f##*/}.new" "$dest$to/${f##*/}"
	done
	[[ ${#texts[@]} = 0 ]] || install -m 0644 "${texts[@]}" "$dest$to/"
done < <(cd "$tree" && rm -f install.sh && find . -mindepth 1 -type d | sed 's|^\./||' | sort)
echo "f $list" >>"$new/list"
install -m 0644 "$new/list" "$dest$list"
gone "$new/before" "$new/list"
echo "installed to $dest$prefix" >&2
