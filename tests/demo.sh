#!/bin/bash
# The demo: a hardened container that tries to get out, and a refusal.
# Ends with 0 only if every attempt was blocked and the refusal was one.
set -uo pipefail
cd "$(dirname "$0")/.."
run=build/safe-run

die() { echo "demo: $*" >&2; exit 1; }
say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }
[[ -t 1 ]] || say() { printf '\n$ %s\n' "$*"; }

[[ $(id -u) = 0 ]] || die "needs root: it runs containers"
for archive in busybox probe; do
	$run load --quiet -i "build/images/$archive.tar" >/dev/null || die "cannot load build/images/$archive.tar"
done

say "$run --rm safe-run-probe"
$run --rm safe-run-probe
status=$?
[[ $status = 0 ]] || die "the probe got through somewhere, or did not run (exit $status)"

# The same program built for 32 bits: a second door to the same system calls.
# The filter ends it at its first one, with SIGSYS (128+31).
say "$run --rm --entrypoint /probe32 safe-run-probe"
$run --rm --entrypoint /probe32 safe-run-probe
status=$?
[[ $status = 159 || $status = 0 ]] || die "the 32-bit probe got through somewhere (exit $status)"
[[ $status = 0 ]] || echo "killed by the filter at its first system call (exit 159)"

say "$run --rm --privileged -v /:/host busybox sh"
$run --rm --privileged -v /:/host busybox sh
status=$?
[[ $status = 125 ]] || die "that should have been refused with exit 125, not $status"

cat <<END

That was the refusal (exit 125, nothing was created). Now try
    $run --rm busybox sh -c 'id; touch /x; cat /proc/self/uid_map'
    $run --rm -it busybox sh
    $run --dry-run=summary busybox
END
