package cni

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/ports"
)

const id = "f00f00f00f00f00f00f00f00f00f00f00f00f00f00f00f00f00f00f00f00f00f"

// dump is a plugin that keeps what it was given, by command.
func (s site) dump(name, rest string) (given func(command, what string) string) {
	dir := s.t.TempDir()
	s.plugin(name, fmt.Sprintf(`env >%[1]s/$CNI_COMMAND.env; cat >%[1]s/$CNI_COMMAND.stdin; ls -l /proc/self/fd/ >%[1]s/$CNI_COMMAND.fds; echo "$CNI_COMMAND" >>%[1]s/all.log
%[2]s
echo '{"cniVersion": "1.0.0", "interfaces": [{"name": "host0"}, {"name": "eth0", "sandbox": "x"}],
  "ips": [{"address": "10.99.0.1/16", "interface": 0}, {"address": "10.99.0.5/16", "gateway": "10.99.0.1", "interface": 1}, {"address": "fd00:99::5/64"}],
  "dns": {"nameservers": ["10.99.0.2", "fd00::2"], "domain": "d.test", "search": ["s.test"], "options": ["ndots:2"]}}'`, dir, rest))
	return func(command, what string) string {
		b, err := os.ReadFile(filepath.Join(dir, command+"."+what))
		if err != nil {
			s.t.Error(err)
		}
		return string(b)
	}
}

func (s site) attachment(more Attachment) Attachment {
	more.ID, more.Interface = id, "eth0"
	if more.NetNS == "" {
		more.NetNS, _ = startContainer(s.t)
	}
	return more
}

// nothingKept fails if something is left of an attachment.
func (s site) nothingKept() {
	s.t.Helper()
	for _, d := range []string{"attachments", "results"} {
		left, err := os.ReadDir(filepath.Join(s.CacheDir, d))
		if err != nil && !os.IsNotExist(err) || len(left) > 0 {
			s.t.Errorf("%s: %v, %v", d, left, err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), s.CacheDir) {
		s.t.Errorf("mounts in the cache: %v", err)
	}
}

func TestWhatPluginsAreGiven(t *testing.T) {
	for _, kv := range [][2]string{{"SECRET", "x"}, {"LD_PRELOAD", "/evil.so"}, {"CNI_ARGS", "IP=1.2.3.4"}, {"CNI_OTHER", "x"}, {"CNI_NETNS_OVERRIDE", "1"}} {
		t.Setenv(kv[0], kv[1])
	}
	s := newSite(t)
	given := s.dump("dump", "")
	mute := s.dump("mute", "")
	s.conf("1.conflist", `{"name": "net", "cniVersion": "1.0.0", "plugins": [
		{"type": "dump", "capabilities": {"portMappings": true, "ips": true, "mac": true, "aliases": true}},
		{"type": "mute", "capabilities": {"ips": false}}]}`)
	n := s.find("net")
	a := s.attachment(Attachment{
		Ports: []ports.Mapping{{Host: netip.MustParseAddr("127.0.0.1"), HostPort: 8080, Port: 80, Proto: "tcp"}},
		IPs:   []netip.Addr{netip.MustParseAddr("10.99.0.5")}, MAC: net.HardwareAddr{2, 0x42, 0, 0, 0, 1}, Aliases: []string{"db"},
	})
	r, err := n.Setup(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	want := Result{
		Interface: "eth0",
		Addrs:     []netip.Prefix{netip.MustParsePrefix("10.99.0.5/16"), netip.MustParsePrefix("fd00:99::5/64")},
		Gateways:  []netip.Addr{netip.MustParseAddr("10.99.0.1")},
		DNS: DNS{
			Nameservers: []netip.Addr{netip.MustParseAddr("10.99.0.2"), netip.MustParseAddr("fd00::2")},
			Domain:      "d.test", Search: []string{"s.test"}, Options: []string{"ndots:2"},
		},
	}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("%+v", r)
	}
	// The second of one name is refused, and costs the first nothing.
	if _, err := n.Setup(t.Context(), a); fail.KindOf(err) != fail.Conflict {
		t.Errorf("a second Setup: %v", err)
	}
	if err := Teardown(t.Context(), s.Config, "net", id, "eth0"); err != nil {
		t.Fatal(err)
	}
	s.nothingKept()
	for _, command := range []string{"ADD", "DEL"} {
		var keys []string
		for line := range strings.Lines(given(command, "env")) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			// Those of the shell itself.
			if !slices.Contains([]string{"PWD", "OLDPWD", "SHLVL", "_"}, key) {
				keys = append(keys, key)
			}
			if key == "CNI_ARGS" && value != "" || key == "CNI_IFNAME" && value != "eth0" || key == "CNI_CONTAINERID" && value != id {
				t.Errorf("%s: %s", command, line)
			}
		}
		slices.Sort(keys)
		if want := "CNI_ARGS CNI_COMMAND CNI_CONTAINERID CNI_IFNAME CNI_NETNS CNI_PATH PATH"; strings.Join(keys, " ") != want {
			t.Errorf("%s: the environment is %v", command, keys)
		}
		in := given(command, "stdin")
		for _, want := range []string{`"hostIP":"127.0.0.1"`, `"hostPort":8080`, `"containerPort":80`, `"protocol":"tcp"`, `"ips":["10.99.0.5"]`, `"mac":"02:42:00:00:00:01"`, `"aliases":["db"]`} {
			if !strings.Contains(in, want) {
				t.Errorf("%s: no %s in %s", command, want, in)
			}
		}
		if in := mute(command, "stdin"); strings.Contains(in, "runtimeConfig") {
			t.Errorf("%s of a plugin without capabilities: %s", command, in)
		}
		if strings.Contains(given(command, "fds"), "socket:") {
			t.Errorf("%s: open files %s", command, given(command, "fds"))
		}
	}
}

func TestCapabilitiesThatNobodyHas(t *testing.T) {
	s := newSite(t)
	given := s.dump("dump", "")
	s.conf("1.conflist", `{"name": "net", "cniVersion": "1.0.0", "plugins": [{"type": "dump", "capabilities": {"portMappings": false}}]}`)
	n := s.find("net")
	for say, a := range map[string]Attachment{
		"-p and -P cannot be had":          {Ports: []ports.Mapping{{Host: netip.IPv4Unspecified(), HostPort: 8080, Port: 80, Proto: "tcp"}}},
		"--ip and --ip6 cannot be had":     {IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}},
		"--mac-address cannot be had":      {MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}},
		"--network-alias cannot be had":    {Aliases: []string{"db"}},
		"it is not the network namespace":  {NetNS: "/proc/self/ns/net"},
		"it is not the network namespace ": {NetNS: "/proc/self/ns/mnt"},
		"no such file":                     {NetNS: "/absent"},
	} {
		_, err := n.Setup(t.Context(), s.attachment(a))
		if fail.KindOf(err) != fail.HostCannot || !strings.Contains(fmt.Sprint(err), strings.TrimSpace(say)) {
			t.Errorf("%q: %v", say, err)
		}
	}
	s.nothingKept()
	if _, err := n.Setup(t.Context(), s.attachment(Attachment{})); err != nil {
		t.Error(err)
	}
	if log := given("all", "log"); log != "ADD\n" {
		t.Errorf("ran %q", log)
	}
	if err := Teardown(t.Context(), s.Config, "net", id, "eth0"); err != nil {
		t.Error(err)
	}
	s.nothingKept()
}

// A Setup that fails has its plugins give back what they made.
func TestSetupFails(t *testing.T) {
	long := strings.Repeat("x", 3<<20)
	for name, c := range map[string]struct{ script, say string }{
		"says why":      {`[ $CNI_COMMAND = DEL ] && exit; echo '{"code": 100, "msg": "no room\u001b[2J"}'; exit 1`, "no room?[2J"},
		"says nothing":  {`[ $CNI_COMMAND = DEL ] && exit; exit 3`, "exit status 3"},
		"says to all":   {`[ $CNI_COMMAND = DEL ] && exit; echo oops >&2; exit 3`, "exit status 3: oops"},
		"too much":      {`[ $CNI_COMMAND = DEL ] && exit; head -c 3000000 /dev/zero`, "more than 1048576 bytes"},
		"too much said": {`[ $CNI_COMMAND = DEL ] && exit; head -c 3000000 /dev/zero >&2; exit 3`, "exit status 3"},
		"no JSON":       {`[ $CNI_COMMAND = DEL ] && exit; echo no`, "failed to unmarshal"},
		"no address":    {`[ $CNI_COMMAND = DEL ] && exit; printf %s '{"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.1/8", "interface": 7}]}'`, "an interface 7 that there is not"},
		"evil DNS":      {`[ $CNI_COMMAND = DEL ] && exit; printf %s '{"cniVersion": "1.0.0", "dns": {"search": ["a\nnameserver 6.6.6.6"]}}'`, "a domain or option that is none"},
		"no server":     {`[ $CNI_COMMAND = DEL ] && exit; printf %s '{"cniVersion": "1.0.0", "dns": {"nameservers": ["6.6.6.6\n"]}}'`, "a name server that is no address"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			given := s.dump("dump", "")
			s.plugin("bad", c.script)
			s.conf("1.conflist", `{"name": "net", "cniVersion": "1.0.0", "plugins": [{"type": "dump"}, {"type": "bad"}]}`)
			_, err := s.find("net").Setup(t.Context(), s.attachment(Attachment{}))
			if fail.KindOf(err) != fail.HostCannot || !strings.Contains(fmt.Sprint(err), c.say) || len(fmt.Sprint(err)) > len(long)/100 {
				t.Errorf("%.2000v", err)
			}
			if log := given("all", "log"); log != "ADD\nDEL\n" {
				t.Errorf("ran %q", log)
			}
			s.nothingKept()
		})
	}
}

// What hangs is ended with the launch, and what it has started.
func TestSetupIsStopped(t *testing.T) {
	s := newSite(t)
	given := s.dump("dump", "[ $CNI_COMMAND = DEL ] || sleep 1000")
	s.conf("1.conflist", `{"name": "net", "cniVersion": "1.0.0", "plugins": [{"type": "dump"}]}`)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := s.find("net").Setup(ctx, s.attachment(Attachment{})); fail.KindOf(err) != fail.HostCannot {
		t.Error(err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if log := given("all", "log"); log != "ADD\nDEL\n" {
		t.Errorf("ran %q", log)
	}
	s.nothingKept()
}

// A Teardown waits for plugins that are still at work when their launcher
// has been killed.
func TestTeardownWaitsForPlugins(t *testing.T) {
	s := newSite(t)
	given := s.dump("dump", "")
	s.conf("1.conflist", `{"name": "net", "cniVersion": "1.0.0", "plugins": [{"type": "dump"}]}`)
	a := s.attachment(Attachment{})
	if _, err := s.find("net").Setup(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	k := s.kept("net", id, "eth0")
	f, err := os.OpenFile(k.record(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	orphan := exec.Command("sleep", "0.5")
	orphan.ExtraFiles = []*os.File{f}
	if err := orphan.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = orphan.Wait() }() // it sleeps
	f.Close()
	begin := time.Now()
	if err := Teardown(t.Context(), s.Config, "net", id, "eth0"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < 300*time.Millisecond {
		t.Errorf("it did not wait: %v", took)
	}
	if log := given("all", "log"); log != "ADD\nDEL\n" {
		t.Errorf("ran %q", log)
	}
	s.nothingKept()
}

// Neither the container nor the network has to be there.
func TestTeardownLater(t *testing.T) {
	for name, spoil := range map[string]func(s site, k kept, end func()){
		"all is there":      func(site, kept, func()) {},
		"no process":        func(s site, k kept, end func()) { end() },
		"no network":        func(s site, k kept, end func()) { _ = os.Remove(s.ConfDir + "/1.conflist") },
		"a changed network": func(s site, k kept, end func()) { s.conf("1.conflist", strings.ReplaceAll(plain, "plain", "net")) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			given := s.dump("dump", "")
			s.conf("1.conflist", `{"name": "net", "cniVersion": "1.0.0", "plugins": [{"type": "dump"}]}`)
			netns, end := startContainer(t)
			a := s.attachment(Attachment{NetNS: netns})
			if _, err := s.find("net").Setup(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			k := s.kept("net", id, "eth0")
			spoil(s, k, end)
			for range 2 {
				if err := Teardown(t.Context(), s.Config, "net", id, "eth0"); err != nil {
					t.Fatal(err)
				}
			}
			if log := given("all", "log"); log != "ADD\nDEL\n" {
				t.Errorf("ran %q", log)
			}
			if env := given("DEL", "env"); !strings.Contains(env, "CNI_NETNS="+k.mount()+"\n") {
				t.Errorf("%s", env)
			}
			s.nothingKept()
		})
	}
}

// After a restart of the host there is a file where the mount was; no plugin
// may take it, or this process's namespace, for the container's.
func TestTeardownAfterRestart(t *testing.T) {
	s := newSite(t)
	given := s.dump("dump", "")
	s.conf("1.conflist", `{"name": "net", "cniVersion": "1.0.0", "plugins": [{"type": "dump"}]}`)
	if _, err := s.find("net").Setup(t.Context(), s.attachment(Attachment{})); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(s.kept("net", id, "eth0").mount(), 0); err != nil {
		t.Fatal(err)
	}
	if err := Teardown(t.Context(), s.Config, "net", id, "eth0"); err != nil {
		t.Fatal(err)
	}
	if env := given("DEL", "env"); !strings.Contains(env, "CNI_NETNS=\n") {
		t.Errorf("%s", env)
	}
	s.nothingKept()
}

// Plugins that are not root's are not run to clean up either.
func TestTeardownTrust(t *testing.T) {
	s := newSite(t)
	given := s.dump("dump", "")
	s.conf("1.conflist", `{"name": "net", "cniVersion": "1.0.0", "plugins": [{"type": "dump"}]}`)
	if _, err := s.find("net").Setup(t.Context(), s.attachment(Attachment{})); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.BinDirs[0]+"/dump", 0o777); err != nil {
		t.Fatal(err)
	}
	if err := Teardown(t.Context(), s.Config, "net", id, "eth0"); fail.KindOf(err) != fail.HostCannot {
		t.Errorf("%v", err)
	}
	if err := os.Chmod(s.BinDirs[0]+"/dump", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Teardown(t.Context(), s.Config, "net", id, "eth0"); err != nil {
		t.Errorf("%v", err)
	}
	if log := given("all", "log"); log != "ADD\nDEL\n" {
		t.Errorf("ran %q", log)
	}
	s.nothingKept()
}

func TestHostileNames(t *testing.T) {
	s := newSite(t)
	for _, c := range [][3]string{{"../x", id, "eth0"}, {"net", "../x", "eth0"}, {"net", id, "../x"}, {"net", "", "eth0"}, {"net", id, ""}, {"net", id, "eth\x1b"}} {
		if err := Teardown(t.Context(), s.Config, c[0], c[1], c[2]); fail.KindOf(err) != fail.Internal || err == nil {
			t.Errorf("%q: %v", c, err)
		}
	}
}
