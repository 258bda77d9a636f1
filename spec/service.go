package spec

import (
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/safe-run/safe-run/internal/fail"
)

// Where a container finds what it is given as a service. No image has these
// paths: /run is a tmpfs.
const (
	// SecretsDir is the directory of the files of --secret.
	SecretsDir = "/run/secrets"
	serviceDir = "/run/safe-run"
	// NotifySocket is what NOTIFY_SOCKET says with --sdnotify container.
	NotifySocket = serviceDir + "/notify"
	// ActivatePath is the program that takes the listening sockets of the
	// unit from ActivateSocket and then becomes the container's own.
	ActivatePath   = serviceDir + "/activate"
	ActivateSocket = serviceDir + "/activate.sock"

	// activateFenced has the program at ActivatePath keep what it becomes from
	// connections of its own; activateFurther does that and takes no sockets.
	activateFenced  = "--no-connect"
	activateFurther = "--no-sockets"
)

// serviceFile is a file or directory of the launcher's in the container.
type serviceFile struct {
	target string
	source string // on the host
	exec   bool
}

func (f HostFiles) service() []serviceFile {
	return slices.DeleteFunc([]serviceFile{
		{SecretsDir, f.Secrets, false},
		{NotifySocket, f.Notify, false},
		{ActivatePath, f.Activate, true},
		{ActivateSocket, f.ActivateSocket, false},
	}, func(s serviceFile) bool { return s.source == "" })
}

// serviceTree is the directory below /run that such a file has for itself.
func serviceTree(target string) string {
	if target == SecretsDir {
		return SecretsDir
	}
	return serviceDir
}

// serviceMounts binds them, read-only. They belong to the container's ids on
// the host already. A read-only mount does not keep anybody from connecting
// to a socket.
func serviceMounts(in Input, user []ResolvedMount) ([]specs.Mount, error) {
	var out []specs.Mount
	for _, f := range in.Files.service() {
		for _, m := range user {
			// In a directory of the host the runtime would make the mount
			// points; in one that is read-only it cannot.
			foreign := m.Target == "/run" && (m.Type == MountBind || m.Type == MountImage || m.ReadOnly && m.Type != MountTmpfs)
			if foreign || within(m.Target, serviceTree(f.target)) {
				return nil, fail.New(fail.Conflict, "%s: %q is in the way of %s", originOf(m), m.Target, f.target).
					Hint("mount it elsewhere")
			}
		}
		if err := sourcePath(f.source); err != nil {
			return nil, err
		}
		options := []string{"bind", "rprivate", "nosuid", "nodev", "ro"}
		if !f.exec {
			options = append(options, "noexec")
		}
		out = append(out, specs.Mount{Destination: f.target, Type: "bind", Source: f.source, Options: options})
	}
	return out, nil
}

// checkService: what the workload asks for and what the launcher prepared
// belong together.
func checkService(in Input) error {
	w, f := in.Workload, in.Files
	switch {
	case (len(w.Secrets) > 0) != (f.Secrets != ""):
		return fail.New(fail.Internal, "%d secrets and the directory %q for them", len(w.Secrets), f.Secrets)
	case f.Notify != "" && w.SDNotify != NotifyContainer:
		return fail.New(fail.Internal, "a notification socket without --sdnotify %s", NotifyContainer)
	case (f.Activate == "") != (f.ActivateSocket == ""):
		return fail.New(fail.Internal, "socket activation with program %q and socket %q", f.Activate, f.ActivateSocket)
	}
	var seen []string
	for _, s := range w.Secrets {
		if !secretID(s.ID) || slices.Contains(seen, s.ID) {
			return fail.New(fail.Usage, "--secret %.64q: the ID is given twice or is no file name", s.ID)
		}
		seen = append(seen, s.ID)
		for _, id := range []uint32{s.UID, s.GID} {
			if s.Owned && !hostUserNS(in) && id >= in.IDs.Size {
				return fail.New(fail.HostCannot, "--secret %s: id %d is not in the container's user namespace, which has ids 0 to %d", s.ID, id, in.IDs.Size-1)
			}
		}
		if s.Mode&^0o755 != 0 {
			return fail.New(fail.Usage, "--secret %s: mode %04o", s.ID, s.Mode)
		}
	}
	return nil
}

func secretID(id string) bool {
	return id != "" && len(id) <= 255 && strings.Trim(id, nameCharacters) == "" && strings.Trim(id[:1], "_.-") != ""
}

// ServiceVariable says whether an environment variable is systemd's way to
// speak to a service. In a container it comes from the launcher or from a
// value the user wrote, never from the image or the launcher's environment.
func ServiceVariable(name string) bool {
	switch name {
	case "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC":
		return true
	}
	return listenVariable(name)
}

func listenVariable(name string) bool {
	return name == "LISTEN_FDS" || name == "LISTEN_PID" || name == "LISTEN_FDNAMES" || name == "LISTEN_PIDFDID"
}

// serviceEnvironment has the last word over image and flags. The LISTEN_
// variables are set by the program at ActivatePath, which knows its number.
func serviceEnvironment(f HostFiles, e *env) {
	if f.Notify != "" {
		e.set("NOTIFY_SOCKET", NotifySocket)
	}
	if f.Activate == "" {
		return
	}
	for name := range e.at {
		if listenVariable(name) {
			e.unset(name)
		}
	}
}

// serviceFiles: the places of the launcher's files hold these, read-only, and
// nothing else.
func serviceFiles(s *specs.Spec, v VerifyInput) (bad []string) {
	for _, f := range v.Files.service() {
		count := 0
		for _, m := range s.Mounts {
			if m.Destination != f.target {
				continue
			}
			count++
			o := optionsOf(m)
			good := m.Source == f.source && m.Type == "bind" && o.bind && !o.recursive && o.readonly && o.nosuid && o.nodev && o.noexec != f.exec
			bad = append(bad, violation(!good, "%q at %q with %q", m.Source, m.Destination, m.Options)...)
		}
		bad = append(bad, violation(count != 1, "%d mounts at %q", count, f.target)...)
	}
	for _, m := range s.Mounts {
		known := slices.ContainsFunc(v.Files.service(), func(f serviceFile) bool { return f.target == m.Destination })
		ours := slices.ContainsFunc(v.Files.service(), func(f serviceFile) bool {
			return within(m.Destination, serviceTree(f.target)) || m.Source == f.source
		})
		bad = append(bad, violation(ours && !known, "%q at %q", m.Source, m.Destination)...)
	}
	return append(bad, activation(s, v)...)
}

// activation: the program that takes the sockets comes before the container's
// own, and is nothing the image or a flag can name.
func activation(s *specs.Spec, v VerifyInput) []string {
	args := afterInit(s.Process.Args)
	first := len(args) > 1 && args[0] == ActivatePath
	return violation(v.Files.Activate != "" && !first || path.Clean(v.Files.Activate) != v.Files.Activate && v.Files.Activate != "",
		"the command %.64q does not begin with the program that takes the sockets", s.Process.Args)
}

// fencedProcess says whether a container's first process is kept from
// connections of its own, because it has sockets of the host.
func fencedProcess(base *specs.Process) bool {
	args := afterInit(base.Args)
	return len(args) > 2 && args[0] == ActivatePath && args[1] == activateFenced
}

// afterInit are the words of a process without the init of --init.
func afterInit(args []string) []string {
	if len(args) > 1 && args[0] == initPath && args[1] == "--" {
		return args[2:]
	}
	return args
}
