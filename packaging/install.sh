#!/bin/bash
# install.sh DESTDIR PREFIX: copy what was built to where packages put it.
#
#   PREFIX/bin/safe-run
#   PREFIX/lib/safe-run/engine/{containerd,containerd-shim-runc-v2,ctr,runc,tini}
#   PREFIX/share/doc/safe-run/{README.md,LICENSE,...}
#   PREFIX/share/man/man1/safe-run.1
#   PREFIX/share/bash-completion/completions/safe-run
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

install -d -m 0755 "$root/share/man/man1" "$root/share/bash-completion/completions"
build/safe-run __man | install -m 0644 /dev/stdin "$root/share/man/man1/safe-run.1"
build/safe-run completion bash | install -m 0644 /dev/stdin "$root/share/bash-completion/completions/safe-run"
