package cri

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// profiles is where on a node the seccomp profiles of exported Pods are,
// below the kubelet's directory.
const profiles = "safe-run"

// Decode takes a stream of objects as kubectl apply does, and strictly: a
// field that Kubernetes does not know is an error. There has to be one Pod, or
// the template of one. Services, claims and policies are only decoded. What a
// person does with a ConfigMap NAME-seccomp is done: its files become profiles
// of the node.
func Decode(stream []byte) (Objects, error) {
	o := Objects{ConfigMaps: map[string]*corev1.ConfigMap{}, Secrets: map[string]*corev1.Secret{}, Seccomp: map[string][]byte{}}
	d, err := decoder()
	if err != nil {
		return Objects{}, err
	}
	r := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(stream)))
	for {
		doc, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Objects{}, err
		}
		if comment(doc) {
			continue
		}
		object, _, err := d.Decode(doc, nil, nil)
		if err == nil {
			err = o.add(object)
		}
		if err != nil {
			return Objects{}, err
		}
	}
	if o.Pod == nil {
		return Objects{}, errors.New("there is no Pod")
	}
	return o, nil
}

// comment says that there is nothing else in a document.
func comment(doc []byte) bool {
	for line := range bytes.Lines(doc) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' && string(line) != "---" {
			return false
		}
	}
	return true
}

// decoder is that of the API server: strict, and case matters.
func decoder() (runtime.Decoder, error) {
	known := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, networkingv1.AddToScheme} {
		if err := add(known); err != nil {
			return nil, err
		}
	}
	return json.NewSerializerWithOptions(json.DefaultMetaFactory, known, known, json.SerializerOptions{Yaml: true, Strict: true}), nil
}

func (o *Objects) add(object runtime.Object) error {
	switch v := object.(type) {
	case *corev1.Pod:
		return o.setPod(v)
	case *appsv1.Deployment:
		return o.setTemplate(v.ObjectMeta, &v.Spec.Template)
	case *batchv1.Job:
		return o.setTemplate(v.ObjectMeta, &v.Spec.Template)
	case *corev1.ConfigMap:
		o.ConfigMaps[v.Name] = v
		if strings.HasSuffix(v.Name, "-seccomp") {
			for file, text := range v.Data {
				o.Seccomp[path.Join(profiles, file)] = []byte(text)
			}
		}
		return nil
	case *corev1.Secret:
		o.Secrets[v.Name] = v
		return nil
	case *corev1.Service, *corev1.PersistentVolumeClaim, *networkingv1.NetworkPolicy:
		return nil
	}
	return fmt.Errorf("objects %s are not known here", object.GetObjectKind().GroupVersionKind())
}

func (o *Objects) setTemplate(of metav1.ObjectMeta, t *corev1.PodTemplateSpec) error {
	pod := &corev1.Pod{ObjectMeta: t.ObjectMeta, Spec: t.Spec}
	pod.Name, pod.Namespace = of.Name, of.Namespace
	return o.setPod(pod)
}

func (o *Objects) setPod(pod *corev1.Pod) error {
	if o.Pod != nil {
		return errors.New("there is more than one Pod")
	}
	o.Pod = pod
	return nil
}

// value is what a variable is taken from.
func (o Objects) value(from *corev1.EnvVarSource) (string, error) {
	switch {
	case from.SecretKeyRef != nil:
		if s, ok := o.Secrets[from.SecretKeyRef.Name]; ok {
			if v, ok := s.StringData[from.SecretKeyRef.Key]; ok {
				return v, nil
			}
			if v, ok := s.Data[from.SecretKeyRef.Key]; ok {
				return string(v), nil
			}
		}
		return "", fmt.Errorf("no Secret %s with %s", from.SecretKeyRef.Name, from.SecretKeyRef.Key)
	case from.ConfigMapKeyRef != nil:
		if c, ok := o.ConfigMaps[from.ConfigMapKeyRef.Name]; ok {
			if v, ok := c.Data[from.ConfigMapKeyRef.Key]; ok {
				return v, nil
			}
		}
		return "", fmt.Errorf("no ConfigMap %s with %s", from.ConfigMapKeyRef.Name, from.ConfigMapKeyRef.Key)
	}
	return "", errors.New("this source of a variable is not known here")
}
