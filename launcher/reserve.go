package launcher

import (
	"context"

	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/spec"
)

// Reservation is a container id with its lock and its block of ids, taken
// before it is known what will run under it.
type Reservation struct {
	l     *Launcher
	id    string
	entry *store.Entry
	block spec.IDBlock
	err   error
	done  chan struct{}
}

// Reserve takes an id in the background, so that it need not be waited for
// once the image is known. It ends with Run, or with Cancel.
func (l *Launcher) Reserve() *Reservation {
	v := &Reservation{l: l, id: newID(), done: make(chan struct{})}
	go func() {
		defer close(v.done)
		if v.entry, v.err = l.Store.Begin(v.id); v.err != nil {
			return
		}
		if v.err = fault("begin"); v.err != nil {
			return
		}
		if v.block, v.err = l.IDs.Take(v.id); v.err == nil {
			v.err = fault("ids")
		}
	}()
	return v
}

// Cancel gives everything back. A nil Reservation has nothing.
func (v *Reservation) Cancel(ctx context.Context) {
	if v == nil {
		return
	}
	<-v.done
	if v.entry != nil {
		_ = v.l.remove(v.l.context(ctx), v.entry, store.Record{ID: v.id, Block: v.block})
	}
}
