package cri

import (
	"strings"
	"testing"
)

// TestLosses: what a Pod has no words for, as export kubernetes says. A row
// that ends the same in both is no loss any more.
func TestLosses(t *testing.T) {
	rows := []struct{ what, script, ours, pods string }{
		{"written files can be executed", "cp /bin/busybox /tmp/echo; /tmp/echo ran 2>/dev/null || echo no", "no", "ran"},
		{"no limit of inodes in a tmpfs", "[ $(stat -f -c %c /tmp) = 65536 ] && echo 65536 || echo more", "65536", "more"},
		{"everyone may write to /run", "stat -c %a /run", "755", "1777"},
		{"/etc/hosts can be written to", "sh -c 'echo >> /etc/hosts' 2>/dev/null && echo yes || echo no", "no", "yes"},
		{"ports below 1024 need no capability", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "1024", "0"},
		{"no second lock on user namespaces", "[ $(cat /proc/sys/user/max_user_namespaces) = 0 ] && echo 0 || echo more", "0", "more"},
		{"no ping without NET_RAW", "cat /proc/sys/net/ipv4/ping_group_range | tr '\\t' ' '", "0 65535", "65534 65534"},
		{"pending signals", "[ $(ulimit -i) = 1024 ] && echo 1024 || echo the node", "1024", "the node"},
	}
	w := workload{image: busyboxImage, args: []string{"sh", "-c", ""}}
	for _, r := range rows {
		w.args[2] += "{ " + r.script + "; } 2>&1\n"
	}
	lines := func(s string) []string { return strings.Split(strings.TrimSuffix(s, "\n"), "\n") }
	a, e := here.Run(w.words("run", "--rm")...), onNode(t, exported(t, w, "Pod"))
	ours, pods := lines(a.Stdout), lines(e.Stdout)
	if len(ours) != len(rows) || len(pods) != len(rows) {
		t.Fatalf("%d rows: %s\n%+v", len(rows), a, e)
	}
	for i, r := range rows {
		if ours[i] != r.ours || pods[i] != r.pods {
			t.Errorf("%s: %q, in the Pod %q; wanted %q and %q", r.what, ours[i], pods[i], r.ours, r.pods)
		}
	}
}
