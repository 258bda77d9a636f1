package kubernetes

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// pod reads what containers of a Pod share.
func (p *podReader) pod() {
	s := p.t.spec
	for _, b := range []**bool{&s.AutomountServiceAccountToken, &s.EnableServiceLinks, &s.ShareProcessNamespace} {
		if *b != nil && !**b {
			*b = nil
		}
	}
	if s.ServiceAccountName == "default" {
		s.ServiceAccountName = ""
	}
	if s.SchedulerName == corev1.DefaultSchedulerName {
		s.SchedulerName = ""
	}
	if s.OS != nil && s.OS.Name == corev1.Linux {
		s.OS = nil
	}
	if users := take(&s.HostUsers); users != nil && *users {
		p.add("userns", "host")
	}
	if take(&s.HostPID) {
		p.add("pid", "host")
	}
	if take(&s.HostIPC) {
		p.add("ipc", "host")
	}
	if take(&s.HostNetwork) {
		p.add("network", "host")
	}
	if h := take(&s.Hostname); h != "" {
		p.add("hostname", h)
	}
	if os, arch := s.NodeSelector[corev1.LabelOSStable], s.NodeSelector[corev1.LabelArchStable]; os == "linux" {
		delete(s.NodeSelector, corev1.LabelOSStable)
		if arch != "" {
			delete(s.NodeSelector, corev1.LabelArchStable)
			p.add("platform", os+"/"+arch)
		}
	}
	p.grace()
	p.resolving()
	if sc := s.SecurityContext; sc != nil {
		for _, c := range take(&sc.Sysctls) {
			p.addKey("sysctl:"+c.Name, word("sysctl", c.Name+"="+c.Value))
		}
		for _, g := range take(&sc.SupplementalGroups) {
			w := word("group-add", strconv.FormatInt(g, 10))
			p.addKey(w, w)
		}
		if policy := sc.SupplementalGroupsPolicy; policy != nil && (*policy == corev1.SupplementalGroupsPolicyMerge || p.grouped) {
			sc.SupplementalGroupsPolicy = nil // with a group of its own, that is what run does
		}
	}
}

// defaultGrace is what Kubernetes gives a container to stop, in seconds.
const defaultGrace = 30

func (p *podReader) grace() {
	seconds := int64(defaultGrace)
	if t := take(&p.t.spec.TerminationGracePeriodSeconds); t != nil {
		seconds = *t
	}
	if seconds != defaultStop {
		p.add("stop-timeout", strconv.FormatInt(seconds, 10))
	}
}

// resolving reads what becomes of the files hosts and resolv.conf.
func (p *podReader) resolving() {
	s := p.t.spec
	for _, a := range take(&s.HostAliases) {
		if len(a.Hostnames) == 0 {
			p.lose("hostAliases "+a.IP, "there is no name for it")
		}
		for _, name := range a.Hostnames {
			p.add("add-host", name+":"+a.IP)
		}
	}
	if s.DNSPolicy != corev1.DNSClusterFirstWithHostNet {
		s.DNSPolicy = "" // there is no DNS of a cluster here
	}
	c := s.DNSConfig
	if c == nil {
		return
	}
	for _, n := range take(&c.Nameservers) {
		p.add("dns", n)
	}
	for _, d := range take(&c.Searches) {
		p.add("dns-search", d)
	}
	for _, o := range take(&c.Options) {
		value := o.Name
		if o.Value != nil {
			value += ":" + *o.Value
		}
		p.add("dns-option", value)
	}
}

// labels reads those of the Pod, but not ours.
func (p *podReader) labels() {
	all := p.t.meta.Labels
	p.own = all[nameLabel] != ""
	if p.own {
		for _, l := range []struct{ key, value string }{{appLabel, all[nameLabel]}, {managedLabel, managedBy}} {
			if all[l.key] == l.value {
				delete(all, l.key)
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if !strings.HasPrefix(key, ownPrefix) && !strings.HasPrefix(key, networkLabel) {
			p.addKey("label:"+key, word("label", key+"="+all[key]))
		}
	}
	p.t.meta.Labels = nil
}

// container reads one of the containers.
func (p *podReader) container(c *corev1.Container, of int) {
	f := &p.stays
	f.Image = take(&c.Image)
	c.Name = ""
	for flag, policy := range pullPolicies() {
		if flag != "" && c.ImagePullPolicy == policy {
			p.add("pull", flag)
			c.ImagePullPolicy = ""
		}
	}
	values := p.environment(c)
	p.command(c, values)
	if dir := take(&c.WorkingDir); dir != "" {
		p.add("workdir", dir)
	}
	for flag, is := range map[string]bool{"interactive": take(&c.Stdin), "tty": take(&c.TTY)} {
		if is {
			p.addKey(flag, "--"+flag)
		}
	}
	c.StdinOnce = false // who is attached decides that
	if l := c.Lifecycle; l != nil {
		if s := take(&l.StopSignal); s != nil {
			p.add("stop-signal", string(*s))
		}
	}
	if c.TerminationMessagePath == corev1.TerminationMessagePathDefault {
		c.TerminationMessagePath = ""
	}
	if c.TerminationMessagePolicy == corev1.TerminationMessageReadFile {
		c.TerminationMessagePolicy = ""
	}
	p.resources(c)
	p.security(c)
	p.mounts(c, of)
	p.health(c)
	c.Ports = nil // network has read them
}

// command reads command and args, in which variables are put in. A command
// leaves out the words of the image, as --entrypoint does.
func (p *podReader) command(c *corev1.Container, values map[string]*string) {
	expanded := func(words []string) (out []string) {
		for _, w := range words {
			text, ok := p.expand(w, values)
			if !ok {
				p.lose("the word "+w+" of the command", "the value of a variable in it is known in the cluster alone")
			}
			out = append(out, text)
		}
		return out
	}
	command, args := expanded(take(&c.Command)), expanded(take(&c.Args))
	f := &p.stays
	switch cleared := slices.Contains(p.kept, "--entrypoint="); {
	case len(command) == 0:
		f.Args = args
	case cleared:
		f.Args = append(command, args...)
	default:
		p.add("entrypoint", command[0])
		f.Args = append(command[1:], args...)
	}
}

// expand puts variables in; ok is false if one has no value that is known here.
// One that is not set at all stays as it is written.
func (p *podReader) expand(text string, values map[string]*string) (out string, ok bool) {
	ok = true
	out, _ = expand(text, func(name string) (string, bool) {
		v, set := values[name]
		if set && v == nil {
			ok = false
		}
		if v == nil {
			return "", false
		}
		return *v, true
	})
	return out, ok
}

// environment reads variables, and gives their values: nil if one is not known.
func (p *podReader) environment(c *corev1.Container) map[string]*string {
	values := map[string]*string{}
	set := func(name, value string) {
		values[name] = &value
		p.addKey("env:"+name, word("env", name+"="+value))
	}
	for _, from := range take(&c.EnvFrom) {
		var all map[string]string
		what := ""
		switch {
		case from.ConfigMapRef != nil:
			what = "ConfigMap/" + from.ConfigMapRef.Name
			all = p.dataOf(what)
		case from.SecretRef != nil:
			what = "Secret/" + from.SecretRef.Name
			all = p.dataOf(what)
		}
		if all == nil {
			p.lose("variables of "+what, "it is not part of the document: write them as --env or --env-file")
		}
		for _, key := range slices.Sorted(maps.Keys(all)) {
			p.used[what+"/"+key] = true
			set(from.Prefix+key, all[key])
		}
	}
	for _, e := range take(&c.Env) {
		if e.ValueFrom == nil {
			text, ok := p.expand(e.Value, values)
			if !ok {
				p.lose("the variable "+e.Name, "the value of another in it is known in the cluster alone")
			}
			set(e.Name, text)
			continue
		}
		what, key := "", ""
		switch from := e.ValueFrom; {
		case from.ConfigMapKeyRef != nil:
			what, key = "ConfigMap/"+from.ConfigMapKeyRef.Name, from.ConfigMapKeyRef.Key
		case from.SecretKeyRef != nil:
			what, key = "Secret/"+from.SecretKeyRef.Name, from.SecretKeyRef.Key
		}
		value, known := p.dataOf(what)[key]
		if !known {
			values[e.Name] = nil
			p.lose("the variable "+e.Name, "its value is in the cluster alone: give it with --env, or as a file with --secret")
			continue
		}
		p.used[what+"/"+key] = true
		set(e.Name, value)
	}
	return values
}

// dataOf gives what is in a ConfigMap or Secret of the document, KIND/NAME; nil
// if it is not there.
func (r *reader) dataOf(what string) map[string]string {
	kind, name, _ := strings.Cut(what, "/")
	out := map[string]string{}
	switch {
	case kind == "ConfigMap" && r.maps[name] != nil:
		maps.Copy(out, r.maps[name].Data)
		for k, v := range r.maps[name].BinaryData {
			out[k] = string(v)
		}
	case kind == "Secret" && r.secrets[name] != nil:
		for k, v := range r.secrets[name].Data {
			out[k] = string(v)
		}
		maps.Copy(out, r.secrets[name].StringData)
	default:
		return nil
	}
	return out
}

// resources reads limits, and requests where they are no limits.
func (p *podReader) resources(c *corev1.Container) {
	limits, requests := c.Resources.Limits, c.Resources.Requests
	memory, limited := cut(limits, corev1.ResourceMemory)
	if limited {
		p.add("memory", bytesOf(memory))
	}
	if soft, ok := cut(requests, corev1.ResourceMemory); ok && !(limited && soft.Cmp(memory) == 0) {
		p.add("memory-reservation", bytesOf(soft))
	}
	if cpus, ok := cut(limits, corev1.ResourceCPU); ok {
		p.add("cpus", cpus.AsDec().String())
	}
	if cpus, ok := cut(requests, corev1.ResourceCPU); ok {
		p.add("cpu-shares", strconv.FormatInt(sharesOf(min(cpus.MilliValue(), maxMilli)), 10))
	}
}

func cut(list corev1.ResourceList, name corev1.ResourceName) (resource.Quantity, bool) {
	q, ok := list[name]
	delete(list, name)
	return q, ok
}

func bytesOf(q resource.Quantity) string { return strconv.FormatInt(q.Value(), 10) }
