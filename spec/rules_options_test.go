package spec

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// TestOptions: what the runtime makes of each option, for a plain bind and one
// that takes the mounts below along.
func TestOptions(t *testing.T) {
	read := func(options ...string) mountOptions { return optionsOf(specs.Mount{Options: options}) }
	for _, c := range []struct {
		option           string
		plain, recursive mountOptions
	}{
		{"ro", mountOptions{readonly: true}, mountOptions{}},
		{"rro", mountOptions{readonly: true}, mountOptions{readonly: true}},
		{"nosuid", mountOptions{nosuid: true}, mountOptions{}},
		{"rnosuid", mountOptions{nosuid: true}, mountOptions{nosuid: true}},
		{"nodev", mountOptions{nodev: true}, mountOptions{}},
		{"rnodev", mountOptions{nodev: true}, mountOptions{nodev: true}},
		{"noexec", mountOptions{noexec: true}, mountOptions{}},
		{"rnoexec", mountOptions{noexec: true}, mountOptions{noexec: true}},
		{"idmap", mountOptions{idmap: true}, mountOptions{}},
		{"ridmap", mountOptions{idmap: true}, mountOptions{idmap: true}},
		{"size=7", mountOptions{size: 7}, mountOptions{size: 7}},
		{"size=2k", mountOptions{size: 2048}, mountOptions{size: 2048}},
		{"nr_inodes=9", mountOptions{inodes: 9}, mountOptions{inodes: 9}},
		{"mode=755", mountOptions{}, mountOptions{}},
		{"uid=1", mountOptions{}, mountOptions{}},
		{"gid=1", mountOptions{}, mountOptions{}},
		{"ptmxmode=0666", mountOptions{}, mountOptions{}},
		{"mpol=local", mountOptions{}, mountOptions{}},
		{"noatime", mountOptions{}, mountOptions{}},
		{"noatime=1", mountOptions{other: []string{"noatime=1"}}, mountOptions{other: []string{"noatime=1"}}},
		{"exec", mountOptions{other: []string{"exec"}}, mountOptions{other: []string{"exec"}}},
		{"rw", mountOptions{other: []string{"rw"}}, mountOptions{other: []string{"rw"}}},
	} {
		plain, recursive := c.plain, c.recursive
		if got := read(c.option); !reflect.DeepEqual(got, plain) {
			t.Errorf("%s: %+v", c.option, got)
		}
		plain.bind = true
		if got := read("bind", c.option); !reflect.DeepEqual(got, plain) {
			t.Errorf("bind, %s: %+v", c.option, got)
		}
		recursive.bind, recursive.recursive = true, true
		for _, order := range [][]string{{"rbind", c.option}, {c.option, "rbind"}} {
			if got := read(order...); !reflect.DeepEqual(got, recursive) {
				t.Errorf("%q: %+v", order, got)
			}
		}
		// A second one takes nothing back.
		for _, twice := range [][]string{{c.option, "ro", "nosuid", "nodev", "noexec", "idmap"}, {"ro", "nosuid", "nodev", "noexec", "idmap", c.option}} {
			if got := read(twice...); !got.readonly || !got.nosuid || !got.nodev || !got.noexec || !got.idmap {
				t.Errorf("%q: %+v", twice, got)
			}
		}
		all := []string{"rbind", "rro", "rnosuid", "rnodev", "rnoexec", "ridmap", c.option}
		if got := read(all...); !got.readonly || !got.nosuid || !got.nodev || !got.noexec || !got.idmap {
			t.Errorf("%q: %+v", all, got)
		}
	}
	for _, p := range []string{"private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"} {
		if got := read(p).propagation; !slices.Equal(got, []string{p}) {
			t.Errorf("%s: %q", p, got)
		}
	}
	for text, want := range map[string]int64{"0": 0, "1": 1, "1k": 1024, "-1": 0, "-1k": 0, "x": 0, "": 0, "k": 0, "1m": 0, "2251799813685247": 1<<51 - 1, "2251799813685248": 0, "99999999999999999999": 0} {
		if got := byteSize(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

// TestForbiddenSources: names that are never bound, whoever resolved them.
func TestForbiddenSources(t *testing.T) {
	cases := map[string]bool{
		"/proc/4711/fd/9": false, "/proc/0/fd/9": true, "/proc/4711/fd": true, "/proc/4711/fd/9/x": true, "/proc/self/fd/9": true,
		"/srv/www": false, "/var/lib/safe-run/x": false, "/run/safe-run/io/x": false, "": true, "relative": true, "/a/../b": true, "/a\x00": true,
		"/etcetera": false, "/etc/nginx": false, "/run/dockerx": false, "/bootx": false,
	}
	for _, f := range forbiddenSources {
		p, tree := strings.CutSuffix(f, "/")
		if p == "" {
			p, tree = "/", false
		}
		cases[p] = true
		if p != "/" {
			cases[p+"/some.file"] = tree || cases[p+"/some.file"]
		}
	}
	for p, want := range cases {
		if forbiddenSource(p) != want {
			t.Errorf("%q: want %v", p, want)
		}
	}
}
