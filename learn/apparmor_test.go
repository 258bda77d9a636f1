package learn

import (
	"fmt"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/profiles"
)

func rulesText(rules []profiles.AppArmorFile) string {
	var lines []string
	for _, r := range rules[2:] { // after those of every recording
		lines = append(lines, r.Path+" "+r.Access)
	}
	return strings.Join(lines, "\n")
}

func wrote(path string) PathUse { return PathUse{Path: path, Write: true, Syscall: "openat", Count: 1} }

func TestAppArmorRules(t *testing.T) {
	many := func(format string, n int) (out []PathUse) {
		for i := range n {
			out = append(out, wrote(fmt.Sprintf(format, i)))
		}
		return out
	}
	for _, c := range []struct {
		name string
		rec  Recording
		want string
	}{
		{"nothing", Recording{}, ""},
		{"a server", Recording{
			Paths: []PathUse{
				{Path: "/usr/sbin/nginx", Syscall: "execve"},
				wrote("/run/nginx.pid"),
				wrote("/dev/null"),
				wrote("/dev/pts/0"),
				{Path: "/var/lib/nginx/body", Write: true, Syscall: "mkdir"},
			},
			Sockets: []SocketUse{{Bind: true, Proto: "unix", Address: "/run/nginx.sock"}, {Proto: "tcp", Address: "127.0.0.1:80"}, {Bind: true, Proto: "unix", Address: "@abstract"}},
		}, "/usr/sbin/nginx mrix\n/run/nginx.pid rwlk\n/run/nginx.sock rwlk\n/var/lib/nginx/body rwlk\n/var/lib/nginx/body/ rwlk"},
		{"links", Recording{
			Paths: []PathUse{
				{Path: "/bin/sh", Syscall: "execve"},
				wrote("/var/run/app.pid"),
				{Path: "/bin/mk", Write: true, Syscall: "mkdir"},
				wrote("/proc/thread-self/comm"),
				wrote("/proc/self/fd/1"),
				wrote("/dev/stdout"),
			},
			Links: map[string]string{"/bin": "/usr/bin", "/bin/sh": "/usr/bin/dash", "/var/run": "/run", "/var/run/app.pid": "/run/app.pid", "/bin/mk": "/usr/bin/mk"},
		}, "/usr/bin/dash mrix\n/usr/bin/sh mrix\n/proc/*/task/*/comm rwlk\n/run/app.pid rwlk\n/usr/bin/mk rwlk\n/usr/bin/mk/ rwlk"},
		{"made by the runtime", Recording{
			Paths:   []PathUse{{Path: "/proc/self/exe", Syscall: "execve"}},
			Written: []Written{{Path: "/etc/hosts"}, {Path: "/mnt", Dir: true}, {Path: "/mnt/own"}},
			Had:     Had{Mounts: []specs.Mount{{Destination: "/etc/hosts"}, {Destination: "/mnt"}}},
		}, "/mnt/own rwlk"},
		{"without a name", Recording{Paths: []PathUse{wrote("/data/" + unnamed)}}, "/data/#* rwlk"},
		{"message queues", Recording{Syscalls: []SyscallUse{{Name: "mq_open", Count: 1}}}, "/* rwlk"},
		{"refused is not used", Recording{Paths: []PathUse{
			{Path: "/opt/x", Write: true, Syscall: "openat", Errno: unix.EROFS},
			{Path: "/bin/y", Syscall: "execve", Errno: unix.EACCES},
		}}, ""},
		{"many files", Recording{Paths: many("/var/cache/app/file%d", 20)}, "/var/cache/app/** rwlk"},
		{"many directories", Recording{Paths: many("/var/lib/db/base/%d/x", 20)}, "/var/lib/db/base/** rwlk"},
		{"a tree and its directory", Recording{Paths: many("/data/%d", 9), Written: []Written{{Path: "/data", Dir: true}}}, "/data/ rwlk\n/data/** rwlk"},
		{"temporary", Recording{Paths: []PathUse{wrote("/tmp/a"), wrote("/var/tmp/b/c"), wrote("/dev/shm/sem.x")}}, "/dev/shm/** rwlk\n/tmp/** rwlk\n/var/tmp/** rwlk"},
		{"names of one run", Recording{Paths: []PathUse{
			wrote("/proc/41/oom_score_adj"), wrote("/proc/self/task/17/comm"), wrote("/var/log/app/log-20240611.txt"),
			wrote("/var/lib/app/upload.aB3xY9"), wrote("/var/lib/app/tmpQ7x2Zk"), wrote("/var/lib/app/settings.json"), wrote("/var/lib/app/state.db-journal"),
		}}, "/proc/*/oom_score_adj rwlk\n/proc/*/task/*/comm rwlk\n/var/lib/app/settings.json rwlk\n/var/lib/app/state.db-journal rwlk\n" +
			"/var/lib/app/tmp* rwlk\n/var/lib/app/upload.* rwlk\n/var/log/app/log-*.txt rwlk"},
		{"hostile names", Recording{Paths: []PathUse{
			wrote("/srv/a\" rwklx,\nchange_profile,"), wrote("/srv/@{HOME}"), wrote("relative"), wrote(""), wrote("/x/\x1b/\xff/{a,b}/c"), wrote("/srv/../etc/passwd"),
			wrote("/y/" + strings.Repeat("z/", 1000)), wrote("/" + strings.Repeat("*/", 9)),
		}}, "/etc/passwd rwlk\n/srv/* rwlk\n/x/*/** rwlk\n/y/z/z"},
		{"scripts", Recording{Paths: func() (out []PathUse) {
			for i := range maxExecuted + 1 {
				out = append(out, PathUse{Path: fmt.Sprintf("/usr/bin/tool%c%d", 'a'+i%26, i), Syscall: "execve"})
			}
			return out
		}()}, "/usr/bin/* mrix"},
	} {
		got := AppArmorRules(c.rec)
		if text := rulesText(got); text != c.want && (c.name != "hostile names" || !strings.HasPrefix(text, c.want)) {
			t.Errorf("%s:\n%s\nnot\n%s", c.name, text, c.want)
		}
		if _, err := profiles.NarrowAppArmor(profiles.AppArmorUse{Files: got}, nil, ""); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// Whatever was recorded, there are rules, and they can be loaded.
func TestAppArmorRulesOfMuch(t *testing.T) {
	for _, format := range []string{"/d%[1]d/e%[1]d/f%[2]d", "/f%[2]d%[1]d", "/etc/a%[1]d/b/c%[2]d", "/w/%[1]d/%[2]d/x"} {
		var rec Recording
		for i := range 4000 {
			rec.Paths = append(rec.Paths, wrote(fmt.Sprintf(format, i%999, i)), PathUse{Path: fmt.Sprintf("/x%d/%d", i%500, i), Syscall: "execve"})
		}
		got := AppArmorRules(rec)
		if _, err := profiles.NarrowAppArmor(profiles.AppArmorUse{Files: got}, nil, ""); err != nil {
			t.Errorf("%s: %v", format, err)
		}
	}
}

func FuzzAppArmorRules(f *testing.F) {
	f.Add("/a/b", "/usr/bin/x", true)
	f.Add("/a\x00*/**/{}", "//..", false)
	f.Fuzz(func(t *testing.T, a, b string, dir bool) {
		rec := Recording{
			Paths:   []PathUse{wrote(a), {Path: b, Syscall: "execve"}, {Path: a + "/" + b, Write: true, Syscall: "mkdir"}},
			Written: []Written{{Path: b, Dir: dir}},
		}
		if _, err := profiles.NarrowAppArmor(profiles.AppArmorUse{Files: AppArmorRules(rec)}, nil, ""); err != nil {
			t.Error(err)
		}
	})
}
