package cri

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// volume is one of a Pod's volumes on the node.
type volume struct {
	path     string
	readonly bool
}

// volumes makes those of a Pod below dir. What is mounted is unmounted by
// unmountAll, also after an error.
func (n *Node) volumes(o Objects, dir string) (map[string]volume, error) {
	all := map[string]volume{}
	for _, v := range o.Pod.Spec.Volumes {
		path := filepath.Join(dir, "volumes", v.Name)
		of, err := n.volume(o, v, path)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", v.Name, err)
		}
		if group := podSecurity(o.Pod).FSGroup; group != nil && v.HostPath == nil {
			if err := ownBy(of.path, int(*group)); err != nil {
				return nil, err
			}
		}
		all[v.Name] = of
	}
	return all, nil
}

func (n *Node) volume(o Objects, v corev1.Volume, path string) (volume, error) {
	switch {
	case v.EmptyDir != nil:
		return volume{path: path}, emptyDir(v.EmptyDir, path)
	case v.HostPath != nil:
		// Only what is there; a kubelet makes directories where it is asked to.
		_, err := os.Stat(v.HostPath.Path)
		return volume{path: v.HostPath.Path}, err
	case v.PersistentVolumeClaim != nil:
		// A local volume, bound to the claim's name for as long as the node lives.
		path = filepath.Join(n.claims(), namespace(o.Pod), v.PersistentVolumeClaim.ClaimName)
		return volume{path, v.PersistentVolumeClaim.ReadOnly}, openDir(path, 0o777)
	case v.ConfigMap != nil:
		from, ok := o.ConfigMaps[v.ConfigMap.Name]
		if !ok {
			return volume{}, fmt.Errorf("no ConfigMap %s", v.ConfigMap.Name)
		}
		data := map[string][]byte{}
		for k, text := range from.Data {
			data[k] = []byte(text)
		}
		for k, b := range from.BinaryData {
			data[k] = b
		}
		return volume{path, true}, project(data, v.ConfigMap.Items, v.ConfigMap.DefaultMode, path)
	case v.Secret != nil:
		from, ok := o.Secrets[v.Secret.SecretName]
		if !ok {
			return volume{}, fmt.Errorf("no Secret %s", v.Secret.SecretName)
		}
		data := map[string][]byte{}
		for k, b := range from.Data {
			data[k] = b
		}
		for k, text := range from.StringData {
			data[k] = []byte(text)
		}
		return volume{path, true}, project(data, v.Secret.Items, v.Secret.DefaultMode, path)
	}
	return volume{}, errors.New("this kind of volume is not known here")
}

// emptyDir is a directory for everyone, without the sticky bit, on tmpfs or
// the node's disk. The mount options are the kubelet's: a size and no other.
func emptyDir(v *corev1.EmptyDirVolumeSource, path string) error {
	if v.Mode != nil {
		return errors.New("emptyDir.mode is behind a feature gate that is off by default")
	}
	if err := openDir(path, 0o777); err != nil || v.Medium == corev1.StorageMediumDefault {
		return err
	}
	if v.Medium != corev1.StorageMediumMemory {
		return fmt.Errorf("medium %q is not known here", v.Medium)
	}
	options := "noswap"
	if s := v.SizeLimit; s != nil && s.Value() > 0 {
		options += ",size=" + strconv.FormatInt(s.Value(), 10)
	}
	return unix.Mount("tmpfs", path, "tmpfs", 0, options)
}

// openDir makes a directory with exactly these permissions.
func openDir(path string, mode os.FileMode) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// project writes the files of a ConfigMap or Secret.
func project(data map[string][]byte, items []corev1.KeyToPath, mode *int32, dir string) error {
	if len(items) == 0 {
		for k := range data {
			items = append(items, corev1.KeyToPath{Key: k, Path: k})
		}
	}
	if err := openDir(dir, 0o755); err != nil {
		return err
	}
	for _, i := range items {
		body, ok := data[i.Key]
		if !ok {
			return fmt.Errorf("no key %s", i.Key)
		}
		if !filepath.IsLocal(i.Path) {
			return fmt.Errorf("path %q leaves the volume", i.Path)
		}
		perm := int32(0o644)
		for _, m := range []*int32{mode, i.Mode} {
			if m != nil {
				perm = *m
			}
		}
		file := filepath.Join(dir, i.Path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, body, 0o600); err != nil {
			return err
		}
		if err := os.Chmod(file, os.FileMode(perm)); err != nil {
			return err
		}
	}
	return nil
}

// ownBy gives files to fsGroup, which may read and write them.
func ownBy(dir string, group int) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := os.Lchown(path, -1, group); err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := info.Mode() | 0o660
		if d.IsDir() {
			mode |= os.ModeSetgid | 0o110
		}
		return os.Chmod(path, mode)
	})
}

// mounts are those of a container: its volumes, and the two files every
// container of a kubelet has.
func mounts(c *corev1.Container, of map[string]volume, dir string) ([]*runtimeapi.Mount, error) {
	var all []*runtimeapi.Mount
	for _, m := range c.VolumeMounts {
		v, ok := of[m.Name]
		if !ok {
			return nil, fmt.Errorf("container %s mounts %s, which is no volume of the Pod", c.Name, m.Name)
		}
		if err := knownMount(m); err != nil {
			return nil, fmt.Errorf("container %s, volume %s: %w", c.Name, m.Name, err)
		}
		if m.SubPath != "" {
			if !filepath.IsLocal(m.SubPath) {
				return nil, fmt.Errorf("subPath %q leaves the volume", m.SubPath)
			}
			v.path = filepath.Join(v.path, m.SubPath)
			// A directory that is not there is made.
			if _, err := os.Stat(v.path); errors.Is(err, os.ErrNotExist) {
				if err := os.MkdirAll(v.path, 0o750); err != nil {
					return nil, err
				}
			}
		}
		to := &runtimeapi.Mount{HostPath: v.path, ContainerPath: m.MountPath, Readonly: m.ReadOnly || v.readonly}
		to.RecursiveReadOnly = to.Readonly && m.RecursiveReadOnly != nil && *m.RecursiveReadOnly != corev1.RecursiveReadOnlyDisabled
		all = append(all, to)
	}
	for path, body := range map[string]string{
		"/etc/hosts": "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n",
		first(c.TerminationMessagePath, corev1.TerminationMessagePathDefault): "",
	} {
		file := filepath.Join(dir, c.Name+"-"+filepath.Base(path))
		if err := os.WriteFile(file, []byte(body), 0o644); err != nil {
			return nil, err
		}
		mode := os.FileMode(0o644)
		if body == "" {
			mode = 0o666 // any user of the container may leave its last words
		}
		if err := os.Chmod(file, mode); err != nil {
			return nil, err
		}
		all = append(all, &runtimeapi.Mount{HostPath: file, ContainerPath: path})
	}
	return all, nil
}

// knownMount refuses what mounts does not do.
func knownMount(m corev1.VolumeMount) error {
	m.Name, m.MountPath, m.SubPath, m.ReadOnly, m.RecursiveReadOnly = "", "", "", false, nil
	if m.MountPropagation != nil && *m.MountPropagation == corev1.MountPropagationNone {
		m.MountPropagation = nil
	}
	return nothing(m, corev1.VolumeMount{})
}

// unmountAll takes the tmpfs of a Pod's volumes away.
func unmountAll(pod *corev1.Pod, dir string) error {
	var err error
	for _, v := range pod.Spec.Volumes {
		if v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumMemory {
			if e := unix.Unmount(filepath.Join(dir, "volumes", v.Name), 0); e != nil && !errors.Is(e, unix.EINVAL) && !errors.Is(e, unix.ENOENT) {
				err = errors.Join(err, fmt.Errorf("volume %s: %w", v.Name, e))
			}
		}
	}
	return err
}
