package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/launcher"
)

func versionVerb() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Example: `  safe-run version`, Args: exactly(0), Run: func(*cobra.Command, []string) {
		fmt.Printf("safe-run %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	}}
}

// faultsVerb lists the steps at which the "faults" build can be made to fail.
func faultsVerb() *cobra.Command {
	return &cobra.Command{Use: "__faults", Hidden: true, Args: exactly(0), Run: func(*cobra.Command, []string) {
		for _, s := range launcher.Steps() {
			fmt.Println(s)
		}
	}}
}
