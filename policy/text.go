package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// DefaultFile is where the site's policy is.
const DefaultFile = "/etc/safe-run/policy.yaml"

// WriteText prints refusals for people: each with what it would give away and
// the safer way, and at the end the one grant that would permit what can be
// permitted. Nothing is printed without refusals.
func WriteText(w io.Writer, refusals []Refusal) error {
	if len(refusals) == 0 {
		return nil
	}
	var b bytes.Buffer
	if len(refusals) == 1 {
		b.WriteString("safe-run: refused; nothing was created.\n")
	} else {
		fmt.Fprintf(&b, "safe-run: refused, for %d reasons; nothing was created.\n", len(refusals))
	}
	never := false
	for _, r := range refusals {
		grant := "none can be given"
		if r.Grant != "" {
			grant = "the site's policy can allow it (below)"
		} else {
			never = true
		}
		fmt.Fprintf(&b, "\n  %s   [%s]\n    gives away: %s\n    instead:    %s\n    grant:      %s\n", r.Flag, r.ID, r.GivesAway, r.Safer, grant)
	}
	if stanza := Stanza(refusals); stanza != "" {
		b.WriteString("\nThe smallest grant, for the administrator, in " + DefaultFile + ":\n\n" + indent(stanza))
		if never {
			b.WriteString("\nIt does not cover what no grant can be given for.\n")
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

// Stanza joins what the refusals need to one policy file, the smallest that
// permits all that can be permitted; "" if nothing can. They may be of several
// images.
func Stanza(refusals []Refusal) string {
	var limits, images []string
	keys := map[string][]string{}  // by image
	items := map[string][]string{} // by image and key
	for _, r := range refusals {
		key, rest, ok := strings.Cut(r.Grant, ": ")
		if !ok {
			continue
		}
		if key == "limits" {
			limits = appendNew(limits, strings.TrimSuffix(strings.TrimPrefix(rest, "{max: {"), "}}"))
			continue
		}
		image := either(r.Image, "REPOSITORY")
		at := image + " " + key
		images, keys[image] = appendNew(images, image), appendNew(keys[image], key)
		items[at] = appendNew(items[at], strings.TrimSuffix(strings.TrimPrefix(rest, "["), "]"))
	}
	if len(images) == 0 && len(limits) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("version: 1\n")
	if len(limits) > 0 {
		b.WriteString("limits:\n  max: {" + strings.Join(limits, ", ") + "}\n")
	}
	if len(images) > 0 {
		b.WriteString("grants:\n")
	}
	for _, image := range images {
		b.WriteString("  - image: " + quoteYAML(image) + "\n")
		for _, k := range keys[image] {
			b.WriteString("    " + k + ": [" + strings.Join(items[image+" "+k], ", ") + "]\n")
		}
	}
	return b.String()
}

func indent(s string) string {
	return "  " + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\n  ") + "\n"
}

// WriteJSON prints refusals for machines: one object with the list.
func WriteJSON(w io.Writer, refusals []Refusal) error {
	if refusals == nil {
		refusals = []Refusal{}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(struct {
		Refused []Refusal `json:"refused"`
	}{refusals})
}

// quoteYAML writes a string so that YAML reads the same string: plain where it
// is a path, an id with a dash or dot, or a repository; else in JSON's quotes,
// which are YAML's double quotes.
func quoteYAML(s string) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	named := strings.ContainsAny(s, "/-._") && strings.ContainsRune(letters+"/", firstRune(s))
	if named && strings.Trim(s, letters+"0123456789_-./") == "" {
		return s
	}
	b, err := json.Marshal(s)
	if err != nil {
		return `""`
	}
	return string(b)
}

func firstRune(s string) rune {
	for _, c := range s {
		return c
	}
	return 0
}
