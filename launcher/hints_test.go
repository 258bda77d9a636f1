package launcher

import (
	"bytes"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestHint(t *testing.T) {
	for _, c := range []struct{ said, with, want string }{
		{"httpd: bind: Permission denied", "", "NET_BIND_SERVICE"},
		{"nginx: [emerg] bind() to 0.0.0.0:80 failed (13: Permission denied)", "", "NET_BIND_SERVICE"},
		{"Error: listen EACCES: permission denied 0.0.0.0:80", "", "NET_BIND_SERVICE"},
		{"listen tcp :80: bind: permission denied", "", "NET_BIND_SERVICE"},
		{"listen tcp :80: bind: permission denied", "CAP_NET_BIND_SERVICE", ""},
		{`nginx: [emerg] chown("/var/lib/nginx/body", 33) failed (1: Operation not permitted)`, "", "--cap-add CHOWN"},
		{"initgroups(www-data, 33) failed (1: Operation not permitted)", "", "SETGID"},
		{"setuid(33) failed (1: Operation not permitted)", "", "SETUID"},
		{"touch: /x: Read-only file system", "", "--tmpfs"},
		{"ping: permission denied (are you root?)", "", "NET_RAW"},
		{"cat: /secret: Permission denied", "", ""},
		{"all is well", "", ""},
		{"", "", ""},
	} {
		s := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Effective: []string{c.with}}}}
		got := hint(s, []byte(c.said))
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%q with %q: %q, wanted %q", c.said, c.with, got, c.want)
		}
	}
}

func TestTail(t *testing.T) {
	var l tail
	var all []byte
	for i, n := range []int{1, 100, 4000, 200, 5000, 3, tailSize, tailSize - 1, 2} {
		b := bytes.Repeat([]byte{byte('a' + i)}, n)
		all = append(all, b...)
		l.add(b)
		if want := all[max(0, len(all)-tailSize):]; !bytes.Equal(l.bytes(), want) {
			t.Fatalf("after %d: %d bytes", n, len(l.bytes()))
		}
	}
}
