package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestComposeUnderSudo: a file names other files, and who may only run safe-run
// by sudo reads none of root's through them. Their own they do.
func TestComposeUnderSudo(t *testing.T) {
	t.Parallel()
	const uid = 12345 // no account, and owns what the test gives it
	dir := tempDir(t)
	own := func(name, content string) string {
		path := writeFile(t, filepath.Join(dir, name), content, 0o600)
		if err := os.Chown(path, uid, uid); err != nil {
			t.Fatal(err)
		}
		return path
	}
	secret := writeFile(t, filepath.Join(dir, "roots.env"), "HIDDEN=of root\n", 0o600)
	roots := writeFile(t, filepath.Join(dir, "roots.yaml"), "services: {hidden: {image: of-root}}\n", 0o600)
	own("mine.env", "MINE=of the caller\n")
	own("mine.txt", "a secret of the caller\n")
	own("good.yaml", `
name: good
services:
  web:
    image: busybox
    init: true
    command: [sh, -c, 'echo "$$MINE"; cat /run/secrets/mine /config; sleep 1000']
    env_file: mine.env
    secrets: [mine]
    configs: [{source: inline, target: /config}]
secrets: {mine: {file: mine.txt}}
configs: {inline: {content: "a config\n"}}
`)
	bad := map[string]string{
		"env_file":  "services: {web: {image: busybox, env_file: " + secret + "}}",
		"include":   "include: [" + roots + "]\nservices: {web: {image: busybox}}",
		"extends":   "services: {web: {extends: {file: " + roots + ", service: hidden}}}",
		"label":     "services: {web: {image: busybox, label_file: " + secret + "}}",
		"secret":    "services: {web: {image: busybox, command: cat /run/secrets/s, secrets: [s]}}\nsecrets: {s: {file: " + secret + "}}",
		"config":    "services: {web: {image: busybox, command: cat /c, configs: [{source: c, target: /c}]}}\nconfigs: {c: {file: " + secret + "}}",
		"bind":      "services: {web: {image: busybox, command: cat /b, volumes: ['" + secret + ":/b:ro']}}",
		"link":      "services: {web: {image: busybox, env_file: link.env}}",
		"traversal": "services: {web: {image: busybox, env_file: ../" + filepath.Base(dir) + "/roots.env}}",
	}
	if err := os.Symlink(secret, filepath.Join(dir, "link.env")); err != nil {
		t.Fatal(err)
	}
	for name, text := range bad {
		own("bad-"+name+".yaml", text+"\n")
	}
	// An engine and all state of its own: the environment moves it for nobody who
	// comes through sudo.
	const script = `
unset SAFE_RUN_ROOT SAFE_RUN_STATE
mkdir -p "$D/lib" && mount --bind "$D/lib" /var/lib && mkdir /var/lib/safe-run && mount -t tmpfs none /run && mkdir /run/safe-run || exit 9
"$SR" engine start >/dev/null && "$SR" load -q -i "$R/build/images/busybox.tar" >/dev/null || exit 9
export SUDO_UID=$CALLER SUDO_GID=$CALLER SUDO_USER=somebody
cd "$D"
for f in bad-*.yaml; do
	"$SR" compose -f $f -p bad up 2>&1; echo "$f $?"
	"$SR" compose -f $f -p bad config 2>&1
done
"$SR" compose --env-file "$D/roots.env" -f good.yaml config 2>&1; echo "flag $?"
"$SR" compose -f roots.yaml config 2>&1; echo "file $?"
[ -z "$("$SR" ps -aq; "$SR" network ls -q)" ] && echo nothing made
"$SR" compose -f good.yaml up -d || exit 8
for i in $(seq 100); do "$SR" compose -f good.yaml logs | grep -q 'a config' && break; sleep 0.1; done
"$SR" compose -f good.yaml logs
"$SR" compose -f good.yaml down -v -t 0
[ -z "$(ls /var/lib/safe-run-compose)" ] && echo nothing left
"$SR" engine stop`
	r := call(request{
		bin: "/usr/bin/unshare", args: []string{"--mount", "bash", "-c", patiently(script)}, timeout: 2 * time.Minute,
		env: []string{"SR=" + here.bin, "R=" + here.repo, "D=" + dir, "CALLER=12345"},
	})
	if strings.Contains(r.stdout+r.stderr, "of root") || strings.Contains(r.stdout+r.stderr, "of-root") {
		t.Errorf("root's file was read: %s", r)
	}
	words := []string{"flag 125", "file 125", "nothing made", "web-1 | of the caller", "web-1 | a secret of the caller", "web-1 | a config", "nothing left"}
	for name := range bad {
		words = append(words, "bad-"+name+".yaml 125")
	}
	for _, w := range words {
		if !strings.Contains(r.stdout, w) {
			t.Errorf("no %q", w)
		}
	}
	if r.code != 0 || t.Failed() {
		t.Errorf("exit %d\n%s\n%s", r.code, r.stdout, r.stderr)
	}
}
