package threats

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/cni"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/tests/harness"
)

// cniSite are the files of a CNI network of one plugin, which writes down what
// it was given.
func cniSite(t *testing.T) (c cni.Config, dump string) {
	t.Helper()
	dir := t.TempDir()
	c = cni.Config{ConfDir: filepath.Join(dir, "net.d"), BinDirs: []string{filepath.Join(dir, "bin")}, CacheDir: filepath.Join(dir, "cache")}
	dump = filepath.Join(dir, "dump")
	for _, d := range []string{c.ConfDir, c.BinDirs[0], dump} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	plugin := "#!/bin/sh\nenv >" + dump + "/$CNI_COMMAND\ncat >>" + dump + "/$CNI_COMMAND\n" +
		`echo '{"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "x"}], "ips": [{"address": "10.99.0.5/16", "interface": 0}]}'` + "\n"
	const conf = `{"name": "n8", "cniVersion": "1.0.0", "plugins": [{"type": "n8", "capabilities": {"aliases": true}}]}`
	for file, content := range map[string]string{filepath.Join(c.BinDirs[0], "n8"): plugin, filepath.Join(c.ConfDir, "1.conflist"): conf} {
		if err := os.WriteFile(file, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return c, dump
}

func TestN8(t *testing.T) {
	row(t, "N8")
	find := func(c cni.Config) error {
		n, ok, err := cni.Find(c, "n8")
		if err == nil && ok {
			err = n.Check(cni.Attachment{Aliases: []string{"a"}})
		} else if err == nil {
			err = fail.New(fail.NotFound, "no such network")
		}
		return err
	}
	for name, change := range map[string]func(c cni.Config) error{
		"":                        func(cni.Config) error { return nil },
		"directory for everybody": func(c cni.Config) error { return os.Chmod(c.ConfDir, 0o777) },
		"directory of a user":     func(c cni.Config) error { return os.Chown(c.ConfDir, 1000, 0) },
		"directory of a group":    func(c cni.Config) error { return os.Chmod(c.ConfDir, 0o775) },
		"file for everybody":      func(c cni.Config) error { return os.Chmod(filepath.Join(c.ConfDir, "1.conflist"), 0o666) },
		"file of a user":          func(c cni.Config) error { return os.Chown(filepath.Join(c.ConfDir, "1.conflist"), 1000, 0) },
		"programs for everybody":  func(c cni.Config) error { return os.Chmod(c.BinDirs[0], 0o777) },
		"program for everybody":   func(c cni.Config) error { return os.Chmod(filepath.Join(c.BinDirs[0], "n8"), 0o777) },
		"program of a user":       func(c cni.Config) error { return os.Chown(filepath.Join(c.BinDirs[0], "n8"), 1000, 0) },
		"a way through a user's":  func(c cni.Config) error { return os.Chown(filepath.Dir(c.ConfDir), 1000, 0) },
		"no program":              func(c cni.Config) error { return os.Remove(filepath.Join(c.BinDirs[0], "n8")) },
		"a program elsewhere": func(c cni.Config) error {
			return os.WriteFile(filepath.Join(c.ConfDir, "1.conflist"), []byte(`{"name": "n8", "cniVersion": "1.0.0", "plugins": [{"type": "../../bin/sh"}]}`), 0o644)
		},
	} {
		c, _ := cniSite(t)
		if err := change(c); err != nil {
			t.Fatal(err)
		}
		if err := find(c); (err == nil) != (name == "") {
			t.Errorf("%q: %v", name, err)
		}
	}
	// What a plugin is given.
	for _, kv := range [][2]string{{"LD_PRELOAD", "/x.so"}, {"CNI_ARGS", "IP=10.99.0.1;MAC=02:00:00:00:00:01"}, {"CNI_PATH", "/tmp"}, {"SECRET", "x"}} {
		t.Setenv(kv[0], kv[1])
	}
	c, dump := cniSite(t)
	n, ok, err := cni.Find(c, "n8")
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	id := strings.Repeat("0f", 32)
	a := cni.Attachment{ID: id, Interface: "eth0", NetNS: "/proc/" + hostPID(t, denOf(t, nil).name) + "/ns/net", Aliases: []string{"db"}}
	if _, err := n.Setup(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if err := cni.Teardown(t.Context(), c, "n8", id, "eth0"); err != nil {
		t.Error(err)
	}
	for _, command := range []string{"ADD", "DEL"} {
		b, err := os.ReadFile(filepath.Join(dump, command))
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lines(string(b)) {
			k, v, _ := strings.Cut(l, "=")
			if k == "SECRET" || k == "LD_PRELOAD" && v != "" || k == "CNI_ARGS" && v != "" || k == "CNI_PATH" && v != c.BinDirs[0] {
				t.Errorf("%s is given %s", command, l)
			}
		}
		if !strings.Contains(string(b), `"aliases":["db"]`) || !strings.Contains(string(b), "CNI_CONTAINERID="+id) {
			t.Errorf("%s is given %s", command, b)
		}
	}
	for _, bad := range []cni.Attachment{
		{ID: "../x", Interface: "eth0"},
		{ID: id, Interface: "../eth0"},
		{ID: id, Interface: "a b"},
		{ID: id, Interface: "eth0", Aliases: []string{"a b"}},
		{ID: id, Interface: "eth0", Aliases: []string{"a\nb"}},
		{ID: id, Interface: "eth0", Aliases: []string{""}},
	} {
		bad.NetNS = a.NetNS
		_ = os.Remove(filepath.Join(dump, "ADD"))
		_, err := n.Setup(t.Context(), bad)
		if _, ran := os.Stat(filepath.Join(dump, "ADD")); err == nil || ran == nil {
			t.Errorf("%+v: %v, the plugin ran: %v", bad, err, ran == nil)
		}
	}
	refused(t, "", []string{"--network", "../n8"}, []string{"--network", "n8\n"}, []string{"--network", "n8-none"})
}

func TestN9(t *testing.T) {
	row(t, "N9")
	lan := connectedLan(t)
	// What is turned on with the first container of these tests is on.
	detached(t, "n9-on", denImage, "sleep", "1000")
	before := here.Inventory(t)
	const page = "echo served >/tmp/index.html; exec httpd -f -p 8000 -h /tmp"
	for _, step := range []string{"network", "task", "wire", "start", "running", "exited", "task-deleted"} {
		for _, how := range []string{"kill", "error"} {
			if how == "error" && step != "wire" && step != "running" {
				continue
			}
			a := faulty(step+":"+how, "--rm", "-p", "18106:8000", denImage, "true")
			if a.Code == 0 && how == "kill" {
				t.Errorf("not killed at %s: %s", step, a)
			}
			// Any next command gives back what was left.
			if a := here.Run("images", "-q"); a.Code != 0 || a.Stderr != "" {
				t.Errorf("the next command after %s at %s: %s", how, step, a)
			}
			settled(t, before)
			if t.Failed() {
				t.Fatalf("after %s at %s", how, step)
			}
		}
	}
	// The port leads to its next owner, and to nobody once that is gone.
	if a := faulty("running:kill", "--rm", "-p", "18106:8000", denImage, "sh", "-c", strings.Replace(page, "served", "old", 1)); a.Code == 0 {
		t.Errorf("not killed: %s", a)
	}
	detached(t, "n9-a", "-p", "18106:8000", denImage, "sh", "-c", page)
	patient(t, func() error {
		body, err := harness.Get("http://"+harness.HostAddr+":18106/", lan)
		if err == nil && body != "served\n" {
			t.Errorf("the port leads to %q", body)
		}
		return err
	})
	if ports := onHost(t, "ss", "-Hltn", "sport = :18106").Stdout; len(lines(ports)) == 0 {
		t.Error("nobody has the port")
	}
	if a := here.Run("rm", "-f", "n9-a"); a.Code != 0 {
		t.Error(a)
	}
	if body, err := harness.Get("http://"+harness.HostAddr+":18106/", lan); err == nil {
		t.Errorf("the port leads to %q", body)
	}
	settled(t, before)
}
