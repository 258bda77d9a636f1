package kubernetes

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

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
		b.others = append(b.others, &corev1.Service{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: b.meta(serviceName(b.c.Name)),
			Spec: corev1.ServiceSpec{Selector: b.selector(), Ports: list},
		})
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
	var plain []string
	for _, w := range words {
		name, is := strings.CutPrefix(w, "--network=")
		switch {
		case !is || name == "bridge":
		case strings.ContainsAny(name, "=:"):
			return // all of them are kept
		default:
			plain = append(plain, w)
		}
	}
	for _, w := range plain {
		b.carryWord(w)
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

func (b *builder) policy() *networkingv1.NetworkPolicy {
	p := &networkingv1.NetworkPolicy{
		TypeMeta: metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"}, ObjectMeta: b.meta(b.c.Name),
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: b.selector()},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		},
	}
	if b.shut() {
		return p
	}
	open, internal := b.open()
	for _, n := range b.networks() {
		if !slices.Contains(open, n) {
			b.lose(word("network", n), "whether its containers reach each other is not known here: its Pods have the label "+networkLabel+slug(n, 63)+", and no policy that opens them to each other")
		}
	}
	var peers []networkingv1.NetworkPolicyPeer
	for _, n := range open {
		peers = append(peers, networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{networkLabel + slug(n, 63): "true"}}})
	}
	if len(b.one.Ports) > 0 {
		var rule networkingv1.NetworkPolicyIngressRule
		for _, c := range b.one.Ports {
			rule.Ports = append(rule.Ports, policyPort(spec.PortRange{First: uint16(c.ContainerPort), Last: uint16(c.ContainerPort), Proto: string(c.Protocol)}))
		}
		p.Spec.Ingress = append(p.Spec.Ingress, rule)
	}
	if len(peers) > 0 {
		p.Spec.Ingress = append(p.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: peers})
		p.Spec.Egress = append(p.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: peers})
	}
	p.Spec.Egress = append(p.Spec.Egress, b.egress(internal)...)
	return p
}

// egress are the rules for what is outside of its networks.
func (b *builder) egress(internal bool) (out []networkingv1.NetworkPolicyEgressRule) {
	e := b.w.Egress
	switch {
	case e.Mode == spec.EgressNone:
		return nil
	case e.Mode == spec.EgressAll && internal:
		b.carry("egress", "all") // of an internal network, so there is no way out
	case e.Mode == spec.EgressAll:
		out = append(out, networkingv1.NetworkPolicyEgressRule{To: []networkingv1.NetworkPolicyPeer{{IPBlock: block(everything4)}, {IPBlock: block(everything6)}}})
	default:
		// What cannot be said is kept, and nothing is let through for it. All
		// rules are read from the flags then.
		var partly, told bool
		for _, r := range e.Allow {
			if r.Name != "" || shutOff(r.Prefix) {
				partly = true
				told = b.keys[word("egress", egressText(r))]
			}
		}
		if partly && !told {
			// Not yet found missing: nobody will see this.
			return []networkingv1.NetworkPolicyEgressRule{{}}
		}
		for _, r := range e.Allow {
			if r.Name != "" || shutOff(r.Prefix) {
				continue
			}
			if partly || internal {
				b.carry("egress", egressText(r))
			}
			if !internal {
				out = append(out, networkingv1.NetworkPolicyEgressRule{
					To: []networkingv1.NetworkPolicyPeer{{IPBlock: block(r.Prefix.String())}}, Ports: []networkingv1.NetworkPolicyPort{policyPort(r.Ports)},
				})
			}
		}
	}
	return append(out, b.dnsRule())
}

func egressText(r spec.EgressRule) string {
	host := r.Name
	if r.Prefix.IsValid() {
		host = r.Prefix.String()
		if r.Prefix.Addr().Is6() {
			host = "[" + host + "]"
		}
	}
	return host + ":" + portText(r.Ports)
}

func policyPort(r spec.PortRange) networkingv1.NetworkPolicyPort {
	p := networkingv1.NetworkPolicyPort{Protocol: new(protocol(r.Proto)), Port: new(intstr.FromInt32(int32(r.First)))}
	if r.Last != r.First {
		p.EndPort = new(int32(r.Last))
	}
	return p
}

// dnsRule lets it ask the cluster's DNS: most run it as kube-dns in kube-system,
// some with a cache on each node.
func (b *builder) dnsRule() networkingv1.NetworkPolicyEgressRule {
	rule := networkingv1.NetworkPolicyEgressRule{To: []networkingv1.NetworkPolicyPeer{
		{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: "kube-system"}},
			PodSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{"k8s-app": "kube-dns"}},
		},
		{IPBlock: &networkingv1.IPBlock{CIDR: nodeLocalDNS}},
	}}
	for _, s := range b.w.DNS {
		if a, err := netip.ParseAddr(s); err == nil {
			rule.To = append(rule.To, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()).String()}})
		}
	}
	for _, proto := range []string{spec.UDP, spec.TCP} {
		rule.Ports = append(rule.Ports, policyPort(spec.PortRange{First: dnsPort, Last: dnsPort, Proto: proto}))
	}
	return rule
}
