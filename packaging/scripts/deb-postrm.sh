# Images, volumes, kept containers, the policy: they go with a purge.
case $1 in
remove) reload_systemd ;;
purge)
	purge
	reload_systemd
	;;
esac
exit 0
