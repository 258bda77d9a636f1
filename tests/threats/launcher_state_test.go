package threats

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/tests/harness"
)

// What is root's alone is so on disk.
func TestL12(t *testing.T) {
	row(t, "L12")
	dir := groundDir(t)
	denOf(t, nil)
	user := &cli.Caller{UID: someUser, GID: someUser}
	for _, p := range []string{here.Root, here.State, filepath.Join(here.Root, "containers"), filepath.Join(here.Root, "volumes"), filepath.Join(here.Root, "engine"), filepath.Join(here.State, "engine"), filepath.Join(here.State, "live")} {
		err := user.Do(func() error {
			if _, err := os.ReadDir(p); err == nil {
				return fmt.Errorf("%s can be read", p)
			}
			if f, err := os.Create(filepath.Join(p, "planted")); err == nil {
				return fmt.Errorf("%s could be written: %w", f.Name(), f.Close())
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	must(t, user.Do(func() error {
		if _, err := net.Dial("unix", here.Socket); err == nil {
			return fmt.Errorf("anybody can connect to %s", here.Socket)
		}
		return nil
	}))
	// Places somebody made before, where the state is told to be.
	victim := owned(t, makeDir(t, filepath.Join(dir, "victim")), 0, 0o700)
	for name, make := range map[string]func(p string){
		"a link":           func(p string) { must(t, os.Lchown(linkTo(t, p, victim), someUser, someUser)) },
		"of somebody else": func(p string) { owned(t, makeDir(t, p), someUser, 0o755) },
		"writable for all": func(p string) { must(t, os.Chmod(makeDir(t, p), 0o777)) },
		"a file":           func(p string) { put(t, p, "") },
	} {
		for _, variable := range []string{"SAFE_RUN_ROOT", "SAFE_RUN_STATE"} {
			t.Run(name+" "+variable, func(t *testing.T) {
				root, state := makeDir(t, filepath.Join(dir, "r")), makeDir(t, filepath.Join(dir, "s"))
				defer os.RemoveAll(root)
				defer os.RemoveAll(state)
				must(t, os.Chmod(root, 0o700), os.Chmod(state, 0o700))
				t.Setenv("SAFE_RUN_ROOT", root)
				t.Setenv("SAFE_RUN_STATE", state)
				p := filepath.Join(dir, "planted")
				make(p)
				defer os.RemoveAll(p)
				t.Setenv(variable, p)
				a := here.Run("ps")
				var st unix.Stat_t
				must(t, unix.Stat(p, &st))
				safe := st.Uid == 0 && st.Mode&0o066 == 0 && name != "a link" // it was closed first
				if a.Code == 0 && !safe {
					t.Errorf("it was used: uid %d, mode %o: %s", st.Uid, st.Mode, a)
				}
			})
		}
	}
	if made := listing(t, victim); len(made) > 0 {
		t.Errorf("through the link: %q", made)
	}
}

// Nothing here runs with more rights than its caller has.
func TestL13(t *testing.T) {
	row(t, "L13")
	for _, p := range []string{here.Bin, filepath.Join(here.Repo, "build/engine/runc"), filepath.Join(here.Repo, "build/engine/safe-run-activate")} {
		var st unix.Stat_t
		must(t, unix.Stat(p, &st))
		if st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 || st.Mode&0o022 != 0 {
			t.Errorf("%s has mode %o", p, st.Mode)
		}
		if n, err := unix.Getxattr(p, "security.capability", nil); err == nil && n > 0 {
			t.Errorf("%s has file capabilities", p)
		}
	}
	// Another user gets nothing, and nothing of root's is changed.
	bin := filepath.Join(groundDir(t), "safe-run")
	b, err := os.ReadFile(here.Bin)
	must(t, err, os.WriteFile(bin, b, 0o755))
	for _, args := range []string{"--rm busybox true", "ps", "images", "engine start", "rm -f den-0", "exec den-0 true"} {
		a := harness.Call(time.Minute, "setpriv", append([]string{"--reuid", fmt.Sprint(someUser), "--regid", fmt.Sprint(someUser), "--clear-groups", bin}, strings.Fields(args)...)...)
		if a.Code == 0 || a.Code < 0 {
			t.Errorf("%s as uid %d: %s", args, someUser, a)
		}
	}
	// The site's policy counts only if nobody but root can have written it.
	dir := etcSafeRun(t)
	const text = "version: 1\ngrants: [{image: busybox, allow: [pid-host]}]\n"
	file := filepath.Join(dir, "policy.yaml")
	policyIs := func(uid int, mode os.FileMode) {
		must(t, os.WriteFile(file, []byte(text), 0o600), os.Chown(file, uid, uid), os.Chmod(file, mode))
	}
	policyIs(0, 0o644)
	planned(t, "--pid", "host", "busybox", "true") // it does count
	for _, c := range []struct {
		uid        int
		mode, dirs os.FileMode
	}{{0, 0o666, 0o755}, {0, 0o664, 0o755}, {someUser, 0o644, 0o755}, {0, 0o644, 0o777}, {0, 0o644, 0o775 | os.ModeSticky}} {
		policyIs(c.uid, c.mode)
		must(t, os.Chmod(dir, c.dirs))
		turnedDown(t, "", "--pid", "host")
		turnedDown(t, "") // nothing is run by a policy that may be another's
		must(t, os.Chmod(dir, 0o755))
	}
	must(t, os.Chown(dir, someUser, someUser))
	turnedDown(t, "")
}

// etcSafeRun is an /etc/safe-run of our own.
func etcSafeRun(t *testing.T) string {
	t.Helper()
	const dir = "/etc/safe-run"
	if err := os.Mkdir(dir, 0o755); err == nil {
		t.Cleanup(func() { must(t, os.Remove(dir)) })
	}
	return mounted(t, "none", dir, "tmpfs", 0, "mode=755")
}

func TestL14(t *testing.T) {
	row(t, "L14")
	dir := etcSafeRun(t)
	file := filepath.Join(dir, "policy.yaml")
	bomb := "version: 1\na: &a [x,x,x,x,x,x,x,x,x]\n"
	for i := range 9 {
		bomb += fmt.Sprintf("%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", 'b'+i, 'b'+i, 'a'+i, 'a'+i, 'a'+i, 'a'+i, 'a'+i, 'a'+i, 'a'+i, 'a'+i, 'a'+i)
	}
	for name, text := range map[string]string{
		"an unknown key": "version: 1\ngrant: []\n", "a key twice": "version: 1\ngrants: []\ngrants: []\n", "a nested key twice": "version: 1\nlimits: {default: {memory: 1g, memory: 2g}}\n",
		"aliases": bomb, "an anchor": "version: 1\nregistries: &a [docker.io]\n", "a merge key": "version: 1\n<<: {grants: []}\n", "cut off": "version: 1\ngrants: [{image: busybox, allow: [pid-h", "a tag": "version: !!int 1\n",
		"empty": "", "two documents": "version: 1\n---\nversion: 1\n", "another version": "version: 2\n", "no version": "grants: []\n", "another type": "version: 1\nrequire-digest: \"no\"\n",
		"too large": "version: 1\n#" + strings.Repeat("x", 2<<20), "a tag of an image": "version: 1\ngrants: [{image: 'busybox:latest', allow: [pid-host]}]\n", "a grant of all": "version: 1\ngrants: [{image: busybox, capabilities: [ALL]}]\n",
		"a grant of the root": "version: 1\ngrants: [{image: busybox, binds: [{source: /}]}]\n", "a word nobody knows": "version: 1\ngrants: [{image: busybox, allow: [privileged]}]\n", "escape codes": "version: 1\n\"\x1b[31m\": 1\n",
		"nesting": "version: 1\ngrants: " + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + "\n", "not text": "version: 1\n\x00\xff",
	} {
		must(t, os.WriteFile(file, []byte(text), 0o644))
		start := time.Now()
		if a := turnedDown(t, ""); !strings.Contains(a.Stderr, "policy") || strings.Contains(a.Stderr, "\x1b") {
			t.Errorf("%s: %s", name, a)
		}
		if took := time.Since(start); took > harness.Patient(10*time.Second) {
			t.Errorf("%s: it took %v", name, took)
		}
	}
	// What is no file of its own.
	good := put(t, filepath.Join(dir, "good"), "version: 1\n")
	must(t, os.Remove(file), os.Symlink(good, file))
	turnedDown(t, "")
	must(t, os.Remove(file), unix.Mkfifo(file, 0o644))
	turnedDown(t, "")
	must(t, os.Remove(file), os.Mkdir(file, 0o755))
	turnedDown(t, "")
	must(t, os.Remove(file), os.Rename(good, file))
	planned(t, "busybox", "true")
	_ = syscall.Unlink(file)
}
