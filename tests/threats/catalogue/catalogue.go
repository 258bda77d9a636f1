// Package catalogue lists the known ways out of a container that are decided
// when it is launched: flags, mounts, capabilities, fields of images, files
// the launcher reads or writes, versions below it. Each row has a test of the
// name TestID in tests/threats, or a reason why there is none.
package catalogue

import (
	"slices"
	"strconv"
)

// Row is one of them.
type Row struct {
	ID       string // R1, of the section R; stable
	Threat   string // the attack, with its CVE, in one line
	Defence  string // what safe-run does about it, in one line
	Untested string // why no test shows it; empty: tests/threats has Test + ID
	Accepted string // what is left open, if something is, and why that is bearable
}

// Section is a group of rows.
type Section struct {
	Letter string
	Title  string
	Rows   []Row
}

// Sections are all of them, in their order.
func Sections() []Section {
	return []Section{
		{"R", "The runtime and containerd", runtime()},
		{"I", "What an image says and holds", images()},
		{"F", "Flags that give the host away", flags()},
		{"M", "Mounts", mounts()},
		{"K", "Capabilities, system calls, sockets", kernel()},
		{"P", "procfs, sysfs, cgroups, devices", pseudo()},
		{"U", "Users, namespaces, neighbours", users()},
		{"E", "Exhaustion", exhaustion()},
		{"L", "The launcher's own inputs and files", launcher()},
		{"C", "Configured, but not in force", configured()},
		{"N", "Network", network()},
	}
}

// Find gives the row of an ID.
func Find(id string) (Row, bool) {
	for _, s := range Sections() {
		if i := slices.IndexFunc(s.Rows, func(r Row) bool { return r.ID == id }); i >= 0 {
			return s.Rows[i], true
		}
	}
	return Row{}, false
}

// Counts are how many rows each section has: a row that goes missing is seen.
func Counts() map[string]int {
	return map[string]int{
		"R": 26, "I": 14, "F": 15, "M": 18, "K": 24, "P": 13, "U": 12, "E": 16, "L": 20, "C": 14, "N": 11,
	}
}

// Name is the ID of a row by its place in a section, from 1.
func Name(letter string, n int) string { return letter + strconv.Itoa(n) }
