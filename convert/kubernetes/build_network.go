package kubernetes

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/internal/argv"
	"github.com/safe-run/safe-run/spec"
)

// network writes ports, names, and who may connect to whom.
func (b *builder) network() {
	b.resolving()
	b.ports()
	if b.onHost() {
		b.pod.Spec.HostNetwork = true
		b.lose("--network=host", "a NetworkPolicy has no say in the host's network")
		return
	}
	b.carryNetworks()
	for _, n := range b.networks() {
		b.pod.Labels[networkLabel+slug(n, 63)] = "true"
	}
	b.others = append(b.others, b.policy())
	b.lose("network", "a NetworkPolicy holds where the cluster's network plugin enforces it (Calico, Cilium and others do; flannel alone does not)")
	if b.w.Egress.Mode == spec.EgressAll && !b.shut() && !b.internal() {
		b.lose("isolation from other containers", "it can connect to other Pods where their own policies let it in; safe-run lets containers of one network only")
	}
}

// resolving writes the files hosts and resolv.conf.
func (b *builder) resolving() {
	s := &b.pod.Spec
	for _, h := range b.w.AddHosts {
		name, addr, _ := strings.Cut(h, ":")
		if _, err := netip.ParseAddr(addr); err != nil || len(validation.IsDNS1123Subdomain(name)) > 0 {
			continue // kept
		}
		i := slices.IndexFunc(s.HostAliases, func(a corev1.HostAlias) bool { return a.IP == addr })
		if i < 0 {
			i = len(s.HostAliases)
			s.HostAliases = append(s.HostAliases, corev1.HostAlias{IP: addr})
		}
		s.HostAliases[i].Hostnames = append(s.HostAliases[i].Hostnames, name)
	}
	c := corev1.PodDNSConfig{}
	if len(b.w.DNS) > 0 {
		s.DNSPolicy = corev1.DNSNone
		c.Nameservers = slices.Clone(b.w.DNS[:min(len(b.w.DNS), maxNameservers)])
	}
	for _, d := range b.w.DNSSearch {
		if len(validation.IsDNS1123Subdomain(strings.TrimSuffix(d, "."))) == 0 && len(c.Searches) < maxSearches {
			c.Searches = append(c.Searches, d)
		}
	}
	for _, o := range b.w.DNSOptions {
		name, value, has := strings.Cut(o, ":")
		option := corev1.PodDNSConfigOption{Name: name}
		if has {
			option.Value = &value
		}
		c.Options = append(c.Options, option)
	}
	if len(c.Nameservers)+len(c.Searches)+len(c.Options) > 0 {
		s.DNSConfig = &c
	}
}

// Bounds of the API (validatePodDNSConfig).
const (
	maxNameservers = 3
	maxSearches    = 32
)

// ports writes the Service, and notes what is exposed.
func (b *builder) ports() {
	var published []onePort
	b.twice()
	for _, p := range b.w.Publish {
		list := single(p)
		taken := slices.ContainsFunc(list, func(o onePort) bool { return b.keys[o.key()] })
		switch {
		case p.HostIP == (netip.Addr{}) && p.HostFirst == 0 && len(list) == 1,
			exactly(p) && taken, b.w.PublishAll:
			// A Service's port is its own: there is nothing it could collide with.
			b.carryWord(publishWord(p))
		case !exactly(p) && !taken:
			continue
		}
		published = append(published, list...)
	}
	for _, e := range b.w.Expose {
		list := single(spec.Publish{Ports: e})
		if b.w.PublishAll {
			published = append(published, list...)
		}
		covered := slices.ContainsFunc(published, func(o onePort) bool { return o.inside == e.First && o.proto == e.Proto })
		if b.w.PublishAll || covered || e.First != e.Last {
			b.carry("expose", portText(e))
		}
		b.declare(list)
	}
	if b.w.PublishAll {
		b.carryWord("--publish-all")
	}
	b.declare(published)
	if list := servicePorts(published); len(list) > 0 {
		name := serviceName(b.c.Name)
		if open, _ := b.open(); len(open) > 0 && !b.onHost() {
			name += "-published" // others of the project find it by its name, with all its ports
		}
		b.others = append(b.others, &corev1.Service{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: b.meta(slug(name, 63)),
			Spec: corev1.ServiceSpec{Selector: b.selector(), Ports: list},
		})
	}
}

// twice carries the ports that are asked for more than once, each time.
func (b *builder) twice() {
	var words []string
	for _, p := range b.w.Publish {
		if exactly(p) || p.HostIP == (netip.Addr{}) && p.HostFirst == 0 && p.Ports.First == p.Ports.Last {
			words = append(words, publishWord(p))
		}
	}
	for _, e := range b.w.Expose {
		words = append(words, word("expose", portText(e)))
	}
	slices.Sort(words)
	for i, w := range words {
		if i > 0 && w == words[i-1] {
			b.carryWord(w)
			b.flags = append(b.flags, w)
		}
	}
}

func portText(p spec.PortRange) string {
	if p.First == p.Last {
		return fmt.Sprintf("%d/%s", p.First, p.Proto)
	}
	return fmt.Sprintf("%d-%d/%s", p.First, p.Last, p.Proto)
}

// declare notes ports in the container.
func (b *builder) declare(list []onePort) {
	for _, o := range list {
		port := corev1.ContainerPort{ContainerPort: int32(o.inside), Protocol: protocol(o.proto)}
		if !slices.Contains(b.one.Ports, port) {
			b.one.Ports = append(b.one.Ports, port)
		}
	}
}

func protocol(p string) corev1.Protocol { return corev1.Protocol(strings.ToUpper(p)) }

func servicePorts(list []onePort) (out []corev1.ServicePort) {
	slices.SortFunc(list, func(x, y onePort) int {
		return cmp.Or(cmp.Compare(x.host, y.host), cmp.Compare(x.proto, y.proto), cmp.Compare(x.inside, y.inside))
	})
	for _, o := range slices.CompactFunc(list, func(x, y onePort) bool { return x.host == y.host && x.proto == y.proto }) {
		out = append(out, corev1.ServicePort{
			Name: fmt.Sprintf("%s-%d", o.proto, o.host), Protocol: protocol(o.proto), Port: int32(o.host), TargetPort: intstr.FromInt32(int32(o.inside)),
		})
	}
	return out
}

// carryNetworks has the names of networks come back: there is one network in
// Kubernetes, and labels say who belongs together. Addresses are kept.
func (b *builder) carryNetworks() {
	words, err := argv.Flags(spec.Workload{Image: "image", SigProxy: true, Networks: b.w.Networks})
	if err != nil {
		return
	}
	open, _ := b.open()
	said := true // each with its further names
	for _, n := range b.w.Networks {
		said = said && n.IP+n.IP6+n.MAC == "" && !strings.Contains(n.Name, ":") && !slices.ContainsFunc(n.Aliases, func(a string) bool {
			return !slices.Contains(open, n.Name) || !slices.Contains(b.hostNames(), a)
		})
	}
	compound := slices.ContainsFunc(words, func(w string) bool {
		name, is := strings.CutPrefix(w, "--network=")
		return is && strings.ContainsAny(name, "=:")
	})
	for _, w := range words[:len(words)-1] {
		if name, is := strings.CutPrefix(w, "--network="); said || is && name != "bridge" && !compound {
			b.carryWord(w)
		}
	}
	b.discovery(open)
}

// hostNames are the names by which others on its networks find it: those no
// container before it has.
func (b *builder) hostNames() (out []string) {
	taken := map[string]bool{}
	for i := range b.p.Containers {
		if &b.p.Containers[i] == b.c {
			break
		}
		for _, n := range aliases(&b.p.Containers[i]) {
			taken[n] = true
		}
	}
	for i := range b.p.Containers {
		if &b.p.Containers[i] != b.c {
			taken[b.p.Containers[i].Name] = true
		}
	}
	for _, n := range append([]string{b.c.Name}, aliases(b.c)...) {
		if len(validation.IsDNS1035Label(n)) == 0 && !taken[n] && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

func aliases(c *convert.Container) (out []string) {
	for _, n := range c.Workload.Networks {
		out = append(out, n.Aliases...)
	}
	return out
}

// discovery gives it names on the networks of the project, by which all its
// ports are found: as with docker, from the start and whether it is healthy or
// not.
func (b *builder) discovery(open []string) {
	if len(open) == 0 {
		return
	}
	for _, name := range b.hostNames() {
		b.others = append(b.others, &corev1.Service{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: b.meta(name),
			Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Selector: b.selector(), PublishNotReadyAddresses: true},
		})
	}
}

// networks are the names of the networks that somebody made.
func (b *builder) networks() (out []string) {
	for _, n := range b.w.Networks {
		if n.Name != "bridge" && n.Name != "none" && n.Name != "host" && !strings.Contains(n.Name, ":") {
			out = append(out, n.Name)
		}
	}
	return out
}

// shut says that it has no network of its own, or none at all.
func (b *builder) shut() bool {
	return slices.ContainsFunc(b.w.Networks, func(n spec.NetworkUse) bool {
		return n.Name == "none" || strings.Contains(n.Name, ":") && b.keys[word("network", n.Name)]
	})
}

// open are the networks whose containers reach each other: those of the project.
func (b *builder) open() (names []string, internal bool) {
	internal = len(b.networks()) > 0
	for _, name := range b.networks() {
		known := false
		for _, n := range b.p.Networks {
			if n.Name == name && !n.External {
				names = append(names, name)
				known = n.Internal
			}
		}
		internal = internal && known
	}
	return names, internal
}

func (b *builder) internal() bool { _, internal := b.open(); return internal }
