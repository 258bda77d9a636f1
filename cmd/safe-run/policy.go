package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/policy"
)

// sitePolicy is where the site's policy is; there is no flag and no variable
// for it: who runs the command must not choose what it is allowed.
const sitePolicy = "/etc/safe-run/policy.yaml"

func policyVerb() *cobra.Command {
	return group(
		"policy", "The site's policy: check a file, show what is in force",
		&cobra.Command{Use: "check [FILE]", Short: "Say whether a policy file is valid", Long: `Say whether a policy file is valid, the site's if none is named. A file that
others than its owner may write is an error, as it is for run.`, Example: `  safe-run policy check
  safe-run policy check ./policy.yaml && sudo install -m 0644 policy.yaml /etc/safe-run/policy.yaml`, Args: between(0, 1), RunE: func(_ *cobra.Command, args []string) error {
			path := sitePolicy
			if len(args) == 1 {
				path = args[0]
			}
			_, err := os.Stat(path)
			switch {
			case errors.Is(err, fs.ErrNotExist) && len(args) == 0:
				fmt.Printf("%s: there is none, and the built-in policy holds\n", path)
				return nil
			case err != nil:
				return fail.Wrap(fail.NotFound, err, "policy file")
			}
			if _, err := policy.LoadSite(path); err != nil {
				return err
			}
			fmt.Printf("%s: ok\n", path)
			return nil
		}},
		&cobra.Command{Use: "show", Short: "Show the policy in force", Long: `Show the policy in force: limits, networks, registries, and what is granted to
which image. Where there is no file it is the built-in one.`, Example: `  safe-run policy show`, Args: exactly(0), RunE: func(*cobra.Command, []string) error {
			site, err := policy.LoadSite(sitePolicy)
			if err != nil {
				return err
			}
			site.WriteShow(os.Stdout)
			return nil
		}},
	)
}
