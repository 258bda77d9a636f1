package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// propagations are the mount propagation modes of mount_namespaces(7).
var propagations = []string{"private", "rprivate", "shared", "rshared", "slave", "rslave"}

// consistencies have no effect on Linux, where a bind is the same files.
var consistencies = []string{"default", "consistent", "cached", "delegated"}

// checkTarget cleans a path inside the container.
func checkTarget(v string) (string, error) {
	if err := clean(v); err != nil {
		return "", fmt.Errorf("the target cannot be used: %w", err)
	}
	if !path.IsAbs(v) {
		return "", fmt.Errorf("the target %s must be an absolute path", quote(v))
	}
	v = path.Clean(v)
	if v == "/" {
		return "", errors.New("the target cannot be /")
	}
	return v, nil
}

// bindSource makes the path of a bind absolute.
func (p *parser) bindSource(v string) (string, error) {
	if err := clean(v); err != nil {
		return "", fmt.Errorf("the source cannot be used: %w", err)
	}
	switch {
	case strings.HasPrefix(v, "~"):
		return "", fail.New(fail.Usage, "the source %s begins with ~, which only the shell expands, and only at the start of a word", quote(v)).
			Hint("write $HOME instead")
	case filepath.IsAbs(v), strings.HasPrefix(v, "."):
		return filepath.Clean(p.abs(v)), nil
	}
	return "", fmt.Errorf("the source %s of a bind must be an absolute path, or start with . for one below the working directory", quote(v))
}

// mountKeys of --mount: which types take it, whether it may stand without a
// value, and what it does. Keys not here are an error.
type mountKey struct {
	types []spec.MountType // nil: all
	bare  bool
	set   func(p *parser, m *spec.Mount, s *mountState, v string) error
}

// mountState is what a --mount says besides its Mount.
type mountState struct {
	readonlyRecursive bool // bind-recursive=readonly
}

func onlyFor(t spec.MountType) []spec.MountType { return []spec.MountType{t} }

// mountBool takes docker's four words for a boolean key, or none.
func mountBool(v string, to *bool) error {
	switch v {
	case "", "1", "true":
		*to = true
	case "0", "false":
		*to = false
	default:
		return errors.New("it takes true, 1, false or 0")
	}
	return nil
}

func mountKeys() map[string]mountKey {
	source := mountKey{set: func(_ *parser, m *spec.Mount, _ *mountState, v string) error {
		m.Source = v
		return clean(v)
	}}
	target := mountKey{set: func(_ *parser, m *spec.Mount, _ *mountState, v string) (err error) {
		m.Target, err = checkTarget(v)
		return err
	}}
	readonly := mountKey{bare: true, set: func(_ *parser, m *spec.Mount, _ *mountState, v string) error {
		return mountBool(v, &m.ReadOnly)
	}}
	subpath := func(_ *parser, m *spec.Mount, _ *mountState, v string) error {
		if err := clean(v); err != nil {
			return err
		}
		if !filepath.IsLocal(v) {
			return errors.New("it takes a relative path that does not lead out with \"..\"")
		}
		m.Subpath = v
		return nil
	}
	return map[string]mountKey{
		"source": source, "src": source,
		"target": target, "dst": target, "destination": target,
		"readonly": readonly, "ro": readonly,
		"exec": {bare: true, set: func(_ *parser, m *spec.Mount, _ *mountState, v string) error {
			return mountBool(v, &m.Exec)
		}},
		"consistency": {set: func(_ *parser, _ *spec.Mount, _ *mountState, v string) error {
			if !slices.Contains(consistencies, strings.ToLower(v)) {
				return fmt.Errorf("it takes %s; on Linux they are all the same", strings.Join(consistencies, ", "))
			}
			return nil
		}},
		"bind-propagation": {types: onlyFor(spec.MountBind), set: func(_ *parser, m *spec.Mount, _ *mountState, v string) error {
			m.Propagation = strings.ToLower(v)
			if !slices.Contains(propagations, m.Propagation) {
				return fmt.Errorf("it takes %s", strings.Join(propagations, ", "))
			}
			return nil
		}},
		"bind-recursive": {types: onlyFor(spec.MountBind), set: setRecursive},
		"bind-nonrecursive": {types: onlyFor(spec.MountBind), bare: true, set: func(*parser, *spec.Mount, *mountState, string) error {
			return errors.New("it is deprecated, use bind-recursive=disabled instead")
		}},
		"bind-create-src": {types: onlyFor(spec.MountBind), bare: true, set: func(_ *parser, _ *spec.Mount, _ *mountState, v string) error {
			var create bool
			err := mountBool(v, &create)
			if create {
				return errors.New("a missing source is never created on the host here; create it first")
			}
			return err
		}},
		"volume-subpath": {types: onlyFor(spec.MountVolume), set: subpath},
		"volume-nocopy": {types: onlyFor(spec.MountVolume), bare: true, set: func(_ *parser, m *spec.Mount, _ *mountState, v string) error {
			return mountBool(v, &m.NoCopy)
		}},
		"volume-label": {types: onlyFor(spec.MountVolume), set: func(_ *parser, m *spec.Mount, _ *mountState, v string) error {
			return addPair(&m.Labels, v)
		}},
		"volume-driver": {types: onlyFor(spec.MountVolume), set: func(_ *parser, m *spec.Mount, _ *mountState, v string) error {
			m.Driver = v
			return checkVolumeDriver(v)
		}},
		"volume-opt": {types: onlyFor(spec.MountVolume), set: func(_ *parser, m *spec.Mount, _ *mountState, v string) error {
			return addPair(&m.DriverOpts, v)
		}},
		"image-subpath": {types: onlyFor(spec.MountImage), set: subpath},
		"tmpfs-size": {types: onlyFor(spec.MountTmpfs), set: func(_ *parser, m *spec.Mount, _ *mountState, v string) (err error) {
			m.Tmpfs.Size, err = parseSize(v)
			return err
		}},
		"tmpfs-mode": {types: onlyFor(spec.MountTmpfs), set: func(_ *parser, m *spec.Mount, _ *mountState, v string) error {
			return setMode(&m.Tmpfs, v)
		}},
	}
}

func setMode(t *spec.TmpfsOptions, v string) error {
	n, err := strconv.ParseUint(v, 8, 32)
	if err != nil || n > 0o7777 {
		return errors.New("the mode is an octal number up to 7777")
	}
	mode := uint32(n)
	t.Mode = &mode
	return nil
}

func setRecursive(_ *parser, m *spec.Mount, s *mountState, v string) error {
	m.NonRecursive, s.readonlyRecursive = false, false
	switch v {
	case "enabled":
	case "disabled":
		m.NonRecursive = true
	case "readonly":
		s.readonlyRecursive = true
	case "writable":
		return errors.New("a read-only bind is read-only all the way down here; bind the writable submount by itself")
	default:
		return errors.New("it takes enabled, disabled or readonly")
	}
	return nil
}

func addPair(to *map[string]string, v string) error {
	key, val, _ := strings.Cut(v, "=")
	if key == "" {
		return errors.New("it takes KEY=VALUE")
	}
	if err := clean(v); err != nil {
		return err
	}
	if *to == nil {
		*to = map[string]string{}
	}
	(*to)[key] = val
	return nil
}

// otherMountWords are words of podman and nerdctl in -v and --mount, with
// what to do here.
var otherMountWords = map[string]string{
	"U":             "changing the owner of host files is not done here; binds keep the ids on disk",
	"chown":         "changing the owner of host files is not done here; binds keep the ids on disk",
	"O":             "overlay mounts are not supported; use a volume, or an image mount",
	"idmap":         "every bind is idmapped here already, to the same ids as on disk",
	"relabel":       "use the mode z or Z of -v",
	"rro":           "ro is recursive here already; use ro",
	"rbind":         "every bind is recursive here already; leave it out",
	"bind":          "use --mount with bind-recursive=disabled",
	"noexec":        "it is so here already unless the mount says exec; leave it out",
	"nosuid":        "it is so here already; leave it out",
	"nodev":         "it is so here already; leave it out",
	"suid":          "set-user-ID programs never take effect on mounts here",
	"dev":           "device nodes never work on mounts here",
	"copy":          "the content of the image is copied into a new volume already; leave it out",
	"tmpcopyup":     "the content of the image is not copied into a tmpfs",
	"notmpcopyup":   "it is so here already; leave it out",
	"upperdir":      "overlay mounts are not supported",
	"workdir":       "overlay mounts are not supported",
	"subpath":       "use volume-subpath or image-subpath",
	"rw":            "use readonly=false",
	"tmpfs-options": "use --tmpfs for further options",
}

func otherWord(word string) string {
	key, _, _ := strings.Cut(word, "=")
	if why, ok := otherMountWords[key]; ok {
		return ": " + why
	}
	return ""
}

// mountTypes docker knows, with why not.
var mountTypes = map[spec.MountType]string{
	spec.MountBind: "", spec.MountVolume: "", spec.MountTmpfs: "", spec.MountImage: "",
	"npipe":   "named pipes are for Windows containers",
	"cluster": "cluster volumes need a swarm",
}

// setMount reads one --mount, CSV of KEY=VALUE.
func (p *parser) setMount(v string) error {
	v = strings.TrimSpace(v)
	if v == "" {
		return errors.New("the value is empty")
	}
	if err := clean(v); err != nil {
		return err
	}
	fields, err := csv.NewReader(strings.NewReader(v)).Read()
	if err != nil {
		return errors.New("it is not a CSV line; a value with commas needs quotes around the whole field: \"key=a,b\"")
	}
	m := spec.Mount{Origin: "--mount", Type: spec.MountVolume}
	var state mountState
	var typed []string // keys that only some types take
	keys := mountKeys()
	for _, field := range fields {
		key, val, has := strings.Cut(field, "=")
		switch {
		case strings.TrimSpace(key) != key || strings.TrimSpace(val) != val:
			return fmt.Errorf("blanks around the key or value of %s", quote(field))
		case has && val == "":
			return fmt.Errorf("the value of %s is empty", quote(key))
		}
		raw := key
		key = strings.ToLower(key)
		if key == "type" && has {
			m.Type = spec.MountType(strings.ToLower(val))
			continue
		}
		k, known := keys[key]
		if !known {
			return fmt.Errorf("unknown option %s%s", quote(raw), otherWord(raw))
		}
		if !has && !k.bare {
			return fmt.Errorf("invalid field %s must be a key=value pair", quote(field))
		}
		if err := k.set(p, &m, &state, val); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if k.types != nil {
			typed = append(typed, key)
		}
	}
	why, known := mountTypes[m.Type]
	switch {
	case !known:
		return fmt.Errorf("unknown mount type %s; it is bind, volume, tmpfs or image", quote(string(m.Type)))
	case why != "":
		return fmt.Errorf("mounts of type %s are not supported: %s", m.Type, why)
	}
	for _, key := range typed {
		if !slices.Contains(keys[key].types, m.Type) {
			return fmt.Errorf("cannot mix %q with mount type %q", key, m.Type)
		}
	}
	if err := p.finishMount(&m, state); err != nil {
		return err
	}
	p.w.Mounts = append(p.w.Mounts, m)
	return nil
}

// finishMount checks what needs all keys of a --mount.
func (p *parser) finishMount(m *spec.Mount, state mountState) (err error) {
	if m.Target == "" {
		return errors.New("target is required")
	}
	switch m.Type {
	case spec.MountBind:
		if m.Source == "" {
			return errors.New("a bind needs a source")
		}
		if m.Source, err = p.bindSource(m.Source); err != nil {
			return err
		}
		switch {
		case state.readonlyRecursive && !m.ReadOnly:
			return errors.New("bind-recursive=readonly requires readonly to be specified in conjunction")
		case state.readonlyRecursive && m.Propagation != "rprivate":
			return errors.New("bind-recursive=readonly requires bind-propagation=rprivate to be specified in conjunction")
		}
	case spec.MountVolume:
		if m.Source == "" && m.ReadOnly {
			return errors.New("an anonymous volume cannot be read-only: nothing could ever be in it")
		}
		if m.Source != "" {
			return volumeName(m.Source)
		}
	case spec.MountTmpfs:
		if m.Source != "" {
			return errors.New("a tmpfs takes no source")
		}
	case spec.MountImage:
		if m.Source == "" {
			return errors.New("an image mount needs a source, the image")
		}
		m.ReadOnly = true
	}
	return nil
}

// checkTargets refuses two mounts at one target, in whatever spelling. The
// same words given twice are one mount, as in docker.
func (p *parser) checkTargets() error {
	seen := map[string]string{}
	for _, m := range p.w.Mounts {
		if first, twice := seen[m.Target]; twice {
			return fail.New(fail.Conflict, "duplicate mount point: %s is the target of %s and of %s", quote(m.Target), first, m.Origin).
				Hint("leave one of them out")
		}
		seen[m.Target] = m.Origin
	}
	return nil
}
