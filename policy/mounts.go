package policy

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/safe-run/safe-run/spec"
)

// target is a place inside the container nothing of the user's may cover.
type target struct {
	path  string
	below bool // what lies below as well
	why   string
}

func targets() []target {
	return []target{
		{"/proc", true, "it would cover the masks over the kernel's files, or be covered by them"},
		{"/sys", true, "it would cover the masks over the kernel's files, or be covered by them"},
		{"/dev", true, "a false device node there turns the masks over the kernel's files into a way to them"},
		{"/etc/ld.so.preload", false, "the file is code in every program of the container, health checks and exec included"},
		{"/sbin/docker-init", false, "the init of --init is mounted there"},
		{"/.dockerenv", false, "programs tell by it that they are in a container"},
	}
}

// badTarget judges the place of a mount, or a working directory.
func badTarget(p string) (why string, bad bool) {
	clean := path.Clean(p)
	switch {
	case !strings.HasPrefix(p, "/"):
		return "it is not an absolute path", true
	case strings.ContainsFunc(p, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return "its name has control characters", true
	case clean == "/":
		return "it would replace the whole root filesystem of the image", true
	case relate(clean, "/dev/shm") == same || relate(clean, "/dev/shm") == inside:
		return "", false // ordinary shared memory
	}
	for _, t := range targets() {
		rel := relate(clean, t.path)
		if rel == same || rel == inside && t.below {
			return t.why, true
		}
	}
	return "", false
}

// eachMount makes a check of one that looks at a single mount.
func eachMount(judge func(r *Request, m spec.Mount) (Finding, bool)) func(*Request) []Finding {
	return func(r *Request) (found []Finding) {
		for _, m := range r.Workload.Mounts {
			if f, hit := judge(r, m); hit {
				f.Flag = either(f.Flag, mountFlag(m))
				found = append(found, f)
			}
		}
		return found
	}
}

func mountRules() []Rule {
	return []Rule{
		{
			ID: "mount-target", Title: "Places inside that must stay as they are",
			GivesAway: "the protection of the kernel's files inside the container",
			SaferWay:  "mount it at a directory of its own, as /data",
			Check: eachMount(func(_ *Request, m spec.Mount) (Finding, bool) {
				why, bad := badTarget(m.Target)
				return Finding{Why: why}, bad
			}),
		},
		{
			ID: "mount-propagation", Title: "Mounts that travel",
			GivesAway: "mounts made on one side appear on the other",
			SaferWay:  "leave it out: rprivate is the default",
			Check: eachMount(func(_ *Request, m spec.Mount) (Finding, bool) {
				p := mode(m.Propagation)
				return Finding{Flag: mountFlag(m) + " (" + shown(m.Propagation) + ")"}, p != "" && p != "rprivate" && p != "private"
			}),
		},
		{
			ID: "mount-relabel", Title: "Relabelling host files",
			GivesAway: "the SELinux labels of files of the host, for good",
			SaferWay:  "use a named volume (it has the right label), or label the directory by hand: chcon -t container_file_t",
			Check: eachMount(func(r *Request, m spec.Mount) (Finding, bool) {
				// Without SELinux there is no label to change: the option is void.
				known := m.Relabel == "z" || m.Relabel == "Z"
				bad := m.Relabel != "" && (!known || m.Type == spec.MountBind && r.Host.SELinux)
				return Finding{Flag: mountFlag(m) + " (" + shown(m.Relabel) + ")"}, bad
			}),
		},
		{
			ID: "mount-chown", Title: "Changing the owner of host files",
			GivesAway: "the ownership of every file below the source",
			SaferWay:  "leave it out: ids on disk are the same ids inside",
			Check: eachMount(func(_ *Request, m spec.Mount) (Finding, bool) {
				return Finding{Flag: mountFlag(m) + " (U)"}, m.Chown
			}),
		},
		{
			ID: "volume-driver", Title: "Volume drivers and their options",
			GivesAway: "any path, device or remote share: a driver's options can name them, past all checks of binds",
			SaferWay:  "use a plain named volume, or bind the directory",
			Check: func(r *Request) (found []Finding) {
				driver := r.Workload.VolumeDriver
				found = append(found, when(driver != "" && driver != "local", Finding{Flag: "--volume-driver " + shown(driver)})...)
				return append(found, eachMount(func(_ *Request, m spec.Mount) (Finding, bool) {
					return Finding{Flag: mountFlag(m) + " (volume driver or volume-opt)"},
						len(m.DriverOpts) > 0 || m.Driver != "" && m.Driver != "local"
				})(r)...)
			},
		},
		{
			ID: "volumes-from", Title: "Mounts of another container",
			GivesAway: "every mount of that container, which the command line does not show",
			SaferWay:  "name the volumes that are needed: -v NAME:/DIR",
			Check: func(r *Request) (found []Finding) {
				for _, v := range r.Workload.VolumesFrom {
					found = append(found, Finding{Flag: "--volumes-from " + shown(v)})
				}
				return found
			},
		},
		{
			ID: "tmpfs-flags", Title: "Set-user-ID programs and devices on a tmpfs",
			GivesAway: "a writable place where privileged programs or device nodes can be planted",
			SaferWay:  "leave suid and dev out; exec is enough to run programs from there",
			Check: eachMount(func(_ *Request, m spec.Mount) (Finding, bool) {
				for _, flag := range m.Tmpfs.Flags {
					if f := mode(flag); f == "suid" || f == "dev" {
						return Finding{Flag: mountFlag(m) + " (" + f + ")"}, true
					}
				}
				return Finding{}, false
			}),
		},
		{
			ID: "tmpfs-size", Title: "Memory filesystems larger than the limits", Grant: "limits",
			GivesAway: "memory of the host beyond the container's limit",
			SaferWay:  "ask for less, or for more memory: --memory",
			Check: eachMount(func(r *Request, m spec.Mount) (Finding, bool) {
				return tmpfsSize(r, m)
			}),
		},
		{
			ID: "shm-size", Title: "Shared memory larger than the limits", Grant: "limits",
			GivesAway: "memory of the host beyond the container's limit",
			SaferWay:  "ask for less, or for more memory: --memory",
			Check: func(r *Request) []Finding {
				size := r.Workload.ShmSize
				if size == nil {
					return nil
				}
				f, bad := memorySize(r, *size, r.Site.Limits().MaxShm, "shm")
				f.Flag = "--shm-size " + units.BytesSize(float64(*size))
				return when(bad, f)
			},
		},
	}
}

// tmpfsSize judges both ways to give a size: bytes, and blocks of one page.
func tmpfsSize(r *Request, m spec.Mount) (Finding, bool) {
	if m.Type != spec.MountTmpfs {
		return Finding{}, false
	}
	sizes := []int64{m.Tmpfs.Size}
	if m.Tmpfs.SizePct > 100 || m.Tmpfs.SizePct < 0 {
		return Finding{Why: "more than all of its memory", Flag: mountFlag(m) + " (size=" + strconv.Itoa(m.Tmpfs.SizePct) + "%)"}, true
	}
	if m.Tmpfs.Inodes < 0 {
		return Finding{Why: "inodes without bounds", Flag: mountFlag(m) + " (nr_inodes)"}, true
	}
	for _, flag := range m.Tmpfs.Flags {
		key, value, _ := strings.Cut(flag, "=")
		if key = mode(key); key != "nr_blocks" && key != "size" && key != "nr_inodes" {
			continue
		}
		n, _ := units.RAMInBytes(value) // -1, if it is none
		if n <= 0 {
			// Zero is "without bounds" to the kernel (tmpfs(5)).
			return Finding{Why: "memory or inodes without bounds", Flag: mountFlag(m) + " (" + shown(flag) + ")"}, true
		}
		const page = 4096
		switch {
		case key == "nr_blocks" && n > 1<<50/page:
			n = 1 << 50
		case key == "nr_blocks":
			n *= page
		case key == "nr_inodes":
			continue
		}
		sizes = append(sizes, n)
	}
	f, bad := memorySize(r, slices.Max(sizes), r.Site.Limits().MaxTmpfs, "tmpfs")
	f.Flag = mountFlag(m) + " (size=" + units.BytesSize(float64(slices.Max(sizes))) + ")"
	return f, bad
}

// memorySize judges a filesystem in memory: not over the site's maximum, not
// over the memory limit in force.
func memorySize(r *Request, size, most int64, what string) (Finding, bool) {
	if most > 0 && size > most {
		return Finding{
			Why:  "more than the site's maximum of " + units.BytesSize(float64(most)),
			Need: Need{Key: "limits", Value: what + ": " + strconv.FormatInt(size, 10)},
		}, true
	}
	memory, limited := memoryLimit(r)
	if limited && size > memory {
		return Finding{
			Why:   "it could not be filled: the memory limit is " + units.BytesSize(float64(memory)),
			Safer: "raise the limit with it: --memory " + units.CustomSize("%.4g%s", float64(size), 1024, []string{"b", "k", "m", "g", "t", "p"}),
		}, true
	}
	return Finding{}, false
}

// memoryLimit is the limit the container will have; limited is false where it
// asks for none.
func memoryLimit(r *Request) (limit int64, limited bool) {
	if m := r.Workload.Resources.Memory; m != nil {
		return *m, *m > 0
	}
	l := r.Site.Limits()
	return l.Memory, l.Memory > 0
}
