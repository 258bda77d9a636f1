package unit

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/argv"
	"github.com/safe-run/safe-run/internal/argv/argvtest"
	"github.com/safe-run/safe-run/internal/cli"
)

// FuzzService: of any command line that is taken, a unit is an error, or text
// with the lines it should have and no other, whose command is one program
// with flags that ask for the same. Words are separated by NUL.
func FuzzService(f *testing.F) {
	for _, l := range argvtest.Lines() {
		f.Add(strings.ReplaceAll(strings.ReplaceAll(l, " ", "\x00"), "~", " "))
	}
	for _, h := range hostile {
		f.Add("--label=a=" + h + "\x00--name=" + h + "\x00img\x00" + h)
		f.Add("-e\x00A=" + h + "\x00-w\x00/" + h + "\x00--stop-signal=9\x00--secret=" + h + "\x00img:" + h)
	}
	allowed := []string{
		"Unit.Description", "Unit.Wants", "Unit.After", "Unit.StartLimitIntervalSec", "Unit.StartLimitBurst",
		"Service.Type", "Service.NotifyAccess", "Service.Delegate", "Service.KillMode", "Service.LoadCredential", "Service.ExecStart",
		"Service.Restart", "Service.RestartSec", "Service.SuccessExitStatus", "Service.TimeoutStartSec", "Service.TimeoutStopSec", "Install.WantedBy",
	}
	f.Fuzz(func(t *testing.T, text string) {
		args := strings.Split(text, "\x00")
		w, given, err := FromFlags(args, argvtest.Context())
		if err != nil || !matches(name, w.Name) {
			return // a unit has a name
		}
		words, err := argv.Flags(w)
		if err != nil {
			if strings.Contains(err.Error(), "no command line says") {
				t.Fatalf("%q is a command line, but: %v", args, err)
			}
			return
		}
		again, err := cli.Parse(words, argvtest.Context())
		if err != nil || !reflect.DeepEqual(argv.Said(again.Workload), argv.Said(w)) {
			t.Fatalf("%q is written as %q: %v\n%+v\n%+v", args, words, err, w, again)
		}
		given.Program = "/usr/local/bin/safe-run"
		service, err := Service(w, given)
		if err != nil {
			if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) {
				t.Fatalf("%q: not fit to print: %q", args, err)
			}
			return
		}
		if strings.ContainsFunc(service, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 }) {
			t.Fatalf("%q: control characters in\n%q", args, service)
		}
		options, err := systemdLines(service)
		if err != nil {
			t.Fatalf("%q: %v\n%s", args, err, service)
		}
		seen := map[string]int{}
		for _, o := range options {
			seen[o[0]]++
			if !slices.Contains(allowed, o[0]) || seen[o[0]] > 1 && o[0] != "Service.LoadCredential" {
				t.Fatalf("%q: line %q in\n%s", args, o, service)
			}
			if o[0] != "Service.ExecStart" {
				continue
			}
			command, err := systemdWords(o[1])
			if err != nil || len(command) < 3 || command[0] != given.Program || command[1] != "run" {
				t.Fatalf("%q: %v: %q", args, err, command)
			}
			inv, err := cli.Parse(command[2:], argvtest.Context())
			if err != nil || inv.Workload.Image != w.Image || !slices.Equal(inv.Workload.Args, w.Args) || inv.Workload.Name != w.Name || inv.Workload.Privileged != w.Privileged ||
				!reflect.DeepEqual(argv.Said(inv.Workload).Mounts, argv.Said(w).Mounts) || !slices.Equal(inv.Workload.CapAdd, w.CapAdd) || inv.Workload.Detach || !inv.Workload.Remove {
				t.Fatalf("%q: %v: the unit runs %q", args, err, command)
			}
		}
		if seen["Service.ExecStart"] != 1 {
			t.Fatalf("%q:\n%s", args, service)
		}
	})
}
