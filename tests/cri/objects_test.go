package cri

import (
	"strings"
	"testing"
)

const aDeployment = `# a comment
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: site}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      hostUsers: false
      containers: [{name: web, image: nginx, env: [{name: KEY, valueFrom: {secretKeyRef: {name: web, key: id}}}]}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web-seccomp}
data: {web.json: "{}"}
---
apiVersion: v1
kind: Secret
metadata: {name: web}
stringData: {id: value}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
`

func TestDecode(t *testing.T) {
	o, err := Decode([]byte(aDeployment))
	if err != nil {
		t.Fatal(err)
	}
	if o.Pod.Name != "web" || o.Pod.Namespace != "site" || o.Pod.Labels["app"] != "web" || is(o.Pod.Spec.HostUsers) || string(o.Seccomp["safe-run/web.json"]) != "{}" {
		t.Errorf("%+v", o)
	}
	c, err := container(o, &o.Pod.Spec.Containers[0], place{}, nil)
	if err != nil || len(c.Envs) != 1 || string(c.Envs[0].Value) != "value" {
		t.Errorf("%v, %v", c, err)
	}
	for name, c := range map[string]struct{ stream, want string }{
		"an unknown field": {strings.Replace(aDeployment, "hostUsers", "hostusers", 1), "unknown field"},
		"twice":            {aDeployment + "---\n" + aDeployment, "more than one Pod"},
		"a key twice":      {strings.Replace(aDeployment, "hostUsers: false", "hostUsers: false\n      hostUsers: true", 1), "already set"},
		"none":             {"# nothing\n", "no Pod"},
		"another kind":     {aDeployment + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: site}\n", "Kind=Namespace"},
		"an older version": {strings.Replace(aDeployment, "apps/v1", "apps/v1beta1", 1), "apps/v1beta1"},
	} {
		if o, err := Decode([]byte(c.stream)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: wanted an error with %q: %+v, %v", name, c.want, o, err)
		}
	}
	delete(o.Secrets, "web")
	if c, err := container(o, &o.Pod.Spec.Containers[0], place{}, nil); err == nil {
		t.Errorf("without the Secret: %v", c)
	}
}
