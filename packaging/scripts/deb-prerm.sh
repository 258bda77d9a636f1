# An upgrade leaves alone what runs.
case $1 in
remove)
	if systemd_runs; then systemctl stop $unit >/dev/null 2>&1 || :; fi
	stop_all
	;;
esac
exit 0
