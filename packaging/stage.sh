#!/bin/bash
# stage.sh DIRECTORY: lays out below DIRECTORY all that is installed, as it is
# below a PREFIX; what belongs in /etc is in DIRECTORY/etc. The times of files
# are SOURCE_DATE_EPOCH, if that is set.
#
#   bin/safe-run
#   lib/safe-run/engine/...               what safe-run starts
#   lib/systemd/system/safe-run-restore.service
#   share/man/man1/safe-run*.1
#   share/{bash-completion/completions,zsh/site-functions,fish/vendor_completions.d}/...
#   share/doc/safe-run/{README.md,LICENSE,...,examples/,purge.sh}
#   etc/apparmor.d/abstractions/safe-run
#   etc/safe-run/                         empty: no policy is the built-in one
set -euo pipefail
cd "$(dirname "$0")/.."
out=$1
build=${BUILD:-build}

dir() { install -d -m 0755 "$out/$1"; }
# put MODE PLACE FILES...
put() { dir "$2"; install -m "$1" "${@:3}" "$out/$2/"; }

put 0755 bin $build/safe-run
put 0755 lib/safe-run/engine $build/engine/{containerd,containerd-shim-runc-v2,ctr,runc,tini,safe-run-activate,safe-run-compose}
put 0644 lib/systemd/system packaging/safe-run-restore.service
put 0644 etc/apparmor.d/abstractions packaging/apparmor/safe-run
dir etc/safe-run
put 0644 share/doc/safe-run README.md LICENSE docs/*.md docs/*.json
cat packaging/scripts/{lib,subids,purge}.sh | install -m 0755 /dev/stdin "$out/share/doc/safe-run/purge.sh"
# copy FROM TO: a directory with what is below it.
copy() {
	dir "$2"
	cp -R "$1/." "$out/$2/"
	find "$out/$2" -type f -exec chmod 0644 {} +
}
copy packaging/examples share/doc/safe-run/examples
[[ ! -d docs/verbs ]] || copy docs/verbs share/doc/safe-run/verbs

# The programs next to this one are asked for their help too.
dir share/man/man1
"$out/bin/safe-run" __man "$out/share/man/man1"
for shell in bash=bash-completion/completions/safe-run zsh=zsh/site-functions/_safe-run fish=fish/vendor_completions.d/safe-run.fish; do
	file=$out/share/${shell#*=}
	dir "share/$(dirname "${shell#*=}")"
	"$out/bin/safe-run" completion "${shell%%=*}" >"$file"
done
find "$out" -type f ! -perm -u=x -exec chmod 0644 {} +
find "$out" -mindepth 1 -type d -exec chmod 0755 {} +
[[ -z ${SOURCE_DATE_EPOCH:-} ]] || find "$out" -mindepth 1 -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
