package kubernetes

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mvdan.cc/sh/v3/syntax"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/spec"
)

const (
	// maxFile is the largest file of the host that is put into an object, in
	// bytes; maxFiles all of one container: an object has at most 1 MiB.
	maxFile  = 512 << 10
	maxFiles = 900 << 10

	shmPath     = "/dev/shm"
	secretsPath = spec.SecretsDir
	claimSize   = "1Gi"
)

// mounts writes those that were asked for, and the tmpfs every container has.
func (b *builder) mounts() {
	var targets []string
	for _, m := range b.w.Mounts {
		targets = append(targets, m.Target)
		// The API takes no colon, and --mount no blanks around a path.
		odd := strings.Contains(m.Target, ":") || strings.TrimSpace(m.Target) != m.Target
		if said := mountWord(m); m.Type == spec.MountBind && !m.ReadOnly && (odd || !b.writable(m)) {
			// Not left to be found missing: the seccomp filter looks at it, and
			// has to come back the same at once.
			b.carryWord(said)
			b.lose(said, whys()["mount"])
		}
		if odd {
			continue // kept
		}
		switch m.Type {
		case spec.MountTmpfs:
			b.tmpfs(m)
		case spec.MountVolume:
			b.volume(m)
		case spec.MountBind:
			b.bind(m)
		case spec.MountImage:
			b.image(m)
		}
	}
	for _, target := range convert.TmpfsDefaults() {
		if !slices.ContainsFunc(targets, func(t string) bool { return t == target || strings.HasPrefix(target, t+"/") }) {
			b.add(target, memory(b.o.Limits.Tmpfs), corev1.VolumeMount{})
		}
	}
	if !slices.Contains(targets, shmPath) {
		b.add(shmPath, memory(b.shm()), corev1.VolumeMount{})
	}
	for _, o := range []any{b.files, b.hidden} {
		switch o := o.(type) {
		case *corev1.ConfigMap:
			if o != nil {
				b.others = append(b.others, o)
			}
		case *corev1.Secret:
			if o != nil {
				b.others = append(b.others, o)
				b.step("the Secret " + o.Name + " has files with keys in clear text: keep this file as you would keep them")
			}
		}
	}
}

// add mounts a volume of its own at target.
func (b *builder) add(target string, source corev1.VolumeSource, how corev1.VolumeMount) {
	how.Name = unique(b.names, strings.TrimPrefix(target, "/"))
	how.MountPath = target
	b.pod.Spec.Volumes = append(b.pod.Spec.Volumes, corev1.Volume{Name: how.Name, VolumeSource: source})
	b.one.VolumeMounts = append(b.one.VolumeMounts, how)
}

// memory is a tmpfs. A size that is not positive is no limit.
func memory(size int64) corev1.VolumeSource {
	dir := &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}
	if size > 0 {
		dir.SizeLimit = resource.NewQuantity(size, resource.BinarySI)
	}
	return corev1.VolumeSource{EmptyDir: dir}
}

// kept says whether the mount at target is among the flags in the annotation,
// so that the objects may say it as best they can.
func (b *builder) kept(m spec.Mount) bool { return b.keys[mountKey(m.Target)] }

func (b *builder) tmpfs(m spec.Mount) {
	t := m.Tmpfs
	exact := t.SizePct == 0 && t.Inodes == 0 && t.Mode == nil && t.UID == nil && t.GID == nil && len(t.Flags) == 0 && !m.Exec && !m.ReadOnly
	if !exact && !b.kept(m) {
		return
	}
	size := t.Size
	switch {
	case t.SizePct > 0 && b.w.Resources.Memory != nil && *b.w.Resources.Memory > 0:
		size = *b.w.Resources.Memory / 100 * int64(t.SizePct)
	case t.SizePct > 0:
		size = b.o.Limits.Memory / 100 * int64(t.SizePct)
	case size == 0:
		size = b.o.Limits.Tmpfs
	}
	b.add(m.Target, memory(size), corev1.VolumeMount{ReadOnly: m.ReadOnly})
}

// plainMount says that a mount has nothing but a source, a target, the right to
// write, and a part of the source.
func plainMount(m spec.Mount) bool {
	rest := spec.Mount{Origin: m.Origin, Type: m.Type, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly, Subpath: m.Subpath}
	return mountWord(rest) == mountWord(m)
}

// volume: what is named is a claim, what is not is there as long as the Pod.
func (b *builder) volume(m spec.Mount) {
	lossless := m
	lossless.NoCopy = false
	exact := plainMount(lossless)
	if !exact && !b.kept(m) {
		return
	}
	if exact && m.NoCopy {
		b.carryWord(mountWord(m)) // volumes start empty anyway
	}
	if !m.NoCopy {
		b.lose("content of the image at "+m.Target, "a volume of Kubernetes starts empty and belongs to root: nothing is copied into it, neither files nor their owner")
	}
	how := corev1.VolumeMount{ReadOnly: m.ReadOnly, SubPath: m.Subpath}
	if m.Source == "" {
		b.add(m.Target, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}, how)
		return
	}
	name := slug(m.Source, 63)
	if exact && name != m.Source {
		b.carryWord(mountWord(m))
	}
	if !slices.ContainsFunc(b.claims, func(c *corev1.PersistentVolumeClaim) bool { return c.Name == name }) {
		b.claims = append(b.claims, claim(name))
		b.step("its volume " + name + " is a claim for " + claimSize + " of the cluster's default storage class, for one node at a time: change that to what it needs")
	}
	b.add(m.Target, corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}, how)
}

func claim(name string) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{managedLabel: managedBy}},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(claimSize)}},
		},
	}
}

// bind puts a file that is only read into an object. All else is a path on
// whichever node it runs on.
func (b *builder) bind(m spec.Mount) {
	if m.ReadOnly && b.o.Context.ReadFile != nil {
		data, err := b.o.Context.ReadFile(m.Source, maxFile)
		if err == nil && b.content(m, data) {
			return
		}
	}
	how := corev1.VolumeMount{ReadOnly: m.ReadOnly}
	exact := plainMount(m)
	if mode, ok := propagations()[m.Propagation]; ok && !m.ReadOnly {
		how.MountPropagation = &mode
		plain := m
		plain.Propagation = ""
		exact = plainMount(plain)
	}
	if !exact && !b.kept(m) {
		return
	}
	if m.ReadOnly && !m.NonRecursive {
		how.RecursiveReadOnly = new(corev1.RecursiveReadOnlyEnabled)
	}
	b.step("there has to be " + m.Source + " on every node, with owners and content as here")
	b.add(m.Target, corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: m.Source}}, how)
}

// writable says whether a bind that can be written is all a volume of the host is.
func (b *builder) writable(m spec.Mount) bool {
	if _, ok := propagations()[m.Propagation]; ok {
		m.Propagation = ""
	}
	return plainMount(m)
}

// propagations are the modes of mounts by docker's names. Other modes are the
// same as none.
func propagations() map[string]corev1.MountPropagationMode {
	return map[string]corev1.MountPropagationMode{
		"rslave": corev1.MountPropagationHostToContainer, "rshared": corev1.MountPropagationBidirectional,
	}
}

// content says whether a file was put into an object.
func (b *builder) content(m spec.Mount, data []byte) bool {
	plain := m
	plain.Propagation = strings.TrimPrefix(m.Propagation, "rprivate")
	plain.NonRecursive = false // a file has nothing below it
	exact := plainMount(plain)
	total := len(data)
	for _, o := range b.contents() {
		total += len(o)
	}
	if total > maxFiles || !exact && !b.kept(m) {
		return false
	}
	if exact {
		b.carryWord(mountWord(m))
	}
	key := unique(b.names, path.Base(m.Source))
	source := corev1.VolumeSource{}
	if bytes.Contains(data, []byte("PRIVATE KEY-----")) {
		name := b.c.Name + "-keys"
		if b.hidden == nil {
			b.hidden = &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: b.meta(name), Data: map[string][]byte{}}
		}
		b.hidden.Data[key] = data
		source.Secret = &corev1.SecretVolumeSource{SecretName: name}
	} else {
		name := b.c.Name + "-files"
		if b.files == nil {
			b.files = &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: b.meta(name)}
		}
		if text := string(data); utf8.ValidString(text) && !strings.Contains(text, "\x00") {
			put(&b.files.Data, key, text)
		} else {
			put(&b.files.BinaryData, key, data)
		}
		source.ConfigMap = &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}
	}
	b.add(m.Target, source, corev1.VolumeMount{ReadOnly: true, SubPath: key})
	b.lose(word("mount", fmt.Sprintf("…,target=%s", m.Target)), "the file is there as it was when it was exported, and belongs to root")
	return true
}

func put[T any](to *map[string]T, key string, value T) {
	if *to == nil {
		*to = map[string]T{}
	}
	(*to)[key] = value
}

func (b *builder) contents() (out [][]byte) {
	if b.files != nil {
		for _, t := range b.files.Data {
			out = append(out, []byte(t))
		}
		for _, d := range b.files.BinaryData {
			out = append(out, d)
		}
	}
	if b.hidden != nil {
		for _, d := range b.hidden.Data {
			out = append(out, d)
		}
	}
	return out
}

func (b *builder) image(m spec.Mount) {
	if !plainMount(m) && !b.kept(m) {
		return
	}
	b.add(m.Target, corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: m.Source}}, corev1.VolumeMount{ReadOnly: true, SubPath: m.Subpath})
}

// shellWord quotes a word for a shell, for who copies the line.
func shellWord(s string) string {
	quoted, err := syntax.Quote(s, syntax.LangPOSIX)
	if err != nil {
		return "FILE" // what no shell takes
	}
	return quoted
}

const defaultSecretMode = 0o400

// secrets refers to an object that somebody else makes: their content is in no
// file of ours.
func (b *builder) secrets() {
	if len(b.w.Secrets) == 0 {
		return
	}
	name := b.c.Name + "-secrets"
	source := &corev1.SecretVolumeSource{SecretName: name, DefaultMode: new(int32(defaultSecretMode))}
	command := "kubectl create secret generic " + name
	for i, said := range secretWords(b.w) {
		s := b.w.Secrets[i]
		b.carryWord(said)
		item := corev1.KeyToPath{Key: s.ID, Path: s.ID}
		mode := int32(s.Mode)
		if mode == 0 {
			mode = defaultSecretMode
		}
		// The files belong to root. Somebody else has to be able to read
		// them: nobody but the container is there.
		if b.nonRoot() || s.Owned && s.UID != 0 {
			mode |= 0o044
		}
		if mode != defaultSecretMode {
			item.Mode = &mode
		}
		source.Items = append(source.Items, item)
		from := s.Source
		if from == "" {
			from = "FILE"
		}
		command += " --from-file=" + shellWord(s.ID+"="+from)
		if s.Owned {
			b.lose(word("secret", s.ID), "the file belongs to root: a Secret has no owner")
		}
	}
	b.step("make the Secret " + name + " from files, which are not part of this: " + command)
	b.add(secretsPath, corev1.VolumeSource{Secret: source}, corev1.VolumeMount{ReadOnly: true})
}
