package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
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
	if stanza := stanza(refused); stanza != "" {
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

// stanza joins what the refusals need to one policy file.
func stanza(refused []compose.Refused) string {
	all := make([]policy.Refusal, len(refused))
	for i, r := range refused {
		all[i] = r.Refusal
	}
	return policy.Stanza(all)
}
