package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/template"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/events"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/images"
	"github.com/safe-run/safe-run/internal/logs"
	"github.com/safe-run/safe-run/internal/store"
)

func eventsVerb() *cobra.Command {
	var since, until, format string
	var words []string
	c := &cobra.Command{
		Use: "events [OPTIONS]", Short: "Print what happens to containers, images, networks and volumes", Args: exactly(0),
		Long: `Print what happens to containers, images, networks and volumes, until Ctrl-C or
--until. The file of past events is bounded: the oldest are gone.`,
		Example: `  safe-run events --filter event=die --filter event=oom
  safe-run events --since 1h --until 1s --format json`,
		RunE: func(c *cobra.Command, _ []string) error {
			q, err := eventQuery(since, until, words, time.Now())
			if err != nil {
				return err
			}
			show, err := eventPrinter(os.Stdout, format)
			if err != nil {
				return err
			}
			root, run := place()
			st, err := store.Open(root, run)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			go func() {
				untilUnread(os.Stdout)
				stop()
			}()
			err = events.Journal{Dir: st.Events()}.Read(ctx, q, show)
			if errors.Is(err, syscall.EPIPE) {
				return nil // whoever read has seen enough
			}
			return err
		},
	}
	c.Flags().StringVar(&since, "since", "", "begin with the events of this `TIME`, or of a duration before now")
	c.Flags().StringVar(&until, "until", "", "end at this `TIME`, which may be in the future")
	c.Flags().StringArrayVarP(&words, "filter", "f", nil, "only events that fit `KEY=VALUE`: container, event, image, label, network, scope, type, volume")
	c.Flags().StringVar(&format, "format", "", "json, or a Go `TEMPLATE`")
	return c
}

// untilUnread waits for nobody to read what is written to f. With no events
// there is no write that would tell.
func untilUnread(f *os.File) {
	fds := []unix.PollFd{{Fd: int32(f.Fd())}}
	for {
		if _, err := unix.Poll(fds, -1); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// eventQuery is what the command line asks for. Without a beginning and an end
// it is what happens from now on.
func eventQuery(since, until string, words []string, now time.Time) (q events.Query, err error) {
	f, err := filtersOf(words, "container", "event", "image", "label", "network", "scope", "type", "volume")
	if err != nil {
		return q, err
	}
	q.Match = func(e events.Event) bool { return f.event(e) }
	if q.Since, err = logs.ParseTime(since, now); err != nil {
		return q, fail.Wrap(fail.NoStatus, err, "invalid value for \"since\"")
	}
	if q.Until, err = logs.ParseTime(until, now); err != nil {
		return q, fail.Wrap(fail.NoStatus, err, "invalid value for \"until\"")
	}
	if since == "" && until == "" {
		q.Since = now
	}
	if !q.Until.IsZero() && q.Until.Before(q.Since) {
		return q, fail.New(fail.NoStatus, "--since is after --until")
	}
	q.Follow = q.Until.IsZero() || q.Until.After(now)
	return q, nil
}

// event says whether an event fits. As with docker, the beginning of an id or
// name suffices, and health_status, exec_create and exec_start stand for all
// actions that begin so.
func (f filters) event(e events.Event) bool {
	begins := func(key string) bool {
		return f.has(key, func(v string) bool {
			return strings.HasPrefix(e.ID, v) || strings.HasPrefix(e.Attributes["name"], v)
		})
	}
	return f.has("type", func(v string) bool { return e.Type == v }) &&
		f.has("scope", func(v string) bool { return v == "local" }) &&
		f.has("event", func(v string) bool { return e.Action == v || strings.HasPrefix(e.Action, v+":") }) &&
		begins("container") && begins("network") && begins("volume") &&
		f.has("image", func(v string) bool { return ofImage(e, v) }) && f.labelled(e.Attributes)
}

// ofImage says whether an event is of an image, by its id or its name, with or
// without the tag, or of a container of it.
func ofImage(e events.Event, wanted string) bool {
	name := e.Attributes["image"]
	if e.Type == "image" {
		name = e.Attributes["name"]
	}
	short := images.Familiar(name)
	return slices.Contains([]string{e.ID, name, short, withoutTag(name), withoutTag(short)}, wanted)
}

func withoutTag(ref string) string {
	ref, _, _ = strings.Cut(ref, "@")
	if i := strings.LastIndexByte(ref, ':'); i > strings.LastIndexByte(ref, '/') {
		return ref[:i]
	}
	return ref
}

// eventMessage is docker's form of an event.
type eventMessage struct {
	Status   string `json:"status,omitempty"` // the first three of containers and images only
	ID       string `json:"id,omitempty"`
	From     string `json:"from,omitempty"`
	Type     string
	Action   string
	Actor    eventActor
	Scope    string `json:"scope,omitempty"`
	Time     int64  `json:"time,omitempty"`     // seconds since 1970
	TimeNano int64  `json:"timeNano,omitempty"` // nanoseconds since 1970
}

type eventActor struct {
	ID         string
	Attributes map[string]string
}

func messageOf(e events.Event) eventMessage {
	m := eventMessage{
		Type: e.Type, Action: e.Action, Actor: eventActor{e.ID, map[string]string{}},
		Scope: "local", Time: e.Time.Unix(), TimeNano: e.Time.UnixNano(),
	}
	maps.Copy(m.Actor.Attributes, e.Attributes)
	named := "image"
	if e.Type == "image" {
		named = "name"
	}
	if ref := m.Actor.Attributes[named]; ref != "" && (e.Type == "container" || e.Type == "image") {
		m.Actor.Attributes[named] = images.Familiar(ref)
	}
	if e.Type == "container" || e.Type == "image" {
		m.Status, m.ID = m.Action, m.Actor.ID
	}
	if e.Type == "container" {
		m.From = m.Actor.Attributes["image"]
	}
	return m
}

// inLines makes the texts fit for lines: an attribute may be a label of an
// image, and must not look like another event.
func (m eventMessage) inLines() eventMessage {
	safe := make(map[string]string, len(m.Actor.Attributes))
	for k, v := range m.Actor.Attributes {
		safe[oneLine(k)] = oneLine(v)
	}
	m.Actor = eventActor{oneLine(m.Actor.ID), safe}
	m.Type, m.Action = oneLine(m.Type), oneLine(m.Action)
	m.Status, m.ID, m.From = oneLine(m.Status), oneLine(m.ID), oneLine(m.From)
	return m
}

func (m eventMessage) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s %s", time.Unix(0, m.TimeNano).Format("2006-01-02T15:04:05.000000000Z07:00"), m.Type, m.Action, m.Actor.ID)
	between := " ("
	for _, k := range slices.Sorted(maps.Keys(m.Actor.Attributes)) {
		b.WriteString(between + k + "=" + m.Actor.Attributes[k])
		between = ", "
	}
	if between == ", " {
		b.WriteByte(')')
	}
	return b.String()
}

// eventPrinter prints each event as it comes: as docker's line, as JSON, or by
// a template, which is tried out first.
func eventPrinter(w io.Writer, format string) (func(events.Event) error, error) {
	switch format {
	case "":
		return func(e events.Event) error { return put(w, messageOf(e).inLines().String()+"\n") }, nil
	case "json", "{{json .}}":
		return func(e events.Event) error { return printJSON(w, messageOf(e), false) }, nil
	}
	t, err := parseTemplate(format)
	if err != nil {
		return nil, err
	}
	byTemplate := func(w io.Writer, t *template.Template, m eventMessage) error {
		var b bytes.Buffer
		if err := execute(&b, t, []eventMessage{m}); err != nil {
			return err
		}
		return put(w, b.String())
	}
	if err := byTemplate(io.Discard, t, eventMessage{}); err != nil {
		return nil, err
	}
	return func(e events.Event) error { return byTemplate(w, t, messageOf(e).inLines()) }, nil
}
