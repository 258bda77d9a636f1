package cli

import "github.com/safe-run/safe-run/spec"

func laterFlags() []Flag {
	return []Flag{
		{Long: "detach", Short: "d", Type: Bool, Group: groupContainer, Usage: "Run in the background", Disposition: UnsupportedYet, Why: whyDetach, set: laterBool(func(w *spec.Workload) *bool { return &w.Detach })},
		{Long: "restart", Type: String, Group: groupContainer, Arg: "POLICY", Default: "no", Usage: "Restart policy", Disposition: UnsupportedYet, Why: whyRestart, set: (*parser).setRestart},
		{Long: "no-healthcheck", Type: Bool, Group: groupHealth, Usage: "Do not run the image's health check", set: func(p *parser, v string) error { return parseBool(v, &p.noHealth) }},
		{Long: "health-cmd", Type: String, Group: groupHealth, Arg: "COMMAND", Usage: "Command of the check", Disposition: UnsupportedYet, Why: whyHealth, set: (*parser).setHealthCmd},
		{Long: "health-interval", Type: Duration, Group: groupHealth, Arg: "DURATION", Usage: "Pause between checks", Disposition: UnsupportedYet, Why: whyHealth, set: (*parser).setHealthDuration},
		{Long: "health-timeout", Type: Duration, Group: groupHealth, Arg: "DURATION", Usage: "Limit of one check", Disposition: UnsupportedYet, Why: whyHealth, set: (*parser).setHealthDuration},
		{Long: "health-start-period", Type: Duration, Group: groupHealth, Arg: "DURATION", Usage: "Time in which failures do not count", Disposition: UnsupportedYet, Why: whyHealth, set: (*parser).setHealthDuration},
		{Long: "health-start-interval", Type: Duration, Group: groupHealth, Arg: "DURATION", Usage: "Pause between checks in that time", Disposition: UnsupportedYet, Why: whyHealth, set: (*parser).setHealthDuration},
		{Long: "health-retries", Type: Int, Group: groupHealth, Arg: "N", Usage: "Failures until unhealthy", Disposition: UnsupportedYet, Why: whyHealth, set: (*parser).setHealthRetries},
		{Long: "log-driver", Type: String, Group: groupContainer, Arg: "DRIVER", Usage: "Where output is kept", Disposition: UnsupportedYet, Why: whyLog, set: (*parser).setLogDriver},
		{Long: "log-opt", Type: List, Group: groupContainer, Arg: "KEY=VALUE", Usage: "Option of the log driver", Disposition: UnsupportedYet, Why: whyLog, set: (*parser).setLogOpt},
	}
}
