package e2e

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/safe-run/safe-run/tests/imagekit"
)

// want is what must come of a hostile image.
type want int

const (
	refused  want = iota // not loaded: 1; or not started: 125, 126, 127; its program never runs
	harmless             // loaded and run, and what it tried has no effect (check)
	either               // refused or harmless
)

// hostile is one image made to hurt.
type hostile struct {
	name  string
	image func(*imagekit.Image) // changes a good busybox image
	args  []string              // beyond --rm; nil: `sh -c 'echo RAN'` is the command
	flags []string
	env   []string
	want  want
	check func(t *testing.T, r answer) // for harmless ones
}

// printed: the program ran and printed exactly that.
func printed(out string) func(*testing.T, answer) {
	return func(t *testing.T, r answer) {
		if r.code != 0 || r.stdout != out {
			t.Errorf("wanted stdout %q, got %s", out, r)
		}
	}
}

func config(edit func(*imagekit.Config)) func(*imagekit.Image) {
	return func(img *imagekit.Image) { edit(&img.Config) }
}

func files(entries ...imagekit.Entry) func(*imagekit.Image) {
	return func(img *imagekit.Image) { img.Layers = append(img.Layers, imagekit.Layer{Entries: entries}) }
}

// replaced takes a directory of the first layer away, for images that have
// something else in its place.
func replaced(entry imagekit.Entry) func(*imagekit.Image) {
	return func(img *imagekit.Image) {
		var kept []imagekit.Entry
		for _, e := range img.Layers[0].Entries {
			p := strings.TrimSuffix(e.Path, "/")
			if p != entry.Path && !strings.HasPrefix(p, entry.Path+"/") {
				kept = append(kept, e)
			}
		}
		img.Layers[0].Entries = append(kept, entry)
	}
}

func user(u string) func(*imagekit.Image) {
	return config(func(c *imagekit.Config) { c.User = u })
}

func volume(paths ...string) func(*imagekit.Image) {
	return config(func(c *imagekit.Config) { c.Volumes = imagekit.Set(paths...) })
}

func both(edits ...func(*imagekit.Image)) func(*imagekit.Image) {
	return func(img *imagekit.Image) {
		for _, e := range edits {
			e(img)
		}
	}
}

// corpus is the list; marker is a path on the host nobody may create, secret
// a value in the environment of safe-run.
func corpus(marker, secret string) []hostile {
	var rows []hostile
	add := func(h hostile) { rows = append(rows, h) }

	for _, u := range []string{
		"2147483648", "4294967296", "4294967295:0", "-1", "0x0", "1e1", " 0", "+0", "0:-1", "0:4294967296",
		"99999999999999999999", "no-such-user", "user:no-such-group", "a:b:c", "user\x00root",
	} {
		add(hostile{name: fmt.Sprintf("user %q", u), image: user(u), want: refused})
	}
	add(hostile{
		name: "a number that is a name of root in passwd", want: refused,
		image: both(user("99999999999999999999"), files(imagekit.File("etc/passwd", 0o644, "99999999999999999999:x:0:0::/:/bin/sh\n"))),
	})
	add(hostile{
		name: "passwd is a link to the host's shadow", image: both(user("daemon"), files(imagekit.Symlink("etc/passwd", "/etc/shadow"))), want: refused,
	})
	add(hostile{
		name: "passwd is a link out of the root", image: both(user("daemon"), files(imagekit.Symlink("etc/passwd", "../../../../../../../../etc/passwd"))), want: refused,
	})
	add(hostile{
		name: "passwd has ten million bytes in one line", image: both(user("user"), files(imagekit.Entry{Path: "etc/passwd", Mode: 0o644, Zeros: 64 << 20})), want: refused,
	})
	add(hostile{
		name: "passwd is a FIFO", image: both(user("user"), files(imagekit.Entry{Path: "etc/passwd", Type: '6', Mode: 0o644})), want: refused,
	})
	add(hostile{
		name: "passwd is a directory", image: both(user("user"), replaced(imagekit.Dir("etc/passwd", 0o755))), want: refused,
	})

	for _, v := range []string{"/proc", "/proc/self", "/sys", "/dev", "/", ".", "..", "//proc", "/x/../proc", "/dev/shm/../../proc", "/a\x00b", "/sys/fs/cgroup"} {
		add(hostile{name: fmt.Sprintf("volume %q", v), image: volume(v), want: refused})
	}
	add(hostile{
		name: "volume behind a link to the host", image: both(volume("/v"), files(imagekit.Symlink("v", "/etc"))), want: either,
		args: []string{"cat", "/v/hostname", "/v/shadow"},
		check: func(t *testing.T, r answer) {
			if strings.Contains(r.stdout, "root:") {
				t.Errorf("the host's files: %s", r)
			}
		},
	})

	add(hostile{name: "a relative volume", image: volume("relative"), want: either, check: printed("RAN\n")})

	for _, w := range []string{"/proc/self/fd/7", "/proc/self/fd/8", "/dev/fd/7", "/proc/1/cwd", "/sys", "relative", "/a\x00b", "../.."} {
		add(hostile{name: fmt.Sprintf("workdir %q", w), image: config(func(c *imagekit.Config) { c.WorkingDir = w }), want: refused})
	}
	add(hostile{
		name:  "workdir is a link to a descriptor",
		image: both(config(func(c *imagekit.Config) { c.WorkingDir = "/w" }), files(imagekit.Symlink("w", "/proc/self/fd/8"))), want: refused,
	})
	add(hostile{
		name: "workdir below a link to the host", want: either,
		image: both(config(func(c *imagekit.Config) { c.WorkingDir = "/a/b/c" }), files(imagekit.Symlink("a", filepath.Dir(marker)+"/made-by-workdir"))),
	})

	for _, d := range []string{"dev", "proc", "sys", "tmp", "run"} {
		add(hostile{
			name: "/" + d + " is a link", image: replaced(imagekit.Symlink(d, filepath.Dir(marker)+"/made-by-"+d)), want: either,
		})
	}
	add(hostile{name: "/etc is a link", image: replaced(imagekit.Symlink("etc", "/proc/self")), want: either})
	add(hostile{name: "/dev/null is a link to core_pattern", image: files(imagekit.Symlink("dev/null", "/proc/sys/kernel/core_pattern")), want: either})
	add(hostile{name: "/proc is a file", image: replaced(imagekit.File("proc", 0o644, "x")), want: refused})

	add(hostile{name: "NUL in the entrypoint", image: config(func(c *imagekit.Config) { c.Entrypoint = []string{"/bin/sh\x00x"} }), want: refused})
	add(hostile{name: "NUL in the environment", image: config(func(c *imagekit.Config) { c.Env = []string{"A=b\x00c"} }), want: refused})
	add(hostile{
		name: "environment that asks for the caller's", env: []string{"E2E_SECRET=" + secret}, args: []string{"env"},
		image: config(func(c *imagekit.Config) { c.Env = []string{"E2E_SECRET", "*", "E2E*", "E2E_*=", "=x", ""} }), want: either,
		check: func(t *testing.T, r answer) {
			if strings.Contains(r.stdout, secret) {
				t.Error("the image got a value of the caller's environment")
			}
		},
	})
	add(hostile{
		name:  "environment for somebody's loader",
		image: config(func(c *imagekit.Config) { c.Env = []string{"LD_PRELOAD=/evil.so", "NOTIFY_SOCKET=@x", "LISTEN_FDS=3"} }),
		flags: []string{"--init"}, want: either, check: printed("RAN\n"),
	})
	add(hostile{
		name: "labels that steer launchers", want: harmless, args: []string{"sh", "-c", "grep -c 'CapEff:.0000000000000000' /proc/self/status"},
		image: config(func(c *imagekit.Config) {
			c.Labels = map[string]string{
				"containerd.io/restart.loguri": "binary:///bin/touch?" + marker, "containerd.io/restart.status": "running",
				"io.containers.capabilities": "ALL", "safe-run/privileged": "true", "io.containers.seccomp": `{"defaultAction":"SCMP_ACT_ALLOW"}`,
				"nerdctl/extraHosts": "[]", "com.docker.compose.project": "x", "run": "--privileged -v /:/host",
			}
		}),
		check: printed("1\n"),
	})
	add(hostile{
		name: "annotations of the manifest", want: harmless, check: printed("RAN\n"),
		image: func(img *imagekit.Image) {
			img.EditManifest = func(m *ocispec.Manifest) {
				m.Annotations = map[string]string{"run.oci.handler": "x", "org.systemd.property.TasksMax": "uint64 99999"}
			}
		},
	})
	for _, s := range []string{"999", "SIGFOO", "9; rm", "-1"} {
		add(hostile{name: fmt.Sprintf("stop signal %q", s), image: config(func(c *imagekit.Config) { c.StopSignal = s }), want: either})
	}
	add(hostile{
		name: "escape codes in names", want: refused, args: []string{},
		image: config(func(c *imagekit.Config) {
			c.Entrypoint = []string{"/bin/\x1b]52;c;ZXZpbA==\x07"}
			c.Labels = map[string]string{"\x1b[2J": "\x1b[31m"}
		}),
	})

	add(hostile{
		name: "setuid root", args: []string{"/setuid/busybox", "id", "-u"}, flags: []string{"-u", "1000"}, want: harmless, check: printed("1000\n"),
		image: func(img *imagekit.Image) {
			for _, e := range img.Layers[0].Entries {
				if e.Path == "bin/busybox" {
					img.Layers = append(img.Layers, imagekit.Layer{Entries: []imagekit.Entry{imagekit.Dir("setuid", 0o755), {Path: "setuid/busybox", Mode: 0o4755, Body: e.Body}}})
				}
			}
		},
	})
	add(hostile{
		name: "device nodes in a layer", args: []string{"sh", "-c", "cat /disk /mem >/dev/null 2>&1 || echo denied"}, want: either, check: printed("denied\n"),
		image: files(imagekit.Device("disk", 'b', 8, 0, 0o666), imagekit.Device("mem", 'c', 1, 1, 0o666)),
	})
	for name, e := range map[string]imagekit.Entry{
		"dot dot in a layer":           imagekit.File("../../../../../../../.."+marker, 0o644, "x"),
		"absolute path in a layer":     imagekit.File(marker, 0o644, "x"),
		"hard link out of a layer":     imagekit.Hardlink("stolen", "../../../../../../../../../etc/shadow"),
		"absolute hard link":           imagekit.Hardlink("stolen", "/etc/shadow"),
		"opaque directory of overlay":  {Path: "d/", Type: '5', Mode: 0o755, Xattrs: map[string]string{"trusted.overlay.opaque": "y"}},
		"redirect of overlay":          {Path: "e/", Type: '5', Mode: 0o755, Xattrs: map[string]string{"trusted.overlay.redirect": "/../../../../etc"}},
		"file capability":              {Path: "capable", Mode: 0o755, Body: []byte("#!/bin/sh\n"), Xattrs: map[string]string{"security.capability": "\x01\x00\x00\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"}},
		"whiteout of the whole system": imagekit.File(".wh..wh..opq", 0o644, ""),
	} {
		add(hostile{
			name: name, image: files(e), want: either, args: []string{"/bin/sh", "-c", "cat /stolen; ls -A /e; true"},
			check: func(t *testing.T, r answer) {
				if strings.Contains(r.stdout, "root:") || strings.Contains(r.stdout, "passwd") {
					t.Errorf("the host's files: %s", r)
				}
			},
		})
	}
	add(hostile{
		name: "a file behind a link to the host", want: either,
		image: files(imagekit.Symlink("out", filepath.Dir(marker)), imagekit.File("out/"+filepath.Base(marker), 0o644, "x")),
	})

	// Documents. The layer that is wrong must be one the store has not seen:
	// layers are known by their content and unpacked once.
	fresh := imagekit.Layer{Entries: []imagekit.Entry{imagekit.File("fresh", 0o644, rand.Text())}}
	add(hostile{name: "config is not JSON", image: func(img *imagekit.Image) { img.RawConfig = []byte("{") }, want: refused})
	add(hostile{name: "config is empty", image: func(img *imagekit.Image) { img.RawConfig = []byte("{}") }, want: refused})
	add(hostile{name: "config is null", image: func(img *imagekit.Image) { img.RawConfig = []byte("null") }, want: refused})
	add(hostile{name: "config is huge", image: func(img *imagekit.Image) {
		img.RawConfig = append(append([]byte(`{"architecture":"amd64","os":"linux","x":"`), bytes.Repeat([]byte("x"), 16<<20)...), `"}`...)
	}, want: refused})
	add(hostile{name: "a million labels", image: config(func(c *imagekit.Config) {
		c.Labels = map[string]string{}
		for i := range 1_000_000 {
			c.Labels[fmt.Sprint(i)] = ""
		}
	}), want: refused})
	add(hostile{name: "five thousand layers", image: func(img *imagekit.Image) {
		img.EditManifest = func(m *ocispec.Manifest) {
			for range 5000 {
				m.Layers = append(m.Layers, m.Layers[0])
			}
		}
	}, want: refused})
	add(hostile{name: "manifest is huge", image: func(img *imagekit.Image) {
		img.EditManifest = func(m *ocispec.Manifest) {
			m.Annotations = map[string]string{"x": strings.Repeat("x", 16<<20)}
		}
	}, want: refused})
	add(hostile{name: "a layer that is no tar", image: func(img *imagekit.Image) {
		junk := make([]byte, 4096)
		_, _ = rand.Read(junk)
		img.Layers = append(img.Layers, imagekit.Layer{Raw: junk})
	}, want: refused})
	add(hostile{name: "a layer with another content than it says", image: func(img *imagekit.Image) {
		img.Layers = append(img.Layers, imagekit.Layer{Entries: []imagekit.Entry{imagekit.Dir("x", 0o755)}, DiffID: digest.FromString("x")})
	}, want: refused})
	add(hostile{name: "a size that is not true", image: func(img *imagekit.Image) {
		img.Layers = append(img.Layers, fresh)
		img.EditManifest = func(m *ocispec.Manifest) { m.Layers[1].Size++ }
	}, want: refused})
	add(hostile{name: "a layer that is not there", image: func(img *imagekit.Image) {
		img.Layers = append(img.Layers, fresh)
		img.EditManifest = func(m *ocispec.Manifest) { m.Layers[1].Digest = digest.FromString("gone") }
	}, want: refused})
	add(hostile{name: "a negative size", image: func(img *imagekit.Image) {
		img.Layers = append(img.Layers, fresh)
		img.EditManifest = func(m *ocispec.Manifest) { m.Layers[1].Size = -1 }
	}, want: refused})
	add(hostile{name: "a layer of an unknown kind", image: func(img *imagekit.Image) {
		img.Layers = append(img.Layers, fresh)
		img.EditManifest = func(m *ocispec.Manifest) { m.Layers[1].MediaType = "application/x-evil" }
	}, want: refused})
	add(hostile{name: "a checkpoint", image: func(img *imagekit.Image) {
		img.ConfigMediaType = "application/vnd.oci.image.config.v1+json+checkpoint"
	}, want: refused})
	add(hostile{name: "another architecture", image: func(img *imagekit.Image) { img.Platform = ocispec.Platform{OS: "linux", Architecture: "s390x"} }, want: refused})
	add(hostile{name: "another system", image: func(img *imagekit.Image) { img.Platform = ocispec.Platform{OS: "windows", Architecture: "amd64"} }, want: refused})
	add(hostile{name: "gigabytes of zeros in kilobytes", image: func(img *imagekit.Image) {
		img.Layers = append(img.Layers, imagekit.Layer{Compression: "zstd", Entries: []imagekit.Entry{{Path: "bomb", Mode: 0o644, Zeros: 3 << 30}}})
	}, want: refused})
	return rows
}

// TestHostileImages loads and runs each image of the corpus.
func TestHostileImages(t *testing.T) {
	dir := tempDir(t)
	marker := filepath.Join(dir, "marker")
	const secret = "f00dcafe-secret"
	good, err := imagekit.Busybox("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	before := take(t)
	for i, h := range corpus(marker, secret) {
		t.Run(h.name, func(t *testing.T) {
			name := fmt.Sprintf("hostile-%d:latest", i)
			img := good
			img.Name = name
			img.Layers = []imagekit.Layer{{Entries: append([]imagekit.Entry(nil), good.Layers[0].Entries...)}}
			h.image(&img)
			archive := filepath.Join(dir, "image.tar")
			built, err := imagekit.Build(img)
			if err != nil {
				t.Fatal(err)
			}
			var tar bytes.Buffer
			if err := imagekit.WriteOCI(&tar, built); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(archive, tar.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			r := call(request{args: []string{"load", "--quiet", "-i", archive}, timeout: time.Minute})
			defer run("rmi", name)
			loaded := r.code == 0
			if loaded {
				args := h.args
				if args == nil {
					args = []string{"sh", "-c", "echo RAN"}
				}
				r = call(request{
					args: append(append(append([]string{"--rm", "--pull", "never"}, h.flags...), name), args...),
					env:  h.env, timeout: time.Minute,
				})
			}
			if strings.Contains(r.stderr+r.stdout, "\x1b") {
				t.Errorf("escape codes reach the terminal: %q", r.stderr)
			}
			if strings.Contains(r.stderr, "panic") || r.code == 2 {
				t.Errorf("a crash: %s", r)
			}
			isRefusal := !loaded && r.code == 1 || r.code == 125 || r.code == 126 || r.code == 127
			switch {
			case h.want == refused && (!isRefusal || strings.Contains(r.stdout, "RAN")):
				t.Errorf("wanted a refusal, got %s", r)
			case h.want == harmless && !loaded:
				t.Errorf("not loaded: %s", r)
			case r.code == -1:
				t.Errorf("hangs: %s", r)
			}
			if !isRefusal && h.check != nil {
				h.check(t, r)
			}
			made, _ := filepath.Glob(filepath.Join(dir, "m*"))
			if len(made) > 0 {
				t.Errorf("made on the host: %v", made)
				for _, m := range made {
					os.RemoveAll(m)
				}
			}
		})
	}
	same(t, before, take(t))
}
