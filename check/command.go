package check

import (
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/edits"
)

func itoa(n int) string { return strconv.Itoa(n) }

// launch is one command line that starts a container, taken apart.
type launch struct {
	line    int
	command string   // for the report
	lead    string   // what the line starts with, as ExecStart=
	before  string   // what stands before the program: sudo, assignments; as written
	own     []string // flags of safe-run for what was an option of the engine itself
	flags   []flagUse
	image   *word // nil: somewhere in what is unknown
	args    []word
	remote  []Remark // options of the engine that lead to another host
	dropped []Change // other options of the engine
	style   style
}

// style writes words in the language of the file.
type style interface {
	// text writes known text as one word.
	text(s string) string
	// parts writes a word of known and unknown parts.
	parts(p []part) string
}

// flagUse is one flag as it was used, or a word nobody knows among the flags.
type flagUse struct {
	def   *cli.Flag // nil: no flag of docker run, or an unknown word
	name  string    // long name, or as written if it is no flag of docker run; "" for an unknown word
	typed string    // as written, for messages
	value word
	has   bool   // there is a value
	out   string // how the rewritten line has it
	group int    // index of the grouped word -abc it is from, from 1
	line  int
	maybe bool   // from what a variable may hold: judged, but not written
	bad   string // why the word cannot be read
}

// isToolName knows the programs whose run starts a container.
func isToolName(base string) bool {
	switch base {
	case "docker", "podman", "nerdctl", "safe-run", "podman-remote", "finch":
		return true
	}
	return false
}

func isTool(w word) (string, bool) {
	text, known := w.value()
	if !known && len(w.parts) == 1 && w.parts[0].unknown {
		p := w.parts[0]
		if text = p.guess; text == "" {
			// DOCKER_CMD, CONTAINER_ENGINE and their like.
			for _, word := range []string{"DOCKER", "PODMAN", "NERDCTL", "CONTAINER_ENGINE", "CONTAINER_RUNTIME", "CONTAINER_CMD", "CONTAINER_TOOL"} {
				if strings.HasPrefix(strings.ToUpper(p.name), word) && !strings.Contains(strings.ToUpper(p.name), "IMAGE") {
					return "docker", true
				}
			}
		}
	}
	base := path.Base(text)
	if inner, is := strings.CutPrefix(w.raw, "$("); is && !known { // $(which docker)
		if f := strings.Fields(strings.TrimSuffix(inner, ")")); len(f) > 0 {
			base = path.Base(f[len(f)-1])
		}
	}
	return base, isToolName(base)
}

// engineOption says of an option of docker, podman or nerdctl itself whether it
// takes a value in the next word.
func engineOption(name string) (takes, known bool) {
	switch name {
	case "-D", "--debug", "--tls", "--tlsverify", "--remote", "-r", "--syslog", "--noout", "--debug-full", "--insecure-registry", "--experimental",
		"-v", "--version", "--help", "--transient-store", "--volumepath=":
		return false, true
	}
	return true, strings.HasPrefix(name, "-")
}

// elsewhere are the options that choose another host.
func elsewhere(name string) bool {
	return slices.Contains([]string{"-H", "--host", "-c", "--context", "--connection", "--url", "--remote", "-r", "--identity"}, name)
}

// parseLaunch reads the words from the program on. It gives nil if they start
// no container.
func (c *checker) parseLaunch(words []word, style style) *launch {
	tool, ok := isTool(words[0])
	if !ok {
		return nil
	}
	l := &launch{line: words[0].line, style: style}
	i := 1
	if tool == "safe-run" {
		if i >= len(words) {
			return nil
		}
		first, _ := words[i].value()
		if first == "run" {
			i++
		} else if slices.Contains(c.o.Verbs, first) || first == "--help" {
			return nil
		}
		l.command = "safe-run run"
		return c.finishLaunch(l, tool, words[i:])
	}
	for ; i < len(words) && strings.HasPrefix(words[i].head(), "-"); i++ {
		w := words[i]
		name, rest, joined := strings.Cut(w.head(), "=")
		if len(name) > 2 && !strings.HasPrefix(name, "--") { // -Htcp://...
			name, rest, joined = name[:2], name[2:], true
		}
		takes, _ := engineOption(name)
		typed := w.raw
		value := w.after(len(w.head()) - len(rest))
		if takes && !joined && i+1 < len(words) {
			i++
			value, typed = words[i], typed+" "+words[i].raw
		}
		switch {
		case elsewhere(name):
			l.remote = append(l.remote, Remark{w.line, short(typed, 200), "safe-run starts containers on its own host alone: run it there"})
		case tool == "nerdctl" && (name == "-n" || name == "--namespace"):
			l.own = append(l.own, "--namespace", value.written(style))
		case tool == "nerdctl" && (name == "-a" || name == "--address"):
			l.own = append(l.own, "--address", value.written(style))
		default:
			l.dropped = append(l.dropped, Change{w.line, short(typed, 200), "", "an option of " + tool + " itself"})
		}
	}
	if i < len(words) && words[i].is("container") {
		i++
	}
	// What is created is started by somebody.
	if i >= len(words) || !words[i].is("run") && !words[i].is("create") {
		c.indirect(tool, words[min(i, len(words)):])
		return nil
	}
	l.command = tool + " " + words[i].head()
	return c.finishLaunch(l, tool, words[i+1:])
}

// indirect remarks on commands that start containers which are written down
// elsewhere: who reads that there is no launch here must not take that for none.
func (c *checker) indirect(tool string, words []word) {
	is := func(i int, text string) bool { return i < len(words) && words[i].is(text) }
	switch {
	case strings.HasSuffix(tool, "-compose"), is(0, "compose"):
		for _, w := range words[1:] {
			for _, verb := range []string{"up", "run", "create", "start"} {
				if w.is(verb) {
					c.remark(words[0].line, strings.TrimSuffix(tool, "-compose")+" compose "+verb, "the containers stand in a compose file: check that as well")
					return
				}
			}
		}
	case is(0, "stack") && (is(1, "deploy") || is(1, "up")):
		c.remark(words[0].line, tool+" stack deploy", "the containers stand in a compose file: check that as well")
	case is(0, "service") && is(1, "create"):
		c.remark(words[0].line, tool+" service create", "services of a swarm are not looked at")
	case is(0, "kube") && is(1, "play"), is(0, "play") && is(1, "kube"):
		c.remark(words[0].line, tool+" kube play", "pods are not looked at")
	}
}

func (w word) is(text string) bool {
	v, ok := w.value()
	return ok && v == text
}

// written is the word as the file has it, or in its language.
func (w word) written(s style) string {
	if w.raw != "" {
		return w.raw
	}
	return s.parts(w.parts)
}

// finishLaunch reads the words after run; nil if they only ask for help.
func (c *checker) finishLaunch(l *launch, tool string, words []word) *launch {
	r := flagReader{table: c.table, style: l.style, tool: tool}
	n := r.read(words, true)
	l.flags = r.out
	for _, f := range l.flags {
		if f.name == "help" {
			return nil
		}
	}
	if n < len(words) {
		l.image = &words[n]
		l.args = words[n+1:]
	}
	return l
}

// flagTable has the flags of run by name and by letter.
func flagTable() map[string]*cli.Flag {
	t := map[string]*cli.Flag{}
	all := append(cli.Own(), cli.Table()...)
	for i := range all {
		t["--"+all[i].Long] = &all[i]
		if all[i].Short != "" {
			t["-"+all[i].Short] = &all[i]
		}
	}
	return t
}

// flagReader takes flags off words.
type flagReader struct {
	table map[string]*cli.Flag
	style style
	tool  string
	out   []flagUse
	group int
	maybe bool
}

// read gives the index of the image, or len(words).
func (r *flagReader) read(words []word, image bool) int {
	for i := 0; i < len(words); i++ {
		w := words[i]
		head := w.head()
		switch {
		case w.is("--"):
			return i + 1
		case head == "-" || head == "--" || head == "" && w.isUnknown():
			if image && !strings.HasPrefix(head, "-") && looksLikeImage(w, words[i+1:]) {
				return i
			}
			r.unknownWord(w)
		case head == "" || head[0] != '-':
			return i
		case strings.HasPrefix(head, "--"):
			i += r.long(w, words[i+1:])
		default:
			i += r.shorts(w, words[i+1:])
		}
	}
	return len(words)
}

// looksLikeImage says whether an unknown word among flags is the image, and not
// further flags: by its name, or because nothing else can be.
func looksLikeImage(w word, rest []word) bool {
	if namedImage(w) {
		return true
	}
	name := unknownName(w)
	if !w.many { // in quotation marks, or with known text in it: one word
		return len(w.parts) > 1 || len(rest) == 0 || !strings.HasPrefix(rest[0].head(), "-")
	}
	for _, is := range []string{"OPT", "ARG", "FLAG", "PARAM", "VOL", "MOUNT", "PORT", "ENV", "EXTRA", "@", "*"} {
		if strings.Contains(name, is) {
			return false
		}
	}
	for _, other := range rest {
		if h := other.head(); h == "" || h[0] != '-' {
			return false
		}
	}
	return name != "" && len(w.may) == 0
}

func (r *flagReader) add(f flagUse) {
	f.maybe = f.maybe || r.maybe
	r.out = append(r.out, f)
}

// unknownWord notes a word of unknown flags, and reads those it may become.
func (r *flagReader) unknownWord(w word) {
	r.add(flagUse{typed: w.raw, value: w, out: w.raw, line: w.line})
	if len(w.may) > 0 && !r.maybe {
		r.maybe = true
		r.read(w.may, false)
		r.maybe = false
	}
}

func (r *flagReader) long(w word, next []word) (used int) {
	name, _, joined := strings.Cut(w.head(), "=")
	f := flagUse{def: r.table[name], name: strings.TrimPrefix(name, "--"), typed: w.raw, out: w.raw, line: w.line}
	if !joined && w.isUnknown() { // --$NAME
		r.unknownWord(w)
		return 0
	}
	if f.def != nil {
		f.name = f.def.Long
	}
	switch {
	case joined:
		f.value, f.has = w.after(len(name)+1), true
	case f.def != nil && f.def.Type != cli.Bool && name != "--dry-run", f.def == nil && (othersTakeValue(f.name) || r.misspelled(f.name)):
		if len(next) == 0 {
			f.bad = "it needs a value"
			break
		}
		f.value, f.has, used = next[0], true, 1
		f.typed += " " + next[0].raw
		f.out += " " + next[0].raw
	}
	r.add(f)
	return used
}

func (r *flagReader) shorts(w word, next []word) (used int) {
	head := w.head()
	r.group++
	group := r.group
	if len(head) == 2 && !w.isUnknown() {
		group = 0
	}
	for i := 1; i < len(head); i++ {
		short := "-" + head[i:i+1]
		f := flagUse{def: r.table[short], name: short, typed: short, out: short, line: w.line, group: group}
		if f.def != nil {
			f.name = f.def.Long
		}
		if f.def == nil || f.def.Type == cli.Bool {
			if i+1 < len(head) && head[i+1] == '=' { // -t=false
				f.value, f.has = w.after(i+2), true
				f.typed, f.out = w.raw, w.raw
				r.add(f)
				return 0
			}
			r.add(f)
			continue
		}
		f.has = true
		rest := w.after(i + 1)
		switch {
		case len(rest.parts) > 0:
			n := i + 1
			if i+1 < len(head) && head[i+1] == '=' {
				n++
			}
			f.value = w.after(n)
			f.out = short + " " + r.style.parts(f.value.parts)
			f.typed = f.out
		case len(next) > 0:
			f.value, used = next[0], 1
			f.out = short + " " + next[0].raw
			f.typed = f.out
		default:
			f.has, f.bad = false, "it needs a value"
		}
		r.add(f)
		return used
	}
	if w.isUnknown() { // -$X, -it$X
		r.unknownWord(w)
	}
	return 0
}

// misspelled says whether a name is nearly that of a flag with a value.
func (r *flagReader) misspelled(name string) bool {
	if len(name) < 4 || len(name) > 40 {
		return false
	}
	best, takes := 3, false
	for _, word := range slices.Sorted(maps.Keys(r.table)) {
		f := r.table[word]
		if d := edits.Distance(name, f.Long); d < best {
			best, takes = d, f.Type != cli.Bool
		}
	}
	return takes
}

// othersTakeValue says of a flag of podman and nerdctl, which docker run has
// not, whether it takes a value. Of one nobody knows it says no.
func othersTakeValue(name string) bool {
	return slices.Contains([]string{
		"arch", "authfile", "cert-dir", "cgroup-conf", "cgroups", "chrootdirs", "conmon-pidfile", "cosign-key", "creds", "decryption-key",
		"env-merge", "gidmap", "group-entry", "healthcheck-command", "health-startup-cmd", "health-startup-interval", "health-startup-retries",
		"health-startup-success", "health-startup-timeout", "health-log-destination", "health-max-log-count", "health-max-log-size",
		"hostuser", "hosts-file", "image-volume", "init-ctr", "init-path", "ipfs-address", "label-file", "os", "passwd-entry", "pidfile", "pod", "pod-id-file",
		"preserve-fd", "preserve-fds", "rdt-class", "requires", "retry", "retry-delay", "seccomp-policy", "shm-size-systemd", "subgidname",
		"subuidname", "systemd", "timeout", "tz", "uidmap", "umask", "unsetenv", "variant", "verify", "cosign-certificate-identity", "cpu-weight",
		"network-alias",
	}, name)
}
