package cli

import (
	"errors"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// testFiles are the files of testContext, below /work.
var testFiles = map[string]string{
	"/home/me/env":          "A=file\nHOME\nNOTHERE\n",
	"/home/me/labels":       "a=file\nb=file\n",
	"/home/me/bare":         "a=file\nbare\n",
	"/home/me/profile.json": `{"defaultAction":"SCMP_ACT_ERRNO"}`,
	"/home/me/bad.json":     `{"root:$6$secret`,
}

var testContext = Context{
	Cwd: "/home/me",
	LookupEnv: func(name string) (string, bool) {
		v, ok := map[string]string{"HOME": "/home/me", "EMPTY": ""}[name]
		return v, ok
	},
	ReadFile: func(path string, max int64) ([]byte, error) {
		data, ok := testFiles[filepath.Clean(path)]
		if !ok {
			return nil, fail.Wrap(fail.NotFound, fs.ErrNotExist, "%q", path)
		}
		return []byte(data), nil
	},
}

func mustParse(t *testing.T, args ...string) *Invocation {
	t.Helper()
	inv, err := Parse(args, testContext)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return inv
}

// wantError checks kind and text of the error of args.
func wantError(t *testing.T, kind fail.Kind, text string, args ...string) {
	t.Helper()
	inv, err := Parse(args, testContext)
	if err == nil {
		t.Errorf("%q: no error, want %q", args, text)
		return
	}
	if fail.KindOf(err) != kind || !strings.Contains(err.Error(), text) {
		t.Errorf("%q: kind %d %q, want kind %d with %q", args, fail.KindOf(err), err, kind, text)
	}
	if inv == nil {
		t.Errorf("%q: no Invocation beside the error", args)
	}
	for _, r := range err.Error() {
		if r < ' ' || r == 0x7f {
			t.Errorf("%q: control character %q in the message", args, r)
		}
	}
}

func strPtr(s string) *string { return &s }
func intPtr(n int64) *int64   { return &n }

func TestGrammar(t *testing.T) {
	for _, c := range []struct {
		args  []string
		image string
		rest  []string
		check func(*spec.Workload) bool
	}{
		{[]string{"img"}, "img", nil, func(w *spec.Workload) bool { return w.SigProxy && w.Pull == "missing" && w.Init == nil }},
		{[]string{"--rm", "img", "--rm", "-d"}, "img", []string{"--rm", "-d"}, func(w *spec.Workload) bool { return w.Remove && !w.Detach }},
		{[]string{"-it", "img", "sh", "-c", "x"}, "img", []string{"sh", "-c", "x"}, func(w *spec.Workload) bool { return w.Interactive && w.TTY }},
		{[]string{"--", "img", "a"}, "img", []string{"a"}, nil},
		{[]string{"--rm", "--", "img", "--", "a"}, "img", []string{"--", "a"}, nil},
		{[]string{"-h", "web", "img"}, "img", nil, func(w *spec.Workload) bool { return w.Hostname == "web" }},
		{[]string{"-ih=web", "img"}, "img", nil, func(w *spec.Workload) bool { return w.Interactive && w.Hostname == "web" }},
		{[]string{"-iwdir/../..", "img"}, "", nil, nil},
		{[]string{"--rm=false", "img"}, "img", nil, func(w *spec.Workload) bool { return !w.Remove }},
		{[]string{"--rm", "false"}, "false", nil, func(w *spec.Workload) bool { return w.Remove }},
		{[]string{"--init", "img"}, "img", nil, func(w *spec.Workload) bool { return w.Init != nil && *w.Init }},
		{[]string{"--init=false", "img"}, "img", nil, func(w *spec.Workload) bool { return w.Init != nil && !*w.Init }},
		{[]string{"--cap-add", "a,b", "--cap-add=c", "img"}, "img", nil, func(w *spec.Workload) bool { return reflect.DeepEqual(w.CapAdd, []string{"a,b", "c"}) }},
		{[]string{"-u", "1000:", "img"}, "img", nil, func(w *spec.Workload) bool { return w.User == "1000" }},
		{[]string{"--name", "aa", "--name", "bb", "img"}, "img", nil, func(w *spec.Workload) bool { return w.Name == "bb" }},
		{[]string{"--name", "aa", "--name", "", "img"}, "img", nil, func(w *spec.Workload) bool { return w.Name == "" }},
		{[]string{"--annotation", "a=1", "--annotation", "a=2=3", "img"}, "img", nil, func(w *spec.Workload) bool { return w.Annotations["a"] == "2=3" }},
		{[]string{"--ulimit", "nofile=1", "--ulimit", "core=0", "--ulimit", "nofile=2:3", "img"}, "img", nil, func(w *spec.Workload) bool {
			return reflect.DeepEqual(w.Ulimits, []spec.Ulimit{{Name: "core"}, {Name: "nofile", Soft: 2, Hard: 3}})
		}},
		{[]string{"--entrypoint", "", "img"}, "img", nil, func(w *spec.Workload) bool { return w.Entrypoint != nil && *w.Entrypoint == "" }},
		{[]string{"-d=false", "img"}, "img", nil, func(w *spec.Workload) bool { return !w.Detach }},
		{[]string{"-d", "--detach=false", "img"}, "img", nil, nil},
		{[]string{"--restart", "always", "--restart", "no", "img"}, "img", nil, nil},
		{[]string{"--health-interval", "0", "--no-healthcheck", "img"}, "img", nil, nil},
		{[]string{"--log-driver", "none", "img"}, "img", nil, nil},
		{[]string{"--isolation", "default", "img"}, "img", nil, nil},
		{[]string{"-a", "STDIN", "-a", "stdout", "-a", "StdIn", "img"}, "img", nil, func(w *spec.Workload) bool { return reflect.DeepEqual(w.Attach, []string{"stdin", "stdout"}) }},
		{[]string{"-e", "-test.v", "img"}, "img", nil, func(w *spec.Workload) bool { return w.Env[0].Name == "-test.v" }},
		{[]string{"img", "-test.v"}, "img", []string{"-test.v"}, nil},
		{[]string{"-w", "/a/../b/", "img"}, "img", nil, func(w *spec.Workload) bool { return w.Workdir == "/b" }},
		{[]string{"--shm-size", "0", "img"}, "img", nil, func(w *spec.Workload) bool { return w.ShmSize == nil }},
		{[]string{"--pull=", "img"}, "img", nil, func(w *spec.Workload) bool { return w.Pull == "missing" }},
		{[]string{"--sysctl", "net/ipv4/conf/eth0.1/rp_filter=1", "img"}, "img", nil, func(w *spec.Workload) bool { return w.Sysctls["net.ipv4.conf.eth0/1.rp_filter"] == "1" }},
		{[]string{"--sysctl", "net.a=1", "--sysctl", "net.a=2", "img"}, "img", nil, func(w *spec.Workload) bool { return w.Sysctls["net.a"] == "2" }},
		{[]string{"--add-host", "h=[::1]", "--add-host", "h:10.0.0.1", "--add-host", "six:::1", "img"}, "img", nil, func(w *spec.Workload) bool {
			return reflect.DeepEqual(w.AddHosts, []string{"h:::1", "h:10.0.0.1", "six:::1"})
		}},
		{[]string{"--net", "name=host", "img"}, "img", nil, func(w *spec.Workload) bool { return w.NetworkSet && w.Networks[0].Name == "host" }},
		{[]string{"--network", "ns:/proc/1/ns/net", "img"}, "img", nil, func(w *spec.Workload) bool { return w.Networks[0].Name == "ns:/proc/1/ns/net" }},
		{[]string{"--ipc", "shareable", "--ipc", "none", "img"}, "img", nil, func(w *spec.Workload) bool { return w.IPCMode == "none" }},
		{[]string{"--security-opt", "no-new-privileges:true", "--security-opt", "seccomp=profile.json", "img"}, "img", nil, func(w *spec.Workload) bool {
			return len(w.SecurityOpts) == 2 && w.Seccomp != nil && string(w.Seccomp.JSON) == testFiles["/home/me/profile.json"]
		}},
		{[]string{"--gpus", "all", "--gpus", `"device=0,1",capabilities=utility`, "img"}, "img", nil, func(w *spec.Workload) bool { return w.GPUs == `all "device=0,1",capabilities=utility` }},
	} {
		inv, err := Parse(c.args, testContext)
		if c.image == "" {
			if err == nil {
				t.Errorf("%q: no error", c.args)
			}
			continue
		}
		w := &inv.Workload
		if err != nil || w.Image != c.image || !reflect.DeepEqual(w.Args, c.rest) || (c.check != nil && !c.check(w)) {
			t.Errorf("%q: error %v, got %+v", c.args, err, *w)
		}
	}
}

func TestOwnFlags(t *testing.T) {
	inv := mustParse(t, "--dry-run", "--refusals=json", "--address", "unix:///run/x/../c.sock", "--namespace", "team-a", "img")
	if inv.DryRun != "json" || inv.Refusals != "json" || inv.Address != "/run/c.sock" || inv.Namespace != "team-a" {
		t.Errorf("%+v", inv)
	}
	if inv := mustParse(t, "--pull=always", "--dry-run", "img"); inv.Workload.Pull != "never" {
		t.Errorf("a dry run would fetch the image: %q", inv.Workload.Pull)
	}
	if inv := mustParse(t, "--dry-run=summary", "img"); inv.DryRun != "summary" || inv.Refusals != "text" {
		t.Errorf("%+v", inv)
	}
	// --refusals is known even when a later flag is wrong.
	if inv, err := Parse([]string{"--refusals=json", "--bogus", "img"}, testContext); err == nil || inv.Refusals != "json" {
		t.Errorf("%+v %v", inv, err)
	}
	wantError(t, fail.Usage, "json or summary", "--dry-run=x", "img")
	wantError(t, fail.Usage, "absolute", "--address", "x.sock", "img")
	wantError(t, fail.Usage, "not a name", "--namespace", "../x", "img")
}

func TestHelpFlag(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"--rm", "--help", "img"}, {"--help", "-d", "-a", "stdin"}} {
		if inv := mustParse(t, args...); !inv.Help {
			t.Errorf("%q: no help", args)
		}
	}
	if mustParse(t, "img", "--help").Help {
		t.Error("--help after the image is the container's")
	}
}

// TestErrors: kind, and words of the message.
func TestErrors(t *testing.T) {
	long := strings.Repeat("a", 300)
	for _, c := range []struct {
		kind fail.Kind
		text string
		args []string
	}{
		{fail.NoStatus, "requires at least 1 argument", nil},
		{fail.NoStatus, "requires at least 1 argument", []string{"--rm"}},
		{fail.NoStatus, "--attach and --detach", []string{"-d", "-a", "stdin", "img"}},
		{fail.NoStatus, "detach keys", []string{"--detach-keys", "ctrl-,", "img"}},
		{fail.NoStatus, "detach keys", []string{"--detach-keys", "ab", "img"}},
		{fail.Usage, "unknown flag: --bogus", []string{"--bogus", "img"}},
		{fail.Usage, `unknown flag: --a\x1b[31m`, []string{"--a\x1b[31m", "img"}},
		{fail.Usage, "unknown shorthand flag: 'x' in -x", []string{"-x", "img"}},
		{fail.Usage, "flag needs an argument: --name", []string{"--name"}},
		{fail.Usage, "unknown flag", []string{"-test.v", "img"}},
		{fail.Usage, "unknown flag", []string{"-i", "-ttest.v", "img"}},
		{fail.Usage, "true or false", []string{"--rm=maybe", "img"}},
		{fail.Usage, "invalid image", []string{"a\nb"}},
		{fail.Usage, "invalid image", []string{""}},
		{fail.Usage, "NUL", []string{"img", "a\x00b"}},
		{fail.Usage, "not a name", []string{"--name", "../../x", "img"}},
		{fail.Usage, "not a name", []string{"--name", "a", "img"}},
		{fail.Usage, "not a name", []string{"--name", ".", "img"}},
		{fail.Usage, "not a name", []string{"--name", "аb", "img"}}, // a Cyrillic letter
		{fail.Usage, "characters", []string{"--name", long, "img"}},
		{fail.Usage, "host name", []string{"-h", "a\n6.6.6.6 bank", "img"}},
		{fail.Usage, "host name", []string{"-h", "-a", "img"}},
		{fail.Usage, "host name", []string{"-h", "a..b", "img"}},
		{fail.Usage, "at most 64", []string{"-h", strings.Repeat("a.", 40) + "a", "img"}},
		{fail.Usage, "host name", []string{"--domainname", "a b", "img"}},
		{fail.Usage, "NAME:IP", []string{"--add-host", "a", "img"}},
		{fail.Usage, "IP address", []string{"--add-host", "a:1.2.3.4\n", "img"}},
		{fail.Usage, "IP address", []string{"--add-host", "a:", "img"}},
		{fail.Usage, "host name", []string{"--add-host", "a b:1.2.3.4", "img"}},
		{fail.Usage, "at most nine decimals", []string{"--cpus", "0.0000000001", "img"}},
		{fail.Usage, "number of CPUs", []string{"--cpus", "1e400", "img"}},
		{fail.Usage, "possible number", []string{"--cpus=-1", "img"}},
		{fail.Usage, "possible number", []string{"--cpus=1e15", "img"}},
		{fail.Usage, "--cpus cannot", []string{"--cpus", "1", "--cpu-quota", "5000", "img"}},
		{fail.Usage, "--cpus cannot", []string{"--cpus", "1", "--cpu-period", "5000", "img"}},
		{fail.Usage, "1000 to 1000000", []string{"--cpu-period", "999", "img"}},
		{fail.Usage, "less than 1000", []string{"--cpu-quota", "999", "img"}},
		{fail.Usage, "less than 0", []string{"--cpu-shares=-1", "img"}},
		{fail.Usage, "larger than --cpu-rt", []string{"--cpu-rt-period", "5", "--cpu-rt-runtime", "6", "img"}},
		{fail.Usage, "ranges", []string{"--cpuset-cpus", "3-1", "img"}},
		{fail.Usage, "ranges", []string{"--cpuset-mems", "0,", "img"}},
		{fail.Usage, "invalid size", []string{"-m", "1x", "img"}},
		{fail.Usage, "invalid size", []string{"-m=-1", "img"}},
		{fail.Usage, "invalid size", []string{"-m", "1e30", "img"}},
		{fail.Usage, "invalid size", []string{"--shm-size", "", "img"}},
		{fail.Usage, "minimum", []string{"-m", "5m", "img"}},
		{fail.Usage, "minimum", []string{"-m", "6", "img"}},
		{fail.Usage, "minimum", []string{"--memory-reservation", "5m", "img"}},
		{fail.Usage, "larger than --memory", []string{"-m", "8m", "--memory-reservation", "9m", "img"}},
		{fail.Usage, "needs --memory", []string{"--memory-swap", "9m", "img"}},
		{fail.Usage, "smaller than --memory", []string{"-m", "10m", "--memory-swap", "9m", "img"}},
		{fail.Usage, "-1 to 100", []string{"--memory-swappiness", "101", "img"}},
		{fail.Usage, "-1000 to 1000", []string{"--oom-score-adj", "1001", "img"}},
		{fail.Usage, "10 to 1000", []string{"--blkio-weight", "9", "img"}},
		{fail.Usage, "10 to 1000", []string{"--blkio-weight-device", "/dev/sda:9", "img"}},
		{fail.Usage, "/dev/", []string{"--device-read-bps", "sda:9", "img"}},
		{fail.Usage, "rate", []string{"--device-read-iops", "/dev/sda:1m", "img"}},
		{fail.Usage, "invalid ulimit", []string{"--ulimit", "as=1", "img"}},
		{fail.Usage, "less than or equal", []string{"--ulimit", "nofile=2:1", "img"}},
		{fail.Usage, "-1 for none", []string{"--ulimit", "nofile=-5:-2", "img"}},
		{fail.Usage, "without a unit", []string{"--ulimit", "nofile=1k", "img"}},
		{fail.Usage, "unit", []string{"--health-interval", "5", "img"}},
		{fail.Usage, "1ms", []string{"--health-interval", "5us", "img"}},
		{fail.Usage, "negative", []string{"--health-timeout=-5s", "img"}},
		{fail.Usage, "--no-healthcheck conflicts", []string{"--no-healthcheck", "--health-cmd", "x", "img"}},
		{fail.Usage, "--restart and --rm", []string{"--rm", "--restart", "always", "img"}},
		{fail.Usage, "retry count", []string{"--restart", "always:3", "img"}},
		{fail.Usage, "retry count", []string{"--restart", "on-failure:-1", "img"}},
		{fail.Usage, "on-failure", []string{"--restart", "never", "img"}},
		{fail.Usage, "logging opts", []string{"--log-driver", "none", "--log-opt", "a=b", "img"}},
		{fail.Usage, "always, missing or never", []string{"--pull", "maybe", "img"}},
		{fail.Usage, "os[/arch", []string{"--platform", "linux/amd64/v1/x/y", "img"}},
		{fail.Usage, "cannot run on Linux", []string{"--platform", "windows/amd64", "img"}},
		{fail.Usage, "absolute", []string{"-w", "dir", "img"}},
		{fail.Usage, "name of a signal", []string{"--stop-signal", "65", "img"}},
		{fail.Usage, "name of a signal", []string{"--stop-signal", "SIGFOO", "img"}},
		{fail.Usage, "wait for ever", []string{"--stop-timeout=-2", "img"}},
		{fail.Usage, "USER[:GROUP]", []string{"-u", "1:2:3", "img"}},
		{fail.Usage, "USER[:GROUP]", []string{"-u", ":1", "img"}},
		{fail.Usage, "neither", []string{"-u", ":", "img"}},
		{fail.Usage, "USER[:GROUP]", []string{"-u", "1::", "img"}},
		{fail.Usage, "range", []string{"-u", "4294967296", "img"}},
		{fail.Usage, "range", []string{"-u", "1:-1", "img"}},
		{fail.Usage, "range", []string{"--group-add", "2147483648", "img"}},
		{fail.Usage, "keep-groups", []string{"--group-add", "keep-groups", "img"}},
		{fail.Usage, "valid streams", []string{"-a", "stdfoo", "img"}},
		{fail.Usage, "invalid mode", []string{"--pid", "foo", "img"}},
		{fail.Usage, "invalid mode", []string{"--userns", "keep-id", "img"}},
		{fail.Usage, "invalid mode", []string{"--pid", "container:", "img"}},
		{fail.Usage, "shareable", []string{"--ipc", "shareable", "img"}},
		{fail.Usage, "no such security option", []string{"--security-opt", "foo=bar", "img"}},
		{fail.Usage, "label=disable", []string{"--security-opt", "disable", "img"}},
		{fail.Usage, "KEY=VALUE", []string{"--security-opt", "apparmor", "img"}},
		{fail.Usage, "given twice", []string{"--security-opt", "seccomp=builtin", "--security-opt", "seccomp:unconfined", "img"}},
		{fail.NotFound, "seccomp", []string{"--security-opt", "seccomp=missing.json", "img"}},
		{fail.Usage, "not valid JSON", []string{"--security-opt", "seccomp=bad.json", "img"}},
		{fail.Usage, "KEY=VALUE", []string{"--sysctl", "net.a", "img"}},
		{fail.Usage, "name of a sysctl", []string{"--sysctl", "net/../../x=1", "img"}},
		{fail.Usage, "control character", []string{"--sysctl", "net.a=1\n", "img"}},
		{fail.Usage, "key is empty", []string{"--annotation", "=x", "img"}},
		{fail.Usage, "name is empty", []string{"-l", "=x", "img"}},
		{fail.Usage, "blank", []string{"-l", "a b=x", "img"}},
		{fail.Usage, "no name", []string{"-e", "=x", "img"}},
		{fail.Usage, "control character", []string{"-e", "a\x1b=x", "img"}},
		{fail.NotFound, "--env-file", []string{"--env-file", "missing", "img"}},
		{fail.Usage, "absolute path", []string{"--device", "fuse", "img"}},
		{fail.Usage, "absolute path", []string{"--device", "/dev/fuse:rwx", "img"}},
		{fail.Usage, "some of r, w and m", []string{"--device", "/dev/fuse:/dev/x:rr", "img"}},
		{fail.Usage, "device cgroup", []string{"--device-cgroup-rule", "c 1:3", "img"}},
		{fail.Usage, "device cgroup", []string{"--device-cgroup-rule", "c 1:3 rr", "img"}},
		{fail.Usage, "only once", []string{"--gpus", "all,count=1", "img"}},
		{fail.Usage, "too long", []string{"--cidfile", strings.Repeat("a", 5000), "img"}},
		{fail.Usage, "volume drivers", []string{"--volume-driver", "nfs", "img"}},
		{fail.Usage, "ro, rw, z or Z", []string{"--volumes-from", "a:nocopy", "img"}},
		{fail.Usage, "--hostname and --uts host", []string{"--uts", "host", "-h", "a", "img"}},
	} {
		wantError(t, c.kind, c.text, c.args...)
	}
}

// TestErrorsAreBounded: a message stays short whatever was typed.
func TestErrorsAreBounded(t *testing.T) {
	long := strings.Repeat("\x1b]0;a", 20000)
	for _, f := range Table() {
		for _, args := range [][]string{{"--" + f.Long + "=" + long, "img"}, {"--" + f.Long + long, "img"}, {"-" + long}} {
			if _, err := Parse(args, testContext); err != nil && len(err.Error()) > 4000 {
				t.Errorf("--%s: a message of %d bytes", f.Long, len(err.Error()))
			}
		}
	}
}

// TestSecretsAreNotRepeated: the value of a variable is in no message.
func TestSecretsAreNotRepeated(t *testing.T) {
	for _, v := range []string{"=hunter2", "A=hunter2\x00", "a\nb=hunter2"} {
		_, err := Parse([]string{"-e", v, "img"}, testContext)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", v, err)
		}
	}
	_, err := Parse([]string{"--security-opt", "seccomp=bad.json", "img"}, testContext)
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}

func TestHints(t *testing.T) {
	wantError(t, fail.Usage, "flag needs an argument: 'h' in -h", "-h")
	for flag, hint := range map[string]string{
		"--version": "safe-run version", "--replace": "safe-run rm", "--healthcheck-command=x": "--health-cmd", "--env-host": "-e NAME", "--envv": "did you mean --env?",
		"--pribileged": "did you mean --privileged?", "--umask=1": "umask", "--qqqqqqqqqq": "",
	} {
		_, err := Parse([]string{flag, "img"}, testContext)
		var fe *fail.Error
		if !errors.As(err, &fe) || !strings.Contains(fe.Next, hint) || (hint == "" && fe.Next != "") {
			t.Errorf("%s: %v, hint %q", flag, err, fe.Next)
		}
	}
}

// TestAllUnsupportedAtOnce: one error names them all.
func TestAllUnsupportedAtOnce(t *testing.T) {
	_, err := Parse([]string{"--isolation", "hyperv", "--link", "db", "--network", "name=n,driver-opt=a=b,link-local-ip=169.254.0.9", "--storage-opt", "size=1g", "img"}, testContext)
	for _, name := range []string{"--isolation", "--link", "--network driver-opt", "--network link-local-ip", "--storage-opt"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not in %v", name, err)
		}
	}
}

func TestResources(t *testing.T) {
	w := mustParse(t, "-m", "1.5g", "--memory-swap", "-1", "--memory-reservation", "6M", "--cpus", "0.000000001", "--pids-limit=-1",
		"--memory-swappiness", "0", "--blkio-weight", "10", "--blkio-weight-device", "/dev/sda:0", "--device-read-bps", "/dev/sda:1kb",
		"--shm-size", "1 KiB", "--cpu-shares", "0", "--stop-timeout=-1", "img").Workload
	r := w.Resources
	weight, wait := uint16(10), -1
	want := spec.Resources{
		Memory: intPtr(3 << 29), MemorySwap: intPtr(-1), MemoryReservation: intPtr(6 << 20), NanoCPUs: intPtr(1), PidsLimit: intPtr(-1),
		MemorySwappiness: intPtr(0), BlkioWeight: &weight,
		BlkioWeightDevice: []spec.WeightDevice{{Path: "/dev/sda"}}, ReadBPS: []spec.Throttle{{Path: "/dev/sda", Rate: 1024}},
	}
	if !reflect.DeepEqual(r, want) || *w.ShmSize != 1024 || *w.StopTimeout != wait {
		t.Errorf("got %+v", r)
	}
	w = mustParse(t, "-m", "0", "--pids-limit", "0", "--memory-swap", "0", "--memory-swappiness=-1", "--cpus", "0", "img").Workload
	if want := (spec.Resources{Memory: intPtr(0), PidsLimit: intPtr(0)}); !reflect.DeepEqual(w.Resources, want) {
		t.Errorf("got %+v", w.Resources)
	}
}

func TestDevices(t *testing.T) {
	for in, want := range map[string]spec.Device{
		"/dev/fuse":              {Host: "/dev/fuse", Container: "/dev/fuse", Permissions: "rwm"},
		"/dev/fuse:rw":           {Host: "/dev/fuse", Container: "/dev/fuse", Permissions: "rw"},
		"/dev/../dev/a:/dev/b/":  {Host: "/dev/a", Container: "/dev/b", Permissions: "rwm"},
		"/dev/a:/dev/b:m":        {Host: "/dev/a", Container: "/dev/b", Permissions: "m"},
		"vendor.com/gpu=all":     {Host: "vendor.com/gpu=all", CDI: true},
		"nvidia.com/gpu=gpu0:0a": {Host: "nvidia.com/gpu=gpu0:0a", CDI: true},
	} {
		want.Raw = in
		if got := mustParse(t, "--device", in, "img").Workload.Devices; len(got) != 1 || got[0] != want {
			t.Errorf("%s: %+v", in, got)
		}
	}
}

func TestPlatformVariable(t *testing.T) {
	ctx := testContext
	ctx.LookupEnv = func(name string) (string, bool) { return "linux/arm64", name == "DOCKER_DEFAULT_PLATFORM" }
	for want, args := range map[string][]string{"linux/arm64": {"img"}, "linux/386": {"--platform", "linux/386", "img"}, "": {"--platform=", "img"}} {
		if inv, err := Parse(args, ctx); err != nil || inv.Workload.Platform != want {
			t.Errorf("%q: %q %v", args, inv.Workload.Platform, err)
		}
	}
}
