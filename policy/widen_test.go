package policy

import (
	"slices"
	"testing"

	"github.com/safe-run/safe-run/spec"
)

func TestGrantableCapabilities(t *testing.T) {
	r := Request{Workload: spec.Workload{Image: "example.com/a"}}
	if got := GrantableCapabilities(r); !slices.Equal(got, slices.Sorted(slices.Values(FreeCapabilities()))) {
		t.Errorf("without grants: %q", got)
	}
	r.Site = Site{Grants: []Grant{
		{Image: "example.com/a", Capabilities: []string{"CAP_NET_ADMIN", "CAP_SYS_TIME"}},
		{Image: "example.com/b", Capabilities: []string{"CAP_SYS_PTRACE"}},
		{Image: "example.com/a", Profile: "p", Capabilities: []string{"CAP_SYS_NICE"}},
	}}
	got := GrantableCapabilities(r)
	for name, want := range map[string]bool{
		"CAP_NET_ADMIN": true, "CAP_SYS_PTRACE": false, "CAP_SYS_NICE": false,
		"CAP_SYS_TIME": false, // means nothing without the host's user namespace
	} {
		if slices.Contains(got, name) != want {
			t.Errorf("%s: %v, wanted %v", name, !want, want)
		}
	}
	r.Profile = "p"
	if !slices.Contains(GrantableCapabilities(r), "CAP_SYS_NICE") {
		t.Error("a grant to the profile is not seen")
	}
	if why, only := HostCapability("CAP_MKNOD"); !only || why == "" {
		t.Errorf("MKNOD: %q, %v", why, only)
	}
	if _, only := HostCapability("CHOWN"); only {
		t.Error("CHOWN is said to be the host's alone")
	}
}
