package kubernetes

import (
	"encoding/csv"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// mounts reads the volumes a container uses.
func (p *podReader) mounts(c *corev1.Container, of int) {
	if p.volumes == nil {
		p.declared()
	}
	for _, m := range take(&c.VolumeMounts) {
		v, ok := p.volumes[m.Name]
		if !ok {
			p.lose("the mount at "+m.MountPath, "there is no volume "+bounded(m.Name))
			continue
		}
		p.mount(m, v)
	}
}

// declared notes the volumes of the Pod. Of each, what mount reads is taken out.
func (p *podReader) declared() {
	p.volumes = map[string]corev1.Volume{}
	p.users = map[string]int{}
	for _, name := range p.claims {
		p.volumes[name] = corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}}
	}
	for _, c := range p.t.spec.Containers {
		for _, m := range c.VolumeMounts {
			p.users[m.Name]++
		}
	}
	for i := range p.t.spec.Volumes {
		v := &p.t.spec.Volumes[i]
		p.volumes[v.Name] = *v.DeepCopy()
		if p.users[v.Name] == 0 {
			p.lose("the volume "+v.Name, "no container uses it")
			*v = corev1.Volume{}
			continue
		}
		v.Name = ""
		switch {
		case v.EmptyDir != nil:
			v.EmptyDir.Medium, v.EmptyDir.SizeLimit, v.EmptyDir.Mode = "", nil, nil
		case v.PersistentVolumeClaim != nil:
			v.PersistentVolumeClaim.ClaimName, v.PersistentVolumeClaim.ReadOnly = "", false
		case v.HostPath != nil:
			v.HostPath.Path, v.HostPath.Type = "", nil
		case v.Image != nil:
			v.Image.Reference, v.Image.PullPolicy = "", ""
		default: // told as a whole
			v.VolumeSource = corev1.VolumeSource{}
		}
	}
}

// mount reads one mount.
func (p *podReader) mount(m corev1.VolumeMount, v corev1.Volume) {
	at := path.Clean(m.MountPath)
	what := "the mount at " + m.MountPath
	fields := fieldsOf{}
	fields.pair("target", at)
	if m.SubPathExpr != "" {
		p.lose(what, "its subPathExpr is put together in the cluster")
	}
	for _, o := range m.BindMountOptions {
		if o != "noexec" && o != "nosuid" && o != "nodev" { // as all mounts are here
			p.lose(what, "no flag says the mount option "+bounded(o))
		}
	}
	if r := m.RecursiveReadOnly; r != nil && *r != corev1.RecursiveReadOnlyEnabled && *r != corev1.RecursiveReadOnlyIfPossible {
		p.lose(what, "what is read-only is so all the way down here")
	}
	if m.MountPropagation != nil && *m.MountPropagation != corev1.MountPropagationNone && v.HostPath == nil {
		p.lose(what, "its propagation is for paths of the host")
	}
	switch {
	case v.EmptyDir != nil:
		if !p.emptyDir(at, what, m, v, &fields) {
			return
		}
	case v.PersistentVolumeClaim != nil:
		fields.volume(v.PersistentVolumeClaim.ClaimName, m.SubPath)
		p.used["PersistentVolumeClaim/"+v.PersistentVolumeClaim.ClaimName] = true
		m.ReadOnly = m.ReadOnly || v.PersistentVolumeClaim.ReadOnly
		fields.word("readonly", m.ReadOnly)
	case v.HostPath != nil:
		p.hostPath(what, m, *v.HostPath, &fields)
	case v.Image != nil:
		fields.pair("type", "image")
		fields.pair("source", v.Image.Reference)
		fields.pair("image-subpath", m.SubPath)
		if v.Image.PullPolicy != "" {
			p.lose(what, "when an image is pulled is said for the container's alone")
		}
	case v.ConfigMap != nil, v.Secret != nil:
		p.content(at, what, m, v)
		return
	default:
		p.lose(what, "volumes of its kind are made by a cluster: give a file, a directory or a volume of that content")
		return
	}
	p.addKey(mountKey(at), fields.flag())
}

// emptyDir says whether there is a mount to make: /dev/shm has a flag of its own.
func (p *podReader) emptyDir(at, what string, m corev1.VolumeMount, v corev1.Volume, fields *fieldsOf) bool {
	dir := v.EmptyDir
	inMemory := dir.Medium == corev1.StorageMediumMemory
	if m.SubPath != "" {
		p.lose(what, "a part of an empty volume is empty too")
	}
	if dir.Medium != "" && !inMemory {
		p.lose(what, "there are no volumes of the medium "+bounded(string(dir.Medium)))
	}
	switch {
	case at == shmPath && inMemory && p.users[v.Name] == 1:
		if dir.SizeLimit != nil {
			p.add("shm-size", bytesOf(*dir.SizeLimit))
		}
		if m.ReadOnly || dir.Mode != nil {
			p.lose(what, "/dev/shm can be written by everybody")
		}
		return false
	case p.users[v.Name] > 1:
		p.lose(what, "a volume that containers share has a name here, and is there until it is removed")
		fields.volume(p.name+"-"+v.Name, "")
	case inMemory:
		fields.pair("type", "tmpfs")
		if dir.SizeLimit != nil {
			fields.pair("tmpfs-size", bytesOf(*dir.SizeLimit))
		}
		if dir.Mode != nil {
			fields.pair("tmpfs-mode", fmt.Sprintf("%04o", *dir.Mode))
		}
		fields.word("readonly", m.ReadOnly)
		return true
	default:
		fields.volume("", "")
		if m.ReadOnly {
			p.lose(what, "nothing could ever be in an empty volume that is read-only")
		}
	}
	if dir.SizeLimit != nil || dir.Mode != nil {
		p.lose(what, "a volume has no limit of its size, and no mode")
	}
	fields.word("readonly", m.ReadOnly && p.users[v.Name] > 1)
	return true
}

func (p *podReader) hostPath(what string, m corev1.VolumeMount, v corev1.HostPathVolumeSource, fields *fieldsOf) {
	fields.pair("type", "bind")
	fields.pair("source", path.Join(v.Path, m.SubPath))
	fields.word("readonly", m.ReadOnly)
	if v.Type != nil && (*v.Type == corev1.HostPathDirectoryOrCreate || *v.Type == corev1.HostPathFileOrCreate) {
		p.lose(what, "what is missing on the host is not created here")
	}
	if m.MountPropagation == nil {
		return
	}
	known := *m.MountPropagation == corev1.MountPropagationNone
	for _, mode := range sorted(propagations()) {
		if propagations()[mode] == *m.MountPropagation {
			fields.pair("bind-propagation", mode)
			known = true
		}
	}
	if !known {
		p.lose(what, "there is no propagation "+bounded(string(*m.MountPropagation)))
	}
}

// content is a file of a ConfigMap or Secret. Where we wrote it, a flag that is
// kept says which file of the host it was.
func (p *podReader) content(at, what string, m corev1.VolumeMount, v corev1.Volume) {
	object := ""
	var items []corev1.KeyToPath
	if v.ConfigMap != nil {
		object, items = "ConfigMap/"+v.ConfigMap.Name, v.ConfigMap.Items
	} else {
		object, items = "Secret/"+v.Secret.SecretName, v.Secret.Items
	}
	known := p.keys[mountKey(at)]
	if at == secretsPath && len(items) > 0 {
		known = true
		for _, i := range items {
			known = known && p.keys["secret:"+i.Path]
		}
	}
	if !known {
		p.lose(what, "content of files is not written by an import: make them from "+bounded(object)+", and give them with --volume FILE:PATH:ro or --secret")
		return
	}
	if m.SubPath != "" {
		p.used[object+"/"+m.SubPath] = true
	}
}

// fieldsOf are the fields of a --mount.
type fieldsOf struct{ list []string }

func (f *fieldsOf) pair(key, value string) {
	if value != "" {
		f.list = append(f.list, key+"="+value)
	}
}

func (f *fieldsOf) word(key string, is bool) {
	if is {
		f.list = append(f.list, key)
	}
}

func (f *fieldsOf) volume(name, part string) {
	f.pair("type", "volume")
	f.pair("source", name)
	f.pair("volume-subpath", part)
}

func (f *fieldsOf) flag() string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write(f.list) // to memory
	w.Flush()
	return word("mount", strings.TrimSuffix(b.String(), "\n"))
}
