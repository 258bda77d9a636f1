package kubernetes

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/converttest"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/netfilter"
	"github.com/safe-run/safe-run/spec"
)

// foreign are documents as others write them.
func foreign() map[string]string {
	return map[string]string{
		"web": `apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: http, nodePort: 30080}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {MODE: prod, unused: x}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      securityContext: {runAsUser: 101, runAsNonRoot: true, fsGroup: 5}
      initContainers: [{name: first, image: busybox}]
      containers:
      - name: nginx
        image: nginx:1.27
        command: [nginx]
        args: [-g, "daemon off; $(MODE) $$(MODE) $(OTHER)"]
        envFrom: [{configMapRef: {name: settings}, prefix: A_}]
        env:
        - {name: MODE, valueFrom: {configMapKeyRef: {name: settings, key: MODE}}}
        - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        ports: [{containerPort: 8080, name: http}, {containerPort: 9000}]
        resources: {limits: {cpu: 500m, memory: 128Mi, nvidia.com/gpu: 1}, requests: {cpu: 250m, memory: 64Mi}}
        livenessProbe: {httpGet: {path: /, port: http}}
        readinessProbe: {exec: {command: [/probe, a b]}, periodSeconds: 5, failureThreshold: 2}
        volumeMounts:
        - {name: cache, mountPath: /cache}
        - {name: mem, mountPath: /mem}
        - {name: data, mountPath: /data, subPath: a}
        - {name: conf, mountPath: /etc/conf}
        - {name: host, mountPath: /host, readOnly: true}
      volumes:
      - {name: cache, emptyDir: {sizeLimit: 1Gi}}
      - {name: mem, emptyDir: {medium: Memory, sizeLimit: 8Mi}}
      - {name: data, persistentVolumeClaim: {claimName: data}}
      - {name: conf, configMap: {name: settings}}
      - {name: host, hostPath: {path: /srv, type: DirectoryOrCreate}}
`,
		"dangerous": `apiVersion: v1
kind: Pod
metadata: {name: agent}
spec:
  hostNetwork: true
  hostPID: true
  hostUsers: true
  containers:
  - name: agent
    image: agent
    securityContext: {privileged: true, allowPrivilegeEscalation: true, capabilities: {add: [SYS_ADMIN], drop: [ALL]}, seccompProfile: {type: Unconfined}, readOnlyRootFilesystem: false}
    volumeMounts: [{name: root, mountPath: /host, mountPropagation: Bidirectional}]
  volumes: [{name: root, hostPath: {path: /}}]
`,
		"two": `apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata: {name: pair}
  spec:
    hostname: pair
    restartPolicy: Never
    containers:
    - {name: a, image: a, volumeMounts: [{name: x, mountPath: /x}]}
    - {name: b, image: b, volumeMounts: [{name: x, mountPath: /x}]}
    volumes: [{name: x, emptyDir: {medium: Memory}}]
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: {name: deny}
  spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: 5432}]}]}
- {apiVersion: batch/v1, kind: CronJob, metadata: {name: nightly}, spec: {schedule: "0 3 * * *", jobTemplate: {spec: {backoffLimit: 2, template: {spec: {restartPolicy: OnFailure, containers: [{name: c, image: c}]}}}}}}
- {apiVersion: v1, kind: Namespace, metadata: {name: shop}}
`,
	}
}

func TestForeign(t *testing.T) {
	for name, want := range map[string]struct {
		flags  []string
		losses []string
	}{
		"web": {
			[]string{
				`nginx:1.27 ["-g" "daemon off; prod $(MODE) $(OTHER)"]`, "--user=101", "--entrypoint=nginx", "--env=A_MODE=prod", "--env=A_unused=x", "--env=MODE=prod", "--publish=30080:8080/tcp", "--expose=9000/tcp",
				"--memory=134217728", "--cpus=0.500", "--memory-reservation=67108864", "--cpu-shares=256", `--health-exec=["/probe","a b"]`, "--health-interval=5s", "--health-timeout=1s", "--health-retries=2",
				"--mount=target=/cache,type=volume", "--mount=target=/mem,type=tmpfs,tmpfs-size=8388608", "--mount=target=/data,type=volume,source=data,volume-subpath=a", "--mount=type=bind,target=/host,source=/srv,readonly",
				"--restart=always", "--label=app=web", "--stop-timeout=30",
			},
			[]string{
				"Deployment/web spec.replicas: one", "Deployment/web metadata.namespace", "Deployment/web spec.template.spec.securityContext.fsGroup", "initContainers", "variable POD", "nvidia.com/gpu", "livenessProbe",
				"mount at /cache: a volume has no limit", "mount at /etc/conf: content", "mount at /host: what is missing",
			},
		},
		"dangerous": {
			[]string{
				"--privileged", "--security-opt=no-new-privileges=false", "--security-opt=seccomp=unconfined", "--cap-add=SYS_ADMIN", "--network=host", "--pid=host", "--userns=host", "--read-only=false", "--restart=always", "--stop-timeout=30",
				"--mount=target=/host,type=bind,source=/,bind-propagation=rshared", "agent []",
			}, nil,
		},
		"two": {
			[]string{
				"a []", "b []", "--name=pair-a", "--name=pair-b", "--network=container:pair-a", "--hostname=pair", "--egress=10.0.0.0/8:5432/tcp", "--mount=target=/x,type=volume,source=pair-x", "c []", "--restart=on-failure:2",
			},
			[]string{"Namespace/shop", "CronJob/nightly spec.schedule: a timer", "pair: containers", "a volume that containers share"},
		},
	} {
		found, losses, err := Format("").Read([]convert.File{{Name: "x.yaml", Data: []byte(foreign()[name])}}, converttest.Options())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range found {
			got = append(append(got, c.Flags...), fmt.Sprintf("%s %q", c.Image, c.Args))
			if c.Line == 0 {
				t.Errorf("%s: no line", name)
			}
		}
		for _, w := range want.flags {
			if !slices.ContainsFunc(got, func(g string) bool { return fields(g) == fields(w) }) {
				t.Errorf("%s: no %s among %q", name, w, got)
			}
		}
		if name != "two" && len(got) != len(want.flags) {
			t.Errorf("%s: %d flags, wanted %d: %q", name, len(got), len(want.flags), got)
		}
		var told []string
		for _, l := range losses {
			told = append(told, l.String())
		}
		for _, w := range want.losses {
			if !slices.ContainsFunc(told, func(l string) bool { return strings.Contains(l, w) }) {
				t.Errorf("%s: nothing says %s: %s", name, w, strings.Join(told, "\n"))
			}
		}
		if want.losses == nil && len(told) > 0 {
			t.Errorf("%s: %q", name, told)
		}
	}
}

// fields is a --mount without the order of its fields.
func fields(w string) string {
	rest, ok := strings.CutPrefix(w, "--mount=")
	if !ok {
		return w
	}
	list := strings.Split(rest, ",")
	slices.Sort(list)
	return strings.Join(list, ",")
}

func TestReadErrors(t *testing.T) {
	for text, want := range map[string]string{
		"apiVersion: v1\nkind: Pod\nspec:\n  containers: []\n  contianers: []\n":                      `line 5: Pod/: unknown field`,
		"\n---\n# x\n\napiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: a\n    imagee: b\n": `unknown field "spec.containers[0].imagee"`,
		"a: 1\n": "line 1: it is not an object",
		"# nothing\n---\napiVersion: v1\nkind: Pod\nkind: Pod\n":                                               `line 5: key "kind" already set`,
		"apiVersion: v1\nkind: [\n":                                                                            "line 2",
		"apiVersion: v1\nkind: Pod\nmetadata: &x {name: a}\nspec: *x\n":                                        "line 4: anchors and aliases",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: {safe-run/flags: '[\"x\"]'}}\nspec: {}\n": "is not a flag",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: {safe-run/flags: '[\"--nonsense\"]'}}\n":  "unknown flag",
		"apiVersion: v1\nkind: Pod\nmetadata: {annotations: {safe-run/flags: '{'}}\n":                          "is not a JSON array",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: 7}\n":                                                     "line 3",
		strings.Repeat("#", maxInput+1):                                                                        "more than 4 MiB",
	} {
		_, _, err := Format("").Read([]convert.File{{Name: "x.yaml", Data: []byte(text)}}, converttest.Options())
		if err == nil || fail.KindOf(err) != fail.Usage || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, wanted %s", text, err, want)
		}
	}
}

// A document of a few kilobytes does not become one of gigabytes.
func TestBombs(t *testing.T) {
	var aliases strings.Builder
	aliases.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 10; i++ {
		fmt.Fprintf(&aliases, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9), ","))
	}
	start := time.Now()
	for _, text := range []string{aliases.String(), strings.Repeat("[", 1<<20), strings.Repeat("- ", 1<<19), strings.Repeat("{a: ", 1<<18), strings.Repeat("---\na: b\n", 1<<10)} {
		if _, _, err := Format("").Read([]convert.File{{Name: "x.yaml", Data: []byte(text)}}, converttest.Options()); err == nil {
			t.Errorf("%.20q is taken", text)
		}
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
}

// Networks of a project open Pods to each other, and an internal one has no way
// out.
func TestProject(t *testing.T) {
	o := converttest.Options()
	p := convert.Project{
		Name: "shop", Networks: []convert.Network{{Name: "shop_front"}, {Name: "shop_back", Internal: true}, {Name: "other", External: true}},
		Containers: []convert.Container{
			converttest.Container(t, "web", o, "--network=shop_front", "--network=shop_back", "--name=shop-web-1", "-p", "8080:80", "nginx"),
			converttest.Container(t, "db", o, "--network=shop_back", "--network-alias=db", "-v", "data:/var/lib/data", "postgres"),
			converttest.Container(t, "job", o, "--network=other", "-v", "data:/d", "--egress=none", "busybox"),
		},
	}
	p.Containers[0].DependsOn = []convert.Dependency{{Name: "db", Condition: "healthy"}}
	first, second := again(t, Format(""), p, o)
	if !sameFiles(first, second) || first[0].Name != "shop.yaml" {
		t.Errorf("%s\n%s", first[0].Data, second[0].Data)
	}
	text := string(first[0].Data)
	if strings.Count(text, "kind: PersistentVolumeClaim") != 1 || strings.Count(text, `network.safe-run/`) != 6+3+1+1 { // web, db, job, and job again in the comment
		t.Errorf("%d labels", strings.Count(text, `network.safe-run/`))
	}
	for _, o := range decode(t, first[0].Data) {
		title := title(o)
		fmtd := fmt.Sprintf("%+v", o)
		switch title {
		case "NetworkPolicy/web":
			if !strings.Contains(fmtd, "0.0.0.0/0") || !strings.Contains(fmtd, "169.254.0.0/16") {
				t.Errorf("%s", fmtd)
			}
		case "NetworkPolicy/db", "NetworkPolicy/job":
			if strings.Contains(fmtd, "0.0.0.0/0") {
				t.Errorf("%s", fmtd)
			}
		}
	}
	if !strings.Contains(text, "# - web: depends_on db") {
		t.Errorf("%s", text)
	}
}

// Files that are only read come along, keys among them apart; all others are a
// path of the node.
func TestFiles(t *testing.T) {
	o := converttest.Options()
	content := map[string]string{
		"/etc/app.conf": "a: b\n", "/etc/app.bin": "\xff\x00", "/etc/tls.pem": "-----BEGIN PRIVATE KEY-----\nx\n", "/etc/large": strings.Repeat("x", 500<<10), "/etc/larger": strings.Repeat("y", 500<<10),
	}
	o.Context.ReadFile = func(path string, limit int64) ([]byte, error) {
		if text, ok := content[path]; ok && int64(len(text)) <= limit {
			return []byte(text), nil
		}
		return nil, fail.New(fail.NotFound, "no file")
	}
	words := []string{}
	for _, f := range []string{"/etc/app.conf", "/etc/app.bin", "/etc/tls.pem", "/etc/large", "/etc/larger"} {
		words = append(words, "--volume="+f+":"+f+":ro")
	}
	c := converttest.Container(t, "web", o, append(words, "-v", "/srv:/srv", "img")...)
	p := convert.Project{Containers: []convert.Container{c}}
	first, second := again(t, Format(""), p, o)
	if !sameFiles(first, second) {
		t.Errorf("%s\n%s", first[0].Data, second[0].Data)
	}
	got := map[string]string{}
	for _, object := range decode(t, first[0].Data) {
		if title(object) == "ConfigMap/web-files" || title(object) == "Secret/web-keys" {
			got[title(object)] = fmt.Sprintf("%+v", object)
		}
		if tmpl := templateOf(object); tmpl != nil {
			for _, v := range tmpl.spec.Volumes {
				if v.HostPath != nil {
					got["path "+v.HostPath.Path] = "x"
				}
			}
		}
	}
	if len(got) != 4 || got["path /srv"] == "" || got["path /etc/larger"] == "" || strings.Contains(got["ConfigMap/web-files"], "PRIVATE") || !strings.Contains(got["ConfigMap/web-files"], "app-conf") {
		t.Errorf("%.3000q", got)
	}
}

// The filter is that of the container, of the runtime if that is asked for, and
// in both cases the container's when it is read.
func TestSeccomp(t *testing.T) {
	o := lineOptions()
	own := `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read","write","exit_group","execve"],"action":"SCMP_ACT_ALLOW"}]}`
	read := o.Context.ReadFile
	o.Context.ReadFile = func(path string, limit int64) ([]byte, error) {
		if path == "/own.json" {
			return []byte(own), nil
		}
		return read(path, limit)
	}
	for _, tc := range []struct {
		words     []string
		byRuntime bool
		want      []string
		not       []string
		files     int
	}{
		{[]string{"img"}, false, []string{"localhostProfile: safe-run/web.json", "safe-run/built-in", "SCMP_ACT"}, nil, 2},
		{[]string{"img"}, true, []string{"type: RuntimeDefault", "web: seccomp: the filter of the nodes' runtime"}, []string{"SCMP_ACT", "Localhost"}, 1},
		{[]string{"--security-opt=seccomp=/own.json", "img"}, false, []string{"localhostProfile: safe-run/web.json", "SCMP_ACT"}, []string{"safe-run/built-in"}, 2},
		{[]string{"--security-opt=seccomp=/own.json", "img"}, true, []string{"type: RuntimeDefault", "SCMP_ACT", "web: --security-opt=seccomp"}, []string{"Localhost", "safe-run/built-in"}, 1},
		{[]string{"--security-opt=seccomp=unconfined", "img"}, false, []string{"type: Unconfined", "is privileged"}, []string{"SCMP_ACT", "install"}, 1},
	} {
		o.RuntimeDefaultSeccomp = tc.byRuntime
		c := converttest.Container(t, "web", o, tc.words...)
		first, second := again(t, Format(""), convert.Project{Containers: []convert.Container{c}}, o)
		if !sameFiles(first, second) || len(first) != tc.files {
			t.Errorf("%q %v: %d files\n%s", tc.words, tc.byRuntime, len(first), second[0].Data)
		}
		for _, w := range tc.want {
			if !strings.Contains(string(first[0].Data), w) {
				t.Errorf("%q %v: no %s", tc.words, tc.byRuntime, w)
			}
		}
		for _, w := range tc.not {
			if strings.Contains(string(first[0].Data), w) {
				t.Errorf("%q %v: %s", tc.words, tc.byRuntime, w)
			}
		}
	}
}

func TestFold(t *testing.T) {
	o := converttest.Options()
	image := spec.Image{
		User: "1000:1001", Volumes: []string{"/data", "/tmp"}, Exposed: []spec.PortRange{{First: 80, Last: 80, Proto: "tcp"}}, Shell: []string{"/bin/ash", "-c"},
		Health: spec.Healthcheck{Test: []string{"CMD-SHELL", "check"}, Interval: 5 * time.Second, Retries: 3},
	}
	c := converttest.Container(t, "web", o, "-v", "data:/data", "--health-timeout=2s", "img")
	w := Fold(c.Workload, image)
	if w.User != "1000:1001" || len(w.Mounts) != 2 || w.Mounts[0].Source != "data" || w.Mounts[1].Target != "/tmp" || len(w.Expose) != 1 || len(c.Workload.Mounts) != 1 ||
		!slices.Equal(w.Health.Test, []string{"CMD", "/bin/ash", "-c", "check"}) || w.Health.Interval != 5*time.Second || w.Health.Timeout != 2*time.Second || w.Health.Retries != 0 {
		t.Errorf("%+v", w)
	}
	for _, user := range []string{"", "app", "1000:app", "0100"} {
		if w := Fold(c.Workload, spec.Image{User: user}); w.User != "" || len(w.Health.Test) != 0 {
			t.Errorf("%q: %+v", user, w)
		}
	}
	c = converttest.Container(t, "web", o, "--user=5", "--no-healthcheck", "img")
	if w := Fold(c.Workload, image); w.User != "5" || !slices.Equal(w.Health.Test, []string{"NONE"}) {
		t.Errorf("%+v", w)
	}
	c.Workload = Fold(c.Workload, image)
	if first, second := again(t, Format(""), convert.Project{Containers: []convert.Container{c}}, o); !sameFiles(first, second) {
		t.Errorf("%s", first[0].Data)
	}
}

func TestBlocked(t *testing.T) {
	for _, p := range blocked() {
		if !netfilter.Blocked(p.Addr()) {
			t.Errorf("%s is not blocked", p)
		}
	}
	for _, a := range []string{"169.254.169.254", "fd00:ec2::254", "fe80::1", "100.100.100.200", "64:ff9b::a9fe:a9fe"} {
		if addr := netip.MustParseAddr(a); !netfilter.Blocked(addr) || !shutOff(netip.PrefixFrom(addr, addr.BitLen())) {
			t.Errorf("%s is not blocked", a)
		}
	}
	if got := block("10.0.0.0/8"); len(got.Except) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestEscape(t *testing.T) {
	for _, s := range []string{"", "$", "$$", "$(A)", "$$(A)", "$$$(A)", "$A", "a$", "$)", "$(", "$(A", "x$$y$(B)$"} {
		got, _ := expand(escape(s), func(string) (string, bool) { return "!", true })
		if got != s {
			t.Errorf("%q is %q is %q", s, escape(s), got)
		}
	}
}
