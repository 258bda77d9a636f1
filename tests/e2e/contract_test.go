package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestExitCodes: what scripts test for in $?.
func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		code int
	}{
		{"success", []string{"--rm", "busybox", "true"}, 0},
		{"the program's own", []string{"--rm", "busybox", "sh", "-c", "exit 3"}, 3},
		{"the program's 125", []string{"--rm", "busybox", "sh", "-c", "exit 125"}, 125},
		{"unknown flag", []string{"--rm", "--no-such-flag", "busybox", "true"}, 125},
		{"bad value", []string{"--rm", "--memory", "lots", "busybox", "true"}, 125},
		{"no such image", []string{"--rm", "--pull", "never", "no-such-image", "true"}, 125},
		{"refused", []string{"--rm", "--privileged", "busybox", "true"}, 125},
		{"a directory", []string{"--rm", "busybox", "/etc"}, 126},
		{"not executable", []string{"--rm", "busybox", "/etc/passwd"}, 126},
		{"no such command", []string{"--rm", "busybox", "no-such-command"}, 127},
		{"no such path", []string{"--rm", "busybox", "/no/such/command"}, 127},
		{"killed", []string{"--rm", "--init", "busybox", "sh", "-c", "kill -KILL $$"}, 137},
		{"terminated", []string{"--rm", "--init", "busybox", "sh", "-c", "kill -TERM $$"}, 143},
		{"no image", []string{"--rm"}, 1},
		{"-t and no terminal", []string{"--rm", "-it", "busybox", "true"}, 1},
		{"help", []string{"--help"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := take(t)
			if r := run(c.args...); r.code != c.code {
				t.Errorf("wanted exit %d, got %s", c.code, r)
			}
			same(t, before, take(t))
		})
	}
}

// TestStdio: only the container's output reaches stdout.
func TestStdio(t *testing.T) {
	for _, c := range []struct {
		name, stdin string
		args        []string
		out, err    string
	}{
		{"pipe", "hi\n", []string{"-i", "--rm", "busybox", "cat"}, "hi\n", ""},
		{"end of input", "", []string{"-i", "--rm", "busybox", "cat"}, "", ""},
		{"stdin without -i is empty", "hi\n", []string{"--rm", "busybox", "cat"}, "", ""},
		{"two streams", "", []string{"--rm", "busybox", "sh", "-c", "echo out; echo err >&2"}, "out\n", "err\n"},
		{"only stdout", "", []string{"--rm", "-a", "stdout", "busybox", "sh", "-c", "echo out; echo err >&2"}, "out\n", ""},
		{"only stderr", "", []string{"--rm", "-a", "STDERR", "busybox", "sh", "-c", "echo out; echo err >&2"}, "", "err\n"},
		{"a terminal merges", "", []string{"--rm", "-t", "busybox", "sh", "-c", "echo out; echo err >&2"}, "out\r\nerr\r\n", ""},
		{"no newline at the end", "", []string{"--rm", "busybox", "printf", "x"}, "x", ""},
		{"NUL bytes", "", []string{"--rm", "busybox", "printf", `a\0b`}, "a\x00b", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := call(request{args: c.args, stdin: c.stdin})
			if r.code != 0 || r.stdout != c.out || r.stderr != c.err {
				t.Errorf("wanted stdout %q, stderr %q, got %s", c.out, c.err, r)
			}
		})
	}
	t.Run("megabytes both ways", func(t *testing.T) {
		in := strings.Repeat("0123456789abcde\n", 1<<18)
		r := call(request{args: []string{"-i", "--rm", "busybox", "cat"}, stdin: in})
		if r.code != 0 || r.stdout != in {
			t.Errorf("4 MiB through cat: %d bytes came back, exit %d, %s", len(r.stdout), r.code, clip(r.stderr))
		}
	})
	t.Run("a reader that goes away", func(t *testing.T) {
		cmd := request{bin: "/bin/bash", args: []string{"-c", here.bin + " --rm busybox yes | head -n 2"}}
		if r := call(cmd); r.stdout != "y\ny\n" {
			t.Errorf("yes | head: %s", r)
		}
	})
}

// TestInside: a flag, and what the program finds.
func TestInside(t *testing.T) {
	dir := tempDir(t)
	envFile := writeFile(t, filepath.Join(dir, "env"), "# comment\nA=1\n  B=two words \nHOME_OF_CALLER\nC=x#y\n", 0o644)
	for _, c := range []struct {
		name   string
		flags  []string
		script string
		want   string // regular expression, whole output
	}{
		{"env", []string{"-e", "A=1", "-e", "B=x=y", "-e", "A=2"}, "echo $A $B", "2 x=y\n"},
		{"env of the caller", []string{"-e", "FROM_CALLER"}, "echo $FROM_CALLER", "caller\n"},
		{"env removed", []string{"-e", "NOT_SET_ANYWHERE"}, "env | grep -c NOT_SET; true", "0\n"},
		{"env file", []string{"--env-file", envFile, "-e", "A=over"}, `printf '<%s>' "$A" "$B" "$C"`, "<over><two words ><x#y>"},
		{"path", nil, "echo $PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"},
		{"home", nil, "echo $HOME", "/root\n"},
		{"home of the user", []string{"-u", "user"}, "echo $HOME", "/home/user\n"},
		{"term", []string{"-t"}, "echo $TERM", "xterm\r\n"},
		{"user by number", []string{"-u", "1234:5678"}, "id -u; id -g; id -G", "1234\n5678\n5678\n"},
		{"user by name", []string{"-u", "user"}, "id -u; id -g; id -G", "1000\n1000\n1000 10\n"},
		{"user and group by name", []string{"-u", "user:wheel"}, "id -u; id -g; id -G", "1000\n10\n10\n"},
		{"group-add", []string{"-u", "1000", "--group-add", "wheel", "--group-add", "4242"}, "id -G", "(1000 )?10 4242( 10)?\n"},
		{"workdir", []string{"-w", "/usr/bin"}, "pwd", "/usr/bin\n"},
		{"hostname", []string{"--hostname", "box"}, "hostname; cat /etc/hostname; echo $HOSTNAME", "box\nbox\nbox\n"},
		{"hostname is the id", nil, "hostname", "[0-9a-f]{12}\n"},
		{"hosts", []string{"--add-host", "store:192.0.2.7"}, "grep -E 'localhost|store' /etc/hosts", "(?s)127.0.0.1\\s+localhost.*192.0.2.7\\s+store\n"},
		{"ulimit", []string{"--ulimit", "nofile=100:200", "--ulimit", "fsize=4096"}, "ulimit -Sn; ulimit -Hn; ulimit -f", "100\n200\n8\n"},
		{"no core dumps", nil, "ulimit -c", "0\n"},
		{"tmpfs", []string{"--tmpfs", "/scratch:size=2m,mode=700"}, "df -k /scratch | tail -n1 | tr -s ' ' | cut -d' ' -f2; stat -c %a /scratch", "2048\n700\n"},
		{"tmpfs by --mount", []string{"--mount", "type=tmpfs,target=/scratch,tmpfs-size=1m,tmpfs-mode=1770"}, "df -k /scratch | tail -n1 | tr -s ' ' | cut -d' ' -f2; stat -c %a /scratch", "1024\n1770\n"},
		{"a full tmpfs", []string{"--tmpfs", "/scratch:size=1m"}, "dd if=/dev/zero of=/scratch/x bs=1k count=2000 2>&1 | grep -c 'No space'", "1\n"},
		{"shm-size", []string{"--shm-size", "1m"}, "df -k /dev/shm | tail -n1 | tr -s ' ' | cut -d' ' -f2", "1024\n"},
		{"init is pid 1", []string{"--init"}, "cat /proc/1/cmdline | tr '\\0' ' ' | cut -d' ' -f1", "/sbin/docker-init\n"},
		{"the command is pid 1", nil, "echo $$", "1\n"},
		{"entrypoint", []string{"--entrypoint", "/bin/echo"}, "x", "sh -c x\n"},
		{"memory", []string{"-m", "64m"}, "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max", "67108864\n"},
		{"pids", []string{"--pids-limit", "20"}, "cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max", "20\n"},
		{"sysctl", []string{"--sysctl", "kernel.msgmax=4096"}, "cat /proc/sys/kernel/msgmax", "4096\n"},
		{"read-only root", nil, "touch /x 2>&1; touch /etc/x 2>&1; true", "(?s).*Read-only.*Read-only.*"},
		{"writable by default", nil, "for d in /tmp /run /var/tmp /dev/shm; do echo x >$d/x && cat $d/x; done", "(x\n){4}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append(append([]string{"--rm"}, c.flags...), "busybox", "sh", "-c", c.script)
			r := call(request{args: args, env: []string{"FROM_CALLER=caller"}})
			if ok, err := regexp.MatchString("^(?:"+c.want+")$", r.stdout); err != nil || !ok || r.code != 0 {
				t.Errorf("wanted %q, got %s", c.want, r)
			}
		})
	}
}

// TestCIDFile: the file holds the id, no newline, and stays; one that exists
// is an error before anything is made.
func TestCIDFile(t *testing.T) {
	path := filepath.Join(tempDir(t), "cid")
	r := run("--rm", "--cidfile", path, "busybox", "true")
	b, err := os.ReadFile(path)
	if err != nil || r.code != 0 || !regexp.MustCompile(`^[0-9a-f]{64}$`).Match(b) {
		t.Fatalf("cidfile holds %q (%v); %s", b, err, r)
	}
	before := take(t)
	if r := run("--rm", "--cidfile", path, "busybox", "true"); r.code != 125 {
		t.Errorf("an existing cidfile: %s", r)
	}
	if again, _ := os.ReadFile(path); string(again) != string(b) {
		t.Error("the existing cidfile was overwritten")
	}
	link := filepath.Join(filepath.Dir(path), "link")
	victim := filepath.Join(filepath.Dir(path), "victim")
	if err := os.Symlink(victim, link); err != nil {
		t.Fatal(err)
	}
	if r := run("--rm", "--cidfile", link, "busybox", "true"); r.code != 125 {
		t.Errorf("a dangling symlink as cidfile: %s", r)
	}
	if _, err := os.Lstat(victim); err == nil {
		t.Error("the cidfile was written through a symlink")
	}
	same(t, before, take(t))
}

// TestNames: a name is taken as long as its container exists.
func TestNames(t *testing.T) {
	if r := run("--name", "e2e-kept", "busybox", "true"); r.code != 0 {
		t.Fatal(r)
	}
	t.Cleanup(func() { run("rm", "-f", "e2e-kept") })
	if r := run("ps", "-a"); !strings.Contains(r.stdout, "e2e-kept") {
		t.Errorf("ps -a does not know the container: %s", r)
	}
	if r := run("--rm", "--name", "e2e-kept", "busybox", "true"); r.code != 125 || !strings.Contains(r.stderr, "e2e-kept") {
		t.Errorf("a taken name: %s", r)
	}
	if r := run("rm", "e2e-kept"); r.code != 0 {
		t.Errorf("rm: %s", r)
	}
	for _, bad := range []string{"../x", "/abs", ".", "a", "-x", "a\nb", strings.Repeat("x", 300), "ä"} {
		if r := run("--rm", "--name="+bad, "busybox", "true"); r.code != 125 {
			t.Errorf("--name=%q: %s", bad, r)
		}
	}
}

// TestBindOwners: files written through a bind carry the ids the program has
// inside, as with docker.
func TestBindOwners(t *testing.T) {
	for _, spelling := range []string{"-v", "--mount"} {
		for _, id := range []uint32{0, 1000} {
			t.Run(fmt.Sprint(spelling, " ", id), func(t *testing.T) {
				dir := tempDir(t)
				if err := os.Chown(dir, int(id), int(id)); err != nil {
					t.Fatal(err)
				}
				value := dir + ":/src"
				if spelling == "--mount" {
					value = "type=bind,source=" + dir + ",target=/src"
				}
				user := fmt.Sprintf("%d:%d", id, id)
				if r := sh("echo made > /src/file && mkdir /src/sub && cat /src/file", spelling, value, "-u", user); r.stdout != "made\n" {
					t.Fatal(r)
				}
				for _, name := range []string{"file", "sub"} {
					var st syscall.Stat_t
					if err := syscall.Stat(filepath.Join(dir, name), &st); err != nil {
						t.Fatal(err)
					}
					if st.Uid != id || st.Gid != id {
						t.Errorf("%s belongs to %d:%d, wanted %d:%d", name, st.Uid, st.Gid, id, id)
					}
				}
			})
		}
	}
}

// TestBinds: relative sources, read-only with submounts, missing sources.
func TestBinds(t *testing.T) {
	dir := tempDir(t)
	writeFile(t, filepath.Join(dir, "f"), "content\n", 0o644)
	sub := filepath.Join(dir, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", sub, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(sub, syscall.MNT_DETACH) })

	if r := call(request{args: []string{"--rm", "-v", "./f:/f", "busybox", "cat", "/f"}, dir: dir}); r.stdout != "content\n" {
		t.Errorf("a relative source: %s", r)
	}
	for _, flags := range [][]string{
		{"-v", dir + ":/x:ro"},
		{"--mount", "type=bind,src=" + dir + ",dst=/x,readonly"},
	} {
		r := sh("touch /x/new; touch /x/sub/new; cat /x/f", flags...)
		if r.stdout != "content\n" || strings.Count(r.stderr, "Read-only file system") != 2 {
			t.Errorf("%v: the bind or what is mounted below it can be written: %s", flags, r)
		}
	}
	missing := filepath.Join(dir, "missing")
	for _, flags := range [][]string{
		{"-v", missing + ":/x"},
		{"--mount", "type=bind,src=" + missing + ",dst=/x"},
	} {
		before := take(t)
		if r := sh("true", flags...); r.code != 125 {
			t.Errorf("%v: a missing source: %s", flags, r)
		}
		if _, err := os.Lstat(missing); err == nil {
			t.Errorf("%v: the missing source was created", flags)
		}
		same(t, before, take(t))
	}
	if r := sh("cp /bin/busybox /x/b && /x/b true", "-v", dir+":/x"); r.code == 0 {
		t.Errorf("a program written to a bind could be run: %s", r)
	}
	os.Remove(filepath.Join(dir, "b"))
	if r := sh("cp /bin/busybox /x/b && chmod u+s /x/b", "-v", dir+":/x"); r.code == 0 {
		t.Errorf("a setuid bit could be set on the host: %s", r)
	}
	if st, err := os.Stat(filepath.Join(dir, "b")); err == nil && st.Mode()&os.ModeSetuid != 0 {
		t.Error("there is a setuid program on the host now")
	}
}

// TestVolumes: named ones stay, anonymous ones go with --rm, both start with
// the image's content.
func TestVolumes(t *testing.T) {
	if r := sh("cat /etc/passwd >/dev/null && echo kept > /data/x", "-v", "e2e-vol:/data"); r.code != 0 {
		t.Fatal(r)
	}
	if r := sh("cat /data/x", "--mount", "type=volume,source=e2e-vol,target=/data"); r.stdout != "kept\n" {
		t.Errorf("the named volume lost its content: %s", r)
	}
	if r := sh("touch /data/y", "-v", "e2e-vol:/data:ro"); r.code == 0 {
		t.Errorf("a read-only volume was written: %s", r)
	}
	// Copy-up: the image's files are there, with their owners.
	if r := sh("stat -c %u:%g /home/user; echo x > /home/user/f; ls /home", "-v", "/home"); r.stdout != "1000:1000\nuser\n" {
		t.Errorf("an anonymous volume does not start with the image's content: %s", r)
	}
	before := take(t)
	if r := sh("echo x > /data/f", "-v", "/data"); r.code != 0 {
		t.Error(r)
	}
	same(t, before, take(t))
}

// TestImageMount: another image's files, read-only.
func TestImageMount(t *testing.T) {
	before := take(t)
	r := sh("ls -l /other/probe | cut -c1-4; touch /other/x", "--mount", "type=image,source=safe-run-probe,target=/other")
	if !strings.HasPrefix(r.stdout, "-rwx") || r.code == 0 {
		t.Errorf("an image as a mount: %s", r)
	}
	same(t, before, take(t))
}

// TestPlatform: another architecture's image is a clear error.
func TestPlatform(t *testing.T) {
	if r := run("--rm", "--platform", "linux/amd64", "busybox", "true"); r.code != 0 {
		t.Errorf("the host's own platform: %s", r)
	}
	before := take(t)
	if r := run("--rm", "--pull", "never", "--platform", "linux/s390x", "busybox", "true"); r.code != 125 {
		t.Errorf("a platform the image has not: %s", r)
	}
	if r := run("--rm", "--platform", "plan9/amd64", "busybox", "true"); r.code != 125 {
		t.Errorf("a foreign system: %s", r)
	}
	same(t, before, take(t))
}

// TestOOM: over the limit means killed: 137.
func TestOOM(t *testing.T) {
	r := call(request{args: []string{"--rm", "-m", "32m", "busybox", "sh", "-c", "x=x; while :; do x=$x$x$x$x; done"}, timeout: time.Minute})
	if r.code != 137 {
		t.Errorf("eating memory: %s", r)
	}
}

// TestForkBomb: the limit of processes holds.
func TestForkBomb(t *testing.T) {
	r := sh(`i=0; while [ $i -lt 100 ]; do sleep 5 & i=$((i+1)); done 2>&1 | grep -c fork; true`, "--pids-limit", "30")
	if r.code == 0 && strings.TrimSpace(r.stdout) == "0" {
		t.Errorf("100 processes under a limit of 30: %s", r)
	}
}

// TestCommandErrors: why a command cannot run, as exit code and as a hint.
func TestCommandErrors(t *testing.T) {
	dir := tempDir(t)
	script := writeFile(t, filepath.Join(dir, "script"), "#!/bin/sh\necho ran\n", 0o755)
	before := take(t)
	for _, c := range []struct {
		name string
		args []string
		code int
		text string // in stderr
	}{
		{"a mount without exec", []string{"-v", dir + ":/p", "busybox", "/p/script"}, 126, "let the mount say exec"},
		{"a mount with exec", []string{"-v", dir + ":/p:ro,exec", "busybox", "/p/script"}, 0, ""},
		{"nothing in a mount", []string{"-v", dir + ":/p", "busybox", "/p/nosuch"}, 127, "no such file"},
		{"the root", []string{"busybox", "/"}, 126, "is a directory"},
		{"a file as working directory", []string{"-w", "/etc/passwd", "busybox", "true"}, 125, "is not a directory"},
		{"a file on a directory", []string{"-v", script + ":/etc", "busybox", "true"}, 125, "is not a directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := run(append([]string{"--rm"}, c.args...)...)
			if r.code != c.code || !strings.Contains(r.stderr, c.text) || (r.stdout == "ran\n") != (c.code == 0) {
				t.Errorf("wanted exit %d and %q, got %s", c.code, c.text, r)
			}
		})
	}
	same(t, before, take(t))
}

// TestSlowReader: what the container wrote waits for a reader that comes long
// after its end.
func TestSlowReader(t *testing.T) {
	before := take(t)
	r := call(request{bin: "/bin/bash", args: []string{"-c", here.bin + " --rm busybox sh -c 'head -c 150000 /dev/zero' | { sleep 12; wc -c; }; exit ${PIPESTATUS[0]}"}})
	if r.code != 0 || strings.TrimSpace(r.stdout) != "150000" {
		t.Errorf("150000 bytes to a reader that sleeps: %s", r)
	}
	same(t, before, take(t))
}

// TestFullOutput: output that could not be written is an error.
func TestFullOutput(t *testing.T) {
	before := take(t)
	r := call(request{bin: "/bin/bash", args: []string{"-c", here.bin + " --rm busybox echo x > /dev/full"}})
	if r.code != 1 || !strings.Contains(r.stderr, "no space left") {
		t.Errorf("stdout is a full device: %s", r)
	}
	same(t, before, take(t))
}
