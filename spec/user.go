package spec

import (
	"bytes"
	"errors"
	"strconv"
	"strings"

	"github.com/moby/sys/user"

	"github.com/safe-run/safe-run/internal/fail"
)

const (
	// maxID is the kernel's and the OCI runtimes' largest usable id.
	maxID = 1<<31 - 1
	// blockSize is how many ids a container has; those above are mapped to
	// nothing.
	blockSize = 65536
	// maxUserFile bounds an image's passwd and group; containerd's limit.
	maxUserFile = 10 << 20
	// maxGroups is the kernel's NGROUPS_MAX.
	maxGroups = 65536
	// maxPrinted bounds what a message repeats of a hostile string.
	maxPrinted = 64
)

// NeedsFiles says whether ResolveUser has to see the image's passwd and group
// for these values. It is false for the frequent case of no user at all,
// "0", "root" and a pair of numbers: then both may be nil.
//
// That is a decision: docker looks root up in the image and adds the groups
// it is a member of there. Inside a user namespace, with no capabilities,
// these only ever open files of the image.
func NeedsFiles(userSpec string, groupAdd []string) bool {
	for _, g := range groupAdd {
		if !digits(g) {
			return true
		}
	}
	name, group, hasGroup := strings.Cut(userSpec, ":")
	switch {
	case rootSpec(userSpec):
		return false
	case hasGroup && (name == "" || digits(name)) && (group == "" || digits(group)):
		return group == "" && name != "" // the group comes from passwd
	}
	return true
}

func rootSpec(s string) bool { return s == "" || s == "0" || s == "root" || s == "0:0" }

// ResolveUser gives the ids of NAME|UID[:GROUP|GID], the form of --user and of
// an image's USER, and of --group-add, by the image's own passwd and group
// files; nil means the image has none.
//
// It follows docker: digits are an id and never a name; an unknown id is taken
// with group 0; an unknown name is an error; a given group replaces the
// user's supplementary ones. It is stricter in that an id must be plain
// decimal digits and one of the 65536 a container has. The empty string is
// root, without a look at the files (see NeedsFiles). Errors have kind Usage
// or HostCannot.
func ResolveUser(userSpec string, groupAdd []string, passwd, group []byte) (User, error) {
	if len(passwd) > maxUserFile || len(group) > maxUserFile {
		return User{}, fail.New(fail.Usage, "the image's /etc/passwd or /etc/group is larger than %d bytes", maxUserFile)
	}
	if len(groupAdd) > maxGroups {
		return User{}, fail.New(fail.Usage, "more than %d groups", maxGroups)
	}
	u, err := lookUp(userSpec, passwd, group)
	if err != nil {
		return User{}, err
	}
	for _, g := range groupAdd {
		gid, err := groupID(g, group)
		if err != nil {
			return User{}, err
		}
		u.Additional = append(u.Additional, gid)
	}
	if len(u.Additional) > maxGroups {
		return User{}, fail.New(fail.Usage, "user %.64q is in more than %d groups", userSpec, maxGroups)
	}
	return u, nil
}

func lookUp(userSpec string, passwd, group []byte) (User, error) {
	if rootSpec(userSpec) {
		return User{}, nil
	}
	name, groupName, hasGroup := strings.Cut(userSpec, ":")
	if name == "" && groupName == "" || !nameOrID(name) || !nameOrID(groupName) {
		return User{}, fail.New(fail.Usage, "invalid user %s: give NAME or UID, and :GROUP or :GID if needed", printed(userSpec))
	}
	var u User
	entry, found, err := passwdEntry(name, passwd)
	if err != nil {
		return User{}, err
	}
	switch {
	case digits(name):
		if u.UID, err = id(name); err != nil {
			return User{}, err
		}
		if found {
			u.GID, u.Home, u.Name = uint32(entry.Gid), entry.Home, entry.Name
		}
	case name == "":
		// ":GROUP" is root with another group.
	case !found:
		return User{}, fail.New(fail.Usage, "unable to find user %s: no matching entries in passwd file", printed(name))
	default:
		u = User{UID: uint32(entry.Uid), GID: uint32(entry.Gid), Home: entry.Home, Name: entry.Name}
	}
	if hasGroup && groupName != "" {
		u.GID, err = groupID(groupName, group)
		return u, err
	}
	if u.Name != "" {
		u.Additional, err = memberships(u.Name, group)
	}
	return u, err
}

// passwdEntry finds a user by name, or by id if the name is all digits. The
// first entry wins. Entries whose ids no container can have are skipped for an
// id, and an error for a name.
func passwdEntry(name string, passwd []byte) (user.User, bool, error) {
	if name == "" || len(passwd) == 0 {
		return user.User{}, false, nil
	}
	var match func(user.User) bool
	if digits(name) {
		want, err := id(name)
		if err != nil {
			return user.User{}, false, err
		}
		match = func(u user.User) bool { return u.Uid == int(want) && usable(u.Gid) }
	} else {
		match = func(u user.User) bool { return u.Name == name }
	}
	entries := firstMatch(passwd, match)
	if len(entries) == 0 {
		return user.User{}, false, nil
	}
	e := entries[0]
	if !usable(e.Uid) || !usable(e.Gid) {
		return user.User{}, false, unmapped(strconv.Itoa(e.Uid) + ":" + strconv.Itoa(e.Gid))
	}
	return e, true, nil
}

// firstMatch reads passwd line by line, so that an entry's numbers can be
// checked as text: usual parsers read what is not a number as 0, which is
// root. A million lines must cost little.
func firstMatch(passwd []byte, match func(user.User) bool) []user.User {
	for line := range bytes.Lines(passwd) {
		fields := bytes.SplitN(bytes.TrimSpace(line), []byte(":"), 7)
		if len(fields) < 4 || !digits(string(fields[2])) || !digits(string(fields[3])) {
			continue
		}
		// What overflows is no id that a container can have.
		u := user.User{Name: string(fields[0]), Uid: whole(fields[2]), Gid: whole(fields[3])}
		if len(fields) > 5 {
			u.Home = string(fields[5])
		}
		if match(u) {
			return []user.User{u}
		}
	}
	return nil
}

// whole is the number of decimal digits, -1 if it is too large.
func whole(digits []byte) int {
	n, err := strconv.ParseInt(string(digits), 10, 32)
	if err != nil {
		return -1
	}
	return int(n)
}

// groupID is that of a --group-add value or the part after the colon.
func groupID(g string, group []byte) (uint32, error) {
	if digits(g) {
		return id(g)
	}
	if g == "" || !nameOrID(g) {
		return 0, fail.New(fail.Usage, "invalid group %s", printed(g))
	}
	found := -1
	err := eachGroup(group, func(e user.Group) bool {
		if e.Name == g {
			found = e.Gid
			return false
		}
		return true
	})
	switch {
	case err != nil:
		return 0, err
	case found < 0:
		return 0, fail.New(fail.Usage, "unable to find group %s: no matching entries in group file", printed(g))
	case !usable(found):
		return 0, unmapped(strconv.Itoa(found))
	}
	return uint32(found), nil
}

// nameOrID refuses what is neither a number nor a name anybody gives, so that
// another spelling of a number ("+0", " 0", "-1") is not looked up as a name.
func nameOrID(s string) bool {
	return len(s) <= 512 && !strings.HasPrefix(s, "-") && !strings.HasPrefix(s, "+") && !strings.ContainsAny(s, ": ") && !hasControl(s)
}

// memberships are the groups that list a user. Groups no container can have
// are left out: they would open nothing.
func memberships(name string, group []byte) ([]uint32, error) {
	var out []uint32
	err := eachGroup(group, func(e user.Group) bool {
		for _, member := range e.List {
			if member == name && usable(e.Gid) {
				out = append(out, uint32(e.Gid))
				break
			}
		}
		return len(out) <= maxGroups
	})
	return out, err
}

// eachGroup walks the valid lines of a group file until f says to stop.
func eachGroup(group []byte, f func(user.Group) bool) error {
	for line := range bytes.Lines(group) {
		line = bytes.TrimSpace(line)
		fields := bytes.SplitN(line, []byte(":"), 4)
		if len(fields) < 3 || line[0] == '#' || !digits(string(fields[2])) {
			continue
		}
		entries, err := user.ParseGroup(bytes.NewReader(line))
		if err != nil {
			return fail.Wrap(fail.Usage, err, "the image's /etc/group")
		}
		for _, e := range entries {
			if !f(e) {
				return nil
			}
		}
	}
	return nil
}

// digits says whether s is a number to look at as an id, never as a name.
func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// id reads decimal digits. What overflows is an error, not another number or
// a name (CVE-2024-40635, CVE-2026-46680).
func id(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if errors.Is(err, strconv.ErrRange) || err == nil && n > maxID {
		return 0, fail.New(fail.Usage, "id %s: uids and gids must be in range 0-%d", printed(s), maxID)
	}
	if err != nil {
		return 0, fail.New(fail.Usage, "id %s is not a decimal number", printed(s))
	}
	if n >= blockSize {
		return 0, unmapped(s)
	}
	return uint32(n), nil
}

func usable(n int) bool { return n >= 0 && n < blockSize }

func unmapped(s string) error {
	return fail.New(fail.HostCannot, "id %s: a container has the ids 0 to %d of its own", printed(s), blockSize-1).
		Hint("use an id below %d", blockSize)
}

// printed quotes a hostile string and bounds it.
func printed(s string) string {
	if len(s) > maxPrinted {
		s = s[:maxPrinted] + "..."
	}
	return strconv.Quote(s)
}
