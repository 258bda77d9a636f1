package threats

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/safe-run/safe-run/tests/imagekit"
)

// hostileUsers: USER, and the passwd and group it is looked up in.
func hostileUsers() (rows []hostile) {
	add := func(h hostile) { rows = append(rows, h) }
	for _, u := range []string{
		"2147483648", "4294967296", "4294967295:0", "-1", "0x0", "1e1", " 0", "+0", "00", "0:-1", "0:4294967296", "65536", "0:65536",
		"18446744073709551616", "99999999999999999999", "no-such-user", "user:no-such-group", "a:b:c", ":", "user\x00root", "user\nroot",
		"\x1b[31mroot", "root ", "0\t", "\uff10", strings.Repeat("9", 100_000),
	} {
		add(hostile{name: fmt.Sprintf("user: %.30q", u), image: as(u), want: unrun})
	}
	passwd := func(lines string) func(*imagekit.Image) { return withFiles(imagekit.File("etc/passwd", 0o644, lines)) }
	add(hostile{
		name: "user: a number that is a name of root in passwd", want: unrun,
		image: allOf(as("99999999999999999999"), passwd("99999999999999999999:x:0:0::/:/bin/sh\n")),
	})
	for what, line := range map[string]string{
		"no numbers": "evil:x:zero:zero::/:/bin/sh\n", "negative": "evil:x:-1:-1::/:/bin/sh\n", "wraps": "evil:x:4294967296:4294967296::/:/bin/sh\n",
		"nobody has": "evil:x:4294967295:4294967295::/:/bin/sh\n", "hex": "evil:x:0x0:0x0::/:/bin/sh\n", "empty": "evil:x:::::\n",
	} {
		add(hostile{name: "passwd: ids, " + what, image: allOf(as("evil"), passwd(line)), want: unrun})
	}
	id := []string{"id", "-u"}
	for what, entry := range map[string]imagekit.Entry{
		"a link to the host's shadow":  imagekit.Symlink("etc/passwd", "/etc/shadow"),
		"a link out of the root":       imagekit.Symlink("etc/passwd", strings.Repeat("../", 30)+"etc/passwd"),
		"a link to the environment":    imagekit.Symlink("etc/passwd", "/proc/self/environ"),
		"a link to a descriptor":       imagekit.Symlink("etc/passwd", "/proc/self/fd/7"),
		"a link to itself":             imagekit.Symlink("etc/passwd", "passwd"),
		"a FIFO":                       {Path: "etc/passwd", Type: '6', Mode: 0o644},
		"a device":                     imagekit.Device("etc/passwd", 'c', 1, 5, 0o666),
		"64 MiB":                       {Path: "etc/passwd", Mode: 0o644, Zeros: 64 << 20},
		"without a line end, with NUL": imagekit.File("etc/passwd", 0o644, "daemon\x00:x:0:0::/:/bin/sh"),
	} {
		add(hostile{name: "passwd: " + what, image: allOf(as("daemon"), withFiles(entry)), args: id, want: unrun})
	}
	for what, body := range map[string]func() string{
		"one line of ten million": func() string { return strings.Repeat("x", 10_000_000) + ":x:0:0::/:\n" },
		"a million lines":         func() string { return strings.Repeat("x:x:1:1::\n", 1_000_000) },
	} {
		add(hostile{name: "passwd: " + what, want: unrun, image: func(img *imagekit.Image) { allOf(as("daemon"), passwd(body()))(img) }})
	}
	add(hostile{name: "passwd: a directory", image: allOf(as("daemon"), replaced(imagekit.Dir("etc/passwd", 0o755))), want: unrun})
	add(hostile{
		name: "passwd: an odd home", want: unrunOrInert, args: []string{"sh", "-c", "echo RAN"}, check: printed("RAN\n"),
		image: allOf(as("evil"), passwd("evil:x:1000:1000:\x1b]0;x\x07:/\x1b[2J/../../proc/self/fd/7:/bin/sh\n")),
	})
	for what, body := range map[string]func() string{
		"a million members": func() string {
			var members strings.Builder
			for i := range 1_000_000 {
				fmt.Fprintf(&members, ",u%d", i)
			}
			return "wheel:x:10:user" + members.String() + "\n"
		},
		"a hundred thousand":   func() string { return strings.Repeat("g:x:7:user\n", 100_000) },
		"groups nobody maps":   func() string { return "g:x:4294967295:user\nh:x:-1:user\ni:x:99999999999:user\n" },
		"a line without an id": func() string { return "wheel:x\n:::\nroot\n" },
	} {
		add(hostile{name: "group: " + what, args: id, want: unrunOrInert, check: printed("1000\n"), image: func(img *imagekit.Image) {
			allOf(as("user"), withFiles(imagekit.File("etc/group", 0o644, body())))(img)
		}})
	}
	add(hostile{name: "group: a FIFO", image: allOf(as("user:wheel"), withFiles(imagekit.Entry{Path: "etc/group", Type: '6', Mode: 0o644})), want: unrun})
	add(hostile{name: "group: a link to the host's", image: allOf(as("user:daemon"), withFiles(imagekit.Symlink("etc/group", "/etc/gshadow"))), want: unrun})
	return rows
}

// hostilePlaces: VOLUME and WORKDIR.
func hostilePlaces(s surroundings) (rows []hostile) {
	add := func(h hostile) { rows = append(rows, h) }
	volume := func(paths ...string) func(*imagekit.Image) {
		return configured(func(c *imagekit.Config) { c.Volumes = imagekit.Set(paths...) })
	}
	for _, v := range []string{
		"/proc", "/proc/self", "/sys", "/sys/fs/cgroup", "/dev", "/dev/pts", "/dev/shm/../../proc", "/", ".", "..", "//proc", "/x/../proc",
		"/./proc/", "proc", "/a\x00b", "/a\nb", "/\x1b[2J", "/" + strings.Repeat("x", 5000), "/" + strings.Repeat("x/", 3000),
	} {
		add(hostile{name: fmt.Sprintf("volume: %.30q", v), image: volume(v), want: unrun})
	}
	add(hostile{
		name: "volume: behind a link to the host", image: allOf(volume("/v"), withFiles(imagekit.Symlink("v", "/etc"))), want: unrunOrInert,
		args: []string{"sh", "-c", "cat /v/shadow /v/passwd | grep -v -e user: -e nobody: -e ^root:x:0:0:root:/root:/bin/sh$"}, check: without(":"),
	})
	add(hostile{name: "volume: behind a link to /proc", image: allOf(volume("/v/x"), withFiles(imagekit.Symlink("v", "/proc/self"))), want: unrun})
	add(hostile{name: "volume: behind a link out", image: allOf(volume("/v/made"), withFiles(imagekit.Symlink("v", strings.Repeat("../", 30)+s.dir))), want: unrunOrInert, check: printed("RAN\n")})
	add(hostile{
		name: "volume: content that leads out", want: unrunOrInert, args: []string{"sh", "-c", "cat /v/a /v/b/shadow /v/c; ls -R /v/b"}, check: without("root:", "shadow"),
		image: allOf(volume("/v"), withFiles(imagekit.Dir("v", 0o755), imagekit.Symlink("v/a", "/etc/shadow"), imagekit.Symlink("v/b", strings.Repeat("../", 30)+"etc"), imagekit.Symlink("v/c", "/proc/1/root/etc/shadow"))),
	})
	add(hostile{
		name: "volume: content with setuid bits and devices", want: unrunOrInert, args: []string{"sh", "-c", "find /v -perm /6000 -o -type b -o -type c -o -type p"}, check: printed(""),
		image: allOf(volume("/v"), withFiles(imagekit.Dir("v", 0o755), imagekit.Device("v/disk", 'b', 8, 0, 0o666), imagekit.Entry{Path: "v/pipe", Type: '6', Mode: 0o666}, imagekit.File("v/su", 0o6755, "#!/bin/sh\n"))),
	})
	add(hostile{name: "volume: over a file", image: volume("/etc/passwd"), want: unrun})
	add(hostile{name: "volume: inside of another", image: volume("/v", "/v/w", "/v/w/x"), want: unrunOrInert, check: printed("RAN\n")})
	add(hostile{name: "volume: relative", image: volume("relative"), want: unrunOrInert, check: printed("RAN\n")})
	var many []string
	for i := range 2000 {
		many = append(many, fmt.Sprint("/v", i))
	}
	add(hostile{name: "volume: two thousand", image: volume(many...), want: unloaded, says: "2000 volumes"})

	workdir := func(w string) func(*imagekit.Image) { return configured(func(c *imagekit.Config) { c.WorkingDir = w }) }
	for _, w := range []string{
		"/proc/self/fd/3", "/proc/self/fd/7", "/proc/self/fd/8", "/dev/fd/7", "/proc/1/cwd", "/proc/self/../self/cwd", "/sys", "/dev/../proc/self/fd/9",
		"relative", "/a\x00b", "/\x1b[2J", "../..", "/etc/passwd", "/" + strings.Repeat("x", 5000),
	} {
		add(hostile{name: fmt.Sprintf("workdir: %.30q", w), image: workdir(w), want: unrun})
	}
	for what, link := range map[string]string{"a descriptor": "/proc/self/fd/8", "another's root": "/proc/1/root", "itself": "w", "the kernel's files": "../../sys/kernel"} {
		add(hostile{name: "workdir: a link to " + what, image: allOf(workdir("/w"), withFiles(imagekit.Symlink("w", link))), want: unrun})
	}
	add(hostile{
		name: "workdir: below a link to the host", want: unrunOrInert, check: printed("RAN\n"),
		image: allOf(workdir("/a/b/c"), withFiles(imagekit.Symlink("a", s.dir))),
	})
	add(hostile{
		name: "workdir: below a link out", want: unrunOrInert, check: printed("RAN\n"),
		image: allOf(workdir("/a/b/c"), withFiles(imagekit.Symlink("a", strings.Repeat("../", 30)+s.dir))),
	})
	add(hostile{name: "workdir: a FIFO", image: allOf(workdir("/w"), withFiles(imagekit.Entry{Path: "w", Type: '6', Mode: 0o644})), want: unrun})
	return rows
}

// hostileWords: command, environment, labels, and what else a configuration has.
func hostileWords(s surroundings) (rows []hostile) {
	add := func(h hostile) { rows = append(rows, h) }
	config := func(name string, w fate, edit func(c *imagekit.Config)) *hostile {
		rows = append(rows, hostile{name: name, image: configured(edit), want: w})
		return &rows[len(rows)-1]
	}
	config("command: NUL", unrun, func(c *imagekit.Config) { c.Entrypoint = []string{"/bin/sh\x00x"} })
	config("command: escape codes", unrun, func(c *imagekit.Config) {
		c.Entrypoint = []string{"/bin/\x1b]52;c;ZXZpbA==\x07"}
		c.Labels = map[string]string{"\x1b[2J": "\x1b[31m"}
	}).args = []string{}
	config("command: the empty word", unrunOrInert, func(c *imagekit.Config) { c.Entrypoint = []string{""} }).check = printed("RAN\n")
	config("command: a directory", unrun, func(c *imagekit.Config) { c.Entrypoint = []string{"/etc"} })
	config("command: up and out", unrun, func(c *imagekit.Config) { c.Entrypoint = []string{strings.Repeat("../", 30) + "bin/bash"} })
	config("command: five thousand words", unloaded, func(c *imagekit.Config) { c.Cmd = strings.Split(strings.Repeat("x ", 5000), " ") })
	config("command: a word of a megabyte", unrun, func(c *imagekit.Config) { c.Entrypoint = []string{"/bin/echo", strings.Repeat("x", 1<<20)} })
	// The runtime's own program, if a container can name it (CVE-2019-5736).
	config("command: /proc/self/exe", unrunOrInert, func(c *imagekit.Config) { c.Entrypoint = []string{"/proc/self/exe"} }).args = []string{"--version"}
	add(hostile{
		name: "command: a script for /proc/self/exe", want: unrunOrInert, args: []string{"/evil"}, check: without("runc"),
		image: withFiles(imagekit.File("evil", 0o755, "#!/proc/self/exe\n")),
	})

	config("environment: NUL", unrun, func(c *imagekit.Config) { c.Env = []string{"A=b\x00c"} })
	config("environment: a control character in a name", unrun, func(c *imagekit.Config) { c.Env = []string{"A\x1b[2J=b"} })
	config("environment: five thousand", unloaded, func(c *imagekit.Config) {
		for i := range 5000 {
			c.Env = append(c.Env, fmt.Sprintf("V%d=x", i))
		}
	})
	config("environment: a megabyte", unrun, func(c *imagekit.Config) { c.Env = []string{"A=" + strings.Repeat("x", 1<<20)} })
	for _, entry := range []string{"THREATS_SECRET", "*", "THREATS*", "THREATS_*=", "=x", ""} {
		h := config(fmt.Sprintf("environment: the caller's by %q", entry), unrunOrInert, func(c *imagekit.Config) { c.Env = []string{entry} })
		h.env, h.args, h.check = []string{"THREATS_SECRET=" + s.secret}, []string{"env"}, without(s.secret)
	}
	h := config("environment: for somebody's loader", unrunOrInert, func(c *imagekit.Config) {
		c.Env = []string{"LD_PRELOAD=/evil.so", "LD_AUDIT=/evil.so", "GODEBUG=x", "GOTRACEBACK=crash", "BASH_ENV=/evil", "PATH=/evil:/bin", "IFS=R", "NOTIFY_SOCKET=@x", "LISTEN_FDS=3"}
	})
	h.flags, h.check = []string{"--init"}, printed("RAN\n")
	config("environment: of the runtime", unrunOrInert, func(c *imagekit.Config) {
		c.Env = []string{"_LIBCONTAINER_INITTYPE=setns", "_LIBCONTAINER_INITPIPE=3", "_LIBCONTAINER_LOGPIPE=4", "_LIBCONTAINER_STATEDIR=/", "PATH=/bin"}
	}).check = printed("RAN\n")

	h = config("labels: that steer launchers", inert, func(c *imagekit.Config) {
		c.Labels = map[string]string{
			"containerd.io/restart.loguri": "binary:///bin/touch?" + s.marker, "containerd.io/restart.status": "running",
			"io.containers.capabilities": "ALL", "safe-run/privileged": "true", "io.containers.seccomp": `{"defaultAction":"SCMP_ACT_ALLOW"}`,
			"nerdctl/extraHosts": "[]", "com.docker.compose.project": "x", "run": "--privileged -v /:/host", "io.cri-containerd.kind": "sandbox",
		}
	})
	h.args, h.check = []string{"sh", "-c", "grep -c 'Cap[A-Z][a-z]*:.0000000000000000' /proc/self/status; ls /host 2>/dev/null; true"}, printed("5\n")
	config("labels: a million", unloaded, func(c *imagekit.Config) {
		c.Labels = map[string]string{}
		for i := range 1_000_000 {
			c.Labels[fmt.Sprint(i)] = ""
		}
	})
	config("labels: two thousand", unloaded, func(c *imagekit.Config) {
		c.Labels = map[string]string{}
		for i := range 2000 {
			c.Labels[fmt.Sprint(i)] = ""
		}
	})
	config("labels: a megabyte in one", unrun, func(c *imagekit.Config) { c.Labels = map[string]string{"x": strings.Repeat("x", 1<<20)} })
	config("labels: NUL", unrun, func(c *imagekit.Config) { c.Labels = map[string]string{"x": "\x00"} })

	for _, sig := range []string{"999", "0", "-1", "65", "SIGFOO", "9; rm", "KILL\x1b[2J", "15\x00", "RTMAX+9", " 9"} {
		config(fmt.Sprintf("stop signal: %q", sig), unrun, func(c *imagekit.Config) { c.StopSignal = sig })
	}
	for _, port := range []string{"0/tcp", "65536/tcp", "80/evil", "90-80/tcp", "x", "-1", "80/tcp\x1b[2J", "", "1e3", "99999999999999999999"} {
		config(fmt.Sprintf("port: %q", port), unrun, func(c *imagekit.Config) { c.ExposedPorts = imagekit.Set(port) })
	}
	config("port: all", unrunOrInert, func(c *imagekit.Config) { c.ExposedPorts = imagekit.Set("1-65535/tcp", "1-65535/udp") }).check = printed("RAN\n")
	config("port: all, published", unrunOrInert, func(c *imagekit.Config) { c.ExposedPorts = imagekit.Set("1-65535/tcp", "1-65535/udp") }).flags = []string{"-P"}
	for what, check := range map[string]imagekit.Healthcheck{
		"no command":      {Test: []string{"CMD"}},
		"of another kind": {Test: []string{"EVIL", "x"}},
		"NUL":             {Test: []string{"CMD", "/bin/sh\x00x"}},
		"negative":        {Test: []string{"CMD", "true"}, Interval: -time.Second},
		"every ns":        {Test: []string{"CMD", "true"}, Interval: 1},
		"retries":         {Test: []string{"CMD", "true"}, Retries: -1},
		"escape codes":    {Test: []string{"\x1b[2J"}},
		"long":            {Test: []string{"CMD-SHELL", strings.Repeat("x", 1<<20)}},
	} {
		config("health check: "+what, unrun, func(c *imagekit.Config) { c.Healthcheck = &check })
	}
	config("health check: that never ends, at once", inert, func(c *imagekit.Config) {
		c.Healthcheck = &imagekit.Healthcheck{Test: []string{"CMD-SHELL", "yes; sleep 1d"}, Interval: time.Millisecond, Timeout: 24 * time.Hour}
	}).check = printed("RAN\n")

	extended := func(name string, w fate, fields, inConfig string) *hostile {
		rows = append(rows, hostile{name: name, want: w, image: rawConfig(fields, inConfig)})
		return &rows[len(rows)-1]
	}
	extended("words: fields of a container", inert, `"HostConfig":{"Privileged":true,"Binds":["/:/host"],"CapAdd":["ALL"]},"process":{"capabilities":{}}`,
		`"HostConfig":{"Privileged":true},"Privileged":true,"CapAdd":["ALL"],"SecurityOpt":["seccomp=unconfined"],"Tty":true,"OnBuild":["RUN x"],"ArgsEscaped":true,"MacAddress":"x","NetworkDisabled":false,"Memory":1`).
		check = printed("RAN\n")
	extended("words: of the wrong type", unloaded, `"x":1`, `"Env":{"A":"b"}`)
	extended("words: a number for the user", unloaded, `"x":1`, `"User":0`)
	extended("words: SHELL of nothing", unrunOrInert, `"x":1`, `"Shell":["",""],"Healthcheck":{"Test":["CMD-SHELL","x"]}`).check = printed("RAN\n")
	extended("words: SHELL with NUL", unrun, `"x":1`, `"Shell":["/bin/sh\u0000"]`)
	extended("words: not UTF-8", unrunOrInert, `"author":"`+"\xff\xfe\x80"+`"`, `"Labels":{"x":"`+"\xc0\x80"+`"}`).check = printed("RAN\n")
	extended("words: a date of no year", unrunOrInert, `"created":"0000-00-00T00:00:00Z"`, `"Cmd":null`)
	extended("words: history of a hundred thousand", unloaded, `"history":[{}`+strings.Repeat(",{}", 100_000)+`]`, `"Cmd":null`)
	return rows
}

// rawConfig writes fields into the configuration, and into the "config" of it,
// that no type here has; before what is there, so that both are given.
func rawConfig(fields, inConfig string) func(*imagekit.Image) {
	return func(img *imagekit.Image) {
		b, err := imagekit.Build(*img)
		if err != nil {
			panic(err)
		}
		raw := bytes.Replace(b.Blobs[b.Config], []byte(`"config":{`), []byte(`"config":{`+inConfig+`,`), 1)
		img.RawConfig = append([]byte(`{`+fields+`,`), raw[1:]...)
		if !json.Valid(raw) && !strings.Contains(inConfig, "\xc0") {
			panic(filepath.Base(string(raw)))
		}
	}
}
