case $1 in
configure)
	subids_add
	reload_systemd
	# $2 is the version of before: nothing of it is restarted, see tell_of_engine.
	if [ -n "$2" ]; then tell_of_engine; fi
	;;
esac
exit 0
