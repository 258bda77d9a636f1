package kubernetes

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	serializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/converttest"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/plain"
)

// decode reads a stream as the API server does that validates strictly.
func decode(t testing.TB, data []byte) (out []runtime.Object) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, networkingv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	s := serializer.NewSerializerWithOptions(serializer.DefaultMetaFactory, scheme, scheme, serializer.SerializerOptions{Yaml: true, Strict: true})
	for text := range bytes.SplitSeq(data, []byte("\n---\n")) {
		if bytes.HasPrefix(text, []byte("# Written")) {
			continue
		}
		o, _, err := s.Decode(text, nil, nil)
		if err != nil {
			t.Fatalf("%v:\n%s", err, text)
		}
		out = append(out, o)
	}
	return out
}

// check looks at what the API checks of each object besides its fields.
func check(t testing.TB, objects []runtime.Object) {
	t.Helper()
	for _, o := range objects {
		tmpl := templateOf(o)
		if tmpl == nil {
			continue
		}
		names, paths := map[string]bool{}, map[string]bool{}
		for _, v := range tmpl.spec.Volumes {
			if names[v.Name] || len(validation.IsDNS1123Label(v.Name)) > 0 {
				t.Errorf("the volume %q", v.Name)
			}
			names[v.Name] = true
		}
		for k, v := range tmpl.meta.Labels {
			if !validLabel(k, v) {
				t.Errorf("the label %q=%q", k, v)
			}
		}
		c := tmpl.spec.Containers[0]
		for _, m := range c.VolumeMounts {
			if !names[m.Name] || paths[m.MountPath] || strings.Contains(m.MountPath, ":") {
				t.Errorf("the mount %+v", m)
			}
			paths[m.MountPath] = true
		}
		sc := c.SecurityContext
		if sc.Privileged != nil || !slices.Equal(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) || sc.ReadOnlyRootFilesystem == nil || sc.SeccompProfile == nil ||
			sc.AllowPrivilegeEscalation == nil || tmpl.spec.AutomountServiceAccountToken == nil || *tmpl.spec.AutomountServiceAccountToken || tmpl.spec.HostUsers == nil && !tmpl.spec.HostNetwork && !tmpl.spec.HostPID && !tmpl.spec.HostIPC {
			t.Errorf("%+v of %+v", sc, tmpl.spec)
		}
		if c.Resources.Limits.Memory().IsZero() && c.Resources.Limits != nil {
			t.Errorf("no limit of memory: %+v", c.Resources)
		}
	}
}

// The verdicts for each profile: bare, with a user and further flags, and with a
// bind, which no level but privileged takes. Before is that of clusters without
// the exception for user namespaces.
func TestWorkloads(t *testing.T) {
	levels := map[string][2]string{ // of the first two variants
		"apache": {"baseline", "baseline"}, "chrony": {"privileged", "privileged"}, "haproxy": {"restricted", "restricted"},
		"mariadb": {"baseline", "baseline"}, "memcached": {"restricted", "restricted"}, "nginx": {"baseline", "baseline"},
		"node": {"restricted", "restricted"}, "postgres": {"baseline", "baseline"}, "python": {"restricted", "restricted"},
		"redis": {"restricted", "restricted"}, "tcpdump": {"privileged", "privileged"},
	}
	o := converttest.Options()
	seen := 0
	for _, c := range converttest.Workloads(t) {
		p := convert.Project{Containers: []convert.Container{c}}
		first, second := again(t, Format(""), p, o)
		if !sameFiles(first, second) {
			t.Errorf("%s:\n%s\n%s", c.Name, first[0].Data, second[0].Data)
		}
		objects := decode(t, first[0].Data)
		check(t, objects)
		verdicts, err := Verdict(first)
		if err != nil || len(verdicts) != 1 {
			t.Fatalf("%s: %v %+v", c.Name, err, verdicts)
		}
		profile, variant, _ := strings.Cut(c.Name, "-")
		got := verdicts[0]
		want, before := "privileged", "privileged"
		if variant != "2" {
			want = levels[profile][variant[0]-'0']
			if before = want; variant == "0" && want == "restricted" {
				before = "baseline" // it names no user
			}
		}
		if got.Level != want || got.Before != before || (want == "restricted") != (len(got.Reasons) == 0) {
			t.Errorf("%s: %+v, wanted %s, %s", c.Name, got, want, before)
		}
		for _, r := range append(got.Reasons, got.BeforeReasons...) {
			if !strings.Contains(r, "--") {
				t.Errorf("%s: no flag is named: %s", c.Name, r)
			}
			if !bytes.Contains(first[0].Data, []byte(r)) {
				t.Errorf("%s: the comment does not say %s", c.Name, r)
			}
		}
		seen++
	}
	if seen < 30 {
		t.Errorf("%d workloads", seen)
	}
}

func TestKind(t *testing.T) {
	o := lineOptions()
	for _, tc := range []struct{ kind, line, want, restart string }{
		{"", "img", "Pod", "Never"},
		{"", "-p 80 img", "Deployment", ""},
		{"", "--expose 80 img", "Deployment", ""},
		{"", "--health-cmd x img", "Deployment", ""},
		{"", "--no-healthcheck img", "Pod", "Never"},
		{"", "--restart always img", "Deployment", ""},
		{"", "--restart unless-stopped img", "Deployment", ""},
		{"", "--restart on-failure img", "Job", "OnFailure"},
		{"", "-p 80 --restart on-failure:3 img", "Job", "OnFailure"},
		{"pod", "-p 80 --restart always img", "Pod", "Always"},
		{"pod", "--restart on-failure:2 img", "Pod", "OnFailure"},
		{"JOB", "-p 80 img", "Job", "Never"},
		{"Deployment", "img", "Deployment", ""},
	} {
		c := converttest.Container(t, "web", o, strings.Fields(tc.line)...)
		first, second := again(t, Format(tc.kind), convert.Project{Containers: []convert.Container{c}}, o)
		objects := decode(t, first[0].Data)
		last := objects[len(objects)-1]
		if kind := last.GetObjectKind().GroupVersionKind().Kind; kind != tc.want || string(templateOf(last).spec.RestartPolicy) != tc.restart || !sameFiles(first, second) {
			t.Errorf("%s as %q: %s, %q", tc.line, tc.kind, kind, templateOf(last).spec.RestartPolicy)
		}
	}
	if _, _, err := Format("cronjob").Write(convert.Project{}, nil, o); fail.KindOf(err) != fail.Usage {
		t.Errorf("%v", err)
	}
}

func hostile() []string {
	return []string{
		"a\nprivileged: true", "x: #", "---\napiVersion: v1", "{{ .Values.x }}", "\x1b[31m", "\u202egnp", "& *a !!x | > %", "$(id) `id` ${x}", "'\"\\", "\u2028", "\u0085", "a\x7fb",
		"- - -", "? x", "\t\ttab\n ", "#", "null", "yes", "0x10", "=", "\U000e0041", "\ufeffx", "\n", "...\n", "$$(A) $(A) $$$", strings.Repeat("x ", 200),
	}
}

// Nothing in a workload becomes a part of the documents, or controls a terminal.
func TestHostile(t *testing.T) {
	o := lineOptions()
	o.RuntimeDefaultSeccomp = true // small documents
	for _, h := range hostile() {
		for _, flags := range [][]string{
			{"-e=A=" + h},
			{"-e=TOKEN=" + h},
			{"-e=" + h + "=x"},
			{"--label=a=" + h},
			{"--label=" + h + "=a"},
			{"--annotation=a=" + h},
			{"--health-cmd=" + h},
			{"--entrypoint=" + h},
			{"--workdir=/" + h},
			{"-v=/" + h + ":/a:ro"},
			{"-v=/a:/" + h},
			{"--tmpfs=/" + h},
			{"--mount=type=image,source=" + h + ",target=/i"},
			{"--sysctl=net.x=" + h},
			{"--secret=id=x,src=/" + h},
			{"--security-opt=apparmor=" + h},
			{"--security-opt=label=type:" + h},
			{"--user=" + h},
			{"--cap-add=" + h},
			{"--device=/dev/" + h},
			{"--hostname=" + h},
			{"--log-opt=a=" + h},
			{"--network=" + h},
			{"--runtime=" + h},
			{},
		} {
			words := append(slices.Clone(flags), "img", h)
			if len(flags) == 0 {
				words = []string{"--", h, "x"}
			}
			inv, err := parse(words, o)
			if err != nil {
				continue // no command line
			}
			p := convert.Project{Containers: []convert.Container{{Name: "web", Workload: inv}}}
			first, _, err := convert.Export(Format(""), p, o)
			if err != nil {
				if fail.KindOf(err) == fail.Internal || strings.ContainsFunc(err.Error(), plain.Hidden) {
					t.Errorf("%q: %q", words, err)
				}
				continue
			}
			if bytes.ContainsFunc(first[0].Data, func(r rune) bool { return r != '\n' && plain.Hidden(r) }) {
				t.Errorf("%q: not fit for a terminal:\n%q", words, first[0].Data)
			}
			objects := decode(t, first[0].Data)
			check(t, objects)
			last := templateOf(objects[len(objects)-1])
			if got := last.spec.Containers; len(got) != 1 || len(flags) > 0 && !slices.Contains(append(got[0].Command, got[0].Args...), escape(h)) {
				t.Errorf("%q: %+v", words, got)
			}
			head, _, _ := strings.Cut(string(first[0].Data), "---\n")
			for line := range strings.Lines(head) {
				if !strings.HasPrefix(line, "#") {
					t.Errorf("%q: %q", words, line)
				}
			}
		}
	}
}

// Flags that cannot be said are kept, and told with a reason of their own.
func TestLosses(t *testing.T) {
	o := lineOptions()
	for _, tc := range []struct{ line, loss string }{
		{"--user nobody img", "--user=nobody: a Pod takes numbers"},
		{"--tmpfs /x:mode=700 img", "--tmpfs=/x:mode=0700"},
		{"--egress example.com:443 img", "--egress=example.com:443/tcp: a NetworkPolicy knows addresses alone"},
		{"-p 127.0.0.1:80:80 img", "--publish=127.0.0.1:80:80/tcp: a Service has an address of its own"},
		{"--network container:db img", "--network=container:db: containers of one network"},
		{"--network front img", "--network=front: whether its containers reach each other"},
		{"--user 5 --cap-add NET_BIND_SERVICE img", "--cap-add=NET_BIND_SERVICE: Kubernetes gives an added capability to root alone"},
		{"--pids-limit 5 img", "--pids-limit=5: it is a setting of the kubelet"},
		{"-v /a:/b:exec img", "--mount=type=bind,source=/a,target=/b,exec"},
		{"--init img", "--init=true: no Pod has an init"},
		{"img", "attestation"},
	} {
		c := converttest.Container(t, "web", o, strings.Fields(tc.line)...)
		files, losses, err := convert.Export(Format(""), convert.Project{Containers: []convert.Container{c}}, o)
		if err != nil {
			t.Fatal(err)
		}
		told := fmt.Sprint(losses)
		if !strings.Contains(told, tc.loss) || !strings.Contains(string(files[0].Data), "# - web: "+tc.loss) {
			t.Errorf("%s: %s", tc.line, told)
		}
	}
	// A user by name must not become root of the image.
	c := converttest.Container(t, "web", o, "--user=nobody", "img")
	files, _, _ := convert.Export(Format(""), convert.Project{Containers: []convert.Container{c}}, o)
	objects := decode(t, files[0].Data)
	if sc := templateOf(objects[len(objects)-1]).spec.Containers[0].SecurityContext; sc.RunAsNonRoot == nil || !*sc.RunAsNonRoot {
		t.Errorf("%+v", sc)
	}
	for _, f := range append(cliFlags(), "") {
		if Format("").Why(f) == "" {
			t.Errorf("no reason for --%s", f)
		}
	}
}
