package spec

import (
	"fmt"
	"strings"
	"time"
)

// supervisionLines say what becomes of a container while it runs and after.
func supervisionLines(in Input) (lines [][2]string) {
	w := in.Workload
	say := func(subject, format string, args ...any) {
		lines = append(lines, [2]string{subject, fmt.Sprintf(format, args...)})
	}
	if w.Detach {
		say("detached", "runs in the background, under a supervisor of its own")
	}
	if w.Restart.Restarts() {
		say("restart", "%s", restartWords(w.Restart))
	}
	if h, ok := HealthOf(w, in.Image); ok {
		say("health", "%s", healthWords(h, w.HealthOnFailure))
	} else if len(in.Image.Health.Test) > 0 && in.Image.Health.Test[0] != healthNone {
		say("health", "the image's check is off")
	}
	if in.Files.Notify != "" {
		say("systemd", "the program says itself when it is ready")
	} else if w.SDNotify != "" {
		say("systemd", "told that it is ready: %s", shown(w.SDNotify))
	}
	if in.Files.Activate != "" {
		say("sockets", "the listening sockets of the unit are passed in")
	}
	say("logs", "%s", logWords(w))
	if len(w.Secrets) > 0 {
		ids := make([]string, 0, len(w.Secrets))
		for _, s := range w.Secrets {
			ids = append(ids, shown(s.ID))
		}
		say("secrets", "%s, files in %s, in no record and no variable", strings.Join(ids, ", "), SecretsDir)
	}
	return lines
}

func restartWords(p RestartPolicy) string {
	switch {
	case p.Name == RestartOnFailure && p.Max > 0:
		return fmt.Sprintf("after a failure, at most %d times; each time today's policy must permit it", p.Max)
	case p.Name == RestartOnFailure:
		return "after a failure; each time today's policy must permit it"
	}
	return shown(p.Name) + "; each time today's policy must permit it"
}

func healthWords(h Healthcheck, onFailure string) string {
	words := fmt.Sprintf("%s every %s, for at most %s; unhealthy after %d failures",
		shown(strings.Join(h.Test[1:], " ")), h.Interval, h.Timeout, h.Retries)
	if h.StartPeriod > 0 {
		words += fmt.Sprintf(", none of which count for %s", h.StartPeriod.Round(time.Millisecond))
	}
	switch onFailure {
	case OnFailureKill:
		words += "; then it is killed"
	case OnFailureRestart:
		words += "; then it is restarted"
	case OnFailureStop:
		words += "; then it is stopped"
	}
	return words
}

func logWords(w Workload) string {
	switch w.LogDriver {
	case "", "json-file":
	default:
		return pick(w.LogDriver == "none", "none are kept", shown(w.LogDriver)+optionWords(w.LogOpts))
	}
	return "json-file, rotated" + optionWords(w.LogOpts) + " (docker: without a bound)"
}

func optionWords(opts map[string]string) string {
	var b strings.Builder
	for _, key := range sortedKeys(opts) {
		b.WriteString(", " + shown(key) + "=" + shown(opts[key]))
	}
	return b.String()
}
