package profiles

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// apparmorTemplate is the profile of every container; NAME stands for the
// profile's name. It is a second layer below namespaces, capabilities and
// seccomp, so it says what those say again, for the case that one of them has
// a hole. What it does not list is denied: other socket families, mount,
// pivot_root, ptrace and signals across containers, change_profile.
//
// The rules on /proc and /sys follow moby's docker-default.
const apparmorTemplate = `@{PROC}=/proc/

profile NAME flags=(attach_disconnected,mediate_deleted) {
` + anyFile + `
  network unix,
  network inet,
  network inet6,
  network netlink raw,

  # Host processes and the runtime may signal the container, it may signal
  # itself only.
  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  signal (receive) peer=crun,
  signal (send,receive) peer=NAME,

  ptrace (trace,read,tracedby,readby) peer=NAME,

  unix (create,getattr,setattr,getopt,setopt,bind,listen,shutdown),
  unix (send,receive,connect,accept) peer=(label=NAME),

  deny mount,
  deny umount,
  deny pivot_root,

  # All files directly in /proc, and below it all but /proc/PID and a few of
  # /proc/sys/kernel/shm*.
  deny @{PROC}/* w,
  deny @{PROC}/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}/** w,
  deny @{PROC}/sys/[^k]** w,
  deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny @{PROC}/sysrq-trigger rwklx,
  deny @{PROC}/kcore rwklx,

  deny /sys/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
  deny /sys/kernel/debug/** rwklx,
  deny /sys/kernel/tracing/** rwklx,
}
`

// anyFile are the rules that NarrowAppArmor puts narrower ones in place of.
const anyFile = "  file,\n  capability,\n"

// AppArmor gives the text of the AppArmor profile under a name. The name must
// be one word of letters, digits, dots, dashes and underscores.
func AppArmor(name string) string {
	return strings.ReplaceAll(apparmorTemplate, "NAME", name)
}

// AppArmorName is the name LoadAppArmor loads the profile under. It changes
// with the text, so that a newer safe-run never runs under an older text and
// containers already running keep theirs.
func AppArmorName() string {
	sum := sha256.Sum256([]byte(apparmorTemplate))
	return "safe-run-" + hex.EncodeToString(sum[:4])
}

// apparmorProfiles lists the loaded profiles with their modes.
const apparmorProfiles = "/sys/kernel/security/apparmor/profiles"

// apparmorParser are the places the parser is looked for in. PATH is the
// caller's, who may not be trusted with the choice of a program run as root.
var apparmorParser = []string{"/sbin/apparmor_parser", "/usr/sbin/apparmor_parser", "/usr/bin/apparmor_parser"}

// LoadAppArmor sees to it that the kernel has the profile AppArmorName in
// enforce mode and loads it if it has not. It changes the host and is only to
// be called where the kernel has AppArmor. Errors have kind HostCannot.
func LoadAppArmor(ctx context.Context) error {
	name := AppArmorName()
	return load(ctx, name, AppArmor(name))
}

// load loads a profile, if it is not loaded yet, and makes sure that it is
// enforced.
func load(ctx context.Context, name, text string) error {
	mode, err := AppArmorMode(name)
	if err != nil {
		return err
	}
	if mode == "" {
		if err := parseIn(ctx, text); err != nil {
			return err
		}
		if mode, err = AppArmorMode(name); err != nil {
			return err
		}
	}
	if mode != "enforce" {
		return fail.New(fail.HostCannot, "the AppArmor profile %s is in mode %q, not enforced", name, mode).
			Hint("aa-enforce %s, or remove it with apparmor_parser -R so that it is loaded again", name)
	}
	return nil
}

// AppArmorMode gives the mode of a loaded profile ("enforce", "complain",
// "kill", "unconfined", "prompt"), "" if it is not loaded.
func AppArmorMode(name string) (string, error) {
	f, err := os.Open(apparmorProfiles)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return "", fail.New(fail.HostCannot, "the kernel has AppArmor but %s is missing", apparmorProfiles).
				Hint("mount -t securityfs securityfs /sys/kernel/security")
		}
		return "", fail.Wrap(fail.HostCannot, err, "reading the loaded AppArmor profiles")
	}
	defer f.Close()
	return modeIn(bufio.NewScanner(f), name)
}

func modeIn(s *bufio.Scanner, name string) (string, error) {
	for s.Scan() {
		// A line is "NAME (MODE)"; names may hold blanks.
		if rest, ok := strings.CutPrefix(s.Text(), name+" ("); ok && strings.HasSuffix(rest, ")") {
			return strings.TrimSuffix(rest, ")"), nil
		}
	}
	return "", fail.Wrap(fail.HostCannot, s.Err(), "reading the loaded AppArmor profiles")
}

// The most the parser may use on a profile's text, part of which can be
// somebody else's.
const (
	parserMemory = 1 << 29 // bytes
	parserCPU    = 20      // seconds
)

// parseIn loads a profile's text. -K keeps the parser from writing its cache;
// -r replaces one of that name in one step.
func parseIn(ctx context.Context, text string) error {
	for _, parser := range apparmorParser {
		if _, err := os.Stat(parser); err != nil {
			continue
		}
		out, err := runParser(ctx, parser, text, "-Kr")
		return fail.Wrap(fail.HostCannot, err, "%s: %.500q", parser, out)
	}
	return fail.New(fail.HostCannot, "the kernel has AppArmor but apparmor_parser is not installed, so no profile can be loaded").
		Hint("install the package apparmor")
}

// runParser runs the parser on a text and gives what it says.
func runParser(ctx context.Context, parser, text string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, parser, args...)
	c.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	in, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	// Before it has read anything.
	for what, most := range map[int]uint64{unix.RLIMIT_AS: parserMemory, unix.RLIMIT_CPU: parserCPU} {
		if lerr := unix.Prlimit(c.Process.Pid, what, &unix.Rlimit{Cur: most, Max: most}, nil); lerr != nil && err == nil {
			err = fmt.Errorf("limits of the parser: %w", lerr)
		}
	}
	if err == nil {
		_, err = io.WriteString(in, text)
	}
	_ = in.Close()
	err = errors.Join(c.Wait(), err)
	return out.Bytes(), err
}
