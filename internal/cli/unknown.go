package cli

import (
	"fmt"

	"github.com/safe-run/safe-run/internal/edits"
)

// nearFlags are flags of podman and nerdctl that docker run has not, with
// what does the same or nearly the same here.
var nearFlags = map[string]string{
	"arch":                "use --platform linux/ARCH",
	"authfile":            "credentials are those of docker login, in config.json",
	"cert-dir":            "put the certificates into /etc/containerd/certs.d/REGISTRY/",
	"cgroup-conf":         "use --memory, --cpus, --pids-limit and their siblings",
	"cgroups":             "every container has a cgroup; its limits are --memory, --cpus and --pids-limit",
	"conmon-pidfile":      "--cidfile FILE writes the container's ID",
	"cosign-key":          "pin what was verified: IMAGE@sha256:DIGEST",
	"creds":               "credentials are those of docker login, in config.json",
	"env-host":            "name the variables: -e NAME copies one from the caller",
	"env-merge":           "the image's entrypoint can do it: sh -c 'X=$X:more exec PROGRAM'",
	"gidmap":              "every container has its own range of ids already",
	"healthcheck-command": "docker's name is --health-cmd",
	"health-startup-cmd":  "use --health-start-period and --health-start-interval",
	"hosts-file":          "use --add-host NAME:IP",
	"http-proxy":          "name the variables: -e HTTP_PROXY -e HTTPS_PROXY",
	"image-volume":        "cover a volume of the image with --tmpfs DST",
	"init-binary":         "use --init; the init is part of safe-run",
	"init-path":           "use --init; the init is part of safe-run",
	"no-hostname":         "use --hostname NAME",
	"no-hosts":            "use --add-host NAME:IP",
	"os":                  "only linux images can run",
	"passwd":              "use --user UID:GID; no entry in passwd is needed",
	"pidfile":             "--cidfile FILE writes the container's ID",
	"read-only-tmpfs":     "/tmp, /run and /var/tmp are a tmpfs already",
	"replace":             "remove the old container first: safe-run rm NAME",
	"rmi":                 "use --rm, and safe-run rmi IMAGE after it",
	"rootfs":              "make an image of the directory and safe-run load it",
	"seccomp-policy":      "use --security-opt seccomp=FILE",
	"shm-size-systemd":    "use --shm-size",
	"subgidname":          "every container has its own range of ids already",
	"subuidname":          "every container has its own range of ids already",
	"timeout":             "use timeout(1): timeout SECONDS safe-run ...",
	"tls-verify":          "registries are always verified; set up a mirror in hosts.toml",
	"tz":                  "use -e TZ=ZONE, or -v /etc/localtime:/etc/localtime:ro",
	"uidmap":              "every container has its own range of ids already",
	"umask":               "set it inside: sh -c 'umask 027; exec PROGRAM'",
	"unsetenv":            "-e NAME removes NAME if it is not set here",
	"unsetenv-all":        "-e NAME removes NAME if it is not set here",
	"version":             "the version is printed by: safe-run version",
	"variant":             "use --platform linux/ARCH/VARIANT",
	"verify":              "pin what was verified: IMAGE@sha256:DIGEST",
}

// unknownHint guesses what an unknown flag was meant to be.
func unknownHint(name string, table []Flag) string {
	if hint, ok := nearFlags[name]; ok {
		return hint
	}
	if len(name) > 40 {
		return ""
	}
	best, bestAt := "", 3 // at most two edits
	if len(name) < 4 {
		bestAt = 2
	}
	for _, f := range table {
		if d := edits.Distance(name, f.Long); d < bestAt && f.Visibility == Public {
			best, bestAt = f.Long, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean --%s?", best)
}
