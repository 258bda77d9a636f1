package threats

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/tests/harness"
)

// fails wants a command to end with an error and a clean message.
func fails(t *testing.T, args ...string) harness.Answer {
	t.Helper()
	a := here.Run(args...)
	if a.Code <= 0 || strings.TrimSpace(a.Stderr) == "" || strings.ContainsAny(a.Stderr+a.Stdout, "\x1b\x00") {
		t.Errorf("%q: %s", args, a)
	}
	return a
}

// listing is what is in a directory now.
func listing(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestL1(t *testing.T) {
	row(t, "L1")
	runs(t, "busybox", "true") // from now on there is a network
	around := []string{filepath.Dir(here.Dir), here.Root, here.State, filepath.Join(here.Root, "networks")}
	before := map[string][]string{}
	lasting := func(dir string) []string { // this file is there while containers run
		return slices.DeleteFunc(listing(t, dir), func(name string) bool { return filepath.Base(name) == "forwarding.json" })
	}
	for _, dir := range around[1:] {
		before[dir] = lasting(dir)
	}
	long := strings.Repeat("a", 300)
	names := []string{"../../x", "/abs", ".", "..", "a", long, long[:65], "a\nb", "a/b", "a b", "a\tb", "-x", "_x", ".x", "a%s", "a\x1b[31m", "аdmin", "ab\u202ecd", "ab\xff", "$(id)", "a;b", "a\\b", "a:b"}
	all := attempts{}
	for _, n := range names {
		all[""] = append(all[""], lineOf("--name", n), lineOf("--mount", "type=volume,src="+n+",dst=/x"), lineOf("--network", "../"+n), lineOf("--network", "x/"+n), lineOf("--network-alias", n+"/.."))
	}
	all[""] = append(all[""], lineOf("-v", "x/../y:/x"), lineOf("-v", long+":/x"), lineOf("--profile", ".."), lineOf("--profile", "../../../../etc"), lineOf("--secret", "../x=/etc/hostname"), lineOf("--secret", "id=a/b,src=/etc/hostname"))
	refusedEach(t, all)
	for _, n := range names {
		for _, verb := range [][]string{{"volume", "create"}, {"network", "create"}, {"volume", "rm"}, {"network", "rm"}, {"rm", "-f"}, {"rename", "no-such"}, {"exec"}, {"inspect"}, {"logs"}} {
			if verb[0] == "network" && n == "a" || n == "-x" || verb[1%len(verb)] == "create" && n == long[:65] || verb[1%len(verb)] == "rm" && n == long[:65] {
				continue // names there, or a flag
			}
			args := append(slices.Clone(verb), n)
			if verb[0] == "exec" {
				args = append(args, "true")
			}
			if verb[0] == "rm" { // -f of nothing is no error
				if a := here.Run(args...); strings.ContainsAny(a.Stderr+a.Stdout, "\x1b\x00") {
					t.Errorf("%q: %s", args, a)
				}
				continue
			}
			fails(t, args...)
		}
	}
	for dir, was := range before {
		if now := lasting(dir); !slices.Equal(now, was) {
			t.Errorf("%s had %q and has %q", dir, was, now)
		}
	}
	if _, err := os.Lstat(filepath.Join(around[0], "x")); err == nil {
		t.Error("something was made outside")
	}
	runs(t, "--name", "l1-Good.name_1", "busybox", "true")
}

func TestL2(t *testing.T) {
	row(t, "L2")
	dir := groundDir(t)
	victim := put(t, filepath.Join(dir, "victim"), "content")
	closed := owned(t, makeDir(t, filepath.Join(dir, "closed")), 0, 0o755)
	rootsEmpty := put(t, filepath.Join(dir, "roots-empty"), "")
	fifo := filepath.Join(dir, "fifo")
	must(t, unix.Mkfifo(fifo, 0o666))
	theirs := owned(t, makeDir(t, filepath.Join(dir, "theirs")), someUser, 0o755)
	link := linkTo(t, filepath.Join(theirs, "link"), victim)
	must(t, os.Lchown(link, someUser, someUser))
	dangling := linkTo(t, filepath.Join(theirs, "dangling"), filepath.Join(closed, "made"))
	must(t, os.Lchown(dangling, someUser, someUser))
	bad := []string{victim, link, dangling, dir, fifo, "/proc/self/mem", "/dev/null", "/etc/passwd", filepath.Join(dir, "none/id"), linkTo(t, filepath.Join(dir, "to-empty"), rootsEmpty)}
	cid := func(all ...string) (out [][]string) {
		for _, p := range all {
			out = append(out, []string{"--cidfile", p})
		}
		return out
	}
	refusedEach(t, attempts{"": cid(bad...)})
	good := filepath.Join(dir, "id")
	runs(t, "--cidfile", good, "busybox", "true")
	whole := regexp.MustCompile(`^[0-9a-f]{64}$`)
	if b, err := os.ReadFile(good); err != nil || !whole.Match(b) {
		t.Errorf("%q %v", b, err)
	}
	underSudo(t, someUser)
	refusedEach(t, attempts{"": cid(append(bad, rootsEmpty, filepath.Join(closed, "id"), "/etc/l2-id", "/root/l2-id")...)})
	mine := owned(t, put(t, filepath.Join(theirs, "mktemp"), ""), someUser, 0o600)
	for _, p := range []string{filepath.Join(theirs, "id"), mine} {
		runs(t, "--cidfile", p, "busybox", "true")
		var st unix.Stat_t
		if b, err := os.ReadFile(p); err != nil || !whole.Match(b) || unix.Stat(p, &st) != nil || st.Uid != someUser {
			t.Errorf("%s: %q of uid %d: %v", p, b, st.Uid, err)
		}
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "content" {
		t.Errorf("the victim is %q: %v", b, err)
	}
	if len(listing(t, closed)) > 0 {
		t.Error("a file was made with root's rights")
	}
}

// inputFiles are the flags that name a file to be read.
func inputFiles(p string) [][]string {
	return [][]string{
		{"--env-file", p}, {"--label-file", p}, {"--profile", p}, {"--security-opt", "seccomp=" + p}, {"--secret", "token=" + p}, {"--secret", "id=t,src=" + p},
	}
}

func TestL3(t *testing.T) {
	row(t, "L3")
	const marker = "l3-marker$6$hash"
	dir := groundDir(t)
	// Like /etc/shadow, and unlike it: every line can be read as something.
	shadow := owned(t, put(t, filepath.Join(dir, "shadow"), "root:"+marker+":19000:0:::::\nA="+marker+"\n "+marker+" b\n=\n"), 0, 0o600)
	silent := func(flags []string) {
		t.Helper()
		if a := turnedDown(t, "", flags...); strings.Contains(a.Stderr+a.Stdout, marker) {
			t.Errorf("%q shows what is in the file: %s", flags, a)
		}
	}
	for _, flags := range inputFiles(shadow)[:4] {
		silent(flags) // it is no such file
	}
	if a := turnedDown(t, "", "--env-file", shadow); !strings.Contains(a.Stderr, "line ") {
		t.Errorf("which line is wrong? %s", a)
	}
	closed := owned(t, makeDir(t, filepath.Join(dir, "closed")), 0, 0o700)
	must(t, os.Chmod(owned(t, put(t, filepath.Join(closed, "file"), "A="+marker), 0, 0o644), 0o644))
	theirs := owned(t, makeDir(t, filepath.Join(dir, "theirs")), someUser, 0o755)
	env := owned(t, put(t, filepath.Join(theirs, "env"), "L3=mine\n"), someUser, 0o600)
	link := linkTo(t, filepath.Join(theirs, "link"), shadow)
	underSudo(t, someUser)
	before := here.Inventory(t)
	for _, p := range []string{shadow, link, filepath.Join(closed, "file"), "/etc/shadow", "/proc/1/environ"} {
		for _, flags := range inputFiles(p) {
			silent(flags)
		}
	}
	if out := runs(t, "--env-file", env, "--secret", "t="+env, "busybox", "sh", "-c", "echo $L3; cat /run/secrets/t"); out != "mine\nL3=mine\n" {
		t.Errorf("the caller's own: %q", out)
	}
	harness.Same(t, before, here.Inventory(t))
}

func TestL4(t *testing.T) {
	row(t, "L4")
	dir := groundDir(t)
	fifo := filepath.Join(dir, "fifo")
	must(t, unix.Mkfifo(fifo, 0o666))
	socket := listen(t, filepath.Join(dir, "socket"))
	huge := put(t, filepath.Join(dir, "huge"), "")
	must(t, os.Truncate(huge, 1<<40))
	for _, p := range []string{fifo, "/dev/zero", "/dev/random", "/dev/ptmx", "/dev/stdin", dir, socket, huge, linkTo(t, filepath.Join(dir, "link"), fifo), filepath.Join(dir, "none")} {
		tries := inputFiles(p)
		for i := range tries {
			tries[i] = slices.Concat([]string{"run", "--rm"}, tries[i], []string{"busybox", "true"})
		}
		tries = append(tries, []string{"policy", "check", p}, []string{"profile", "check", p}, []string{"profile", "show", p})
		for _, args := range tries {
			if a := fails(t, args...); a.Took > harness.Patient(10*time.Second) {
				t.Errorf("%q took %v", args, a.Took)
			}
		}
	}
	// A regular file by its type, and waiting for the kernel's next message.
	for _, args := range [][]string{{"--rm", "--env-file", "/proc/kmsg", "busybox", "true"}, {"policy", "check", "/proc/kmsg"}} {
		if a := fails(t, args...); a.Took > harness.Patient(15*time.Second) {
			t.Errorf("%q took %v", args, a.Took)
		}
	}
	// An archive can come through a pipe; what never ends is not read on.
	for _, p := range []string{"/dev/zero", dir, huge} {
		if a := fails(t, "load", "-i", p); a.Took > harness.Patient(20*time.Second) {
			t.Errorf("load -i %s took %v", p, a.Took)
		}
	}
}

func TestL5(t *testing.T) {
	row(t, "L5")
	dir := groundDir(t)
	var calls atomic.Int32
	evil := filepath.Join(dir, "evil.sock")
	for _, network := range [][2]string{{"unix", evil}, {"tcp", "127.0.0.1:0"}} {
		l, err := net.Listen(network[0], network[1])
		must(t, err)
		defer l.Close()
		if network[0] == "tcp" {
			for _, name := range []string{"http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
				t.Setenv(name, "http://"+l.Addr().String())
			}
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				calls.Add(1)
				c.Close()
			}
		}()
	}
	// Programs of the same names as those safe-run, its engine or docker's
	// client might look for.
	bin, marks := makeDir(t, filepath.Join(dir, "bin")), filepath.Join(dir, "marks")
	for _, name := range []string{
		"runc", "containerd", "containerd-shim-runc-v2", "ctr", "tini", "safe-run", "safe-run-activate", "nft", "iptables", "iptables-save", "ip6tables", "ip", "apparmor_parser",
		"modprobe", "newuidmap", "newgidmap", "getent", "systemctl", "journalctl", "mount", "umount", "unpigz", "igzip", "docker-credential-evil", "sh", "criu", "fuse-overlayfs",
	} {
		must(t, os.WriteFile(filepath.Join(bin, name), []byte("#!"+busyboxPath(t)+" sh\necho "+name+" >>"+marks+"\nexit 1\n"), 0o755))
	}
	docker := makeDir(t, filepath.Join(dir, ".docker"))
	put(t, filepath.Join(docker, "config.json"), `{"credsStore":"evil","auths":{"127.0.0.1:1":{"auth":"ZTp4"}},"proxies":{"default":{"httpProxy":"http://127.0.0.1:9"}}}`)
	places := map[string]string{}
	for _, name := range []string{"TMPDIR", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "SAFE_RUN_ROOT", "SAFE_RUN_STATE"} {
		places[name] = makeDir(t, filepath.Join(dir, "places", name))
	}
	for name, p := range places {
		t.Setenv(name, p)
	}
	for name, v := range map[string]string{
		"CONTAINERD_ADDRESS": evil, "CONTAINERD_NAMESPACE": "../../x", "DOCKER_HOST": "unix://" + evil, "DOCKER_CONFIG": docker, "DOCKER_AUTH_CONFIG": `{"auths":{"127.0.0.1:1":{"auth":"ZTp4"}}}`,
		"HOME": dir, "PATH": bin, "LD_PRELOAD": filepath.Join(bin, "x.so"), "LD_LIBRARY_PATH": bin, "GODEBUG": "gctrace=1,schedtrace=1", "GOTRACEBACK": "crash", "GOMEMLIMIT": "1", "SSL_CERT_FILE": filepath.Join(docker, "config.json"),
		"SSL_CERT_DIR": docker, "NOTIFY_SOCKET": evil, "LISTEN_FDS": "1", "BASH_ENV": filepath.Join(bin, "sh"), "ENV": filepath.Join(bin, "sh"), "IFS": "/", "RUNC_DEBUG": "1", "SAFE_RUN_FAULT": "kill:1",
	} {
		t.Setenv(name, v)
	}
	underSudo(t, someUser) // its engine is started in this environment
	a := here.Run("--rm", "-v", "/l5", "busybox", "sh", "-c", "echo ran; env")
	if a.Code != 0 || !strings.HasPrefix(a.Stdout, "ran\n") || strings.Contains(a.Stdout, dir) {
		t.Errorf("a start: %s", a)
	}
	a = here.Run("--rm", "127.0.0.1:1/l5/image:1", "true")
	if a.Code != 125 || strings.Contains(a.Stderr, "proxy") {
		t.Errorf("a pull: %s", a)
	}
	if a := here.Run("images", "-q"); a.Code != 0 {
		t.Errorf("the images: %s", a)
	}
	if n := calls.Load(); n > 0 {
		t.Errorf("%d connections to what the environment named", n)
	}
	if b, err := os.ReadFile(marks); err == nil {
		t.Errorf("programs of the caller's PATH ran: %q", b)
	}
	for name, p := range places {
		if made := listing(t, p); len(made) > 0 {
			t.Errorf("%s was used: %q", name, made)
		}
	}
}
