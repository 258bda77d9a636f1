package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/policy"
)

// sitePolicy is where the site's policy is; there is no flag and no variable
// for it: who runs the command must not choose what it is allowed.
const sitePolicy = "/etc/safe-run/policy.yaml"

func policyVerb() *cobra.Command {
	c := &cobra.Command{Use: "policy", Short: "The site's policy: check a file, show what is in force"}
	c.AddCommand(
		&cobra.Command{Use: "check [FILE]", Short: "Say whether a policy file is valid", Args: cobra.MaximumNArgs(1), RunE: func(_ *cobra.Command, args []string) error {
			path := sitePolicy
			if len(args) == 1 {
				path = args[0]
			}
			if _, err := os.Stat(path); err != nil && len(args) == 1 {
				return err
			}
			if _, err := policy.LoadSite(path); err != nil {
				return err
			}
			fmt.Printf("%s: ok\n", path)
			return nil
		}},
		&cobra.Command{Use: "show", Short: "Show the policy in force", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
			site, err := policy.LoadSite(sitePolicy)
			if err != nil {
				return err
			}
			site.WriteShow(os.Stdout)
			return nil
		}},
	)
	return c
}
