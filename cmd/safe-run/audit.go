package main

import (
	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/fail"
)

func auditVerb() *cobra.Command {
	return &cobra.Command{
		Use: "audit [OPTIONS]",
		RunE: func(*cobra.Command, []string) error {
			return fail.New(fail.Usage, "the command %q is not built yet", "audit")
		},
	}
}
