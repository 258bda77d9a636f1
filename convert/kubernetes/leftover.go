package kubernetes

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// rest tells what nothing was made of.
func (r *reader) rest() {
	for _, s := range r.services {
		if !r.used[title(s)] {
			r.lose("", title(s), "it selects none of the Pods here")
		}
		s.Spec = corev1.ServiceSpec{}
	}
	for _, n := range r.policies {
		if !r.used[title(n)] {
			r.lose("", title(n), "it selects none of the Pods here")
		}
		n.Spec = networkingv1.NetworkPolicySpec{}
	}
	for name, m := range r.maps {
		for key := range m.Data {
			if r.used["ConfigMap/"+name+"/"+key] {
				delete(m.Data, key)
			}
		}
		for key := range m.BinaryData {
			if r.used["ConfigMap/"+name+"/"+key] {
				delete(m.BinaryData, key)
			}
		}
	}
	for name, m := range r.secrets {
		for key := range m.Data {
			if r.used["Secret/"+name+"/"+key] {
				delete(m.Data, key)
			}
		}
		for key := range m.StringData {
			if r.used["Secret/"+name+"/"+key] {
				delete(m.StringData, key)
			}
		}
		if m.Type == corev1.SecretTypeOpaque {
			m.Type = ""
		}
	}
	for _, c := range r.claims {
		if r.used[title(c)] {
			c.Spec = corev1.PersistentVolumeClaimSpec{}
		}
	}
	for _, d := range r.docs {
		r.leftover(d)
	}
}

// leftover tells every field that is still set.
func (r *reader) leftover(d doc) {
	data, err := json.Marshal(d.object)
	var tree map[string]any
	if err == nil {
		err = json.Unmarshal(data, &tree)
	}
	if err != nil {
		r.lose("", title(d.object), "it cannot be looked at for what is left of it")
		return
	}
	delete(tree, "apiVersion")
	delete(tree, "kind")
	delete(tree, "status")
	if meta, ok := tree["metadata"].(map[string]any); ok {
		for _, key := range []string{"name", "generateName", "creationTimestamp", "uid", "resourceVersion", "generation", "managedFields", "selfLink"} {
			delete(meta, key)
		}
		dropOwn(meta)
	}
	r.tell(title(d.object), "", tree)
}

// dropOwn takes out the labels and notes every object of ours has.
func dropOwn(meta map[string]any) {
	if notes, ok := meta["annotations"].(map[string]any); ok {
		delete(notes, builtInKey)
	}
	labels, _ := meta["labels"].(map[string]any)
	delete(labels, appLabel)
	if labels[managedLabel] == managedBy {
		delete(labels, managedLabel)
	}
	delete(labels, nameLabel)
}

// inner are the fields whose parts are told one by one.
var inner = []string{
	"metadata", "spec", "template", "jobTemplate", "containers", "securityContext", "resources", "lifecycle", "annotations", "limits", "requests",
	"volumes", "volumeMounts", "env", "envFrom", "ports", "data", "stringData", "binaryData", "dnsConfig",
}

func (r *reader) tell(object, path string, v any) {
	switch v := v.(type) {
	case nil:
		return
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			at := strings.TrimPrefix(path+"."+k, ".")
			if list, isList := v[k].([]any); slices.Contains(inner, k) && isList {
				for i, e := range list {
					r.tell(object, fmt.Sprintf("%s[%d]", at, i), e)
				}
				continue
			}
			if m, isMap := v[k].(map[string]any); isMap && (slices.Contains(inner, k) || len(m) == 0) {
				r.tell(object, at, m)
				continue
			}
			if !empty(v[k]) {
				r.lose("", object+" "+at, whyLeft(k))
			}
		}
	default:
		if !empty(v) {
			r.lose("", object+" "+path, whyLeft(""))
		}
	}
}

// empty says whether a value says nothing. A false or 0 that was written does.
func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case []any:
		return !slices.ContainsFunc(v, func(e any) bool { return !empty(e) })
	case map[string]any:
		for _, e := range v {
			if !empty(e) {
				return false
			}
		}
		return true
	}
	return false
}

// whyLeft says why a field is left, by its name.
func whyLeft(field string) string {
	if why := leftWhys()[field]; why != "" {
		return why
	}
	return "no flag of run says it"
}

func leftWhys() map[string]string {
	const cluster = "it is for the cluster's scheduler, and there is one machine here"
	return map[string]string{
		"replicas": "one container is run", "affinity": cluster, "tolerations": cluster, "nodeSelector": cluster, "nodeName": cluster, "topologySpreadConstraints": cluster,
		"priorityClassName": cluster, "schedulerName": cluster, "strategy": "there is one container to replace", "updateStrategy": "there is one container to replace",
		"initContainers": "run it before, as a command of its own", "serviceAccountName": "there is no API to speak to", "serviceAccount": "there is no API to speak to",
		"automountServiceAccountToken": "there is no API to speak to", "imagePullSecrets": "credentials of registries are those of the caller (docker login)",
		"schedule": "a timer of systemd says when", "fsGroup": "files keep the owner they have", "namespace": "there are no namespaces of objects", "shareProcessNamespace": "containers do not share processes here",
		"postStart": "no command is run beside the container's own", "preStop": "no command is run beside the container's own", "volumeClaimTemplates": "the volume is one by that name, made when it is first used",
		"data": "content of files is not written by an import", "readinessProbe": "a health check is a command in the container: --health-cmd", "livenessProbe": "a health check is a command in the container: --health-cmd", "startupProbe": "a health check is a command in the container: --health-cmd",
		"httpGet": "a health check is a command in the container: --health-cmd", "tcpSocket": "a health check is a command in the container: --health-cmd", "grpc": "a health check is a command in the container: --health-cmd",
	}
}
