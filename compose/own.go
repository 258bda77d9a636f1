package compose

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/safe-run/safe-run/internal/argv"
	"github.com/safe-run/safe-run/profiles"
)

// extension is the key of a service for what compose has no key for:
//
//	x-safe-run:
//	  profile: NAME or FILE
//	  flags: [--egress=example.com:443]
//
// Others pass it over; safe-run export compose writes it.
const extension = "x-safe-run"

// own adds the flags of x-safe-run. One that can be given only once takes the
// place of what the other keys say.
func (m *maker) own() {
	v, there := m.model[extension]
	if !there || v == nil {
		return
	}
	in, is := v.(map[string]any)
	if !is {
		m.wrong("it takes the keys profile and flags", "", nil, extension)
		return
	}
	for key, value := range in {
		switch key {
		case "profile":
			if name, is := value.(string); is && name != "" {
				m.profile(name)
			} else {
				m.wrong("it takes the name or the file of a profile", "", nil, extension, key)
			}
		case "flags":
			list, is := value.([]any)
			if !is {
				m.wrong("it takes a list of flags of safe-run run", "", nil, extension, key)
			}
			for _, word := range list {
				m.ownFlag(word)
			}
		default:
			m.wrong("there is no such key; it takes profile and flags", "", nil, extension, key)
		}
	}
}

// profile is what --profile-dir says for a service, said in the file.
func (m *maker) profile(name string) {
	if _, inImage := profiles.InImage(name); !inImage && profiles.IsFile(name) {
		name = within1(m.l.dir, name)
		m.stamps = append(m.stamps, stamp(name))
	}
	m.out.Flags = slices.DeleteFunc(m.out.Flags, func(f Flag) bool { return strings.HasPrefix(f.Word, "--profile=") })
	m.flag("profile", name, nil, extension, "profile")
}

// notOwn are flags whose place is a key of the service, or the command.
func notOwn() []string {
	return []string{"name", "rm", "detach", "cidfile", "address", "namespace", "dry-run", "help", "profile", "env-file", "label-file", "explain", "complain", "record-fd", "refusals"}
}

func (m *maker) ownFlag(v any) {
	word, is := v.(string)
	name, value, has := strings.Cut(strings.TrimPrefix(word, "--"), "=")
	at := func(src *source, n *yaml.Node) bool {
		got, ok := src.scalar(n)
		return ok && strings.ReplaceAll(got, "$$", "$") == word
	}
	switch {
	case !is || !strings.HasPrefix(word, "--") || name == "":
		m.wrong(fmt.Sprintf("%.80q is not of the form --NAME=VALUE", fmt.Sprint(v)), "", at, extension, "flags")
		return
	case slices.Contains(notOwn(), name):
		m.wrong("--"+name+" is not for here", "there is a key of the service, or an option of compose, for it", at, extension, "flags")
		return
	case !has:
		value = "true"
	}
	if slot := argv.Slot(name, value); slot != "" {
		m.out.Flags = slices.DeleteFunc(m.out.Flags, func(f Flag) bool {
			n, v, _ := strings.Cut(strings.TrimPrefix(f.Word, "--"), "=")
			return argv.Slot(n, v) == slot
		})
	}
	m.flag(name, value, at, extension, "flags")
}
