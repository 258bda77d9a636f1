# $1 is how many of this package there will be: 0 is the end, which does what
# systemd's own macros do, and stops what runs. An upgrade leaves it alone.
if [ "$1" = 0 ]; then
	if systemd_runs; then systemctl disable --now $unit >/dev/null 2>&1 || :; fi
	stop_all
fi
exit 0
