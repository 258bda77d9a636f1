//go:build !faults

package launcher

// fault is where tests of the "faults" build fail or kill the launcher, right
// after the named step. Other builds compile it to nothing.
func fault(string) error { return nil }

// Steps lists the points of fault injection; empty in this build.
func Steps() []string { return nil }
