package quadlet_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/converttest"
	"github.com/safe-run/safe-run/convert/internal/formattest"
	"github.com/safe-run/safe-run/convert/quadlet"
	"github.com/safe-run/safe-run/internal/argv/argvtest"
)

func refused() []string {
	return []string{"no rules; nothing could run", "no command line says", "is no name of an image", "cannot hand over the word", "looks like a secret", "is not text"}
}

func TestEverything(t *testing.T) {
	formattest.Everything(t, quadlet.Format(), refused()...)
}

// TestText: what is written for a container with a bit of everything.
func TestText(t *testing.T) {
	o := converttest.Options()
	c := converttest.Container(t, "web", o, "--name=web", "--user=1000:10", "--cap-add=NET_BIND_SERVICE", "--network=app", "--network-alias=www", "-v", "data:/d", "-v", "/etc/x y:/x:ro", "--mount=type=volume,target=/anon",
		"-p", "80:80", "--health-exec=[\"curl\",\"-f\"]", "--secret=tls", "--restart=on-failure:3", "-e", "A=$x %h", "--init", "--tty", "--stop-signal=INT", "img:1", "sh", "-c", "echo $HOME")
	p := formattest.Project(c)
	p.Networks = []convert.Network{{Name: "app", Internal: true}}
	files, losses, err := formattest.Export(t, quadlet.Format(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	text := string(files[0].Data)
	for _, want := range []string{
		"StartLimitBurst=4", "Restart=on-failure", "Image=img:1", "ContainerName=web", "User=1000:10", "DropCapability=all", "AddCapability=NET_BIND_SERVICE", "NoNewPrivileges=true",
		"SeccompProfile=/etc/containers/systemd/web.seccomp.json", "ReadOnly=true", "Tmpfs=/tmp:size=64m,noexec,nosuid,nodev,notmpcopyup", "ShmSize=64m", "PodmanArgs=--memory=512m", "PidsLimit=256", "Ulimit=core=0:0", "UserNS=auto",
		"Network=app.network", "NetworkAlias=www", "Volume=data:/d:noexec,nosuid,nodev", "Mount=\"type=bind,source=/etc/x y,destination=/x,ro,noexec,nosuid,nodev\"",
		"PodmanArgs=--mount=type=volume,destination=/anon,noexec,nosuid,nodev", "PublishPort=80:80/tcp", `HealthCmd=["curl","-f"]`, "Secret=tls", "Environment=\"A=$$x %%h\"", "RunInit=true", "PodmanArgs=--tty=true",
		"StopSignal=INT", "Exec=sh -c \"echo $$HOME\"", "LogDriver=json-file", "LogOpt=max-size=10m", "[X-Safe-Run]", "Flags=[]",
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if files[1].Name != "app.network" || string(files[1].Data) != "# app.network\n[Network]\nNetworkName=app\nInternal=true\n" || files[2].Name != "web.seccomp.json" || !files[2].Also {
		t.Errorf("%s: %s", files[1].Name, files[1].Data)
	}
	for _, want := range []string{"capabilities", "network isolation", "inodes"} {
		if !slices.ContainsFunc(losses, func(l convert.Loss) bool { return strings.Contains(l.What, want) }) {
			t.Errorf("no %s in %q", want, losses)
		}
	}
}

// TestKeys: every key that is written is one of podman-systemd.unit(5), as of
// podman 5.0, and is known when it is read.
func TestKeys(t *testing.T) {
	documented := strings.Fields(`AddCapability AddDevice AddHost Annotation AutoUpdate CgroupsMode ContainerName ContainersConfModule DNS DNSOption DNSSearch DropCapability Entrypoint Environment
		EnvironmentFile EnvironmentHost Exec ExposeHostPort GIDMap GlobalArgs Group GroupAdd HealthCmd HealthInterval HealthOnFailure HealthRetries HealthStartPeriod HealthStartupCmd HealthStartupInterval
		HealthStartupRetries HealthStartupSuccess HealthStartupTimeout HealthTimeout HostName Image IP IP6 Label LogDriver LogOpt Mask Mount Network NetworkAlias NoNewPrivileges Notify PidsLimit Pod PodmanArgs
		PublishPort Pull ReadOnly ReadOnlyTmpfs Rootfs RunInit SeccompProfile Secret SecurityLabelDisable SecurityLabelFileType SecurityLabelLevel SecurityLabelNested SecurityLabelType ServiceName ShmSize
		StopSignal StopTimeout SubGIDMap SubUIDMap Sysctl Timezone Tmpfs UIDMap Ulimit Unmask User UserNS VolatileTmp Volume WorkingDir`)
	o := converttest.Options()
	files, _, err := convert.Export(quadlet.Format(), formattest.Project(converttest.Workloads(t)...), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		_, text, _ := strings.Cut(string(f.Data), "\n[Container]\n")
		text, _, _ = strings.Cut(text, "\n\n")
		for line := range strings.Lines(text) {
			if key, _, _ := strings.Cut(line, "="); !f.Also && !slices.Contains(documented, key) {
				t.Errorf("%s: %s", f.Name, line)
			}
		}
	}
	newer := []string{"Memory", "AppArmor", "HttpProxy", "ReloadCmd", "ReloadSignal", "Retry", "RetryDelay", "StartWithPod", "HealthLogDestination", "HealthMaxLogCount", "HealthMaxLogSize"}
	for _, key := range append(newer, documented...) {
		_, losses, err := quadlet.Format().Read([]convert.File{{Name: "a.container", Data: []byte("[Container]\nImage=img\n" + key + "=1\n")}}, formattest.Options())
		if err != nil || slices.ContainsFunc(losses, func(l convert.Loss) bool { return strings.Contains(l.Why, "no key") }) {
			t.Errorf("%s: %v %q", key, err, losses)
		}
	}
}

// TestRead: files of others.
func TestRead(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
		lost []string
	}{
		{
			"[Unit]\nDescription=x\nAfter=local-fs.target other.service\n[Container]\nImage=docker.io/library/nginx:1\nContainerName=web\nPublishPort=8080:80\nVolume=data.volume:/data:Z,U\nVolume=%h/x:/x\nEnvironment=A=1 \"B=b c\"\nEnvironment=C=%%\nUserNS=keep-id\n[Service]\nRestart=always\nMemoryMax=1G\n[Install]\nWantedBy=default.target\n",
			[]string{"a: --name=web --publish=8080:80 --volume=data:/data:Z --env=A=1 --env=B=b c --env=C=% --restart=always docker.io/library/nginx:1"},
			[]string{"After=other.service", "Volume=U", "Volume=%h/x:/x", "UserNS=keep-id", "MemoryMax=1G"},
		},
		{
			"[Container]\nImage=i\nExec=sh -c 'a b' \"$$x\"\nUser=1\nGroup=2\nDropCapability=all\nAddCapability=CAP_CHOWN NET_RAW\nReadOnly=yes\nNoNewPrivileges=true\nNotify=healthy\nHealthCmd=curl x\nNetwork=n.network\nNetwork=m:ip=10.0.0.2,mac=92:d0:c6:0a:29:33,x=y\nFrobnicate=1\nMemory=1g\nPodmanArgs=--cpus 2 --tz=UTC\n",
			[]string{"a: --cap-drop=ALL --cap-add=CAP_CHOWN --cap-add=NET_RAW --read-only=true --security-opt=no-new-privileges --sdnotify=healthy --health-cmd=curl x --network=n --network=name=m,ip=10.0.0.2,mac-address=92:d0:c6:0a:29:33 --memory=1g --cpus=2 --user=1:2 i sh|-c|a b|$x"},
			[]string{"Network=x=y", "Frobnicate=1", "PodmanArgs=--tz=UTC"},
		},
		{
			"[Container]\nImage=i\nEnvironment=A=1\nEnvironment=\nEnvironment=B=2\nMount=type=bind,src=/a,dest=/b,ro=true,bind-nonrecursive\nMount=type=volume,source=v.volume,destination=/v,subpath=x\nVolume=/a:/c:bind,ro,exec\nHealthCmd=none\nTmpfs=/t:tmpcopyup,size=1m\nAddDevice=-/dev/fuse\nSecret=tls,uid=3\nEntrypoint=\nNetwork=c.container\nLabel=x\n",
			[]string{"a: --env=B=2 --mount=type=bind,src=/a,destination=/b,ro,bind-recursive=disabled --mount=type=volume,source=v,destination=/v,volume-subpath=x --mount=type=bind,source=/a,target=/c,bind-recursive=disabled,readonly,exec --no-healthcheck=true --tmpfs=/t:size=1m --device=/dev/fuse --secret=tls,uid=3 --network=container:c --label=x i"},
			nil,
		},
		{
			"[Container]\nImage=old\nPodmanArgs=--cap-add=NET_ADMIN --memory=7g --foo\nEnvironmentFile=/a\nVolume=/a:/a\nAddCapability=SYS_ADMIN\nEnvironment=A=1\nMask=/a\nUserNS=host\nSecurityLabelDisable=true\nExec=%i\nHealthCmd=none\nMemory=7g\nDropCapability=all\n[Service]\nMemoryMax=1G\n" +
				"# /etc/containers/systemd/a.container.d/b.conf\n[Container]\nPodmanArgs=\nEnvironmentFile=\nVolume=\nAddCapability=\nEnvironment=\nMask=\nUserNS=auto\nSecurityLabelDisable=false\nExec=new\nHealthCmd=/x\nMemory=\nDropCapability=CHOWN\nPodmanArgs=--cpus=1\nImage=i\n[Service]\nMemoryMax=\n",
			[]string{"a: --cap-drop=ALL --health-cmd=/x --cap-drop=CHOWN --cpus=1 i new"},
			nil,
		},
		{"[Container]\nPodmanArgs=--volume=/a:/a\nVolume=/b:/b\nVolume=\nImage=i\n", []string{"a: --volume=/a:/a i"}, nil},
		{"[Container]\nImage=i\nImage=\n", nil, []string{"Image="}},
		{"[Container]\nExec=a %i\nImage=i\n", nil, []string{"Exec=a %i", "Image="}},
		{"[Container]\nImage=x.build\n", nil, []string{"Image=x.build", "Image="}},
		{"[Container]\nExec=a\nPod=x.pod\n", nil, []string{"Pod=x.pod", "Image="}},
		{"[Container]\nImage=i\nExec=a %i\n", nil, []string{"Exec=a %i", "Image="}},
	} {
		found, losses, err := quadlet.Format().Read([]convert.File{{Name: "a.container", Data: []byte(c.text)}}, formattest.Options())
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		var got []string
		for _, f := range found {
			got = append(got, strings.TrimSpace(f.Name+": "+strings.Join(f.Flags, " ")+" "+f.Image+" "+strings.Join(f.Args, "|")))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n%q\nwant\n%q", c.text, got, c.want)
		}
		if len(losses) != len(c.lost) {
			t.Errorf("%s: %q, want %q", c.text, losses, c.lost)
			continue
		}
		for i, l := range losses {
			if !strings.Contains(l.What, c.lost[i]) || l.Why == "" {
				t.Errorf("%s: %q, want %q", c.text, l, c.lost[i])
			}
		}
	}
	for _, bad := range []string{"", "x", "[Container]\nImage=a \\"} {
		if found, _, err := quadlet.Format().Read([]convert.File{{Data: []byte(bad)}}, formattest.Options()); err == nil {
			t.Errorf("%q: %+v", bad, found)
		}
	}
}

// TestLossesOfTheirs: a loss is told by the name the container has at last, and
// by the file's where none came of it.
func TestLossesOfTheirs(t *testing.T) {
	text := "# web.container\n[Container]\nImage=a\nFoo=1\n# a/web.container\n[Container]\nImage=b\nFoo=1\nSeccompProfile=/nowhere.json\n# c.container\n[Container]\nExec=x\n"
	_, losses, err := quadlet.Format().Read([]convert.File{{Name: "-", Data: []byte(text)}}, formattest.Options())
	var of []string
	for _, l := range losses {
		of = append(of, l.Container)
	}
	if want := []string{"web", "web-2", "web-2", "c.container"}; err != nil || !slices.Equal(of, want) {
		t.Errorf("%v %q, want %q", err, losses, want)
	}
}

// TestSecrets: a unit is read by everybody.
func TestSecrets(t *testing.T) {
	o := converttest.Options()
	_, _, err := convert.Export(quadlet.Format(), formattest.Project(converttest.Container(t, "a", o, "-e", "DB_PASSWORD=x", "img")), o)
	if err == nil || !strings.Contains(err.Error(), "looks like a secret") {
		t.Error(err)
	}
}

// FuzzRead: any text is containers or an error.
func FuzzRead(f *testing.F) {
	f.Add([]byte("[Container]\nImage=a\nExec=\"a\\x41\" %n\nNetwork=a:ip=1\nMount=type=bind,src=/a,dst=/b\nVolume=a:b:bind\nPodmanArgs=--a -b \"c\nHealthCmd=[\"CMD\"]\n"))
	f.Add([]byte("[Container]\nImage=i1\n[X-Safe-Run]\nContainer=a\nFlags=[\"--egress=none\"]\nDependsOn=b:healthy"))
	f.Fuzz(func(t *testing.T, data []byte) { formattest.Reads(t, quadlet.Format(), "a.container", data) })
}

// FuzzLine: any command line that is taken is written and comes back.
func FuzzLine(f *testing.F) {
	for _, l := range argvtest.Lines() {
		f.Add(strings.ReplaceAll(strings.ReplaceAll(l, " ", "\x00"), "~", " "))
	}
	f.Fuzz(func(t *testing.T, text string) { formattest.Comes(t, quadlet.Format(), text, refused()...) })
}
