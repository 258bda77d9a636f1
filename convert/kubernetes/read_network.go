package kubernetes

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/safe-run/safe-run/spec"
)

// network gives the flags about ports and about who may connect to whom. They
// are the first container's: it has the network.
func (p *podReader) network() []native {
	before := len(p.flags)
	p.ports()
	p.egress()
	out := slices.Clone(p.flags[before:])
	p.flags = p.flags[:before]
	return out
}

// ports reads the ports of Services that select the Pod, and those that are
// only declared.
func (p *podReader) ports() {
	published := map[onePort]bool{}
	for _, s := range p.services {
		if len(s.Spec.Selector) == 0 || !labels.SelectorFromSet(s.Spec.Selector).Matches(p.set) {
			continue
		}
		p.used[title(s)] = true
		// A Service of others has no address outside of the cluster, unless it
		// says so: no port of the host is open to everybody for it.
		host := "127.0.0.1:"
		if s.Labels[managedLabel] == managedBy || s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer {
			host = ""
		}
		for _, sp := range s.Spec.Ports {
			inside, ok := p.target(sp)
			if !ok {
				p.lose(title(s)+" port "+sp.TargetPort.String(), "no container has a port of that name")
				continue
			}
			outside := sp.Port
			if sp.NodePort != 0 {
				outside = sp.NodePort
			}
			o := onePort{uint16(outside), uint16(inside), strings.ToLower(string(protocolOf(sp.Protocol)))}
			published[onePort{0, o.inside, o.proto}] = true
			if p.keys["publish-all"] {
				continue
			}
			p.addKey(o.key(), word("publish", fmt.Sprintf("%s%d:%d/%s", host, o.host, o.inside, o.proto)))
		}
	}
	for i := range p.t.spec.Containers {
		for _, c := range p.t.spec.Containers[i].Ports {
			o := onePort{0, uint16(c.ContainerPort), strings.ToLower(string(protocolOf(c.Protocol)))}
			switch {
			case c.HostPort != 0:
				ip := ""
				if a, err := netip.ParseAddr(c.HostIP); err == nil {
					ip = netip.AddrPortFrom(a, 0).String()
					ip = strings.TrimSuffix(ip, "0")
				}
				p.add("publish", fmt.Sprintf("%s%d:%d/%s", ip, c.HostPort, o.inside, o.proto))
			case !published[o] && !p.keys["publish-all"] && !p.exposed(o):
				w := word("expose", fmt.Sprintf("%d/%s", o.inside, o.proto))
				p.addKey(w, w)
			}
		}
	}
}

func protocolOf(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

// exposed says whether a flag that is kept exposes a port.
func (p *podReader) exposed(o onePort) bool {
	return slices.ContainsFunc(p.kept, func(w string) bool {
		text, is := strings.CutPrefix(w, "--expose=")
		r, err := spec.ParsePortRange(text)
		return is && err == nil && r.First <= o.inside && o.inside <= r.Last && r.Proto == o.proto
	})
}

// target is the port of the container that a port of a Service is for.
func (p *podReader) target(s corev1.ServicePort) (int32, bool) {
	switch {
	case s.TargetPort.Type == intstr.Int && s.TargetPort.IntVal != 0:
		return s.TargetPort.IntVal, true
	case s.TargetPort.Type == intstr.Int:
		return s.Port, true
	}
	for _, c := range p.t.spec.Containers {
		for _, port := range c.Ports {
			if port.Name == s.TargetPort.StrVal {
				return port.ContainerPort, true
			}
		}
	}
	return 0, false
}

// egress reads the policies that select the Pod. Where one has rules about what
// it may connect to, all else is forbidden; a rule that no flag says is left out,
// so that rather too little is allowed.
func (p *podReader) egress() {
	limited, all := false, false
	var words []string
	for _, n := range p.policies {
		sel, err := metav1.LabelSelectorAsSelector(&n.Spec.PodSelector)
		if err != nil || !sel.Matches(p.set) {
			continue
		}
		p.used[title(n)] = true
		p.ingress(n)
		if !slices.Contains(n.Spec.PolicyTypes, networkingv1.PolicyTypeEgress) && len(n.Spec.Egress) == 0 {
			continue
		}
		limited = true
		for _, rule := range n.Spec.Egress {
			more, open := p.rule(n, rule)
			words = append(words, more...)
			all = all || open
		}
	}
	kept := slices.ContainsFunc(p.kept, func(w string) bool {
		return strings.HasPrefix(w, "--egress=") || w == "--network=none" || strings.HasPrefix(w, "--network=container:") || strings.HasPrefix(w, "--network=ns:")
	})
	switch {
	case !limited || kept || all:
	case len(words) == 0:
		p.addKey("--egress=none", "--egress=none")
	default:
		for _, w := range words {
			p.addKey(w, w)
		}
	}
}

// ingress: what is published can be reached by everybody, all else by nobody.
func (p *podReader) ingress(n *networkingv1.NetworkPolicy) {
	for _, rule := range n.Spec.Ingress {
		for _, from := range rule.From {
			if !ownPeer(from) {
				p.lose(title(n)+" ingress", "who may connect to a published port is said by the address it is published on (--publish ADDRESS:PORT:PORT)")
			}
		}
	}
}

// ownPeer says whether a peer is the Pods of a network: whoever is on it is
// reached without a rule.
func ownPeer(peer networkingv1.NetworkPolicyPeer) bool {
	if peer.IPBlock != nil || peer.NamespaceSelector != nil || peer.PodSelector == nil || len(peer.PodSelector.MatchLabels) != 1 || len(peer.PodSelector.MatchExpressions) > 0 {
		return false
	}
	for key := range peer.PodSelector.MatchLabels {
		return strings.HasPrefix(key, networkLabel)
	}
	return false
}

// rule gives a rule as values of --egress, or says that all is allowed.
func (p *podReader) rule(n *networkingv1.NetworkPolicy, rule networkingv1.NetworkPolicyEgressRule) (words []string, all bool) {
	if len(rule.To) == 0 && len(rule.Ports) == 0 {
		return nil, true
	}
	cannot := func(why string) { p.lose(title(n)+" egress", why) }
	if isDNS(rule) {
		return nil, false // names are resolved anyway
	}
	ports, ok := rulePorts(rule.Ports)
	if !ok {
		cannot("ports by name are not known here")
		return nil, false
	}
	if len(rule.To) == 0 {
		rule.To = []networkingv1.NetworkPolicyPeer{{IPBlock: block(everything4)}, {IPBlock: block(everything6)}}
	}
	for _, peer := range rule.To {
		switch {
		case ownPeer(peer):
		case peer.IPBlock == nil:
			cannot("Pods and namespaces are no addresses: put those that talk to each other on one network")
		case !onlyBlocked(*peer.IPBlock):
			cannot("no flag allows " + bounded(peer.IPBlock.CIDR) + " and forbids a part of it")
		case len(rule.Ports) == 0 && (peer.IPBlock.CIDR == everything4 || peer.IPBlock.CIDR == everything6):
			all = true
		default:
			for _, r := range ports {
				prefix, err := netip.ParsePrefix(peer.IPBlock.CIDR)
				if err != nil {
					cannot(bounded(peer.IPBlock.CIDR) + " is no range of addresses")
					break
				}
				words = append(words, word("egress", egressText(spec.EgressRule{Prefix: prefix, Ports: r})))
			}
		}
	}
	return words, all
}

// onlyBlocked says whether the exceptions of a range are those that hold anyway.
func onlyBlocked(b networkingv1.IPBlock) bool {
	for _, e := range b.Except {
		p, err := netip.ParsePrefix(e)
		if err != nil || !shutOff(p) {
			return false
		}
	}
	return true
}

func rulePorts(list []networkingv1.NetworkPolicyPort) (out []spec.PortRange, ok bool) {
	if len(list) == 0 {
		for _, proto := range []string{spec.TCP, spec.UDP, spec.SCTP} {
			out = append(out, spec.PortRange{First: 1, Last: 65535, Proto: proto})
		}
		return out, true
	}
	for _, port := range list {
		r := spec.PortRange{First: 1, Last: 65535, Proto: spec.TCP}
		if port.Protocol != nil {
			r.Proto = strings.ToLower(string(*port.Protocol))
		}
		if port.Port != nil {
			if port.Port.Type != intstr.Int || port.Port.IntVal < 1 || port.Port.IntVal > 65535 {
				return nil, false
			}
			r.First, r.Last = uint16(port.Port.IntVal), uint16(port.Port.IntVal)
			if port.EndPort != nil {
				if *port.EndPort < port.Port.IntVal || *port.EndPort > 65535 {
					return nil, false
				}
				r.Last = uint16(*port.EndPort)
			}
		}
		out = append(out, r)
	}
	return out, true
}

// isDNS says whether a rule lets it ask name servers, and nothing else.
func isDNS(rule networkingv1.NetworkPolicyEgressRule) bool {
	for _, port := range rule.Ports {
		if port.Port == nil || port.Port.Type != intstr.Int || port.Port.IntVal != dnsPort || port.EndPort != nil {
			return false
		}
	}
	resolver := false
	for _, peer := range rule.To {
		if peer.PodSelector != nil && peer.PodSelector.MatchLabels["k8s-app"] == "kube-dns" {
			resolver = true
			continue
		}
		if peer.IPBlock == nil {
			return false
		}
		if p, err := netip.ParsePrefix(peer.IPBlock.CIDR); err != nil || !p.IsSingleIP() {
			return false
		}
	}
	return len(rule.Ports) > 0 && resolver
}
