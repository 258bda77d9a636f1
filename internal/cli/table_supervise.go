package cli

import (
	"time"

	"github.com/safe-run/safe-run/spec"
)

func superviseFlags() []Flag {
	return []Flag{
		{Long: "detach", Short: "d", Type: Bool, Group: groupContainer, Usage: "Run in the background and print the ID", set: boolTo(func(w *spec.Workload) *bool { return &w.Detach })},
		{Long: "restart", Type: String, Group: groupContainer, Arg: "POLICY", Default: "no", Usage: "When to start it again: no, on-failure[:N], always, unless-stopped", set: (*parser).setRestart},
		{Long: "no-healthcheck", Type: Bool, Group: groupHealth, Usage: "Do not run the image's health check", set: func(p *parser, v string) error { return parseBool(v, &p.noHealth) }},
		{Long: "health-cmd", Type: String, Group: groupHealth, Arg: "COMMAND", Default: "the image's", Usage: "Command of the check, for the shell inside", set: (*parser).setHealthCmd},
		{Long: "health-interval", Type: Duration, Group: groupHealth, Arg: "DURATION", Default: "the image's, or 30s", Usage: "Pause between checks", set: healthDuration(func(h *spec.Healthcheck) *time.Duration { return &h.Interval })},
		{Long: "health-timeout", Type: Duration, Group: groupHealth, Arg: "DURATION", Default: "the image's, or 30s", Usage: "Limit of one check", set: healthDuration(func(h *spec.Healthcheck) *time.Duration { return &h.Timeout })},
		{Long: "health-start-period", Type: Duration, Group: groupHealth, Arg: "DURATION", Default: "the image's, or 0s", Usage: "Time in which failures do not count", set: healthDuration(func(h *spec.Healthcheck) *time.Duration { return &h.StartPeriod })},
		{Long: "health-start-interval", Type: Duration, Group: groupHealth, Arg: "DURATION", Default: "the image's, or 5s", Usage: "Pause between checks in that time", set: healthDuration(func(h *spec.Healthcheck) *time.Duration { return &h.StartInterval })},
		{Long: "health-retries", Type: Int, Group: groupHealth, Arg: "N", Default: "the image's, or 3", Usage: "Failures in a row until it is unhealthy", set: (*parser).setHealthRetries},
		{Long: "log-driver", Type: String, Group: groupContainer, Arg: "DRIVER", Default: "json-file; passthrough in the foreground of a systemd unit", Usage: "Where output is kept: json-file, journald, none, passthrough", set: (*parser).setLogDriver},
		{Long: "log-opt", Type: List, Group: groupContainer, Arg: "KEY=VALUE", Usage: "Option of the log driver, such as max-size and max-file", set: (*parser).setLogOpt},
	}
}

// ownSuperviseFlags are podman's, and a form of docker build's --secret.
func ownSuperviseFlags() []Flag {
	return []Flag{
		{
			Long: "health-exec", Type: String, Group: groupOurs, Arg: "JSON", Default: "the image's",
			Usage: `Check by a program and its arguments, without a shell: ["curl","-f","http://localhost"]`, set: (*parser).setHealthExec,
		},
		{
			Long: "health-on-failure", Type: String, Group: groupOurs, Arg: "none|kill|restart|stop", Default: "none",
			Usage: "What becomes of the container when it turns unhealthy",
			set:   oneOf(func(p *parser) *string { return &p.w.HealthOnFailure }, spec.OnFailureNone, spec.OnFailureKill, spec.OnFailureRestart, spec.OnFailureStop),
		},
		{
			Long: "sdnotify", Type: String, Group: groupOurs, Arg: "started|healthy|container|ignore", Default: "started",
			Usage: "When systemd is told that a unit of Type=notify is ready", set: (*parser).setSDNotify,
		},
		{
			Long: "secret", Type: List, Group: groupOurs, Arg: "ID[=FILE]",
			Usage: "Give a file, or the unit's credential ID, as /run/secrets/ID; also id=ID,src=FILE,uid=N,gid=N,mode=0400", set: (*parser).setSecret,
		},
	}
}
