#!/bin/bash
# Builds the sources of this checkout a second time, at another path, by another user's settings and without a cache, and compares
# build/safe-run and build/engine/safe-run-activate with what comes of it. The argument is the version they were built with.
set -euo pipefail
cd "$(dirname "$0")/.."
there=$(mktemp -d)
trap 'chmod -R u+w "$there"; rm -rf "$there"' EXIT
tar -c --exclude ./build --exclude ./.git . | tar -xC "$there"
env -u GOFLAGS HOME="$there" TZ=Asia/Tokyo LC_ALL=C GOMODCACHE="$(go env GOMODCACHE)" GOPROXY="$(go env GOPROXY)" GOCACHE="$there/cache" \
	make -C "$there" VERSION="$1" build >/dev/null
for f in build/safe-run build/engine/safe-run-activate; do
	here=$(sha256sum <"$f"); other=$(sha256sum <"$there/$f")
	if [[ $here != "$other" ]]; then echo "$f: ${here%% *} here, ${other%% *} there" >&2; exit 1; fi
	echo "${here%% *}  $f"
done
