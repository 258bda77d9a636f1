package profiles

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// NarrowPrefix begins the names of profiles made by NarrowAppArmor. Nothing
// else is ever unloaded.
const NarrowPrefix = "safe-run-p-"

// Bounds of the rules on files. What a path may hold at most keeps the
// parser's automaton small: with more stars it grows exponentially.
const (
	MaxAppArmorFiles = 256 // rules
	maxAppArmorPath  = 512 // bytes
	maxAppArmorStars = 2   // names with * in one path, or with **, which is the last
)

// baseFiles are the rules no program can do without, whatever else it may
// open: the devices every container has, what safe-run itself puts into it,
// and reading /proc, whose dangerous parts are masked or denied.
const baseFiles = `  / r,
  /dev/{null,zero,full,random,urandom,tty,console,ptmx} rw,
  /dev/pts/{,**} rw,
  @{PROC}/{,**} r,
  /etc/{hosts,hostname,resolv.conf} r,
  /run/secrets/{,**} r,
  /run/safe-run/{notify,activate.sock} rw,
  /run/safe-run/activate mrix,
  /{usr/,}{s,}bin/docker-init mrix,
`

// Narrowed is an AppArmor profile that allows less than the built-in one.
type Narrowed struct {
	Name string // NarrowPrefix and 16 hex digits, a hash of all that is in it
	Text string
}

// NarrowAppArmor makes a profile of the built-in one in which only the given
// files can be used, and only the given capabilities (CAP_ names). It can only
// narrow: the denials and all that is not about files stay. The program that
// the runtime starts, for the container or an exec, needs no x: who asks for it is
// outside, and it is executed before the profile holds. What maps code needs m.
//
// Profiles of the same rules have the same name within a scope, which is any
// word: who unloads a profile must know all containers that are under it.
// Errors have kind Usage.
func NarrowAppArmor(use AppArmorUse, capabilities []string, scope string) (Narrowed, error) {
	var none Narrowed
	if len(use.Files) == 0 {
		return none, badRule("there are no rules; nothing could run")
	}
	if len(use.Files) > MaxAppArmorFiles {
		return none, badRule("%d rules on files are more than %d", len(use.Files), MaxAppArmorFiles)
	}
	files := make([]string, 0, len(use.Files))
	for _, f := range use.Files {
		rule, err := fileRule(f)
		if err != nil {
			return none, err
		}
		files = append(files, rule)
	}
	slices.Sort(files)
	caps := make([]string, 0, len(capabilities))
	for _, c := range capabilities {
		word, err := capabilityWord(c)
		if err != nil {
			return none, err
		}
		caps = append(caps, "  capability "+word+",\n")
	}
	slices.Sort(caps)
	rules := baseFiles + strings.Join(slices.Compact(files), "") + strings.Join(slices.Compact(caps), "")

	sum := sha256.Sum256([]byte(scope + "\x00" + apparmorTemplate + "\x00" + rules))
	name := NarrowPrefix + hex.EncodeToString(sum[:8])
	// The name goes in before the rules: a path may hold the letters NAME.
	return Narrowed{Name: name, Text: strings.Replace(AppArmor(name), anyFile, rules, 1)}, nil
}

func badRule(format string, args ...any) error {
	return fail.New(fail.Usage, "AppArmor rules: "+format, args...)
}

// capabilityWord is a capability as the language of profiles has it.
func capabilityWord(c string) (string, error) {
	word := strings.ToLower(strings.TrimPrefix(c, "CAP_"))
	if word == "" || strings.Trim(word, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return "", badRule("%.64q is not a capability", c)
	}
	return word, nil
}

// fileRule is one line of the profile.
func fileRule(f AppArmorFile) (string, error) {
	if err := CheckAppArmorFile(f); err != nil {
		return "", err
	}
	return `  "` + f.Path + `" ` + f.Access + ",\n", nil
}

// CheckAppArmorFile says what is wrong with a rule: its path must be absolute
// and plain, without anything that has a meaning to the parser but * and **,
// and its access be of the letters r, w, k, l, m and ix. Errors have kind Usage.
func CheckAppArmorFile(f AppArmorFile) error {
	if err := checkRulePath(f.Path); err != nil {
		return err
	}
	rest := f.Access
	if before, after, ok := strings.Cut(rest, "ix"); ok {
		rest = before + after
	}
	if f.Access == "" || strings.Trim(rest, "rwklm") != "" {
		return badRule("%.128q: access %.64q is not made of r, w, k, l, m and ix", f.Path, f.Access)
	}
	for i, letter := range rest {
		if strings.ContainsRune(rest[:i], letter) {
			return badRule("%.128q: access %.64q has a letter twice", f.Path, f.Access)
		}
	}
	return nil
}

func checkRulePath(p string) error {
	if len(p) > maxAppArmorPath {
		return badRule("path %.64q... is longer than %d bytes", p, maxAppArmorPath)
	}
	if !strings.HasPrefix(p, "/") {
		return badRule("path %q is not absolute", p)
	}
	// Quotes and backslashes would end or change the quoted word, brackets,
	// braces, ? and ^ are patterns, and @{ is a variable. The parser reads bytes: what
	// is beyond ASCII might not be what a reader sees.
	if i := strings.IndexFunc(p, func(c rune) bool { return c < ' ' || c > '~' || strings.ContainsRune("\"\\[]{}?^", c) }); i >= 0 {
		return badRule("path %q has a character that cannot be in a rule; write * in place of the name it is in", p)
	}
	// A directory ends in a slash.
	if clean := path.Clean(p); clean != p && clean+"/" != p {
		return badRule("path %q is not clean; it is %q", p, clean)
	}
	stars := 0
	names := strings.Split(strings.TrimPrefix(p, "/"), "/")
	for i, name := range names {
		switch n := strings.Count(name, "*"); {
		case n == 0:
			continue
		case n > 1 && (name != "**" || i < len(names)-1):
			return badRule("path %q: a name can hold one *, and ** can only be the last name", p)
		}
		stars++
	}
	if stars > maxAppArmorStars {
		return badRule("path %q: only %d names can be or hold stars", p, maxAppArmorStars)
	}
	return nil
}

// LoadNarrowed sees to it that the kernel enforces a narrowed profile. It
// changes the host. Errors have kind HostCannot, also where the kernel has no
// AppArmor: a container that asks for rules never runs without them.
func LoadNarrowed(ctx context.Context, n Narrowed) error {
	if err := needAppArmor(); err != nil {
		return err
	}
	return load(ctx, n.Name, n.Text)
}

// RequireAppArmor says whether the kernel enforces a profile the site has
// loaded. Errors have kind HostCannot; Usage for names of safe-run's own
// narrowed profiles, which go when their containers do.
func RequireAppArmor(name string) error {
	if strings.HasPrefix(name, NarrowPrefix) {
		return fail.New(fail.Usage, "AppArmor profile %.64q belongs to other containers, and is removed with the last of them", name)
	}
	if err := needAppArmor(); err != nil {
		return err
	}
	mode, err := AppArmorMode(name)
	switch {
	case err != nil:
		return err
	case mode == "":
		return fail.New(fail.HostCannot, "there is no AppArmor profile %.128q in the kernel", name).Hint("load it with apparmor_parser -r FILE; aa-status lists what is loaded")
	case mode != "enforce":
		return fail.New(fail.HostCannot, "the AppArmor profile %.128q is in mode %q, not enforced", name, mode).Hint("set it with aa-enforce")
	}
	return nil
}

// apparmorEnabled holds Y where the kernel has AppArmor switched on.
const apparmorEnabled = "/sys/module/apparmor/parameters/enabled"

func needAppArmor() error {
	if b, _ := os.ReadFile(apparmorEnabled); strings.TrimSpace(string(b)) != "Y" {
		return fail.New(fail.HostCannot, "an AppArmor profile is asked for, and this kernel has no AppArmor").
			Hint("boot it with lsm=...,apparmor, or run without the profile's AppArmor part")
	}
	return nil
}

// UnloadAppArmor takes a narrowed profile out of the kernel; of any other name
// it is an error. No process may be under it, or it would be left without
// any: such a profile stays, with an error of kind Conflict. One that is not
// loaded, and a kernel without AppArmor, are no errors.
func UnloadAppArmor(name string) error {
	if !narrowName(name) {
		return fail.New(fail.Internal, "AppArmor profile %.64q is not one of a container's", name)
	}
	f, err := os.OpenFile(apparmorRemove, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "removing the AppArmor profile %s", name)
	}
	defer f.Close()
	if pid := confinedBy(name); pid != "" {
		return fail.New(fail.Conflict, "process %s is still under the AppArmor profile %s", pid, name)
	}
	if _, err := f.WriteString(name); err != nil && !errors.Is(err, unix.ENOENT) {
		return fail.Wrap(fail.HostCannot, err, "removing the AppArmor profile %s", name)
	}
	return nil
}

// apparmorRemove takes the name of a profile to be removed.
const apparmorRemove = "/sys/kernel/security/apparmor/.remove"

func narrowName(name string) bool {
	digits, ok := strings.CutPrefix(name, NarrowPrefix)
	return ok && len(digits) == 16 && strings.Trim(digits, "0123456789abcdef") == ""
}

// confinedBy gives the pid of a process under a profile, "" if there is none.
func confinedBy(name string) string {
	d, err := os.Open("/proc")
	if err != nil {
		return "" // no process can be seen
	}
	defer d.Close()
	pids, _ := d.Readdirnames(-1)
	for _, pid := range pids {
		if strings.Trim(pid, "0123456789") != "" {
			continue
		}
		b, err := os.ReadFile("/proc/" + pid + "/attr/apparmor/current")
		if errors.Is(err, fs.ErrNotExist) {
			b, _ = os.ReadFile("/proc/" + pid + "/attr/current")
		}
		if label, _, _ := strings.Cut(strings.TrimSpace(string(b)), " ("); label == name {
			return pid
		}
	}
	return ""
}
