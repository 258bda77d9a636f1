package kubernetes

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/safe-run/safe-run/spec"
)

// policy says who may connect to the container, and what it may connect to.
func (b *builder) policy() *networkingv1.NetworkPolicy {
	p := &networkingv1.NetworkPolicy{
		TypeMeta: metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"}, ObjectMeta: b.meta(b.c.Name),
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: b.selector()},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		},
	}
	if b.shut() {
		if b.w.Egress.Mode == spec.EgressNone {
			b.carry("egress", "none")
		}
		for _, r := range b.w.Egress.Allow {
			b.carry("egress", egressText(r))
		}
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
