// Package cni connects containers to the networks a site has defined for CNI
// (https://www.cni.dev): files in /etc/cni/net.d that name plugins, programs
// that are run as root. What it runs, and what tells it to, must be root's
// alone; what a container or an image has chosen reaches a plugin only as
// checked values of capabilities that the network declares.
package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/version"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// Limits for what is read of the configuration.
const (
	maxFiles   = 256
	maxFile    = 1 << 20
	maxPlugins = 32
	maxName    = 100 // the name is part of file names
)

// Config says where CNI is found.
type Config struct {
	ConfDir string   // "": /etc/cni/net.d
	BinDirs []string // nil: /opt/cni/bin, /usr/lib/cni, /usr/libexec/cni; those that do not exist are passed over
	// CacheDir keeps what is needed to give attachments back. It is made if
	// it is not there.
	CacheDir string
}

func (c Config) confDir() string {
	if c.ConfDir != "" {
		return c.ConfDir
	}
	return "/etc/cni/net.d"
}

func (c Config) binDirs() []string {
	if c.BinDirs != nil {
		return c.BinDirs
	}
	return []string{"/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"}
}

// Network is a CNI network whose files have been checked.
type Network struct {
	Name string

	cfg  Config
	list *libcni.NetworkConfigList
	run  runner
}

// Find looks a network up by the "name" in its file, of which the first by
// name counts, a list of plugins (.conflist) before a single one (.conf,
// .json). It is not an error that there is none. Errors are HostCannot: the
// network cannot be used, because others than root can change a file or
// directory of it, or because it is not complete.
func Find(c Config, name string) (*Network, bool, error) {
	if !validName(name) {
		return nil, false, nil
	}
	files, err := c.files()
	if err != nil {
		return nil, false, err
	}
	for _, f := range files {
		if f.network == name {
			n, err := c.load(f)
			return n, err == nil, err
		}
	}
	return nil, false, nil
}

// List gives the names of the networks there are, sorted. Whether one can be
// used Find tells.
func List(c Config) ([]string, error) {
	files, err := c.files()
	var names []string
	for _, f := range files {
		names = append(names, f.network)
	}
	slices.Sort(names)
	return slices.Compact(names), err
}

// confFile is a file with the definition of a network.
type confFile struct {
	name    string // in the directory
	network string
	data    []byte
	trust   error // why others than root may have written data
}

// files reads the files of the directory that name a network, in the order
// they count. A file that does not is none of ours.
func (c Config) files() ([]confFile, error) {
	entries, err := os.ReadDir(c.confDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "the CNI networks")
	}
	dir, trust := trustedDir(c.confDir())
	if trust != nil {
		dir = c.confDir()
	}
	var lists, single []string
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".conflist":
			lists = append(lists, e.Name())
		case ".conf", ".json":
			single = append(single, e.Name())
		}
	}
	names := append(lists, single...)
	if len(names) > maxFiles {
		return nil, fail.New(fail.HostCannot, "more than %d CNI networks in %q", maxFiles, c.confDir())
	}
	var out []confFile
	for _, name := range names {
		// Of a file that only root writes nothing changes between the two.
		path, err := trustedFile(dir, name)
		if err != nil {
			path = filepath.Join(dir, name)
		}
		f := confFile{name: name, trust: errors.Join(trust, err)}
		if f.data, err = readRegular(path); err != nil {
			continue
		}
		if f.network = networkName(f.data); validName(f.network) {
			out = append(out, f)
		}
	}
	return out, nil
}

// load makes a network of a file.
func (c Config) load(f confFile) (*Network, error) {
	path := filepath.Join(c.confDir(), f.name)
	if f.trust != nil {
		return nil, cannot(f.network, f.trust)
	}
	list, err := parse(f.data, filepath.Ext(f.name) == ".conflist")
	if err != nil {
		return nil, cannot(f.network, fmt.Errorf("%q: %s", path, clean(err.Error())))
	}
	if !list.LoadOnlyInlinedPlugins {
		more, err := c.folder(f.network)
		if err != nil {
			return nil, cannot(f.network, err)
		}
		list.Plugins = append(list.Plugins, more...)
	}
	if len(list.Plugins) == 0 || len(list.Plugins) > maxPlugins {
		return nil, cannot(f.network, fmt.Errorf("%q: it has %d plugins", path, len(list.Plugins)))
	}
	if list, err = whole(list); err != nil {
		return nil, cannot(f.network, err)
	}
	return c.network(list)
}

// network checks the plugins of a complete list.
func (c Config) network(list *libcni.NetworkConfigList) (*Network, error) {
	n := &Network{Name: list.Name, cfg: c, list: list}
	for _, dir := range c.binDirs() {
		trusted, err := trustedDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, cannot(n.Name, err)
		}
		n.run.dirs = append(n.run.dirs, trusted)
	}
	for _, p := range list.Plugins {
		for _, kind := range pluginTypes(p.Bytes) {
			if _, err := n.run.FindInPath(kind, n.run.dirs); err != nil {
				return nil, cannot(n.Name, err)
			}
		}
	}
	return n, nil
}

func cannot(network string, err error) error {
	e := fail.New(fail.HostCannot, "the CNI network %q cannot be used", network)
	e.Err = err
	return e
}

// parse reads the definition of a network: a list of plugins, or one alone.
func parse(data []byte, isList bool) (*libcni.NetworkConfigList, error) {
	if !isList {
		one, err := libcni.NetworkPluginConfFromBytes(data)
		if err != nil {
			return nil, err
		}
		data, err = json.Marshal(map[string]any{
			"name": one.Network.Name, "cniVersion": one.Network.CNIVersion,
			"loadOnlyInlinedPlugins": true, "plugins": []json.RawMessage{data},
		})
		if err != nil {
			return nil, err
		}
	}
	list, err := libcni.NetworkConfFromBytes(data)
	if err != nil {
		return nil, err
	}
	newer, err := version.GreaterThan(list.CNIVersion, version.Current())
	if list.CNIVersion == "" {
		newer, err = false, nil
	}
	if newer {
		err = fmt.Errorf("its cniVersion %q is newer than %s", list.CNIVersion, version.Current())
	}
	return list, err
}

// folder reads the plugins that a network has in files of their own, in the
// directory of its name.
func (c Config) folder(name string) ([]*libcni.PluginConfig, error) {
	dir, err := trustedDir(filepath.Join(c.confDir(), name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []*libcni.PluginConfig
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".conf" {
			continue
		}
		if len(out) == maxPlugins {
			return nil, fmt.Errorf("%q: more than %d plugins", dir, maxPlugins)
		}
		path, err := trustedFile(dir, e.Name())
		if err != nil {
			return nil, err
		}
		data, err := readRegular(path)
		if err != nil {
			return nil, err
		}
		p, err := libcni.NetworkPluginConfFromBytes(data)
		if err != nil {
			return nil, fmt.Errorf("%q: %s", path, clean(err.Error()))
		}
		out = append(out, p)
	}
	return out, nil
}

// whole gives a list whose text has all its plugins, so that it can be kept.
func whole(list *libcni.NetworkConfigList) (*libcni.NetworkConfigList, error) {
	plugins := make([]json.RawMessage, len(list.Plugins))
	for i, p := range list.Plugins {
		plugins[i] = p.Bytes
	}
	data, err := json.Marshal(map[string]any{
		"name": list.Name, "cniVersion": list.CNIVersion, "loadOnlyInlinedPlugins": true, "plugins": plugins,
	})
	if err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(data)
}

// pluginTypes are the programs that the configuration of a plugin names: its
// own, that for addresses, and one it delegates to.
func pluginTypes(data []byte) []string {
	type node struct {
		Type     string `json:"type"`
		IPAM     struct{ Type string }
		Delegate json.RawMessage
	}
	var out []string
	// A delegate can have one too, but not for ever.
	for range 4 {
		var p node
		if json.Unmarshal(data, &p) != nil {
			break
		}
		for _, t := range []string{p.Type, p.IPAM.Type} {
			if t != "" && !slices.Contains(out, t) {
				out = append(out, t)
			}
		}
		data = p.Delegate
	}
	return out
}

func networkName(data []byte) string {
	var top map[string]json.RawMessage
	var name string
	if json.Unmarshal(data, &top) != nil || json.Unmarshal(top["name"], &name) != nil {
		return ""
	}
	return name
}

// validName has the specification's rule for names of networks and ids of
// containers, and a bound.
func validName(s string) bool {
	for i, c := range []byte(s) {
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || !strings.ContainsRune("_.-", rune(c))) {
			return false
		}
	}
	return s != "" && len(s) <= maxName
}

// readRegular reads a regular file of a bounded size. It waits for nothing.
func readRegular(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxFile {
		return nil, fmt.Errorf("%q is not a regular file of at most %d bytes", path, maxFile)
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// clean makes a text of others fit for a message: printable and bounded.
func clean(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, strings.TrimSpace(s))
	if len(s) > 500 {
		s = s[:500] + "..."
	}
	return s
}
