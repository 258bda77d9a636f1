# purge.sh: deletes, after `make uninstall` or an rpm is gone, what safe-run has
# kept: images, volumes, containers, secrets of compose projects, policy and
# profiles, ranges of ids. A deb
# does the same on purge.
[ "$(id -u)" = 0 ] || { say "needs root"; exit 1; }
if [ "$1" != --yes ]; then
	say "this deletes $state with all images and volumes, $state-compose and /etc/safe-run; say --yes"
	exit 1
fi
purge
