# There is no purge: what users have in /var/lib/safe-run and /etc/safe-run
# stays. /usr/share/doc says how to delete that too.
if [ "$1" = 0 ]; then
	forget_unit
	forget_state || :
fi
reload_systemd
exit 0
