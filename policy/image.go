package policy

import (
	"strconv"
	"strings"

	"github.com/moby/sys/signal"
)

// maxID is the largest id inside: a container has 65536 of its own.
const maxID = 65535

func imageRules() []Rule {
	return []Rule{
		{
			ID: "image-volume", Title: "Volumes of the image at system paths",
			GivesAway: "the protection of the kernel's files inside the container",
			SaferWay:  "the image is broken or hostile: use another, or build it without that VOLUME",
			Check: func(r *Request) (found []Finding) {
				for _, v := range r.Image.Volumes {
					if why, bad := badTarget(v); bad {
						found = append(found, Finding{Flag: "image VOLUME " + shown(v), Why: why})
					}
				}
				return found
			},
		},
		{
			ID: "workdir", Title: "Working directories in kernel filesystems",
			GivesAway: "a directory of the host, where a descriptor was left open (CVE-2024-21626)",
			SaferWay:  "give a directory of the image: -w /DIR",
			Check: func(r *Request) []Finding {
				flag, dir := "-w", r.Workload.Workdir
				if dir == "" {
					flag, dir = "image WORKDIR", r.Image.Workdir
				}
				why, bad := badTarget(dir)
				// None, or the root, is where every container begins.
				return when(bad && strings.Trim(dir, "/") != "", Finding{Flag: flag + " " + shown(dir), Why: why})
			},
		},
		{
			ID: "user", Title: "User ids out of range",
			GivesAway: "root: a number that wraps or is taken for a name has become uid 0 before (CVE-2024-40635, CVE-2026-46680)",
			SaferWay:  "give plain decimal ids from 0 to 65535, or names of the image: --user UID:GID",
			Check: func(r *Request) []Finding {
				flag, user := "--user", r.Workload.User
				if user == "" {
					flag, user = "image USER", r.Image.User
				}
				if user == "" {
					return nil
				}
				name, group, hasGroup := strings.Cut(user, ":")
				return when(!validID(name) || hasGroup && !validID(group), Finding{Flag: flag + " " + shown(user)})
			},
		},
		{
			ID: "group-add", Title: "Group ids out of range",
			GivesAway: "a group nobody meant",
			SaferWay:  "give plain decimal ids from 0 to 65535, or names of the image",
			Check: func(r *Request) (found []Finding) {
				for _, g := range r.Workload.GroupAdd {
					found = append(found, when(!validID(g), Finding{Flag: "--group-add " + shown(g)})...)
				}
				return found
			},
		},
		{
			ID: "stop-signal", Title: "Signals that do not exist",
			GivesAway: "nothing that is known: the container could not be stopped in order",
			SaferWay:  "give a name or a number from 1 to 64: --stop-signal SIGTERM",
			Check: func(r *Request) []Finding {
				flag, sig := "--stop-signal", r.Workload.StopSignal
				if sig == "" {
					flag, sig = "image STOPSIGNAL", r.Image.StopSignal
				}
				if sig == "" {
					return nil
				}
				n, err := signal.ParseSignal(sig)
				return when(err != nil || n < 1 || n > 64, Finding{Flag: flag + " " + shown(sig)})
			},
		},
		{
			ID: "image-env", Title: "Malformed variables of the image",
			GivesAway: "variables of the caller, if an entry without a value were looked up (CVE-2026-57231)",
			SaferWay:  "the image is broken or hostile: use another, or build it with ENV NAME=VALUE",
			Check: func(r *Request) (found []Finding) {
				for _, e := range r.Image.Env {
					name, _, ok := strings.Cut(e, "=")
					if !ok || name == "" || hasControl(name) || strings.ContainsRune(e, 0) {
						found = append(found, Finding{Flag: "image ENV " + shown(name)})
					}
				}
				return found
			},
		},
	}
}

// validID takes a plain decimal id in range, or a name. What looks like a
// number in another way (+0, 00, 0x0, 1e1, -1) is neither.
func validID(s string) bool {
	if len(s) > 256 {
		return false
	}
	if strings.Trim(s, "0123456789") == "" {
		n, err := strconv.ParseUint(s, 10, 32) // of nothing at all, an error
		return err == nil && n <= maxID && (s == "0" || s[0] != '0')
	}
	if strings.ContainsRune("0123456789+-", rune(s[0])) {
		return false
	}
	return plain(s) && !strings.ContainsAny(s, ":/")
}
