package kubernetes

import (
	"path"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/safe-run/safe-run/convert"
)

// security reads the security context of a container, and from that of its Pod
// what the container does not say itself.
func (p *podReader) security(c *corev1.Container) {
	if c.SecurityContext == nil {
		c.SecurityContext = &corev1.SecurityContext{}
	}
	sc, shared := c.SecurityContext, corev1.PodSecurityContext{}
	uid, gid := sc.RunAsUser, sc.RunAsGroup
	if of := p.t.spec.SecurityContext; of != nil {
		shared = *of
		// Each container reads them; what is left of the Pod's is told once.
		defer func() {
			if g := of.FSGroup; g != nil && (uid != nil && *g == *uid || gid != nil && *g == *gid) {
				of.FSGroup, of.FSGroupChangePolicy = nil, nil // volumes belong to the user here
			}
			of.RunAsUser, of.RunAsGroup, of.RunAsNonRoot, of.SeccompProfile, of.AppArmorProfile, of.SELinuxOptions = nil, nil, nil, nil, nil, nil
		}()
	}
	if p.shared == nil {
		p.shared = &shared
	}
	shared = *p.shared
	p.user(sc, shared)
	if b := take(&sc.Privileged); b != nil && *b {
		p.addKey("privileged", "--privileged")
	}
	if b := take(&sc.AllowPrivilegeEscalation); b != nil && *b {
		p.option("no-new-privileges=false")
	}
	if b := take(&sc.ReadOnlyRootFilesystem); b != nil {
		p.add("read-only", strconv.FormatBool(*b))
	}
	if m := sc.ProcMount; m != nil && (*m == corev1.UnmaskedProcMount || *m == corev1.DefaultProcMount) {
		if *m == corev1.UnmaskedProcMount {
			p.option("systempaths=unconfined")
		}
		sc.ProcMount = nil
	}
	if caps := sc.Capabilities; caps != nil {
		for _, c := range take(&caps.Add) {
			w := word("cap-add", string(c))
			p.addKey(w, w)
		}
		for _, c := range take(&caps.Drop) {
			if c != "ALL" { // as it is here before anything is added
				w := word("cap-drop", string(c))
				p.addKey(w, w)
			}
		}
	}
	p.confinement(sc, shared)
}

func (p *podReader) option(value string) {
	w := word("security-opt", value)
	p.addKey(w, w)
}

func (p *podReader) user(sc *corev1.SecurityContext, shared corev1.PodSecurityContext) {
	uid, gid, nonRoot := take(&sc.RunAsUser), take(&sc.RunAsGroup), take(&sc.RunAsNonRoot)
	if uid == nil {
		uid = shared.RunAsUser
	}
	if gid == nil {
		gid = shared.RunAsGroup
	}
	if nonRoot == nil {
		nonRoot = shared.RunAsNonRoot
	}
	switch {
	case uid != nil && gid != nil:
		p.add("user", strconv.FormatInt(*uid, 10)+":"+strconv.FormatInt(*gid, 10))
	case uid != nil:
		p.add("user", strconv.FormatInt(*uid, 10))
	case gid != nil:
		p.lose("runAsGroup", "a group is given together with a user (--user=UID:GID)")
	}
	if nonRoot != nil && *nonRoot && uid == nil && !p.keys["user"] {
		p.lose("runAsNonRoot", "no flag checks it: name the user (--user=UID)")
	}
}

func (p *podReader) confinement(sc *corev1.SecurityContext, shared corev1.PodSecurityContext) {
	armor := take(&sc.AppArmorProfile)
	if armor == nil {
		armor = shared.AppArmorProfile
	}
	switch {
	case armor == nil:
	case armor.Type == corev1.AppArmorProfileTypeUnconfined:
		p.option("apparmor=unconfined")
	case armor.Type == corev1.AppArmorProfileTypeLocalhost && armor.LocalhostProfile != nil:
		p.option("apparmor=" + *armor.LocalhostProfile)
	case armor.Type != corev1.AppArmorProfileTypeRuntimeDefault:
		p.lose("appArmorProfile", "there is no type "+bounded(string(armor.Type)))
	}
	label := take(&sc.SELinuxOptions)
	if label == nil {
		label = shared.SELinuxOptions
	}
	if label != nil {
		for _, key := range []string{"user", "role", "type", "level"} {
			if v := *seLinux(label)[key]; v != "" {
				p.option("label=" + key + ":" + v)
			}
		}
	}
	filter := take(&sc.SeccompProfile)
	if filter == nil {
		filter = shared.SeccompProfile
	}
	switch {
	case filter == nil, filter.Type == corev1.SeccompProfileTypeRuntimeDefault:
		// One that we wrote beside it is the container's, though not in force.
		p.stays.Seccomp, _ = p.filter(p.name + ".json")
	case filter.Type == corev1.SeccompProfileTypeUnconfined:
		p.option("seccomp=unconfined")
	case filter.Type != corev1.SeccompProfileTypeLocalhost || filter.LocalhostProfile == nil:
		p.lose("seccompProfile", "there is no type "+bounded(string(filter.Type))+" without a file")
	default:
		found := false
		if p.stays.Seccomp, found = p.filter(path.Base(*filter.LocalhostProfile)); !found {
			p.lose("the seccomp profile "+*filter.LocalhostProfile, "it is a file on the nodes: give it with --security-opt=seccomp=FILE")
		}
	}
}

// filter finds the seccomp filter of a container. One that is still the built-in
// one, which follows from the flags, is none: it is that of the program that reads.
func (p *podReader) filter(name string) (filter []byte, found bool) {
	for _, m := range sorted(p.maps) {
		text, ok := p.maps[m].Data[name]
		if !ok || !strings.HasSuffix(m, "-seccomp") {
			continue
		}
		p.used["ConfigMap/"+m+"/"+name] = true
		if p.maps[m].Annotations[builtInKey] == digest(text) {
			return nil, true
		}
		return []byte(text), true
	}
	for _, file := range []string{convert.SeccompName(strings.TrimSuffix(name, ".json")), name} {
		if data, ok := p.filters[file]; ok {
			return data, true
		}
	}
	return nil, false
}
