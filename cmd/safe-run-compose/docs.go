package main

import (
	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/clidocs"
)

// docsPages are the pages of docs/verbs of this program's verbs.
func docsPages() (pages []clidocs.Page) {
	const program = "safe-run"
	for _, c := range []*cobra.Command{composeRoot(&app{program: program}), exportVerb(program), importVerb(program)} {
		pages = append(pages, clidocs.Of(clidocs.Verb{Command: c, Path: program + " " + c.Name()}))
	}
	return pages
}
