package launcher

import (
	"maps"
	"time"

	"github.com/safe-run/safe-run/internal/events"
	"github.com/safe-run/safe-run/internal/store"
)

// event notes what happened to the container, for `safe-run events`.
func (r *run) event(action string, more ...string) { r.Launcher.event(r.record(), action, more...) }

// event notes something of a container; more are names and values. It is not
// worth a failure if it cannot be noted.
func (l *Launcher) event(rec store.Record, action string, more ...string) {
	name := rec.Name
	if name == "" {
		name = rec.ID[:12]
	}
	about := maps.Clone(rec.Labels) // as docker; the journal bounds what a hostile image brings
	if about == nil {
		about = map[string]string{}
	}
	about["name"], about["image"] = name, rec.Typed
	for i := 0; i+1 < len(more); i += 2 {
		about[more[i]] = more[i+1]
	}
	_ = events.Journal{Dir: l.Store.Events()}.Add(events.Event{
		Time: time.Now(), Type: "container", Action: action, ID: rec.ID, Attributes: about,
	})
}
