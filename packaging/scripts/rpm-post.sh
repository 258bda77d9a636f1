# $1 is how many of this package there are now: 2 is an upgrade.
subids_add
reload_systemd
if [ "$1" -gt 1 ]; then tell_of_engine; fi
exit 0
