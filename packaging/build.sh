#!/bin/bash
# build.sh VERSION KIND...: makes packages of the kinds deb, rpm and tarball in
# build/packages, with nfpm (NFPM, build/nfpm). The same sources and
# SOURCE_DATE_EPOCH give the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
said=$1
shift
build=${BUILD:-build}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)} LC_ALL=C TZ=UTC
umask 022

# version SAID: what git describe says, as packages count it: v1.2.0-rc1 comes
# before 1.2.0, and what comes after it is 1.2.0+4.gabc. Without a tag it is
# older than all that will have one.
version() {
	local v=${1#v} rest
	if [[ $v =~ ^[0-9]+(\.[0-9]+)*($|-) ]]; then
		rest=${v#"${BASH_REMATCH[0]}"}
		v=${BASH_REMATCH[0]%-}
		[[ ! $rest =~ ^([a-z]+[0-9.]*)(-|$) ]] || [[ $rest = dirty* ]] || { v+="~${BASH_REMATCH[1]}"; rest=${rest#"${BASH_REMATCH[0]}"}; }
		echo "$v${rest:++${rest//[^A-Za-z0-9]/.}}"
	else
		echo "0~git$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d).${v//[^A-Za-z0-9]/.}"
	fi
}
VERSION=$(version "$said")
[[ ${1:-} != --version ]] || { echo "$VERSION"; exit; }
ARCH=$(${GO:-go} env GOARCH)
export VERSION ARCH

out=${PACKAGES:-$PWD/build/packages}
nfpm=${NFPM:-$PWD/build/nfpm}
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
same_times() { find "$1" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +; }
# take FILE: the finished one takes the place of that before.
take() {
	rm -f "$out"/$2
	mv "$1" "$out/"
	echo "build/packages/${1##*/}"
}

# root: what deb and rpm hold, as it is below /.
root() {
	[[ ! -d $work/root ]] || return 0
	packaging/install.sh "$work/root" /usr 2>/dev/null
	rm "$work/root/usr/lib/safe-run/installed"
	gzip -9n "$work"/root/usr/share/man/man1/*
	mkdir "$work/scripts" "$work/deb"
	for s in packaging/scripts/{deb,rpm}-*.sh; do
		cat packaging/scripts/{lib,subids}.sh "$s" >"$work/scripts/${s##*/}"
	done
	cp packaging/deb/* "$work/deb/"
	cat >"$work/deb/changelog" <<-END
		safe-run ($VERSION) unstable; urgency=medium

		  * Built of $said.

		 -- The safe-run authors <authors@safe-run.invalid>  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
	END
	gzip -9n "$work/deb/changelog"
	same_times "$work"
}

make_deb() { root; (cd "$work" && "$nfpm" package -f "$OLDPWD/packaging/nfpm.yaml" -p deb -t "$work/" >/dev/null); take "$work"/*.deb 'safe-run_*.deb'; }
make_rpm() { root; (cd "$work" && "$nfpm" package -f "$OLDPWD/packaging/nfpm.yaml" -p rpm -t "$work/" >/dev/null); take "$work"/*.rpm 'safe-run-*.rpm'; }
make_tarball() {
	local name=${said#v}
	name=safe-run-${name//[^A-Za-z0-9.+~-]/.}-linux-$ARCH
	packaging/stage.sh "$work/$name"
	install -m 0755 packaging/install.sh "$work/$name/install.sh"
	same_times "$work/$name"
	tar -C "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=gnu -c "$name" | gzip -9n >"$work/$name.tar.gz"
	take "$work/$name.tar.gz" 'safe-run-*.tar.gz'
}
for kind; do "make_$kind"; done
