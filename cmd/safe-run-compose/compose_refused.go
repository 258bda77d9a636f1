package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/safe-run/safe-run/compose"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/plain"
	"github.com/safe-run/safe-run/policy"
)

// judge asks the site's policy about the services that are going to be started,
// before anything is made. run asks it again, with the image at hand.
func judge(all *compose.Project, services []compose.Service) error {
	p := *all
	p.Services = services
	site, err := policy.LoadSite(policy.DefaultFile)
	if err != nil {
		return err
	}
	refused, err := compose.Judge(&p, site)
	if err != nil {
		return err
	}
	if len(refused) == 0 {
		return nil
	}
	if err := writeRefused(os.Stderr, refused); err != nil {
		return fail.Wrap(fail.Internal, err, "printing")
	}
	return &exitError{125}
}

// writeRefused prints refusals as policy.WriteText does, each with its place, and
// one stanza that would allow all that can be allowed.
func writeRefused(w io.Writer, refused []compose.Refused) error {
	var b bytes.Buffer
	reasons := ""
	if len(refused) > 1 {
		reasons = fmt.Sprintf(", for %d reasons", len(refused))
	}
	fmt.Fprintf(&b, "safe-run: refused%s; nothing was created.\n", reasons)
	never := false
	for _, r := range refused {
		grant := "none can be given"
		if r.Grant != "" {
			grant = "the site's policy can allow it (below)"
		} else {
			never = true
		}
		fmt.Fprintf(&b, "\n  %s%s: %s   [%s]\n    gives away: %s\n    instead:    %s\n    grant:      %s\n",
			at(r.Place), r.Key, r.Flag, r.ID, r.GivesAway, r.Safer, grant)
	}
	stanza := grants(refused)
	if stanza != "" {
		b.WriteString("\nThe smallest grant, for the administrator, in " + policy.DefaultFile + ":\n\n")
		for l := range strings.Lines(stanza) {
			b.WriteString("  " + l)
		}
		if never {
			b.WriteString("\nIt does not cover what no grant can be given for.\n")
		}
	}
	_, err := io.WriteString(w, plain.Text(b.String()))
	return err
}

// grants joins what the refusals need to one policy file. Each has a line of it,
// KEY: [ITEM], or limits: {max: {ITEM}}.
func grants(refused []compose.Refused) string {
	var limits, images []string
	of := map[string][]string{}    // image to keys
	items := map[string][]string{} // image and key to items
	for _, r := range refused {
		key, rest, ok := strings.Cut(r.Grant, ": ")
		if !ok {
			continue
		}
		if key == "limits" {
			limits = with(limits, strings.TrimSuffix(strings.TrimPrefix(rest, "{max: {"), "}}"))
			continue
		}
		image := r.Image
		if image == "" {
			image = "REPOSITORY"
		}
		images, of[image] = with(images, image), with(of[image], key)
		items[image+" "+key] = with(items[image+" "+key], strings.TrimSuffix(strings.TrimPrefix(rest, "["), "]"))
	}
	var b strings.Builder
	if len(limits) > 0 {
		b.WriteString("limits:\n  max: {" + strings.Join(limits, ", ") + "}\n")
	}
	if len(images) > 0 {
		b.WriteString("grants:\n")
	}
	for _, image := range images {
		b.WriteString("  - image: " + yamlWord(image) + "\n")
		for _, key := range of[image] {
			b.WriteString("    " + key + ": [" + strings.Join(items[image+" "+key], ", ") + "]\n")
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "version: 1\n" + b.String()
}

// with adds what is not there yet.
func with(to []string, s string) []string {
	if slices.Contains(to, s) {
		return to
	}
	return append(to, s)
}

// yamlWord writes a repository so that YAML reads the same: plain if it is made of
// what repositories are, else in JSON's quotes, which are YAML's.
func yamlWord(s string) string {
	if strings.Contains(s, "/") && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./") == "" {
		return s
	}
	return strconv.Quote(strings.ToValidUTF8(s, "\uFFFD"))
}
