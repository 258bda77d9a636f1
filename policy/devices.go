package policy

import (
	"io/fs"
	"path"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/spec"
)

// memoryDevices are the minors of major 1 that are the memory of the host:
// mem, kmem, port (admin-guide/devices.txt).
func memoryDevice(major, minor uint32) bool {
	return major == 1 && (minor == 1 || minor == 2 || minor == 4)
}

func deviceRules() []Rule {
	const safer = "let a program on the host use the device, and talk to it over a socket or a volume"
	return []Rule{
		{
			ID: "device", Title: "Devices of the host", Grant: "devices",
			GivesAway: "direct talk to a driver in the kernel",
			SaferWay:  safer,
			Check:     devices(charDevice),
		},
		{
			ID: "device-forbidden", Title: "Disks, memory, and what is no device",
			GivesAway: "the raw disks or the memory of the host, past all files and permissions",
			SaferWay:  "mount the filesystem on the host and bind the directory that is needed",
			Check:     devices(forbiddenDevice),
		},
		{
			ID: "device-cdi", Title: "CDI devices",
			GivesAway: "mounts, variables and programs run on the host, as a file of the vendor says",
			SaferWay:  "name the device nodes: --device /dev/NAME",
			Check: func(r *Request) (found []Finding) {
				for _, d := range r.Workload.Devices {
					found = append(found, when(d.CDI, Finding{Flag: "--device " + shown(d.Raw)})...)
				}
				return found
			},
		},
		{
			ID: "device-cgroup-rule", Title: "Device rules",
			GivesAway: "every device of that number, whatever node leads to it",
			SaferWay:  "name the device node: --device /dev/NAME",
			Check: func(r *Request) (found []Finding) {
				for _, rule := range r.Workload.DeviceCgroupRules {
					found = append(found, Finding{Flag: "--device-cgroup-rule " + shown(rule)})
				}
				return found
			},
		},
		{
			ID: "gpus", Title: "GPU requests",
			GivesAway: "the driver's ioctls, libraries of the host, and hooks that run with the host's rights",
			SaferWay:  "name the device nodes: --device /dev/NAME",
			Check: func(r *Request) []Finding {
				return when(r.Workload.GPUs != "", Finding{Flag: "--gpus " + shown(r.Workload.GPUs)})
			},
		},
	}
}

func devices(judge func(d spec.Device, s spec.Source) (Finding, bool)) func(*Request) []Finding {
	return func(r *Request) (found []Finding) {
		for i, d := range r.Workload.Devices {
			if d.CDI {
				continue
			}
			s, ok := r.DeviceSources[i]
			if !ok {
				s = spec.Source{Asked: d.Host, Err: "nobody looked at it"}
			}
			if f, hit := judge(d, s); hit {
				f.Flag = "--device " + shown(either(d.Raw, d.Host))
				found = append(found, f)
			}
		}
		return found
	}
}

// charDevice finds the devices a site can grant. What counts is the node that
// was opened, never its name.
func charDevice(d spec.Device, s spec.Source) (Finding, bool) {
	if _, bad := forbiddenDevice(d, s); bad {
		return Finding{}, false
	}
	perms := d.Permissions
	if perms == "" {
		perms = "rwm"
	}
	if !cleanPath(s.Real) || relate(s.Real, "/dev") != inside {
		return Finding{Why: "a device node outside /dev"}, true // no grant can name it
	}
	mode := s.Mode.Perm()
	return Finding{Need: Need{
		Key: "devices", Value: s.Real, Perms: perms,
		Device: &specs.LinuxDevice{
			Path: d.Container, Type: "c",
			Major: int64(unix.Major(s.Rdev)), Minor: int64(unix.Minor(s.Rdev)), FileMode: &mode,
		},
	}}, true
}

func forbiddenDevice(d spec.Device, s spec.Source) (Finding, bool) {
	switch {
	case s.NotExist:
		return Finding{Why: "nothing: the device does not exist", Safer: "look for it with ls -l /dev"}, true
	case s.Err != "" || s.MagicLink:
		return Finding{Why: "it cannot be told what it is: " + sanitized(s.Err)}, true
	case s.Mode.IsDir():
		return Finding{Why: "every device below the directory", Safer: "name the one device that is needed"}, true
	case s.Mode&fs.ModeDevice == 0:
		return Finding{Why: "it is not a device", Safer: "use -v for files and directories"}, true
	case s.Mode&fs.ModeCharDevice == 0:
		return Finding{}, true
	case memoryDevice(unix.Major(s.Rdev), unix.Minor(s.Rdev)):
		return Finding{Why: "the memory of the host, kernel included", Safer: "none: what needs it belongs on the host"}, true
	case !deviceTarget(d.Container):
		return Finding{
			Why:   "its place inside, " + shown(d.Container) + ", is not a free name below /dev",
			Safer: "give it a name below /dev: --device HOST:/dev/NAME",
		}, true
	case strings.Trim(d.Permissions, "rwm") != "":
		return Finding{Why: "the permissions are not made of r, w and m"}, true
	}
	return Finding{}, false
}

// deviceTarget: below /dev, and not a node or mount the container has anyway.
func deviceTarget(p string) bool {
	if path.Clean(p) != p || !strings.HasPrefix(p, "/dev/") || !plain(p) {
		return false
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(p, "/dev/"), "/")
	switch first {
	case "null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts", "shm", "mqueue",
		"fd", "stdin", "stdout", "stderr", "core":
		return false
	}
	return true
}
