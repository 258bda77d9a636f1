package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/tests/imagekit"
)

// TestProfileOfImage: an image's own profile is used only if it is named, asks
// like any other, and is read from the image alone, wherever its links lead.
func TestProfileOfImage(t *testing.T) {
	img := busyboxImage(t, "e2e-profile:latest")
	files(
		imagekit.Dir("etc/safe-run", 0o755),
		imagekit.File("etc/safe-run/profile.yaml", 0o644, "version: 1\ncapabilities: [CHOWN]\n"),
		imagekit.File("etc/safe-run/greedy.yaml", 0o644, "version: 1\ncapabilities: [SYS_ADMIN]\n"),
		imagekit.File("etc/safe-run/file.yaml", 0o644, "version: 1\nseccomp: {file: x.json}\n"),
		imagekit.File("etc/safe-run/bad.yaml", 0o644, "version: 1\nprivileged: true\n"),
		imagekit.Symlink("etc/safe-run/host.yaml", "/etc/hostname"), imagekit.Symlink("etc/safe-run/dev.yaml", "/dev/zero"),
	)(&img)
	if r := load(t, img, imagekit.WriteOCI); r.code != 0 {
		t.Fatal(r)
	}
	before := take(t)
	const chown = "touch /tmp/x && chown 5 /tmp/x"
	with := func(profile string) answer {
		args := []string{"--rm"}
		if profile != "" {
			args = append(args, "--profile", profile)
		}
		return run(append(args, "e2e-profile", "sh", "-c", chown)...)
	}
	for _, ref := range []string{"image:", "image:/etc/safe-run/profile.yaml"} {
		if r := with(ref); r.code != 0 {
			t.Errorf("%s: %s", ref, r)
		}
	}
	if r := with(""); r.code != 1 {
		t.Errorf("unnamed, it is used: %s", r)
	}
	for ref, want := range map[string]string{
		"image:/etc/safe-run/greedy.yaml": "SYS_ADMIN", "image:/etc/safe-run/file.yaml": "x.json",
		"image:/etc/safe-run/bad.yaml": "bad.yaml:2", "image:/etc/safe-run/host.yaml": "", "image:/etc/safe-run/dev.yaml": "",
		"image:/nosuch": "no such file", "image:../../etc/passwd": "clean absolute path", "image:/etc/../etc/passwd": "clean absolute path",
	} {
		if r := with(ref); r.code != 125 || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: %s", ref, r)
		}
	}
	same(t, before, take(t))
}

// TestNothingFetchedAgainstPolicy: an image the site's policy refuses whatever
// it says is not asked of a registry either, for a profile in it or to learn.
func TestNothingFetchedAgainstPolicy(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	if err := os.MkdirAll("/etc/safe-run", 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/policy.yaml", "version: 1\nregistries: [registry.example]\n", 0o644)
	const script = `mount -t tmpfs -o mode=755 none /etc/safe-run && cp "$D/policy.yaml" /etc/safe-run/ || exit 9
"$SR" run --rm --profile image: 127.0.0.1:1/x true 2>&1; echo "code $?"
"$SR" learn 127.0.0.1:1/x true 2>&1; echo "code $?"`
	r := call(request{
		bin: "/usr/bin/unshare", args: []string{"--mount", "bash", "-c", script},
		env: []string{"SR=" + here.bin, "D=" + dir, "SAFE_RUN_ROOT=" + dir + "/root", "SAFE_RUN_STATE=" + dir + "/state"},
	})
	if r.code != 0 || strings.Count(r.stdout, "registry") < 2 || strings.Contains(r.stdout, "code 0") || strings.Contains(r.stdout, "Unable to find") {
		t.Errorf("%s", r)
	}
	if _, err := os.Stat(dir + "/state/engine"); err == nil {
		t.Error("an engine was started for it")
	}
}
