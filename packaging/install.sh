#!/bin/bash
# install.sh DESTDIR PREFIX: copy what was built to where packages put it.
#
#   PREFIX/bin/safe-run
#   PREFIX/lib/safe-run/engine/{containerd,containerd-shim-runc-v2,ctr,runc,tini,safe-run-activate}
#   PREFIX/lib/systemd/system/safe-run-restore.service
#   PREFIX/share/doc/safe-run/{README.md,LICENSE,...,examples/}
#   PREFIX/share/man/man1/safe-run.1
#   PREFIX/share/bash-completion/completions/safe-run
#
# safe-run finds its engine at ../lib/safe-run/engine, seen from itself.
# systemd looks for units below /usr/lib and /usr/local/lib; with another
# PREFIX the unit goes to /etc/systemd/system. It is not enabled.
set -euo pipefail
cd "$(dirname "$0")/.."
root="$1$2"
[[ $2 =~ ^/[A-Za-z0-9_./@:+-]*$ ]] || { echo "a PREFIX of other than plain characters cannot stand in a unit: $2" >&2; exit 1; }

install -d -m 0755 "$root/bin" "$root/lib/safe-run/engine" "$root/share/doc/safe-run/examples"
install -m 0755 build/safe-run "$root/bin/safe-run"
for tool in containerd containerd-shim-runc-v2 ctr runc tini safe-run-activate; do
	install -m 0755 "build/engine/$tool" "$root/lib/safe-run/engine/$tool"
done
install -m 0644 README.md LICENSE docs/*.md "$root/share/doc/safe-run/"

case $2 in
/usr | /usr/local) units="$root/lib/systemd/system" ;;
*) units="$1/etc/systemd/system" ;;
esac
here() { sed "s|=/usr/local/bin/safe-run |=$2/bin/safe-run |" "$1"; }
install -d -m 0755 "$units"
here packaging/safe-run-restore.service "$2" | install -m 0644 /dev/stdin "$units/safe-run-restore.service"
for example in packaging/examples/*; do
	here "$example" "$2" | install -m 0644 /dev/stdin "$root/share/doc/safe-run/examples/${example##*/}"
done

install -d -m 0755 "$root/share/man/man1" "$root/share/bash-completion/completions"
build/safe-run __man | install -m 0644 /dev/stdin "$root/share/man/man1/safe-run.1"
build/safe-run completion bash | install -m 0644 /dev/stdin "$root/share/bash-completion/completions/safe-run"
