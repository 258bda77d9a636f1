package kubernetes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kjson "sigs.k8s.io/json"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/lazyre"
)

const (
	maxInput   = 4 << 20 // bytes of all files together
	maxObjects = 1000
)

// stream is all objects of a document.
type stream struct {
	docs    []doc
	filters map[string][]byte // files beside it, by name
	losses  []convert.Loss
}

// doc is an object of a kind that is known.
type doc struct {
	line   int
	kind   string
	object any // pointer to the type of its kind
}

// template is what an object says of its Pods.
type template struct {
	meta *metav1.ObjectMeta
	spec *corev1.PodSpec
}

// types are the kinds that are read, by apiVersion and kind.
func types() map[string]func() any {
	return map[string]func() any{
		"v1/Pod":                             func() any { return new(corev1.Pod) },
		"v1/PodTemplate":                     func() any { return new(corev1.PodTemplate) },
		"v1/ReplicationController":           func() any { return new(corev1.ReplicationController) },
		"v1/ConfigMap":                       func() any { return new(corev1.ConfigMap) },
		"v1/Secret":                          func() any { return new(corev1.Secret) },
		"v1/Service":                         func() any { return new(corev1.Service) },
		"v1/PersistentVolumeClaim":           func() any { return new(corev1.PersistentVolumeClaim) },
		"apps/v1/Deployment":                 func() any { return new(appsv1.Deployment) },
		"apps/v1/ReplicaSet":                 func() any { return new(appsv1.ReplicaSet) },
		"apps/v1/StatefulSet":                func() any { return new(appsv1.StatefulSet) },
		"apps/v1/DaemonSet":                  func() any { return new(appsv1.DaemonSet) },
		"batch/v1/Job":                       func() any { return new(batchv1.Job) },
		"batch/v1/CronJob":                   func() any { return new(batchv1.CronJob) },
		"networking.k8s.io/v1/NetworkPolicy": func() any { return new(networkingv1.NetworkPolicy) },
	}
}

// templateOf gives the Pods of an object, nil if it has none.
func templateOf(object any) *template {
	of := func(t *corev1.PodTemplateSpec) *template { return &template{&t.ObjectMeta, &t.Spec} }
	switch o := object.(type) {
	case *corev1.Pod:
		return &template{&o.ObjectMeta, &o.Spec}
	case *corev1.PodTemplate:
		return of(&o.Template)
	case *corev1.ReplicationController:
		if o.Spec.Template != nil {
			return of(o.Spec.Template)
		}
	case *appsv1.Deployment:
		return of(&o.Spec.Template)
	case *appsv1.ReplicaSet:
		return of(&o.Spec.Template)
	case *appsv1.StatefulSet:
		return of(&o.Spec.Template)
	case *appsv1.DaemonSet:
		return of(&o.Spec.Template)
	case *batchv1.Job:
		return of(&o.Spec.Template)
	case *batchv1.CronJob:
		return of(&o.Spec.JobTemplate.Spec.Template)
	}
	return nil
}

// title is KIND/NAME.
func title(object any) string {
	kind := ""
	if t, ok := object.(runtime.Object); ok {
		kind = t.GetObjectKind().GroupVersionKind().Kind
	}
	name := ""
	if m, ok := object.(metav1.Object); ok {
		if name = m.GetName(); name == "" {
			name = m.GetGenerateName()
		}
	}
	return kind + "/" + name
}

// readStream reads all files. The first is a stream of objects, and so are
// others that are YAML; JSON beside it is seccomp filters.
func readStream(files []convert.File) (*stream, error) {
	s := &stream{filters: map[string][]byte{}}
	total := 0
	for i, f := range files {
		if total += len(f.Data); total > maxInput {
			return nil, fail.New(fail.Usage, "the files have more than %d MiB", maxInput>>20)
		}
		if i > 0 && !strings.HasSuffix(f.Name, ".yaml") && !strings.HasSuffix(f.Name, ".yml") {
			s.filters[f.Name] = f.Data
			continue
		}
		if err := s.file(f); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// file reads a stream, document by document.
func (s *stream) file(f convert.File) error {
	line, start := 1, 1
	var text []byte
	one := func() error {
		err := s.document(text, start)
		if err != nil {
			return fail.Wrap(fail.Usage, err, "%.80q", f.Name)
		}
		text = text[:0]
		return nil
	}
	for l := range bytes.Lines(f.Data) {
		begins, ends := isMarker(l, "---"), isMarker(l, "...")
		if begins || ends {
			if err := one(); err != nil {
				return err
			}
			if start = line; ends {
				start++
				line++
				continue
			}
			l = append([]byte("   "), l[3:]...) // what stands behind the marker belongs to the document
		}
		text = append(text, l...)
		line++
	}
	return one()
}

// isMarker says whether a line is a marker of YAML documents.
func isMarker(l []byte, marker string) bool {
	rest, ok := bytes.CutPrefix(l, []byte(marker))
	return ok && (len(rest) == 0 || bytes.IndexByte([]byte(" \t\r\n"), rest[0]) >= 0)
}

// document reads one document, whose first line is the given one of its file.
func (s *stream) document(text []byte, line int) error {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil
	}
	var node yaml.Node
	if err := yaml.Unmarshal(text, &node); err != nil {
		return placed(err, line)
	}
	if node.Kind == 0 {
		return nil // comments
	}
	if at := alias(&node); at > 0 {
		return fail.New(fail.Usage, "line %d: anchors and aliases are not taken", line+at-1).Hint("write it out")
	}
	data, err := sigsyaml.YAMLToJSONStrict(text)
	if err != nil {
		return placed(err, line)
	}
	return s.object(data, &node, line)
}

// alias gives the line of the first alias, 0 if there is none.
func alias(n *yaml.Node) int {
	if n.Kind == yaml.AliasNode {
		return n.Line
	}
	for _, c := range n.Content {
		if at := alias(c); at > 0 {
			return at
		}
	}
	return 0
}

var yamlLine = lazyre.New(`line (\d+)`)

// placed makes the lines in an error of the YAML parser those of the file.
func placed(err error, line int) error {
	found := false
	text := yamlLine().ReplaceAllStringFunc(err.Error(), func(m string) string {
		found = true
		n, _ := strconv.Atoi(m[len("line "):])
		return "line " + strconv.Itoa(n+line-1)
	})
	if !found {
		text = fmt.Sprintf("line %d: %s", line, text)
	}
	return fail.New(fail.Usage, "%s", bounded(text))
}

// object reads one object, or the items of a list. base is the line of its file
// that is the first of the document.
func (s *stream) object(data []byte, node *yaml.Node, base int) error {
	line := base
	if n := content(node); n != nil {
		line = base + n.Line - 1
	}
	var head struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata,omitempty"`
		Items             []json.RawMessage `json:"items"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &head); err != nil {
		return fail.New(fail.Usage, "line %d: it is not an object of Kubernetes: %s", lineOf(node, err.Error(), base), bounded(err.Error()))
	}
	if head.Kind == "" || head.APIVersion == "" {
		return fail.New(fail.Usage, "line %d: it is not an object of Kubernetes: it has no apiVersion and kind", line)
	}
	if head.APIVersion == "v1" && strings.HasSuffix(head.Kind, "List") && head.Items != nil {
		for i, item := range head.Items {
			if err := s.object(item, at(node, "items", i), base); err != nil {
				return err
			}
		}
		return nil
	}
	if len(s.docs) >= maxObjects {
		return fail.New(fail.Usage, "line %d: there are more than %d objects", line, maxObjects)
	}
	made := types()[head.APIVersion+"/"+head.Kind]
	if made == nil {
		s.losses = append(s.losses, convert.Loss{What: shownText(head.Kind + "/" + head.Name), Why: "an object of this kind says nothing about containers that a flag could say"})
		return nil
	}
	object := made()
	strict, err := kjson.UnmarshalStrict(data, object)
	if err == nil && len(strict) > 0 {
		err = errors.Join(strict...)
	}
	if err != nil {
		return fail.New(fail.Usage, "line %d: %s: %s", lineOf(node, err.Error(), base), shownText(head.Kind+"/"+head.Name), bounded(err.Error()))
	}
	s.docs = append(s.docs, doc{line: line, kind: head.Kind, object: object})
	return nil
}

// at finds an entry of a list below a key.
func at(n *yaml.Node, key string, i int) *yaml.Node {
	if n = child(n, key); n != nil && n.Kind == yaml.SequenceNode && i < len(n.Content) {
		return n.Content[i]
	}
	return nil
}

// content is the value of a document.
func content(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.DocumentNode {
		if len(n.Content) == 0 {
			return nil
		}
		n = n.Content[0]
	}
	return n
}

func child(n *yaml.Node, key string) *yaml.Node {
	if n = content(n); n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// fieldPath is how strict errors, and those of a wrong type, name a field.
var fieldPath = lazyre.New(`field (?:"([^"]+)"|\w+\.([\w.]+))`)

// lineOf finds the line of a field that a strict error names: of the deepest
// part of its path that there is.
func lineOf(n *yaml.Node, text string, base int) int {
	n = content(n)
	if n == nil {
		return base
	}
	line := base + n.Line - 1
	m := fieldPath().FindStringSubmatch(text)
	if m == nil {
		return line
	}
	for part := range strings.SplitSeq(m[1]+m[2], ".") {
		key, index, _ := strings.Cut(strings.TrimSuffix(part, "]"), "[")
		n = child(n, key)
		if i, err := strconv.Atoi(index); err == nil && n != nil {
			if n.Kind != yaml.SequenceNode || i < 0 || i >= len(n.Content) {
				break
			}
			n = n.Content[i]
		}
		if n == nil {
			break
		}
		line = base + n.Line - 1
	}
	return line
}

// maxShown bounds what a message repeats of a file, in bytes.
const maxShown = 300

// bounded makes text of a file fit for a message.
func bounded(s string) string {
	s = shownText(s)
	if len(s) > maxShown {
		s = strings.ToValidUTF8(s[:maxShown], "") + "…"
	}
	return s
}
