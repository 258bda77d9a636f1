package cli

import "github.com/safe-run/safe-run/internal/fail"

// CheckName says whether s can be the name of a container, as --name has it.
func CheckName(s string) error { return fail.Wrap(fail.Usage, checkName(s), "invalid container name") }
