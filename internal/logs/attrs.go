package logs

import (
	"encoding/json"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/safe-run/safe-run/internal/fail"
)

// Meta is what is known of the container whose output is kept. Labels and
// environment are the image's too: hostile.
type Meta struct {
	ID      string // 64 hex digits
	Name    string
	Image   string            // as the user wrote it
	ImageID string            // its digest
	Labels  map[string]string // the image's and the user's
	Env     []string          // NAME=VALUE

	// Notice is told, once, why output is being dropped. It may be nil. It is
	// called while the log is locked and must not write to it.
	Notice func(error)
}

// attrsSize bounds, in bytes of JSON, what is noted with every entry.
const attrsSize = 16 << 10

// tagFields are the words a tag may use, docker's.
func (m Meta) tagFields() map[string]string {
	imageID := strings.TrimPrefix(m.ImageID, "sha256:")
	return map[string]string{
		".ID": short(m.ID), ".FullID": m.ID, ".Name": m.Name,
		".ImageID": short(imageID), ".ImageFullID": m.ImageID, ".ImageName": m.Image,
		".DaemonName": "safe-run",
	}
}

func short(id string) string { return id[:min(12, len(id))] }

// expandTag replaces the words of a tag. It is no text/template: a tag has no
// use for loops.
func (m Meta) expandTag(tag string) (string, error) {
	var b strings.Builder
	fields := m.tagFields()
	for {
		before, rest, found := strings.Cut(tag, "{{")
		b.WriteString(before)
		if !found {
			break
		}
		word, after, closed := strings.Cut(rest, "}}")
		value, known := fields[strings.TrimSpace(word)]
		if !closed || !known {
			return "", fail.New(fail.Usage, "a tag takes {{.ID}}, {{.FullID}}, {{.Name}}, {{.ImageID}}, {{.ImageFullID}}, {{.ImageName}} and {{.DaemonName}}")
		}
		b.WriteString(value)
		tag = after
	}
	s := strings.ToValidUTF8(b.String(), "\uFFFD")
	for len(s) > 1024 {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s, nil
}

func checkTag(tag string) error {
	_, err := Meta{}.expandTag(tag)
	return err
}

// attributes are the labels and variables noted with each entry.
func (c Config) attributes(m Meta) (map[string]string, error) {
	env := map[string]string{}
	for _, e := range m.Env {
		if k, v, ok := strings.Cut(e, "="); ok {
			env[k] = v
		}
	}
	out := map[string]string{}
	for _, from := range []struct {
		names []string
		regex string
		have  map[string]string
	}{{c.Labels, c.LabelsRegex, m.Labels}, {c.Env, c.EnvRegex, env}} {
		for _, n := range from.names {
			if v, ok := from.have[n]; ok {
				out[n] = v
			}
		}
		if from.regex == "" {
			continue
		}
		re, err := regexp.Compile(from.regex)
		if err != nil {
			return nil, fail.Wrap(fail.Usage, err, "log opts")
		}
		for k, v := range from.have {
			if re.MatchString(k) {
				out[k] = v
			}
		}
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, fail.Wrap(fail.Internal, err, "log opts")
	}
	if len(b) > attrsSize {
		return nil, fail.New(fail.Usage, "the labels and variables to be noted with each line of output take %d bytes, more than %d", len(b), attrsSize).
			Hint("name fewer in --log-opt labels and env")
	}
	return out, nil
}
