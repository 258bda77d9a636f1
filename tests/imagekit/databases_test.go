package imagekit

import (
	"os/exec"
	"strings"
	"testing"
)

// TestEntrypoints: the scripts are ones for the shell that runs them.
func TestEntrypoints(t *testing.T) {
	for name, script := range map[string]string{"postgres": postgresEntrypoint, "mariadb": mariadbEntrypoint} {
		cmd := exec.Command("/bin/busybox", "sh", "-n")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func TestAccount(t *testing.T) {
	entries := append(account("mysql", 999, "/nonexistent"), owned("var/lib/mysql", 0o755, 999))
	b, err := Build(Image{Layers: []Layer{{Entries: append(entries, applets("sh")...)}}})
	if err != nil {
		t.Fatal(err)
	}
	h, body := files(t, b.Blobs[b.Layers[0]])
	if !strings.Contains(string(body["etc/passwd"]), "\nmysql:x:999:999::/nonexistent:") || !strings.Contains(string(body["etc/group"]), "\nmysql:x:999:\n") {
		t.Errorf("passwd %q, group %q", body["etc/passwd"], body["etc/group"])
	}
	if d := h["var/lib/mysql/"]; d.Uid != 999 || d.Gid != 999 {
		t.Errorf("the data directory belongs to %d:%d", d.Uid, d.Gid)
	}
	if l := h["usr/bin/sh"].Linkname; l != "busybox" {
		t.Errorf("sh is a link to %q", l)
	}
}
