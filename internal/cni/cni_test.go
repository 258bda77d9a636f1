package cni

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/fail"
)

const plain = `{"name": "plain", "cniVersion": "1.0.0", "plugins": [{"type": "ok"}]}`

func TestFind(t *testing.T) {
	s := newSite(t)
	s.plugin("ok", "echo '{}'")
	s.plugin("other", "echo '{}'")
	if names, err := List(s.Config); err != nil || len(names) != 0 {
		t.Errorf("%v, %v", names, err)
	}
	s.conf("10-plain.conflist", plain)
	s.conf("20-plain.conflist", strings.ReplaceAll(plain, "ok", "absent"))
	s.conf("05-plain.conf", `{"name": "plain", "cniVersion": "1.0.0", "type": "absent"}`)
	s.conf("30-single.conf", `{"name": "single", "cniVersion": "0.4.0", "type": "ok", "ipam": {"type": "other"}}`)
	s.conf("31-json.json", `{"name": "json", "type": "ok"}`)
	s.conf("40-folder.conflist", `{"name": "folder", "cniVersion": "1.1.0"}`)
	if err := os.Mkdir(filepath.Join(s.ConfDir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.conf("folder/b.conf", `{"type": "other"}`)
	s.conf("folder/a.conf", `{"type": "ok"}`)
	s.conf("50-hostile.conflist", `{"name": "../../etc", "plugins": [{"type": "ok"}]}`)
	s.conf("51-broken.conflist", `{"name": "broken"`)
	s.conf("52-none.conflist", `["name"]`)
	s.conf("notes.txt", `{"name": "notes", "plugins": [{"type": "ok"}]}`)
	if err := os.Mkdir(filepath.Join(s.ConfDir, "60.conflist"), 0o755); err != nil {
		t.Fatal(err)
	}

	names, err := List(s.Config)
	if want := []string{"folder", "json", "plain", "single"}; err != nil || !reflect.DeepEqual(names, want) {
		t.Errorf("%v, %v", names, err)
	}
	for name, want := range map[string][]string{"plain": {"ok"}, "single": {"ok"}, "json": {"ok"}, "folder": {"ok", "other"}} {
		var got []string
		for _, p := range s.find(name).list.Plugins {
			got = append(got, p.Network.Type)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v", name, got)
		}
	}
	for _, name := range []string{"absent", "", "..", "../../etc", "broken", "notes", "10-plain", strings.Repeat("a", 300)} {
		if n, ok, err := Find(s.Config, name); n != nil || ok || err != nil {
			t.Errorf("%q: %v, %v", name, ok, err)
		}
	}
	if _, ok, err := Find(Config{ConfDir: "/absent"}, "plain"); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}

func TestIncomplete(t *testing.T) {
	for name, c := range map[string]struct{ conf, say string }{
		"plugin":     {`"plugins": [{"type": "absent"}]`, `its plugin "absent" is not there`},
		"ipam":       {`"plugins": [{"type": "ok", "ipam": {"type": "absent"}}]`, `its plugin "absent" is not there`},
		"delegate":   {`"plugins": [{"type": "ok", "delegate": {"type": "ok", "ipam": {"type": "absent"}}}]`, `its plugin "absent" is not there`},
		"a path":     {`"plugins": [{"type": "../own/ok"}]`, `"../own/ok" is not the name of a plugin`},
		"no type":    {`"plugins": [{}]`, "missing 'type'"},
		"no plugins": {`"plugins": []`, "no plugins in list"},
		"none":       {`"disableCheck": true`, "it has 0 plugins"},
		"too many":   {`"plugins": [` + strings.Repeat(`{"type": "ok"},`, 40) + `{"type": "ok"}]`, "it has 41 plugins"},
		"newer":      {`"cniVersion": "9.0.0", "plugins": [{"type": "ok"}]`, "newer than"},
		"hostile":    {`"cniVersion": "\u001b[2J", "plugins": [{"type": "ok"}]`, `"\x1b[2J"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.plugin("ok", "echo '{}'")
			s.conf("1.conflist", `{"name": "net", `+c.conf+`}`)
			_, ok, err := Find(s.Config, "net")
			if ok || fail.KindOf(err) != fail.HostCannot || !strings.Contains(fmt.Sprint(err), c.say) {
				t.Errorf("%v, %v", ok, err)
			}
		})
	}
}

// Whoever can change a file or directory of a network could have anything
// run as root.
func TestTrust(t *testing.T) {
	chmod := func(path string, mode os.FileMode) error { return os.Chmod(path, mode) }
	chown := func(path string) error { return os.Lchown(path, 1000, 1000) }
	for name, c := range map[string]struct {
		spoil func(s site) error
		file  string // named in the message; "": it can be used
	}{
		"as it should be":       {func(site) error { return nil }, ""},
		"file of a user":        {func(s site) error { return chown(s.ConfDir + "/1.conflist") }, "net.d/1.conflist"},
		"file for a group":      {func(s site) error { return chmod(s.ConfDir+"/1.conflist", 0o664) }, "net.d/1.conflist"},
		"file for all":          {func(s site) error { return chmod(s.ConfDir+"/1.conflist", 0o646) }, "net.d/1.conflist"},
		"directory of a user":   {func(s site) error { return chown(s.ConfDir) }, "net.d"},
		"directory for a group": {func(s site) error { return chmod(s.ConfDir, 0o775) }, "net.d"},
		"directory for all":     {func(s site) error { return chmod(s.ConfDir, 0o777) }, "net.d"},
		"sticky directory":      {func(s site) error { return chmod(s.ConfDir, 0o777|os.ModeSticky) }, "net.d"},
		"parent of a user":      {func(s site) error { return chown(filepath.Dir(s.ConfDir)) }, "001"},
		"parent for all":        {func(s site) error { return chmod(filepath.Dir(s.ConfDir), 0o777) }, "001"},
		"sticky parent":         {func(s site) error { return chmod(filepath.Dir(s.ConfDir), 0o777|os.ModeSticky) }, ""},
		"plugin of a user":      {func(s site) error { return chown(s.BinDirs[0] + "/ok") }, "own/ok"},
		"plugin for all":        {func(s site) error { return chmod(s.BinDirs[0]+"/ok", 0o757) }, "own/ok"},
		"ipam of a user":        {func(s site) error { return chown(s.BinDirs[1] + "/ipam") }, "real/ipam"},
		"plugins of a user":     {func(s site) error { return chown(s.BinDirs[1]) }, "real"},
		"plugins for a group":   {func(s site) error { return chmod(s.BinDirs[0], 0o775) }, "own"},
		"a link out": {func(s site) error {
			s.write(s.BinDirs[1]+"/elsewhere", "#!/bin/sh\n", 0o755)
			return relink(s.BinDirs[0]+"/ok", "../real/elsewhere")
		}, "own/ok"},
		"an absolute link out": {func(s site) error { return relink(s.BinDirs[0]+"/ok", "/bin/true") }, "own/ok"},
		"a link beside it": {func(s site) error {
			s.plugin("multi", "echo '{}'")
			return relink(s.BinDirs[0]+"/ok", "multi")
		}, ""},
		"a link to a user's": {func(s site) error {
			s.plugin("multi", "echo '{}'")
			return firstError(relink(s.BinDirs[0]+"/ok", "multi"), chown(s.BinDirs[0]+"/multi"))
		}, "own/multi"},
		"a link to itself": {func(s site) error { return relink(s.BinDirs[0]+"/ok", "ok") }, "own/ok"},
		"the file is a link out": {func(s site) error {
			s.write(s.BinDirs[1]+"/net", plain, 0o644)
			return relink(s.ConfDir+"/1.conflist", s.BinDirs[1]+"/net")
		}, "net.d/1.conflist"},
		"the directory is a link": {func(s site) error {
			if err := os.Rename(s.BinDirs[1], s.BinDirs[1]+"2"); err != nil {
				return err
			}
			return os.Symlink("real2", s.BinDirs[1])
		}, ""},
		"the directory is a user's link": {func(s site) error {
			if err := os.Rename(s.BinDirs[1], s.BinDirs[1]+"2"); err != nil {
				return err
			}
			return firstError(os.Symlink("real2", s.BinDirs[1]), chown(s.BinDirs[1]))
		}, "real"},
		"a directory as plugin": {func(s site) error {
			return firstError(os.Remove(s.BinDirs[0]+"/ok"), os.Mkdir(s.BinDirs[0]+"/ok", 0o755))
		}, "own/ok"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.plugin("ok", "echo '{}'")
			s.write(s.BinDirs[1]+"/ipam", "#!/bin/sh\n", 0o755)
			s.conf("1.conflist", `{"name": "plain", "cniVersion": "1.0.0", "plugins": [{"type": "ok", "ipam": {"type": "ipam"}}]}`)
			if err := c.spoil(s); err != nil {
				t.Fatal(err)
			}
			_, ok, err := Find(s.Config, "plain")
			if c.file == "" {
				if !ok || err != nil {
					t.Errorf("%v, %v", ok, err)
				}
				return
			}
			if ok || fail.KindOf(err) != fail.HostCannot || !strings.Contains(fmt.Sprint(err), c.file) {
				t.Errorf("%v, %v", ok, err)
			}
			// It takes no other network along.
			if _, ok, err := Find(s.Config, "absent"); ok || err != nil {
				t.Errorf("%v, %v", ok, err)
			}
		})
	}
}

func relink(path, target string) error {
	return firstError(os.Remove(path), os.Symlink(target, path))
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(plain), true)
	f.Add([]byte(`{"name": "a", "type": "b", "ipam": {"type": "c"}, "delegate": {"delegate": {"type": "d"}}}`), false)
	f.Add([]byte(`{"name": "a", "cniVersions": ["1.0.0", 1], "plugins": null}`), true)
	f.Fuzz(func(t *testing.T, data []byte, isList bool) {
		_ = networkName(data)
		list, err := parse(data, isList)
		if err != nil || len(list.Plugins) == 0 {
			return
		}
		kept, err := whole(list)
		if err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		if kept.Name != list.Name || len(kept.Plugins) != len(list.Plugins) {
			t.Errorf("%q is kept as %q", data, kept.Bytes)
		}
		for _, p := range list.Plugins {
			_ = pluginTypes(p.Bytes)
		}
	})
}
