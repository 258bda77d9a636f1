package policy

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// capabilityClasses are all capabilities of linux/capability.h: harmless in
// namespaces of one's own, the site's to give, and without effect there.
func capabilityClasses() map[capClass]string {
	return map[capClass]string{
		capFree: "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP SETUID SYS_CHROOT",
		capGranted: "CHECKPOINT_RESTORE DAC_READ_SEARCH IPC_LOCK IPC_OWNER NET_ADMIN NET_BROADCAST SYS_ADMIN SYS_NICE SYS_PTRACE " +
			"SYS_RESOURCE",
		capHost: "AUDIT_CONTROL AUDIT_READ BLOCK_SUSPEND BPF LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD PERFMON SYSLOG SYS_BOOT SYS_MODULE SYS_PACCT " +
			"SYS_RAWIO SYS_TIME SYS_TTY_CONFIG WAKE_ALARM",
	}
}

func TestCapabilityClasses(t *testing.T) {
	rules := map[capClass]string{capFree: "", capGranted: "capability", capHost: "cap-host-only"}
	also := map[capClass]string{capHost: " userns-host"}
	count := 0
	for class, names := range capabilityClasses() {
		for name := range strings.FieldsSeq(names) {
			count++
			if got := refused(capAdd(name)); got != rules[class]+also[class] {
				t.Errorf("%s: refused by %q, want %q", name, got, rules[class]+also[class])
			}
			if c, known := findCapability(name); !known || c.name != name || c.class != class || (c.why == "") != (class == capFree) {
				t.Errorf("%s: %+v", name, c)
			}
			if class == capFree {
				continue
			}
			_, own := Review(request(capAdd(name)))
			hosts := request(capAdd(name), hostUserns)
			_, refusals := Review(hosts)
			i := slices.IndexFunc(refusals, func(r Refusal) bool { return r.ID == rules[class] })
			why, _ := findCapability(name)
			if i < 0 || refusals[i].GivesAway != why.why || refusals[i].Grant != "capabilities: ["+name+"]" {
				t.Errorf("%s with the host's users: %+v", name, refusals)
			}
			if own[0].GivesAway != why.why || own[0].Grant != "capabilities: ["+name+"]" {
				t.Errorf("%s: %+v", name, own)
			}
			if class == capHost && (own[1].Grant != `allow: [userns-host]` || !strings.Contains(own[1].GivesAway, name) || own[1].Flag != "--cap-add "+name) {
				t.Errorf("%s: %+v", name, own)
			}
		}
	}
	if unix.CAP_LAST_CAP+1 != count || len(capabilities()) != count {
		t.Errorf("%d capabilities here, %d in the table, %d in the kernel's list", count, len(capabilities()), unix.CAP_LAST_CAP+1)
	}
}

// TestWhoseNetwork: what a capability over a shared network gives away.
func TestWhoseNetwork(t *testing.T) {
	for name, whose := range map[string]string{"host": "the host's", "container:db": "the other container's"} {
		for _, users := range []func(*Request){func(*Request) {}, hostUserns} {
			_, refusals := Review(request(network(name), capAdd("NET_RAW"), users))
			i := slices.IndexFunc(refusals, func(r Refusal) bool { return r.ID == "cap-network" })
			if i < 0 || !strings.HasPrefix(refusals[i].GivesAway, "power over "+whose+" network") {
				t.Errorf("%s: %+v", name, refusals)
			}
		}
		r := request(network(name), capAdd("NET_RAW"), hostUserns)
		_, refusals := Review(r)
		for _, x := range refusals {
			if x.ID == "cap-network" && x.GivesAway != "power over "+whose+" network" {
				t.Errorf("%s: %q", name, x.GivesAway)
			}
		}
	}
}
