package cli

import (
	"bytes"
	"encoding/csv"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/fail"
)

// row is a line of testdata/docker-run-flags.csv: all long names of docker
// run, and values of them that matter for isolation.
type row struct{ kind, flag, value, short, typ, repeatable, docker, risk string }

func rows(t *testing.T) []row {
	t.Helper()
	f, err := os.Open("testdata/docker-run-flags.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var all []row
	for _, r := range records[1:] {
		all = append(all, row{r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]})
	}
	return all
}

func tableByName() map[string]Flag {
	m := map[string]Flag{}
	for _, f := range Table() {
		m[f.Long] = f
	}
	return m
}

func TestTableHasEveryFlagOfDocker(t *testing.T) {
	table := tableByName()
	names := 0
	for _, r := range rows(t) {
		if r.kind != "flag" {
			continue
		}
		names++
		f, ok := table[r.flag]
		if !ok {
			t.Errorf("--%s is not in the table", r.flag)
			continue
		}
		if string(f.Type) != r.typ || f.Short != r.short || f.Repeatable != (r.repeatable == "yes") {
			t.Errorf("--%s: type %s short %q repeatable %v, want %s %q %s", r.flag, f.Type, f.Short, f.Repeatable, r.typ, r.short, r.repeatable)
		}
		if r.risk == "dangerous" && f.Disposition != PolicyChecked && f.Disposition != Unsupported {
			t.Errorf("--%s is dangerous and %s", r.flag, f.Disposition)
		}
	}
	if names != 107 || len(table) != 107 || len(Table()) != 107 {
		t.Errorf("%d rows, %d names in a table of %d; docker run has 107", names, len(table), len(Table()))
	}
}

func TestTableIsWhole(t *testing.T) {
	long, short := map[string]bool{}, map[string]bool{}
	groups := strings.Join(append(helpGroups(), groupWindows), "\n")
	for _, f := range append(Own(), Table()...) {
		if long[f.Long] || (f.Short != "" && short[f.Short]) {
			t.Errorf("--%s -%s twice", f.Long, f.Short)
		}
		long[f.Long], short[f.Short] = true, true
		if f.set == nil || !strings.Contains(groups, f.Group) || f.Visibility == "" {
			t.Errorf("--%s: no setter, group or visibility", f.Long)
		}
		if (f.Usage == "") != (f.AliasOf != "") {
			t.Errorf("--%s: usage %q, alias of %q", f.Long, f.Usage, f.AliasOf)
		}
		if f.Disposition == Unsupported && f.Why == "" {
			t.Errorf("--%s is %s without a reason", f.Long, f.Disposition)
		}
		if (f.Type == Bool) != (f.Arg == "") {
			t.Errorf("--%s: type %s, argument %q", f.Long, f.Type, f.Arg)
		}
	}
	for _, f := range Table() {
		if f.AliasOf != "" && !long[f.AliasOf] {
			t.Errorf("--%s is an alias of no flag", f.Long)
		}
	}
}

// samples are a valid value other than the default, for each flag.
var samples = map[string]string{
	"add-host": "db:10.0.0.1", "annotation": "a=b", "attach": "stdout", "blkio-weight": "100",
	"blkio-weight-device": "/dev/sda:100", "cap-add": "CHOWN", "cap-drop": "ALL", "cgroup-parent": "/x", "cgroupns": "private",
	"cidfile": "id", "cpu-count": "1", "cpu-percent": "1", "cpu-period": "1000", "cpu-quota": "1000", "cpu-rt-period": "1000",
	"cpu-rt-runtime": "1000", "cpu-shares": "2", "cpus": "1.5", "cpuset-cpus": "0-1", "cpuset-mems": "0", "detach": "true",
	"detach-keys": "ctrl-a", "device": "/dev/fuse", "device-cgroup-rule": "c 1:3 r", "device-read-bps": "/dev/sda:1m",
	"device-read-iops": "/dev/sda:1", "device-write-bps": "/dev/sda:1m", "device-write-iops": "/dev/sda:1",
	"disable-content-trust": "true", "dns": "1.1.1.1", "dns-option": "ndots:2", "dns-opt": "ndots:2", "dns-search": "example.com",
	"domainname": "example.com", "entrypoint": "sh", "env": "A=b", "env-file": "env", "expose": "80/tcp", "gpus": "all",
	"group-add": "10", "health-cmd": "true", "health-interval": "5s", "health-retries": "3", "health-start-interval": "5s",
	"health-start-period": "5s", "health-timeout": "5s", "help": "true", "hostname": "web", "init": "true", "interactive": "true",
	"io-maxbandwidth": "1m", "io-maxiops": "1", "ip": "10.0.0.2", "ip6": "fd00::2", "ipc": "private", "isolation": "hyperv",
	"kernel-memory": "6m", "label": "a=b", "label-file": "labels", "link": "db", "link-local-ip": "169.254.1.1",
	"log-driver": "json-file", "log-opt": "max-size=1m", "mac-address": "92:d0:c6:0a:29:33", "memory": "64m",
	"memory-reservation": "32m", "memory-swap": "-1", "memory-swappiness": "10", "mount": "type=tmpfs,dst=/t", "name": "web",
	"net": "none", "net-alias": "db", "network": "none", "network-alias": "db", "no-healthcheck": "true",
	"oom-kill-disable": "true", "oom-score-adj": "10", "pid": "host", "pids-limit": "10", "platform": "linux/amd64",
	"privileged": "true", "publish": "80:80", "publish-all": "true", "pull": "always", "quiet": "true", "read-only": "true",
	"restart": "always", "rm": "true", "runtime": "runc", "security-opt": "no-new-privileges", "shm-size": "1m",
	"sig-proxy": "false", "stop-signal": "INT", "stop-timeout": "3", "storage-opt": "size=1g", "sysctl": "net.core.somaxconn=9",
	"tmpfs": "/t", "tty": "true", "ulimit": "nofile=10", "use-api-socket": "true", "user": "1000", "userns": "host",
	"uts": "host", "volume": "/a:/b", "volume-driver": "local", "volumes-from": "db", "workdir": "/w",
}

// beside are the flags without which a sample is an error.
var beside = map[string][]string{"network-alias": {"--network=web"}, "net-alias": {"--network=web"}}

// TestDispositions runs every flag: what the table says of it is what happens,
// and nothing is ignored.
func TestDispositions(t *testing.T) {
	for _, f := range Table() {
		base := mustParse(t, append(slices.Clone(beside[f.Long]), "img")...)
		v, ok := samples[f.Long]
		if !ok {
			t.Errorf("--%s has no sample", f.Long)
			continue
		}
		spellings := [][]string{{"--" + f.Long + "=" + v, "img"}}
		if f.Type != Bool {
			spellings = append(spellings, []string{"--" + f.Long, v, "img"})
		}
		if f.Short != "" {
			spellings = append(spellings, []string{"-" + f.Short + "=" + v, "img"})
			if f.Type != Bool {
				spellings = append(spellings, []string{"-" + f.Short + v, "img"}, []string{"-" + f.Short, v, "img"})
			}
		}
		for _, args := range spellings {
			args = append(slices.Clone(beside[f.Long]), args...)
			inv, err := Parse(args, testContext)
			changed := !reflect.DeepEqual(inv, base)
			switch f.Disposition {
			case Honoured, PolicyChecked:
				if err != nil || !changed {
					t.Errorf("%q is %s: error %v, changed %v", args, f.Disposition, err, changed)
				}
			case NoEffect:
				if err != nil || len(inv.Notices) != 1 || !strings.Contains(inv.Notices[0], f.Why) {
					t.Errorf("%q: error %v, notices %q", args, err, inv.Notices)
				}
			case Unsupported:
				if err == nil || !strings.Contains(err.Error(), "--"+f.Long) || fail.KindOf(err) != fail.Usage {
					t.Errorf("%q is %s: error %v", args, f.Disposition, err)
				}
			}
		}
	}
}

// TestRiskyValues runs the values that matter: each is an error or reaches
// the policy in the Workload.
func TestRiskyValues(t *testing.T) {
	base, err := Parse([]string{"img"}, testContext)
	if err != nil {
		t.Fatal(err)
	}
	table := tableByName()
	n := 0
	for _, r := range rows(t) {
		if r.kind != "value" {
			continue
		}
		n++
		inv, err := Parse([]string{"--" + r.flag + "=" + r.value, "img"}, testContext)
		if err == nil && reflect.DeepEqual(inv.Workload, base.Workload) {
			t.Errorf("--%s=%s leaves no trace", r.flag, r.value)
		}
		if err == nil && r.risk == "dangerous" && table[r.flag].Disposition != PolicyChecked {
			t.Errorf("--%s=%s is dangerous and passes as %s", r.flag, r.value, table[r.flag].Disposition)
		}
	}
	if n < 100 {
		t.Errorf("only %d values", n)
	}
}

func TestHelpFitsAndNamesEveryFlag(t *testing.T) {
	for _, width := range []int{0, 60, 80, 100, 500} {
		var b bytes.Buffer
		Help(&b, "safe-run", width)
		limit := width
		if width == 0 {
			limit = defaultWidth
		}
		for _, line := range strings.Split(b.String(), "\n") {
			if len(line) > min(limit, maxWidth) {
				t.Errorf("width %d: %d columns: %s", width, len(line), line)
			}
		}
		for _, f := range append(Own(), Table()...) {
			shown := strings.Contains(b.String(), "--"+f.Long)
			if shown != (f.Visibility == Public || f.Visibility == Windows) && f.AliasOf == "" {
				t.Errorf("--%s (%s): in the help %v", f.Long, f.Visibility, shown)
			}
		}
		first := strings.Index(b.String(), groupOurs)
		if i := strings.Index(b.String(), groupContainer+":"); first < 0 || i < first {
			t.Error("our own flags do not come first")
		}
	}
	if got := UsageLine("docker run"); got != "Usage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]" {
		t.Error(got)
	}
	if got := Usage("safe-run"); got != "\nUsage:  safe-run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nRun 'safe-run --help' for more information\n" {
		t.Errorf("%q", got)
	}
}

func TestManNamesEveryFlag(t *testing.T) {
	var b bytes.Buffer
	if err := Man(&b, Manual{Version: "1.0", Date: "2026-11-22"}, [][2]string{{"pull [OPTIONS] NAME", "Fetch an image"}}); err != nil {
		t.Fatal(err)
	}
	for _, f := range append(Own(), Table()...) {
		if want := f.Visibility == Public || f.Visibility == Windows; want != strings.Contains(b.String(), roff("--"+f.Long)) && f.AliasOf == "" {
			t.Errorf("--%s (%s): want it in the manual: %v", f.Long, f.Visibility, want)
		}
	}
	for n, line := range strings.Split(b.String(), "\n") {
		if strings.HasPrefix(line, "'") || (strings.HasPrefix(line, ".") && !strings.Contains(".TH .SH .SS .TP .B .br", strings.Fields(line)[0])) {
			t.Errorf("line %d is taken for a request: %s", n+1, line)
		}
	}
}
