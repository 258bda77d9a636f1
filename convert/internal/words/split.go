package words

import (
	"errors"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
)

// Mark stands in words for what is not known before a script runs. What follows
// up to the next one is how it is written there. No word of a command line can
// have one of its own.
const Mark = "\x00"

// Unknown is a part of a word that is not known yet.
func Unknown(written string) string { return Mark + strings.ReplaceAll(written, Mark, "") + Mark }

// IsUnknown says whether a word has parts that are not known.
func IsUnknown(word string) bool { return strings.Contains(word, Mark) }

// Shown is a word as it is written.
func Shown(word string) string { return strings.ReplaceAll(word, Mark, "") }

// Unknowns are the unknown parts of a word.
func Unknowns(word string) (parts []string) {
	for i, p := range strings.Split(word, Mark) {
		if i%2 == 1 {
			parts = append(parts, p)
		}
	}
	return parts
}

// othersTake are the flags of podman and nerdctl that docker has not and that
// take a value.
func othersTake() []string {
	return []string{
		"arch", "authfile", "cert-dir", "cgroup-conf", "cgroups", "chrootdirs", "conmon-pidfile", "creds", "decryption-key", "env-merge", "gidmap", "group-entry",
		"health-log-destination", "health-max-log-count", "health-max-log-size", "health-startup-cmd", "health-startup-interval", "health-startup-retries",
		"health-startup-success", "health-startup-timeout", "healthcheck-command", "hosts-file", "hostuser", "image-volume", "init-ctr", "init-path", "os", "passwd-entry", "personality",
		"pidfile", "pod", "pod-id-file", "preserve-fd", "preserve-fds", "rdt-class", "requires", "retry", "retry-delay", "seccomp-policy", "shm-size-systemd",
		"subgidname", "subuidname", "systemd", "timeout", "tz", "uidmap", "umask", "unsetenv", "variant", "verify", "cosign-key",
	}
}

// noPlace are flags of one run that have no place in a document.
func noPlace() []string {
	return []string{"dry-run", "help", "explain", "complain", "refusals", "address", "namespace", "record-fd"}
}

// Split takes the words after run apart: flags of the table of run, flags that
// are left out and why, and the words from the image on.
func Split(list []string) (flags []Flag, losses []convert.Loss, rest []string) {
	table := map[string]*cli.Flag{}
	for _, f := range append(cli.Own(), cli.Table()...) {
		table["--"+f.Long] = &f
		if f.Short != "" {
			table["-"+f.Short] = &f
		}
	}
	add := func(f *cli.Flag, typed, value string) {
		name := f.Long
		if f.AliasOf != "" {
			name = f.AliasOf
		}
		switch why := f.Why; {
		case IsUnknown(value):
			losses = append(losses, unknown(typed, value))
		case f.Disposition == cli.Unsupported:
			losses = append(losses, convert.Loss{What: Flag{name, value}.Word(), Why: why})
		case slices.Contains(noPlace(), name):
			losses = append(losses, convert.Loss{What: "--" + name, Why: "it is about one run, and not about the container"})
		case f.Disposition == cli.NoEffect:
		default:
			flags = append(flags, Flag{name, value})
		}
	}
	takesValue := func(f *cli.Flag) bool { return f != nil && f.Type != cli.Bool && f.Long != "dry-run" }
	i := 0
	next := func() (string, bool) {
		if i+1 >= len(list) {
			return "", false
		}
		i++
		return list[i], true
	}
	for ; i < len(list); i++ {
		w := list[i]
		name, value, joined := strings.Cut(w, "=")
		f := table[name]
		switch {
		case w == "--":
			return flags, losses, list[i+1:]
		case strings.HasPrefix(w, Mark) && moreFlags(w, list[i+1:]):
			losses = append(losses, unknown(w, w))
		case len(w) < 2 || w[0] != '-':
			return flags, losses, list[i:]
		case IsUnknown(name):
			losses = append(losses, unknown(w, w))
		case !strings.HasPrefix(w, "--"):
			i += shorts(w, list[i+1:], table, add, &losses)
		case joined && f != nil:
			add(f, w, value)
		case takesValue(f), f == nil && !joined && slices.Contains(othersTake(), name[2:]):
			v, ok := next()
			switch {
			case !ok:
				losses = append(losses, convert.Loss{What: w, Why: "it has no value"})
			case f != nil:
				add(f, w+" "+v, v)
			default:
				losses = append(losses, foreign(name, w+"="+v))
			}
		case f != nil:
			add(f, w, "true")
		default:
			losses = append(losses, foreign(name, w))
		}
	}
	return flags, losses, nil
}

// shorts reads -abc as pflag does, and gives how many of the next words it took.
func shorts(w string, next []string, table map[string]*cli.Flag, add func(*cli.Flag, string, string), losses *[]convert.Loss) int {
	for j := 1; j < len(w); j++ {
		f := table["-"+w[j:j+1]]
		rest := w[j+1:]
		switch {
		case f == nil:
			*losses = append(*losses, foreign("", w))
			return 0
		case f.Type == cli.Bool && strings.HasPrefix(rest, "="):
			add(f, w, rest[1:])
			return 0
		case f.Type == cli.Bool:
			add(f, w, "true")
		case rest != "":
			add(f, w, strings.TrimPrefix(rest, "="))
			return 0
		case len(next) > 0:
			add(f, w+" "+next[0], next[0])
			return 1
		default:
			*losses = append(*losses, convert.Loss{What: Shown(w), Why: "it has no value"})
		}
	}
	return 0
}

// moreFlags says whether an unknown word among flags stands for more of them,
// and not for the image.
func moreFlags(w string, after []string) bool {
	if strings.HasPrefix(Shown(w), "-") {
		return true
	}
	name := strings.ToUpper(w)
	if strings.Contains(name, "IMAGE") || strings.Contains(name, "IMG") {
		return false
	}
	if len(after) > 0 && strings.HasPrefix(after[0], "-") {
		return true
	}
	return len(after) > 0 && slices.ContainsFunc([]string{"OPT", "ARG", "FLAG", "PARAM", "EXTRA", "@", "*"}, func(s string) bool { return strings.Contains(name, s) })
}

func unknown(typed, value string) convert.Loss {
	return convert.Loss{What: Shown(typed), Why: "what " + strings.Join(Unknowns(value), " and ") + " is, is known only when the script runs: write the value"}
}

// foreign is a flag that only others have. The hint is that of run itself.
func foreign(name, typed string) convert.Loss {
	l := convert.Loss{What: Shown(typed), Why: "it is no flag of docker run"}
	if name == "" || IsUnknown(name) {
		return l
	}
	_, err := cli.Parse([]string{name + "=x", "image"}, cli.Context{Cwd: "/", LookupEnv: func(string) (string, bool) { return "", false }})
	var e *fail.Error
	if errors.As(err, &e) && e.Next != "" {
		l.Why += "; " + e.Next
	}
	return l
}
