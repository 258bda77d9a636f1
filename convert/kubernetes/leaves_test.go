package kubernetes

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/converttest"
)

// silent are the fields that say nothing about a container, or what is so
// anyway: all other fields of a Pod make a flag or are told.
func silent() []string {
	return []string{
		"metadata.creationTimestamp", "metadata.generateName", "metadata.name",
		"managedFields.fieldsV1", "volumes.ephemeral.volumeClaimTemplate.managedFields.fieldsV1", // the server's
		"image: containers.volumeMounts.readOnly", // images are
		"containers.name",                         // the name of the object is the container's
		"containers.stdinOnce",                    // who is attached decides that
		"dnsPolicy",                               // there is no DNS of a cluster
		"volumes.hostPath.type",                   // but those that create something, see TestForeign
		"volumes.configMap.defaultMode",           // the volume is told as a whole
		"volumes.emptyDir.medium",                 // told with the volume
		"volumes.persistentVolumeClaim.readOnly",
	}
}

// Whatever a Pod says is in the flags, or is told. A field that a later version
// of the API has must not be dropped either.
func TestNoFieldIsDropped(t *testing.T) {
	read := func(d appsv1.Deployment) string {
		data, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		found, losses, err := Format("").Read([]convert.File{{Name: "x.yaml", Data: data}}, converttest.Options())
		return fmt.Sprintf("%+v %+v %v", found, losses, err)
	}
	count := 0
	for what, base := range bases() {
		without := read(base())
		for _, p := range leaves(reflect.TypeFor[corev1.PodTemplateSpec](), nil) {
			name := strings.TrimPrefix(p.name, "spec.")
			d := base()
			if err := p.set(reflect.ValueOf(&d.Spec.Template).Elem()); err != nil {
				t.Fatal(err)
			}
			data, _ := json.Marshal(d)
			if plain, _ := json.Marshal(base()); string(plain) == string(data) || slices.Contains(silent(), name) || slices.Contains(silent(), what+": "+name) {
				continue
			}
			count++
			if got := read(d); got == without {
				t.Errorf("%s: %s is dropped: %s", what, p.name, data)
			}
		}
	}
	if count < 5000 {
		t.Errorf("only %d fields were looked at", count)
	}
}

// bases are Deployments to which one field is added.
func bases() map[string]func() appsv1.Deployment {
	base := func() (d appsv1.Deployment) {
		d.APIVersion, d.Kind, d.Name = "apps/v1", "Deployment", "web"
		d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "web", Image: "img"}}
		return d
	}
	all := map[string]func() appsv1.Deployment{"plain": base}
	volume := func(name string, mount corev1.VolumeMount, source func() corev1.VolumeSource) {
		all[name] = func() appsv1.Deployment {
			d := base()
			d.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: source()}}
			mount.Name = "v"
			d.Spec.Template.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{mount}
			return d
		}
	}
	at := corev1.VolumeMount{MountPath: "/v"}
	volume("memory", at, func() corev1.VolumeSource { return memory(5 << 20) })
	volume("shm", corev1.VolumeMount{MountPath: "/dev/shm"}, func() corev1.VolumeSource { return memory(5 << 20) })
	volume("disk", at, func() corev1.VolumeSource { return corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}} })
	volume("path", corev1.VolumeMount{MountPath: "/v", ReadOnly: true}, func() corev1.VolumeSource {
		return corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/p"}}
	})
	volume("claim", at, func() corev1.VolumeSource {
		return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}
	})
	volume("image", at, func() corev1.VolumeSource {
		return corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "i"}}
	})
	all["probes"] = func() appsv1.Deployment {
		d := base()
		c := &d.Spec.Template.Spec.Containers[0]
		probe := func() *corev1.Probe {
			return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/probe"}}}}
		}
		c.LivenessProbe, c.ReadinessProbe, c.StartupProbe = probe(), probe(), probe()
		return d
	}
	return all
}

// leaf is one field that holds a value, by its way from the top.
type leaf struct {
	name string
	way  []int
	typ  reflect.Type
}

// set puts something into a leaf, and what is needed above it.
func (l leaf) set(v reflect.Value) error {
	for _, i := range l.way {
		v = into(v).Field(i)
	}
	return fill(into(v))
}

// into goes through pointers and to the first element of lists.
func into(v reflect.Value) reflect.Value {
	for {
		switch {
		case v.Kind() == reflect.Pointer:
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
			if v.Len() == 0 {
				v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			}
			v = v.Index(0)
		default:
			return v
		}
	}
}

func special(t reflect.Type) bool {
	return slices.Contains([]reflect.Type{
		reflect.TypeFor[resource.Quantity](), reflect.TypeFor[intstr.IntOrString](), reflect.TypeFor[metav1.Time](), reflect.TypeFor[metav1.FieldsV1](),
	}, t)
}

func fill(v reflect.Value) error {
	switch x := v.Addr().Interface().(type) {
	case *resource.Quantity:
		*x = resource.MustParse("7")
		return nil
	case *intstr.IntOrString:
		*x = intstr.FromInt32(7)
		return nil
	case *metav1.Time:
		*x = metav1.NewTime(time.Unix(7, 0))
		return nil
	case *metav1.FieldsV1:
		x.SetRawString(`{"f":{}}`)
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("x7")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int32, reflect.Int64, reflect.Int:
		v.SetInt(7)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		return fill(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		if err := errors.Join(fill(key), fill(value)); err != nil {
			return err
		}
		v.SetMapIndex(key, value)
	case reflect.Uint8:
		v.SetUint('7')
	default:
		return fmt.Errorf("nothing to put into a %s", v.Type())
	}
	return nil
}

func leaves(t reflect.Type, way []int) (out []leaf) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || special(t) {
		return []leaf{{way: way, typ: t}}
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous {
			name = ""
		}
		if name == "-" {
			continue
		}
		for _, l := range leaves(f.Type, append(slices.Clone(way), i)) {
			l.name = strings.TrimSuffix(strings.TrimPrefix(name+"."+l.name, "."), ".")
			out = append(out, l)
		}
	}
	return out
}
