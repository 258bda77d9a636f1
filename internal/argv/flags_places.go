package argv

import (
	"encoding/csv"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/safe-run/safe-run/spec"
)

// csvLine is a line that encoding/csv reads as fields.
func csvLine(fields []string) string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write(fields) // to memory
	w.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}

func (f *flags) files(w spec.Workload) {
	for _, m := range w.Mounts {
		switch {
		case m.Origin == "--mount":
			f.mount(m)
		case m.Type == spec.MountTmpfs:
			f.tmpfs(m)
		default:
			// Also the volumes an image asks for: by now they have a name.
			f.volume(m)
		}
	}
	f.list("volumes-from", w.VolumesFrom)
	f.str("volume-driver", w.VolumeDriver)
	f.pairs("storage-opt", w.StorageOpts)
	optional(f, "read-only", w.ReadOnly)
	optional(f, "shm-size", w.ShmSize)
}

func (f *flags) volume(m spec.Mount) {
	words := []string{m.Target}
	if m.Source != "" {
		words = []string{m.Source, m.Target}
	}
	var modes []string
	if m.ReadOnly {
		modes = append(modes, "ro")
	}
	if m.Exec {
		modes = append(modes, "exec")
	}
	if m.NoCopy {
		modes = append(modes, "nocopy")
	}
	for _, word := range []string{m.Relabel, m.Propagation} {
		if word != "" {
			modes = append(modes, word)
		}
	}
	if len(modes) > 0 {
		words = append(words, strings.Join(modes, ","))
	}
	f.add("volume", strings.Join(words, ":"))
}

func (f *flags) mount(m spec.Mount) {
	fields := []string{"type=" + string(m.Type)}
	pair := func(key, value string) {
		if value != "" {
			fields = append(fields, key+"="+value)
		}
	}
	word := func(key string, is bool) {
		if is {
			fields = append(fields, key)
		}
	}
	pairs := func(key string, of map[string]string) {
		for _, k := range slices.Sorted(maps.Keys(of)) {
			pair(key, k+"="+of[k])
		}
	}
	pair("source", m.Source)
	pair("target", m.Target)
	word("readonly", m.ReadOnly && m.Type != spec.MountImage)
	word("exec", m.Exec)
	pair("bind-propagation", m.Propagation)
	if m.NonRecursive {
		pair("bind-recursive", "disabled")
	}
	word("volume-nocopy", m.NoCopy)
	if m.Type == spec.MountImage {
		pair("image-subpath", m.Subpath)
	} else {
		pair("volume-subpath", m.Subpath)
	}
	pair("volume-driver", m.Driver)
	pairs("volume-opt", m.DriverOpts)
	pairs("volume-label", m.Labels)
	if m.Tmpfs.Size != 0 {
		pair("tmpfs-size", strconv.FormatInt(m.Tmpfs.Size, 10))
	}
	if m.Tmpfs.Mode != nil {
		pair("tmpfs-mode", fmt.Sprintf("%04o", *m.Tmpfs.Mode))
	}
	f.add("mount", csvLine(fields))
}

func (f *flags) tmpfs(m spec.Mount) {
	t := m.Tmpfs
	var options []string
	option := func(format string, value any) { options = append(options, fmt.Sprintf(format, value)) }
	if t.Size != 0 {
		option("size=%d", t.Size)
	}
	if t.SizePct != 0 {
		option("size=%d%%", t.SizePct)
	}
	if t.Inodes != 0 {
		option("nr_inodes=%d", t.Inodes)
	}
	if t.Mode != nil {
		option("mode=%04o", *t.Mode)
	}
	if t.UID != nil {
		option("uid=%d", *t.UID)
	}
	if t.GID != nil {
		option("gid=%d", *t.GID)
	}
	options = append(options, t.Flags...)
	v := m.Target
	if len(options) > 0 {
		v += ":" + strings.Join(options, ",")
	}
	f.add("tmpfs", v)
}

func (f *flags) network(w spec.Workload) {
	f.networks(w)
	f.list("add-host", w.AddHosts)
	f.list("dns", w.DNS)
	f.list("dns-search", w.DNSSearch)
	f.list("dns-option", w.DNSOptions)
	for _, p := range w.Publish {
		f.add("publish", publish(p))
	}
	f.on("publish-all", w.PublishAll)
	for _, p := range w.Expose {
		f.add("expose", ports(p))
	}
	switch w.Egress.Mode {
	case spec.EgressAll, spec.EgressNone, spec.EgressList:
		f.list("egress", egressWords(w.Egress))
	default:
		f.cannot("--egress mode %.40q", w.Egress.Mode)
	}
}

// egressWords are the values of --egress, none for what is the default.
func egressWords(e spec.Egress) (words []string) {
	if e.Mode == spec.EgressNone {
		return []string{"none"}
	}
	for _, r := range e.Allow {
		host := r.Name
		if r.Prefix.IsValid() {
			host = r.Prefix.String()
			if r.Prefix.Addr().Is6() {
				host = "[" + host + "]"
			}
		}
		words = append(words, host+":"+ports(r.Ports))
	}
	return words
}

// networks writes at most one network with flags of its own, for which the
// command line takes the first: the long form makes all letters small.
func (f *flags) networks(w spec.Workload) {
	all := w.Networks
	if len(all) == 0 {
		f.add("network", "none")
		return
	}
	first := max(0, slices.IndexFunc(all, func(n spec.NetworkUse) bool {
		return settings(n) && strings.ToLower(n.Name+strings.Join(n.Aliases, "")) != n.Name+strings.Join(n.Aliases, "")
	}))
	if w.NetworkSet || len(all) > 1 || all[0].Name != "bridge" {
		f.add("network", all[first].Name)
	}
	n := all[first]
	f.str("ip", n.IP)
	f.str("ip6", n.IP6)
	f.str("mac-address", n.MAC)
	f.list("network-alias", n.Aliases)
	for i, n := range all {
		if i == first {
			if len(n.DriverOpts)+len(n.LinkLocalIPs) > 0 {
				f.cannot("driver options or link-local addresses of a network")
			}
			continue
		}
		fields := []string{"name=" + n.Name}
		if i < first {
			fields = append(fields, "gw-priority=1")
		}
		if len(fields) == 1 && !settings(n) {
			f.add("network", n.Name)
			continue
		}
		for _, p := range []struct{ key, value string }{{"ip", n.IP}, {"ip6", n.IP6}, {"mac-address", n.MAC}} {
			if p.value != "" {
				fields = append(fields, p.key+"="+p.value)
			}
		}
		for _, a := range n.Aliases {
			fields = append(fields, "alias="+a)
		}
		f.add("network", csvLine(fields))
	}
}

// settings says whether there is more than a name.
func settings(n spec.NetworkUse) bool {
	return n.IP != "" || n.IP6 != "" || n.MAC != "" || len(n.Aliases)+len(n.LinkLocalIPs)+len(n.DriverOpts) > 0
}

func publish(p spec.Publish) string {
	v := ""
	if p.HostIP.IsValid() {
		v = p.HostIP.String() + ":"
		if p.HostIP.Is6() {
			v = "[" + p.HostIP.String() + "]:"
		}
	}
	if p.HostFirst != 0 || p.HostLast != 0 {
		v += numbers(p.HostFirst, p.HostLast)
	}
	return v + ":" + ports(p.Ports)
}

func ports(p spec.PortRange) string { return numbers(p.First, p.Last) + "/" + p.Proto }

func numbers(first, last uint16) string {
	if first == last {
		return strconv.Itoa(int(first))
	}
	return fmt.Sprintf("%d-%d", first, last)
}
