package main

import (
	"bufio"
	"context"
	"strings"
	"sync"
	"time"

	"github.com/safe-run/safe-run/internal/fail"
)

// What is waited for: compose's conditions, and that of --wait.
const (
	completed = "service_completed_successfully"
	healthy   = "service_healthy"
	settled   = "running, and healthy if that can be known"
)

// crashes is how often a container may be started again while others wait for it.
const crashes = 5

// reached says whether a container is as it is waited for, or, as an error, why
// it never will be.
func reached(s status, want string) (bool, error) {
	health := ""
	if s.Health != nil && s.Health.Status != "none" {
		health = s.Health.Status
	}
	ended := s.Status == "exited" || s.Status == "dead" || s.Status == "removing"
	switch {
	case want == completed && ended && s.ExitCode == 0 && s.Error == "":
		return true, nil
	case ended && s.Error != "":
		return false, fail.New(fail.Internal, "has ended: %s", s.Error)
	case ended:
		return false, fail.New(fail.Internal, "has ended with exit code %d", s.ExitCode)
	case s.Restarts >= crashes:
		return false, fail.New(fail.Internal, "has ended %d times, the last time with exit code %d, and is started again and again", s.Restarts, s.ExitCode)
	case want == completed:
		return false, nil
	case health == "unhealthy":
		return false, fail.New(fail.Internal, "is unhealthy")
	case health == "" && want == healthy && s.Status == "running":
		return false, fail.New(fail.Usage, "has no health check, in its file or its image").Hint("give it healthcheck:, or wait for service_started")
	}
	return s.Status == "running" && (health == "" || health == "healthy"), nil
}

// await waits for a container and tells when it is as wanted. Its error says what the last lines of its log
// were.
func (l *launch) await(ctx context.Context, st *step, want string) error {
	for {
		news := l.watch.next()
		s, err := l.status(ctx, st.ContainerName)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		done, err := reached(s, want)
		if err != nil {
			e := fail.New(fail.KindOf(err), "%s %s%s", st.ContainerName, err, l.lastWords(ctx, st, s))
			return e.Hint("%s", hintOf(err))
		}
		if done {
			switch want {
			case completed:
				l.did("Container", st.ContainerName, "Exited")
			default:
				l.did("Container", st.ContainerName, "Healthy")
			}
			return nil
		}
		select {
		case <-news:
		case <-time.After(time.Second): // an event may have been lost
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// watch hears of what happens to the containers of a project, through one
// `safe-run events` that is started when somebody waits first.
type watch struct {
	*app
	project string
	since   time.Time

	once sync.Once
	stop context.CancelFunc
	gone chan struct{} // closed when the child has ended
	mu   sync.Mutex
	news chan struct{} // closed at the next event
}

// next is closed when something happens from now on.
func (w *watch) next() <-chan struct{} {
	w.once.Do(w.start)
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.news
}

func (w *watch) start() {
	w.news, w.gone = make(chan struct{}), make(chan struct{})
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	c := w.command(ctx, "events", "--since", w.since.UTC().Format(time.RFC3339Nano), "--filter", "type=container",
		"--filter", "label="+labelProject+"="+w.project, "--filter", "event=start", "--filter", "event=die", "--filter", "event=health_status",
		"--format", "{{.Action}}")
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil { // then it is looked once a second
		close(w.gone)
		return
	}
	go func() {
		defer close(w.gone)
		for s := bufio.NewScanner(out); s.Scan(); {
			w.mu.Lock()
			close(w.news)
			w.news = make(chan struct{})
			w.mu.Unlock()
		}
		_ = c.Wait()
	}()
}

// close ends the child, if there is one.
func (w *watch) close() {
	if w.stop != nil {
		w.stop()
		<-w.gone
	}
}

// lastWords is what a container and its health check said last.
func (l *launch) lastWords(ctx context.Context, st *step, s status) string {
	var b strings.Builder
	if s.Health != nil && len(s.Health.Log) > 0 {
		if said := tail(s.Health.Log[len(s.Health.Log)-1].Output, 5); said != "" {
			b.WriteString("\n    its health check: " + said)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c := l.command(ctx, "logs", "--tail", "10", "--", st.ContainerName)
	both := &bounded{max: 64 << 10}
	c.Stdout, c.Stderr = both, both
	if c.Run() == nil {
		if said := tail(both.String(), 10); said != "" {
			b.WriteString("\n    its last lines: " + said)
		}
	}
	return b.String()
}

// tail is the last lines of a text, each on a line of its own if there are
// several.
func tail(text string, most int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	if len(all) > most {
		all = all[len(all)-most:]
	}
	if len(all) == 1 {
		return all[0]
	}
	return "\n      " + strings.Join(all, "\n      ")
}
