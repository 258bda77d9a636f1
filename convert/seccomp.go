package convert

import (
	"encoding/json"
	"reflect"
	"runtime"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/profiles"
	"github.com/safe-run/safe-run/spec"
)

// SeccompName is the name of the file that holds the filter of a container.
func SeccompName(container string) string { return container + ".seccomp.json" }

// seccompPath is where a workload has the filter of its own: not a place, but a
// name that is the same wherever it came from.
func seccompPath(container string) string { return "/" + SeccompName(container) }

// filter sets the filter in force. A filter of the container's own is narrowed
// by the built-in one, as at its start: other programs take it as it is.
func (c *Container) filter() error {
	w := &c.Workload
	options := profiles.Options{
		Arch: runtime.GOARCH, Kernel: [2]int{6, 1}, Capabilities: w.CapAdd,
		WritableBind: slices.ContainsFunc(w.Mounts, func(m spec.Mount) bool { return m.Type == spec.MountBind && !m.ReadOnly }),
		HostNetwork:  slices.ContainsFunc(w.Networks, func(n spec.NetworkUse) bool { return n.Name == "host" }),
	}
	for i, name := range options.Capabilities {
		options.Capabilities = slices.Clone(options.Capabilities)
		options.Capabilities[i] = "CAP_" + name
	}
	builtin := profiles.Seccomp(options)
	if builtin == nil {
		return fail.New(fail.HostCannot, "there is no seccomp filter for the architecture %s", runtime.GOARCH)
	}
	own := w.Seccomp
	w.Seccomp = nil
	w.SecurityOpts = slices.DeleteFunc(slices.Clone(w.SecurityOpts), func(o string) bool {
		return strings.HasPrefix(o, "seccomp") && !strings.HasSuffix(o, "unconfined")
	})
	force := builtin
	if own != nil {
		parsed, err := profiles.ParseSeccomp(own.JSON, options)
		if err != nil {
			return fail.Wrap(fail.KindOf(err), err, "%s", own.Path)
		}
		force = parsed
	}
	data, err := json.MarshalIndent(force, "", "  ")
	if err != nil {
		return fail.Wrap(fail.Internal, err, "writing a seccomp filter")
	}
	c.Filter = append(data, '\n')
	if own != nil && !reflect.DeepEqual(force, builtin) {
		w.Seccomp = &spec.SeccompFile{Path: seccompPath(c.Name), JSON: c.Filter}
		w.SecurityOpts = append(w.SecurityOpts, "seccomp="+seccompPath(c.Name))
	}
	return nil
}
