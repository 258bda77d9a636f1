package cli

import (
	"path"
	"reflect"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/fail"
)

// checkParse are the properties of every command line: no panic, the same
// twice, an error of our type without control characters and of bounded
// length, mount targets absolute and clean and each once.
func checkParse(t *testing.T, args []string) {
	t.Helper()
	inv, err := Parse(args, testContext)
	again, err2 := Parse(args, testContext)
	if !reflect.DeepEqual(inv, again) || (err == nil) != (err2 == nil) || (err != nil && err.Error() != err2.Error()) {
		t.Fatalf("%q parses differently the second time: %v, %v", args, err, err2)
	}
	if err != nil {
		if fail.KindOf(err) == fail.Internal || len(err.Error()) > 5000 || clean(err.Error()) != nil && len(err.Error()) < 4096 {
			t.Fatalf("%q: error %q", args, err)
		}
		return
	}
	if inv.Help {
		return
	}
	seen := map[string]bool{}
	for _, m := range inv.Workload.Mounts {
		if !path.IsAbs(m.Target) || path.Clean(m.Target) != m.Target || m.Target == "/" || seen[m.Target] || clean(m.Target) != nil {
			t.Fatalf("%q: target %q", args, m.Target)
		}
		seen[m.Target] = true
		if m.Type == "bind" && (!path.IsAbs(m.Source) || path.Clean(m.Source) != m.Source) {
			t.Fatalf("%q: source %q", args, m.Source)
		}
		if m.Tmpfs.Size < 0 || m.Tmpfs.Inodes < 0 || m.Tmpfs.SizePct < 0 || m.Tmpfs.SizePct > 100 {
			t.Fatalf("%q: %+v", args, m.Tmpfs)
		}
	}
	checkNetwork(t, args, &inv.Workload)
	for _, s := range inv.Workload.Secrets {
		if checkSecretID(s.ID) != nil || s.Source != "" && (!path.IsAbs(s.Source) || path.Clean(s.Source) != s.Source) || s.Mode&^0o755 != 0 {
			t.Fatalf("%q: secret %+v", args, s)
		}
	}
	if inv.Workload.Image == "" {
		t.Fatalf("%q: no image", args)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"img", "--rm\x00-it\x00img\x00sh", "-e\x00A=b\x00--env-file\x00env\x00img", "-v\x00.:/x\x00--tmpfs\x00/x\x00img",
		"-test.v\x00img", "--network=name=none,ip=1.1.1.1\x00img", "-m\x001g\x00--cpus\x001/2\x00img", "--help", "--",
		"--secret\x00id=a,src=b,uid=1,mode=0400\x00--secret=b=c\x00-d\x00--restart=on-failure:3\x00img", "--log-opt=a=b\x00--health-cmd=x\x00img",
		"--add-host=a:::1\x00-h=web\x00img", "--ulimit\x00nofile=1:2\x00img", "--dry-run\x00img",
	} {
		f.Add(s)
	}
	for name, v := range samples {
		f.Add("--" + name + "\x00" + v + "\x00img")
	}
	f.Fuzz(func(t *testing.T, s string) { checkParse(t, strings.Split(s, "\x00")) })
}

func FuzzMount(f *testing.F) {
	f.Add("type=bind,src=/a,dst=/b,ro")
	f.Add(`type=volume,"src=a,b",dst=/b,volume-opt=o=bind`)
	f.Add("type=tmpfs,dst=/b,tmpfs-size=1m,tmpfs-mode=700")
	f.Fuzz(func(t *testing.T, s string) { checkParse(t, []string{"--mount", s, "img"}) })
}

func FuzzVolume(f *testing.F) {
	f.Add("/a:/b:ro,z,rslave")
	f.Add("data:/b:nocopy")
	f.Add("../a:/b/..")
	f.Fuzz(func(t *testing.T, s string) { checkParse(t, []string{"-v", s, "img"}) })
}

func FuzzTmpfs(f *testing.F) {
	f.Add("/a:size=64m,mode=1777,exec")
	f.Add("/a:nr_blocks=10,mpol=bind:0")
	f.Fuzz(func(t *testing.T, s string) { checkParse(t, []string{"--tmpfs", s, "img"}) })
}
