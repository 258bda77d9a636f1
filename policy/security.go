package policy

import (
	"strconv"
	"strings"
)

// securityOpt is one --security-opt, taken apart as the docker engine does: at
// the first "=", else at the first ":".
type securityOpt struct {
	typed, key, value string
	hasValue          bool
	exact             bool // key is spelled as the rest of the program expects it
}

func parseSecurityOpt(typed string) securityOpt {
	sep := ":"
	if strings.Contains(typed, "=") {
		sep = "="
	}
	key, value, has := strings.Cut(typed, sep)
	o := securityOpt{typed: typed, key: mode(key), value: strings.TrimSpace(value), hasValue: has}
	o.exact = key == o.key && value == o.value
	return o
}

func (o securityOpt) flag() string { return "--security-opt " + shown(o.typed) }

// is compares the value without regard to case: a spelling is never a way past.
func (o securityOpt) is(value string) bool { return strings.EqualFold(o.value, value) }

// off says whether a switch is off; ok is false where it is no boolean.
func (o securityOpt) on() (on, ok bool) {
	if !o.hasValue {
		return true, true
	}
	on, err := strconv.ParseBool(strings.ToLower(o.value))
	return on, err == nil
}

// OwnAppArmor says whether an AppArmor name stands for this program's own
// profile.
func OwnAppArmor(name string) bool {
	return name == "docker-default" || name == "safe-run-default"
}

// opts makes a check of one that looks at a single option.
func opts(judge func(r *Request, o securityOpt) (Finding, bool)) func(*Request) []Finding {
	return func(r *Request) (found []Finding) {
		for _, typed := range r.Workload.SecurityOpts {
			o := parseSecurityOpt(typed)
			if f, hit := judge(r, o); hit {
				f.Flag = o.flag()
				found = append(found, f)
			}
		}
		return found
	}
}

func securityRules() []Rule {
	return []Rule{
		{
			ID: "systempaths-unconfined", Title: "Unmasked system paths",
			GivesAway: "/proc/kcore, sysrq-trigger and other files of the kernel, readable or writable",
			SaferWay:  "none: what needs these files belongs on the host",
			Check: opts(func(_ *Request, o securityOpt) (Finding, bool) {
				return Finding{}, o.key == "systempaths" || o.key == "unmask"
			}),
		},
		{
			ID: "seccomp-unconfined", Title: "No system call filter", Grant: "allow",
			GivesAway: "every system call of the kernel, the rarely used and buggy ones among them",
			SaferWay:  "keep the built-in filter; if a call is denied, allow that one in a profile: --security-opt seccomp=FILE",
			Check: opts(func(_ *Request, o securityOpt) (Finding, bool) {
				return Finding{Need: allow("seccomp-unconfined")}, o.key == "seccomp" && o.is("unconfined")
			}),
		},
		{
			ID: "seccomp-profile", Title: "System call filters that do not filter",
			GivesAway: "the system calls the file leaves open",
			SaferWay:  "start from docker's default profile and allow single calls in it",
			Check:     opts(seccompFile),
		},
		{
			ID: "apparmor-unconfined", Title: "No AppArmor profile", Grant: "allow",
			GivesAway: "the mandatory access control that still holds when a capability or a mount was given too freely",
			SaferWay:  "keep the built-in profile",
			Check: opts(func(_ *Request, o securityOpt) (Finding, bool) {
				return Finding{Need: allow("apparmor-unconfined")}, o.key == "apparmor" && o.is("unconfined")
			}),
		},
		{
			ID: "apparmor-profile", Title: "Other AppArmor profiles", Grant: "allow",
			GivesAway: "whatever that profile allows: nobody can tell here that it is as tight as the built-in one",
			SaferWay:  "keep the built-in profile (apparmor=docker-default names it), or narrow it: the files rules of a profile's apparmor part",
			Check: opts(func(_ *Request, o securityOpt) (Finding, bool) {
				return Finding{Need: allow("apparmor-profile")}, o.key == "apparmor" && !o.is("unconfined") && !OwnAppArmor(o.value)
			}),
		},
		{
			ID: "label-disable", Title: "No SELinux separation", Grant: "allow",
			GivesAway: "the SELinux label that keeps the container from files of the host and of other containers",
			SaferWay:  "give the container a volume of its own instead of switching the label off",
			Check: opts(func(_ *Request, o securityOpt) (Finding, bool) {
				return Finding{Need: allow("label-disable")}, o.key == "disable" || o.key == "label" && o.is("disable")
			}),
		},
		{
			ID: "label", Title: "Other SELinux labels",
			GivesAway: "the separation by label: another type can be unconfined, another level opens other containers' files",
			SaferWay:  "leave it out: each container gets a level of its own",
			Check: opts(func(_ *Request, o securityOpt) (Finding, bool) {
				return Finding{}, o.key == "label" && !o.is("disable")
			}),
		},
		{
			ID: "new-privileges", Title: "Programs that raise privileges", Grant: "allow",
			GivesAway: "set-user-ID programs and file capabilities of the image work, so any user in the container can become its root",
			SaferWay:  "start as the user that is needed (--user) with the capabilities that are needed (--cap-add)",
			Check: opts(func(_ *Request, o securityOpt) (Finding, bool) {
				on, ok := o.on()
				return Finding{Need: allow("new-privileges")}, o.key == "no-new-privileges" && ok && !on
			}),
		},
		{
			ID: "writable-cgroups", Title: "Writable control groups",
			GivesAway: "the container could change its own limits, and on cgroup v1 have the host run a program",
			SaferWay:  "set the limits from outside: --memory, --cpus, --pids-limit",
			Check: opts(func(_ *Request, o securityOpt) (Finding, bool) {
				on, _ := o.on() // what is no boolean is not on
				return Finding{}, o.key == "writable-cgroups" && on
			}),
		},
		{
			ID: "security-opt-unknown", Title: "Security options nobody knows",
			GivesAway: "a protection that was asked for in words nobody here understands",
			SaferWay:  "known are: seccomp=FILE|builtin, apparmor=docker-default, no-new-privileges[=true], writable-cgroups=false",
			Check:     opts(unknownOpt),
		},
	}
}

func seccompFile(r *Request, o securityOpt) (Finding, bool) {
	if o.key != "seccomp" || o.is("unconfined") || o.value == "builtin" {
		return Finding{}, false
	}
	switch file := r.Workload.Seccomp; {
	case o.value == "":
		return Finding{Why: "no file is named"}, true
	case file == nil || r.CheckSeccomp == nil:
		return Finding{Why: "the file was not read, so it cannot be judged"}, true
	default:
		err := r.CheckSeccomp(file.JSON)
		if err == nil {
			return Finding{}, false
		}
		return Finding{Why: "the profile is not one that protects: " + sanitized(err.Error())}, true
	}
}

// unknownOpt finds unknown keys, values that are no boolean, and spellings of
// harmless options other than the usual one: ignored, they would be a
// protection that is not there.
func unknownOpt(_ *Request, o securityOpt) (Finding, bool) {
	_, boolean := o.on()
	switch o.key {
	case "no-new-privileges", "writable-cgroups":
		return Finding{Why: "the value is neither true nor false, or oddly spelled"}, !boolean || !o.exact
	case "seccomp", "apparmor":
		return Finding{Why: "written in this way it is not understood; use lower case and no blanks"}, !o.exact && !o.is("unconfined")
	case "systempaths", "unmask", "label", "disable":
		return Finding{}, false // always refused by a rule of their own
	}
	return Finding{}, true
}

// sanitized makes text with hostile parts printable on one line.
func sanitized(s string) string {
	const most = 500
	if len(s) > most {
		s = s[:most] + "..."
	}
	q := strconv.Quote(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}
