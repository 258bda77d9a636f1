#!/bin/bash
# install.sh DESTDIR PREFIX: copy what was built to where packages put it.
#
#   PREFIX/bin/safe-run
#   PREFIX/lib/safe-run/engine/{containerd,containerd-shim-runc-v2,ctr,runc,tini}
#   PREFIX/share/doc/safe-run/{README.md,LICENSE,...}
#
# safe-run finds its engine at ../lib/safe-run/engine, seen from itself.
set -euo pipefail
cd "$(dirname "$0")/.."
root="$1$2"

install -d -m 0755 "$root/bin" "$root/lib/safe-run/engine" "$root/share/doc/safe-run"
install -m 0755 build/safe-run "$root/bin/safe-run"
for tool in containerd containerd-shim-runc-v2 ctr runc tini; do
	install -m 0755 "build/engine/$tool" "$root/lib/safe-run/engine/$tool"
done
install -m 0644 README.md LICENSE docs/*.md "$root/share/doc/safe-run/"
