package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/safe-run/safe-run/internal/events"
	"github.com/safe-run/safe-run/internal/fail"
)

func exampleEvent() events.Event {
	return events.Event{
		Time: time.Unix(1700000000, 5).UTC(), Type: "container", Action: "exec_create: sh -c true", ID: "abcdef",
		Attributes: map[string]string{"name": "web", "image": "docker.io/library/busybox:latest", "tier": "front"},
	}
}

func TestEventFilter(t *testing.T) {
	image := events.Event{Type: "image", Action: "pull", ID: "sha256:1", Attributes: map[string]string{"name": "reg:5000/a/b:v1"}}
	for _, c := range []struct {
		e      events.Event
		filter string // several separated by spaces
		want   bool
	}{
		{exampleEvent(), "", true},
		{exampleEvent(), "container=web", true},
		{exampleEvent(), "container=abc", true},
		{exampleEvent(), "container=db", false},
		{exampleEvent(), "container=db container=we", true},
		{exampleEvent(), "type=container event=exec_create", true},
		{exampleEvent(), "event=exec", false},
		{exampleEvent(), "type=image", false},
		{exampleEvent(), "image=busybox", true},
		{exampleEvent(), "image=busybox:latest", true},
		{exampleEvent(), "image=docker.io/library/busybox:latest", true},
		{exampleEvent(), "image=busy", false},
		{exampleEvent(), "label=tier", true},
		{exampleEvent(), "label=tier=front label=tier=back", false},
		{exampleEvent(), "scope=swarm", false},
		{image, "image=reg:5000/a/b", true},
		{image, "image=reg:5000/a/b:v1 type=image", true},
		{image, "image=sha256:1", true},
	} {
		f, err := filtersOf(strings.Fields(c.filter), "container", "event", "image", "label", "scope", "type")
		if err != nil {
			t.Fatal(err)
		}
		if f.event(c.e) != c.want {
			t.Errorf("%s %s: %v", c.e.Type, c.filter, !c.want)
		}
	}
}

func TestEventQuery(t *testing.T) {
	now := time.Unix(1700000000, 0)
	for _, c := range []struct {
		since, until string
		from, to     int64 // relative to now, in seconds; 1 is none
		follow       bool
	}{
		{"", "", 0, 1, true},
		{"10m", "", -600, 1, true},
		{"", "5m", 1, -300, false},
		{"1699999990", "1700000100.5", -10, 100, true},
		{"2023-11-14T22:13:10Z", "2023-11-14T22:13:15Z", -10, -5, false},
	} {
		q, err := eventQuery(c.since, c.until, nil, now)
		if err != nil || q.Follow != c.follow {
			t.Errorf("%v: %v %v", c, q, err)
		}
		for _, p := range []struct {
			got  time.Time
			want int64
		}{{q.Since, c.from}, {q.Until, c.to}} {
			if p.got.IsZero() != (p.want == 1) || p.want != 1 && p.got.Unix() != now.Unix()+p.want {
				t.Errorf("%v: %v", c, p.got)
			}
		}
	}
	for _, bad := range [][3]string{{"soon", "", ""}, {"", "later", ""}, {"1m", "2m", ""}, {"", "", "nope=1"}} {
		if _, err := eventQuery(bad[0], bad[1], strings.Fields(bad[2]), now); err == nil || fail.KindOf(err) == fail.Internal {
			t.Error(bad, err)
		}
	}
}

func TestEventPrinter(t *testing.T) {
	at := exampleEvent().Time.Local().Format("2006-01-02T15:04:05.000000000Z07:00")
	hostile := events.Event{
		Time: exampleEvent().Time, Type: "network", Action: "create", ID: "n",
		Attributes: map[string]string{"x\n2023 container die": "\x1b[2J\u009b\nnext\t"},
	}
	for _, c := range []struct {
		e            events.Event
		format, want string
	}{
		{exampleEvent(), "", at + " container exec_create: sh -c true abcdef (image=busybox:latest, name=web, tier=front)\n"},
		{
			exampleEvent(), "json", `{"status":"exec_create: sh -c true","id":"abcdef","from":"busybox:latest","Type":"container","Action":"exec_create: sh -c true",` +
				`"Actor":{"ID":"abcdef","Attributes":{"image":"busybox:latest","name":"web","tier":"front"}},"scope":"local","time":1700000000,"timeNano":1700000000000000005}` + "\n",
		},
		{exampleEvent(), "{{.Type}} {{.Actor.Attributes.name}} {{.Actor.Attributes.none}}", "container web <no value>\n"},
		{hostile, "", at + " network create n (x�2023 container die=�[2J��next�)\n"},
		{hostile, "{{range .Actor.Attributes}}{{.}}{{end}}", "�[2J��next�\n"},
		{hostile, "{{json .Type}}", "\"network\"\n"},
		{events.Event{Time: hostile.Time, Type: "volume", Action: "create", ID: "v"}, "", at + " volume create v\n"},
	} {
		var b bytes.Buffer
		show, err := eventPrinter(&b, c.format)
		if err == nil {
			err = show(c.e)
		}
		if err != nil || b.String() != c.want {
			t.Errorf("%q: %v\n%q\n%q", c.format, err, b.String(), c.want)
		}
	}
	for _, bad := range []string{"{{", "{{.Nope}}"} {
		if _, err := eventPrinter(nil, bad); err == nil {
			t.Error(bad)
		}
	}
	var b bytes.Buffer
	show, _ := eventPrinter(&b, "json")
	if err := show(hostile); err != nil || strings.Count(b.String(), "\n") != 1 || strings.ContainsAny(b.String(), "\x1b\u009b") {
		t.Errorf("%v %q", err, b.String())
	}
}
