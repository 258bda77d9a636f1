package cli

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/spec"
)

// addMount appends a mount unless the very same one is there already.
func (p *parser) addMount(m spec.Mount) {
	if !slices.ContainsFunc(p.w.Mounts, func(o spec.Mount) bool { return reflect.DeepEqual(o, m) }) {
		p.w.Mounts = append(p.w.Mounts, m)
	}
}

func volumeName(v string) error {
	if err := checkName(v); err != nil {
		return fmt.Errorf("the volume: %w; a path starts with / or ./", err)
	}
	return nil
}

func checkVolumeDriver(v string) error {
	if v != "" && v != "local" {
		return errors.New("volume drivers other than local are not supported: they run on the host with its rights")
	}
	return nil
}

func (p *parser) setVolumeDriver(v string) error {
	p.w.VolumeDriver = v
	return checkVolumeDriver(v)
}

// setVolume reads one -v: [SRC:]DST[:MODE].
func (p *parser) setVolume(v string) error {
	if err := clean(v); err != nil {
		return err
	}
	parts := strings.Split(v, ":")
	if slices.Contains(parts, "") {
		return errors.New("empty section between colons; it takes [SRC:]DST[:MODE]")
	}
	m := spec.Mount{Origin: "-v", Type: spec.MountVolume}
	target := parts[0]
	var mode string
	switch len(parts) {
	case 1:
	case 2:
		m.Source, target = parts[0], parts[1]
	case 3:
		m.Source, target, mode = parts[0], parts[1], parts[2]
	default:
		return errors.New("too many colons; it takes [SRC:]DST[:MODE], and --mount takes paths with colons")
	}
	if len(parts) == 2 && !strings.HasPrefix(target, "/") && validMode(target) {
		return fmt.Errorf("a mode alone is not possible; write SRC:DST:%s", target)
	}
	var err error
	if m.Target, err = checkTarget(target); err != nil {
		return err
	}
	switch {
	case m.Source == "":
	case strings.ContainsAny(m.Source[:1], "/.~"):
		m.Type = spec.MountBind
		if m.Source, err = p.bindSource(m.Source); err != nil {
			return err
		}
	default:
		if err := volumeName(m.Source); err != nil {
			return err
		}
	}
	if mode != "" {
		if err := setModes(&m, strings.Split(mode, ",")); err != nil {
			return err
		}
	}
	p.addMount(m)
	return nil
}

// modeClass is what a word of -v's mode is about; a mode has one of each.
type modeClass int

const (
	modeAccess modeClass = iota
	modeLabel
	modeCopy
	modePropagation
	modeConsistency
	modeExec
)

// volumeModes are the words of -v's MODE: docker's, and exec.
var volumeModes = map[string]modeClass{
	"ro": modeAccess, "rw": modeAccess,
	"z": modeLabel, "Z": modeLabel,
	"nocopy":  modeCopy,
	"private": modePropagation, "rprivate": modePropagation,
	"shared": modePropagation, "rshared": modePropagation,
	"slave": modePropagation, "rslave": modePropagation,
	"consistent": modeConsistency, "cached": modeConsistency, "delegated": modeConsistency,
	"exec": modeExec,
}

func validMode(mode string) bool {
	for _, w := range strings.Split(mode, ",") {
		if _, ok := volumeModes[w]; !ok {
			return false
		}
	}
	return true
}

func setModes(m *spec.Mount, words []string) error {
	seen := map[modeClass]string{}
	for _, w := range words {
		class, known := volumeModes[w]
		if !known {
			return fmt.Errorf("invalid mode %s%s", quote(w), otherWord(w))
		}
		if first, twice := seen[class]; twice {
			return fmt.Errorf("invalid mode: %s and %s exclude each other", first, w)
		}
		seen[class] = w
		switch class {
		case modeAccess:
			m.ReadOnly = w == "ro"
		case modeLabel:
			m.Relabel = w
		case modeCopy:
			m.NoCopy = true
		case modePropagation:
			m.Propagation = w
		case modeExec:
			m.Exec = true
		case modeConsistency: // the same files on Linux, whatever the word
		}
	}
	switch {
	case m.Type == spec.MountVolume && m.Propagation != "":
		return fmt.Errorf("invalid mode: %s is for binds of a path, and %s is a volume", m.Propagation, quote(m.Source))
	case m.Type == spec.MountBind && m.NoCopy:
		return errors.New("invalid mode: nocopy is for volumes, and the source is a path")
	}
	return nil
}

// setVolumesFrom checks the form CONTAINER[:MODE]; the policy judges it.
func (p *parser) setVolumesFrom(v string) error {
	name, mode, has := strings.Cut(v, ":")
	if err := cleanWord(name); err != nil {
		return err
	}
	if has {
		for _, w := range strings.Split(mode, ",") {
			if class, known := volumeModes[w]; !known || (class != modeAccess && class != modeLabel) {
				return errors.New("the mode is ro, rw, z or Z")
			}
		}
	}
	p.w.VolumesFrom = append(p.w.VolumesFrom, v)
	return nil
}

func (p *parser) setStorageOpt(v string) error {
	key, val, ok := strings.Cut(v, "=")
	if !ok || key == "" {
		return errors.New("it takes KEY=VALUE")
	}
	if p.w.StorageOpts == nil {
		p.w.StorageOpts = map[string]string{}
	}
	p.w.StorageOpts[key] = val
	p.cannot("")
	return clean(v)
}
