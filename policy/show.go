package policy

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/docker/go-units"
)

// WriteShow prints the policy in force for people: limits, switches, grants,
// and the catalogue with what would permit each entry.
func (s Site) WriteShow(w io.Writer) error {
	var b bytes.Buffer
	if s.path == "" {
		b.WriteString("Policy: built-in (there is no " + DefaultFile + ")\n")
	} else {
		fmt.Fprintf(&b, "Policy: %s\n", shown(s.path))
	}
	s.showLimits(&b)
	s.showSwitches(&b)
	s.showGrants(&b)
	b.WriteString("\nCatalogue (refused unless granted):\n")
	for _, r := range Catalogue() {
		fmt.Fprintf(&b, "  %-24s %-13s %s\n", r.ID, either(r.Grant, "never"), r.Title)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (s Site) showLimits(b *bytes.Buffer) {
	l := s.Limits()
	size := func(n int64) string { return units.BytesSize(float64(n)) }
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	b.WriteString("\nLimits of each container:   default      maximum\n")
	for _, row := range []struct {
		name      string
		def, most int64
		text      func(int64) string
	}{
		{"memory", l.Memory, l.MaxMemory, size},
		{"pids", l.Pids, l.MaxPids, number},
		{"nofile", l.Nofile, l.MaxNofile, number},
		{"shm", l.Shm, l.MaxShm, size},
		{"tmpfs, each", l.Tmpfs, l.MaxTmpfs, size},
	} {
		most := "-"
		if row.most > 0 {
			most = row.text(row.most)
		}
		fmt.Fprintf(b, "  %-25s %-12s %s\n", row.name, row.text(row.def), most)
	}
	fmt.Fprintf(b, "  %-25s %-12s %s\n", "log, all files", size(logFiles*logFileBytes), size(l.MaxLog))
	if l.MaxCPUs > 0 {
		fmt.Fprintf(b, "  %-25s %-12s %g\n", "cpus", "-", l.MaxCPUs)
	}
}

func (s Site) showSwitches(b *bytes.Buffer) {
	list := func(items []string) string { return either(strings.Join(items, " "), "any") }
	b.WriteString("\nSwitches:\n")
	for _, row := range [][2]string{
		{"registries", list(s.Registries)},
		{"require-digest", strconv.FormatBool(s.RequireDigest)},
		{"networks", list(s.Networks)},
		{"publish-address", either(s.PublishAddress, "all of the host's")},
		{"require-lsm", strconv.FormatBool(s.RequireLSM)},
		{"allow-old-runtime", strconv.FormatBool(s.AllowOldRuntime)},
	} {
		fmt.Fprintf(b, "  %-25s %s\n", row[0], row[1])
	}
}

func (s Site) showGrants(b *bytes.Buffer) {
	b.WriteString("\nGrants:\n")
	if len(s.Grants) == 0 {
		b.WriteString("  none\n")
	}
	for _, g := range s.Grants {
		b.WriteString("  " + shown(g.Image))
		if g.Profile != "" {
			b.WriteString(" with profile " + shown(g.Profile))
		}
		b.WriteString("\n")
		for _, row := range g.rows() {
			if row[1] != "" {
				fmt.Fprintf(b, "    %-23s %s\n", row[0], row[1])
			}
		}
	}
}

func (g Grant) rows() [][2]string {
	var devices, binds []string
	for _, d := range g.Devices {
		devices = append(devices, shown(d.Path)+":"+d.Permissions)
	}
	for _, m := range g.Binds {
		text := shown(m.Source)
		if m.ReadOnly {
			text += ":ro"
		}
		binds = append(binds, text)
	}
	return [][2]string{
		{"capabilities", strings.Join(g.Capabilities, " ")},
		{"devices", strings.Join(devices, " ")},
		{"binds", strings.Join(binds, " ")},
		{"sysctls", strings.Join(g.Sysctls, " ")},
		{"annotations", strings.Join(g.Annotations, " ")},
		{"allow", strings.Join(g.Allow, " ")},
	}
}
