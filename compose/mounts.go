package compose

import (
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"

	"github.com/safe-run/safe-run/policy"
)

// mountIs finds the entry of volumes for a target.
func mountIs(target string) func(*source, *yaml.Node) bool {
	return func(s *source, n *yaml.Node) bool {
		text, ok := s.scalar(n)
		if !ok {
			text = s.get(n, "target")
		}
		return slices.ContainsFunc(strings.Split(text, ":"), func(part string) bool {
			return part != "" && filepath.Clean(part) == target
		})
	}
}

// mounts are volumes in all their forms.
func (m *maker) mounts() {
	for _, v := range m.s.Volumes {
		is := mountIs(v.Target)
		switch v.Type {
		case types.VolumeTypeBind:
			m.bind(v, is)
		case types.VolumeTypeVolume, "":
			m.volume(v, is)
		case types.VolumeTypeTmpfs:
			m.tmpfs(v, is)
		case types.VolumeTypeImage:
			fields := []string{"type=image", "source=" + v.Source, "target=" + v.Target}
			if v.Image != nil && v.Image.SubPath != "" {
				fields = append(fields, "image-subpath="+v.Image.SubPath)
			}
			m.flag("mount", csvLine(fields), is, "volumes")
		default:
			m.wrong("mounts of type "+quote(v.Type)+" are not supported", "use a bind, volume, tmpfs or image", is, "volumes")
		}
	}
}

// missing says whether a file to be mounted is not there. What cannot be seen
// is for run to say.
func missing(file string) bool {
	_, err := os.Stat(file)
	return errors.Is(err, fs.ErrNotExist)
}

func (m *maker) bind(v types.ServiceVolumeConfig, is func(*source, *yaml.Node) bool) {
	// The policy has more to say of an engine's socket than that it is missing.
	if missing(v.Source) && len(policy.Spelled(v.Source).Sockets) == 0 {
		m.wrong("there is no "+quote(v.Source), "make it first: a source that is missing is never created here, whatever create_host_path says", is, "volumes")
		return
	}
	var modes []string
	fields := []string{"type=bind", "source=" + v.Source, "target=" + v.Target}
	if v.ReadOnly {
		modes, fields = append(modes, "ro"), append(fields, "readonly")
	}
	plain := true
	if b := v.Bind; b != nil {
		if b.SELinux != "" {
			modes = append(modes, b.SELinux)
		}
		if b.Propagation != "" {
			modes, fields = append(modes, b.Propagation), append(fields, "bind-propagation="+b.Propagation)
		}
		if b.Recursive != "" {
			plain = false
			fields = append(fields, "bind-recursive="+b.Recursive)
			if b.SELinux != "" {
				m.wrong("selinux and recursive cannot go together", "leave one of them out", is, "volumes")
			}
		}
	}
	if plain && short(v.Target) && !strings.ContainsAny(v.Source, ":,") {
		m.flag("volume", strings.TrimSuffix(v.Source+":"+v.Target+":"+strings.Join(modes, ","), ":"), is, "volumes")
		return
	}
	m.flag("mount", csvLine(fields), is, "volumes")
}

// volume is a volume by name, or one of the container's own.
func (m *maker) volume(v types.ServiceVolumeConfig, is func(*source, *yaml.Node) bool) {
	fields := []string{"type=volume"}
	var modes []string
	plain := short(v.Target)
	name := ""
	if v.Source != "" {
		decl, there := m.l.project.Volumes[v.Source]
		if !there {
			m.nowhere("volume", v.Source, "declare it at the top: volumes: {"+v.Source+": {}}; a path begins with / or ./", is, "volumes")
			return
		}
		name = decl.Name
		if !named(name) || len(name) > 64 {
			m.l.wrong([]string{"volumes", v.Source, "name"}, nil, quote(name)+" cannot be the name of a volume", "at most 64 letters, digits, _, . and -, the first a letter or digit")
			return
		}
		fields = append(fields, "source="+name)
		if decl.Driver != "" && decl.Driver != "local" || len(decl.DriverOpts) > 0 {
			plain = false
		}
		if decl.Driver != "" {
			fields = append(fields, "volume-driver="+decl.Driver)
		}
		for _, k := range slices.Sorted(maps.Keys(decl.DriverOpts)) {
			fields = append(fields, "volume-opt="+k+"="+decl.DriverOpts[k])
		}
	}
	fields = append(fields, "target="+v.Target)
	if v.ReadOnly {
		modes, fields = append(modes, "ro"), append(fields, "readonly")
	}
	if o := v.Volume; o != nil {
		if o.NoCopy {
			modes, fields = append(modes, "nocopy"), append(fields, "volume-nocopy")
		}
		if o.Subpath != "" {
			plain, fields = false, append(fields, "volume-subpath="+o.Subpath)
		}
		for _, k := range slices.Sorted(maps.Keys(o.Labels)) {
			plain, fields = false, append(fields, "volume-label="+k+"="+o.Labels[k])
		}
	}
	switch {
	case plain && name == "" && len(modes) == 0:
		m.flag("volume", v.Target, is, "volumes")
	case plain && name != "":
		m.flag("volume", strings.TrimSuffix(name+":"+v.Target+":"+strings.Join(modes, ","), ":"), is, "volumes")
	default:
		m.flag("mount", csvLine(fields), is, "volumes")
	}
}

func (m *maker) tmpfs(v types.ServiceVolumeConfig, is func(*source, *yaml.Node) bool) {
	var options []string
	fields := []string{"type=tmpfs", "target=" + v.Target}
	if v.ReadOnly {
		options, fields = append(options, "ro"), append(fields, "readonly")
	}
	if t := v.Tmpfs; t != nil {
		if t.Size != 0 {
			n := strconv.FormatInt(int64(t.Size), 10)
			options, fields = append(options, "size="+n), append(fields, "tmpfs-size="+n)
		}
		if t.Mode != 0 {
			m.decimal(t.Mode, is)
			n := fmt.Sprintf("%04o", t.Mode)
			options, fields = append(options, "mode="+n), append(fields, "tmpfs-mode="+n)
		}
	}
	if !short(v.Target) {
		m.flag("mount", csvLine(fields), is, "volumes")
		return
	}
	m.flag("tmpfs", strings.TrimSuffix(v.Target+":"+strings.Join(options, ","), ":"), is, "volumes")
}

// decimal warns of a mode without a leading 0, which YAML, and compose after
// it, read as a decimal number.
func (m *maker) decimal(mode uint32, is func(*source, *yaml.Node) bool) {
	s, e, _ := m.l.lookup(m.below([]string{"volumes"}), is)
	if s == nil {
		return
	}
	if raw, ok := s.below(e, []string{"tmpfs", "mode"}); ok && follow(raw.value).Value == strconv.FormatUint(uint64(mode), 10) {
		m.l.out.Notes = append(m.l.out.Notes, Note{m.l.place(Place{s.path, raw.line}), fmt.Sprintf("the mode %d is a decimal number, %04o in octal; octal ones begin with 0", mode, mode)})
	}
}

// csvLine is fields as --mount and --secret take them.
func csvLine(fields []string) string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write(fields) // a Builder does not fail
	w.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}

// secrets become --secret, which makes a copy for the container below
// /run/secrets. At another path it can only be the file itself.
func (m *maker) secrets() {
	for _, ref := range m.s.Secrets {
		is := memberIs("source", ref.Source)
		decl, there := m.l.project.Secrets[ref.Source]
		switch {
		case !there:
			m.nowhere("secret", ref.Source, "declare it at the top, below secrets", is, "secrets")
			continue
		case bool(decl.External):
			continue // its key is said not to be supported
		}
		file := decl.File
		switch {
		case decl.Environment != "":
			value, set := m.l.env[decl.Environment]
			if !set {
				m.l.wrong([]string{"secrets", ref.Source, "environment"}, nil, "the variable "+quote(decl.Environment)+" is not set", "")
				continue
			}
			var ok bool
			if file, ok = m.content("secrets", ref.Source, value); !ok {
				continue
			}
		case file == "":
			continue // the loader says so
		case missing(file):
			m.l.wrong([]string{"secrets", ref.Source, "file"}, nil, "there is no file "+quote(file), "relative paths start at the directory of the compose file")
			continue
		default:
			m.stamps = append(m.stamps, times(file))
		}
		target := ref.Target
		if target == "" {
			target = ref.Source
		}
		id := strings.TrimPrefix(target, "/run/secrets/")
		owned := ref.UID != "" || ref.GID != "" || ref.Mode != nil
		switch {
		case !strings.Contains(id, "/"):
			m.secret(id, file, ref, is)
		case owned || decl.Environment != "" || !filepath.IsAbs(target):
			m.wrong("a secret with an owner or mode of its own, or from a variable, is a file below /run/secrets", "leave target out, and read /run/secrets/"+ref.Source, is, "secrets")
		default:
			m.fileAt(file, target, is, "secrets")
		}
	}
}

func (m *maker) secret(id, file string, ref types.ServiceSecretConfig, is func(*source, *yaml.Node) bool) {
	fields := []string{"id=" + id, "src=" + file}
	if ref.UID != "" {
		fields = append(fields, "uid="+ref.UID)
	}
	if ref.GID != "" {
		fields = append(fields, "gid="+ref.GID)
	}
	if ref.Mode != nil {
		fields = append(fields, fmt.Sprintf("mode=%04o", int64(*ref.Mode)))
	}
	m.flag("secret", csvLine(fields), is, "secrets")
}

// fileAt binds one file, read-only.
func (m *maker) fileAt(file, target string, is func(*source, *yaml.Node) bool, key string) {
	if short(file, target) {
		m.flag("volume", file+":"+target+":ro", is, key)
		return
	}
	m.flag("mount", csvLine([]string{"type=bind", "source=" + file, "target=" + target, "readonly"}), is, key)
}

// configs are files of anybody's, and so read-only binds.
func (m *maker) configs() {
	for _, ref := range m.s.Configs {
		is := memberIs("source", ref.Source)
		decl, there := m.l.project.Configs[ref.Source]
		switch {
		case !there:
			m.nowhere("config", ref.Source, "declare it at the top, below configs", is, "configs")
			continue
		case bool(decl.External):
			continue // its key is said not to be supported
		}
		file := decl.File
		switch {
		case decl.Environment != "" || decl.Content != "":
			value := decl.Content
			if decl.Environment != "" {
				var set bool
				if value, set = m.l.env[decl.Environment]; !set {
					m.l.wrong([]string{"configs", ref.Source, "environment"}, nil, "the variable "+quote(decl.Environment)+" is not set", "")
					continue
				}
			}
			var ok bool
			if file, ok = m.content("configs", ref.Source, value); !ok {
				continue
			}
		case file == "":
			continue // the loader says so
		case missing(file):
			m.l.wrong([]string{"configs", ref.Source, "file"}, nil, "there is no file "+quote(file), "relative paths start at the directory of the compose file")
			continue
		default:
			m.stamps = append(m.stamps, stamp(file))
		}
		if ref.UID != "" || ref.GID != "" || ref.Mode != nil {
			m.note(quote(ref.Source)+" has the owner and mode of its file, whatever uid, gid and mode say", "configs")
		}
		target := ref.Target
		if target == "" {
			target = ref.Source
		}
		if !filepath.IsAbs(target) {
			target = "/" + target
		}
		m.fileAt(file, target, is, "configs")
	}
}

// content gives the path at which the caller is to put what stands in no file
// of its own.
func (m *maker) content(kind, name, value string) (string, bool) {
	dir := m.l.o.ContentDir
	if dir == "" {
		m.l.wrong([]string{kind, name}, nil, "what it holds stands in no file, and there is nowhere to put it", "write it to a file, and name that with file")
		return "", false
	}
	c := Content{Path: filepath.Join(dir, strings.TrimSuffix(kind, "s")+"-"+name), Data: []byte(value), Secret: kind == "secrets"}
	if !slices.ContainsFunc(m.out.Contents, func(o Content) bool { return o.Path == c.Path }) {
		m.out.Contents = append(m.out.Contents, c)
	}
	return c.Path, true
}

// stamp changes with what a file holds.
func stamp(file string) string {
	data, err := readFile(file)
	if err != nil {
		return times(file)
	}
	sum := sha256.Sum256(data)
	return file + " " + hex.EncodeToString(sum[:])
}

// times changes when a file is written. Nothing can be learnt from it about
// what the file holds.
func times(file string) string {
	info, err := os.Stat(file)
	if err != nil {
		return file
	}
	return fmt.Sprintf("%s %d %d", file, info.Size(), info.ModTime().UnixNano())
}
