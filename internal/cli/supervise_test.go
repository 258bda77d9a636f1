package cli

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

func TestSupervision(t *testing.T) {
	type w = spec.Workload
	for _, c := range []struct {
		args string
		want spec.Workload
	}{
		{"-d", w{Detach: true}},
		{"-dit", w{Detach: true, Interactive: true, TTY: true}},
		{"--restart=", w{}},
		{"--restart always --restart no", w{}},
		{"--rm --restart no", w{Remove: true}},
		{"--restart always", w{Restart: spec.RestartPolicy{Name: "always"}}},
		{"--restart unless-stopped", w{Restart: spec.RestartPolicy{Name: "unless-stopped"}}},
		{"--restart on-failure", w{Restart: spec.RestartPolicy{Name: "on-failure"}}},
		{"--restart on-failure:3", w{Restart: spec.RestartPolicy{Name: "on-failure", Max: 3}}},
		{"--restart on-failure:0", w{Restart: spec.RestartPolicy{Name: "on-failure"}}},
		{"--health-cmd=", w{}},
		{"--health-cmd x --health-cmd=", w{}},
		{"--health-cmd=a|b", w{Health: spec.Healthcheck{Test: []string{"CMD-SHELL", "a|b"}}}},
		{"--health-interval 1m30s --health-timeout 2s --health-start-period 3s --health-start-interval 4ms --health-retries 5", w{Health: spec.Healthcheck{
			Interval: 90 * time.Second, Timeout: 2 * time.Second, StartPeriod: 3 * time.Second, StartInterval: 4 * time.Millisecond, Retries: 5,
		}}},
		{"--no-healthcheck", w{Health: spec.Healthcheck{Test: []string{"NONE"}}}},
		{"--no-healthcheck --no-healthcheck=false", w{}},
		{"--no-healthcheck --health-interval 0 --health-cmd= --health-on-failure none", w{Health: spec.Healthcheck{Test: []string{"NONE"}}, HealthOnFailure: "none"}},
		{"--health-on-failure restart", w{HealthOnFailure: "restart"}},
		{"--log-driver=", w{}},
		{"--log-driver none", w{LogDriver: "none"}},
		{"--log-driver journald --log-opt tag=x", w{LogDriver: "journald", LogOpts: map[string]string{"tag": "x"}}},
		{"--log-opt max-size=1m --log-opt max-size=2m --log-opt a=b=c", w{LogOpts: map[string]string{"max-size": "2m", "a": "b=c"}}},
		{"--sdnotify conmon", w{SDNotify: "started"}},
		{"--sdnotify healthy", w{SDNotify: "healthy"}},
	} {
		c.want.Image, c.want.Pull, c.want.SigProxy = "img", "missing", true
		got := mustParse(t, append(strings.Fields(c.args), "img")...).Workload
		got.Networks = nil
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v", c.args, got)
		}
	}
}

func TestSecrets(t *testing.T) {
	for in, want := range map[string]spec.Secret{
		"db":                                 {ID: "db"},
		"db=/etc/db":                         {ID: "db", Source: "/etc/db"},
		"db=keys/../a=b,c":                   {ID: "db", Source: "/home/me/a=b,c"},
		"id=db":                              {ID: "db"},
		"id=id,src=f":                        {ID: "id", Source: "/home/me/f"},
		"source=f,id=db,type=file":           {ID: "db", Source: "/home/me/f"},
		"db,uid=7,mode=0440":                 {ID: "db", UID: 7, Owned: true, Mode: 0o440},
		"id=db,uid=65535,gid=0,mode=400":     {ID: "db", UID: 65535, Owned: true, Mode: 0o400},
		"db,type=mount":                      {ID: "db"},
		`id=db,"src=/a,b"`:                   {ID: "db", Source: "/a,b"},
		strings.Repeat("a", 255) + "=/x":     {ID: strings.Repeat("a", 255), Source: "/x"},
		"id=tls.key_1-x,src=/x/./y,mode=755": {ID: "tls.key_1-x", Source: "/x/y", Mode: 0o755},
	} {
		if got := mustParse(t, "--secret", in, "img").Workload.Secrets; len(got) != 1 || got[0] != want {
			t.Errorf("%s: %+v", in, got)
		}
	}
	for in, text := range map[string]string{
		"":                        "empty",
		"..":                      "not the ID",
		"../x=/y":                 "not the ID",
		"a/b":                     "not the ID",
		".a":                      "not the ID",
		"a\x1b":                   "control character",
		"a b":                     "not the ID",
		"=f":                      "not the ID",
		strings.Repeat("a", 256):  "not the ID",
		"db=":                     "the file is empty",
		"db=~/x":                  "$HOME",
		"src=f":                   "not the ID",
		"id=db,src=":              "no value",
		"id=db,id=e":              "given twice",
		"id=db,src=a,source=b":    "given twice",
		"id=db,env=X":             "a secret comes from a file",
		"id=db,type=env":          "a secret is a file",
		"id=db,target=/x":         "/run/secrets/ID",
		"db,mode=0666":            "octal",
		"db,mode=4755":            "octal",
		"db,mode=0":               "octal",
		"db,mode=09":              "octal",
		"db,uid=65536":            "0 to 65535",
		"db,gid=-1":               "0 to 65535",
		"db,foo=1":                "no key",
		"db,uid":                  "no value",
		`id="db`:                  "list of KEY=VALUE",
		"db=" + longPath():        "too long",
		"id=hunter2\x00,src=/etc": "control character",
	} {
		wantError(t, fail.Usage, text, "--secret", in, "img")
	}
	wantError(t, fail.Usage, "given twice", "--secret", "a", "--secret", "a=/x", "img")
	var many []string
	for i := range maxSecrets + 1 {
		many = append(many, "--secret", "s"+strings.Repeat("x", i))
	}
	wantError(t, fail.Usage, "more than 64", append(many, "img")...)
	mustParse(t, append(many[2:], "img")...)
}

func longPath() string { return "/" + strings.Repeat("a", 5000) }

func TestSupervisionErrors(t *testing.T) {
	for _, c := range []struct{ text, args string }{
		{"json-file, journald", "--log-driver syslog"},
		{"json-file, journald", "--log-driver binary:///bin/sh"},
		{"KEY=VALUE", "--log-opt max-size"},
		{"logging opts", "--log-opt a=b --log-driver none"},
		{"retry count", "--restart no:3"},
		{"retry count", "--restart on-failure:"},
		{"retry count", "--restart on-failure:99999999999"},
		{"on-failure", "--restart :3"},
		{"--restart and --rm", "--restart on-failure --rm"},
		{"conflicts", "--no-healthcheck --health-interval 1s"},
		{"conflicts", "--no-healthcheck --health-on-failure kill"},
		{"number from 0", "--health-retries=-1"},
		{"year", "--health-start-period 9000h"},
		{"none or kill", "--health-on-failure reboot"},
		{"started, healthy", "--sdnotify yes"},
		{"--sdnotify container", "-e NOTIFY_SOCKET"},
		{"watchdog", "-e WATCHDOG_USEC"},
		{"sockets of the unit", "-e LISTEN_FDS"},
	} {
		wantError(t, fail.Usage, c.text, append(strings.Fields(c.args), "img")...)
	}
	if w := mustParse(t, "-e", "LISTEN_FDS=1", "img").Workload; *w.Env[0].Value != "1" {
		t.Errorf("%+v", w.Env)
	}
}
