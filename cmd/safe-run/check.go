package main

import (
	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/fail"
)

func checkVerb() *cobra.Command {
	return &cobra.Command{
		Use: "check [OPTIONS]",
		RunE: func(*cobra.Command, []string) error {
			return fail.New(fail.Usage, "the command %q is not built yet", "check")
		},
	}
}
