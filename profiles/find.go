package profiles

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/internal/edits"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/strictyaml"
	"github.com/safe-run/safe-run/internal/trusted"
)

// SiteDir is where the site's profiles are: NAME.yaml, root's alone to change.
const SiteDir = "/etc/safe-run/profiles"

// Loaded is a profile and where it is from.
type Loaded struct {
	Profile Profile
	// Name is what the site's policy may grant to: that of an embedded or of a
	// site's profile. A file of somebody's own has none, whatever it calls
	// itself.
	Name string
	Path string // the file, "" for an embedded profile
	Dir  string // the file's directory, "" for an embedded profile

	top string // of the directories a site's file is trusted in; "" for other files
}

// SeccompJSON is Profile.SeccompJSON with the file read as the profile was:
// with read, or for a site's profile only if root alone can change it.
func (l Loaded) SeccompJSON(read func(path string, max int64) ([]byte, error)) ([]byte, error) {
	if l.top != "" {
		read = func(path string, max int64) ([]byte, error) {
			return trusted.ReadFile("seccomp file", path, l.top, max)
		}
	}
	return l.Profile.SeccompJSON(l.Dir, read)
}

// IsFile says whether a reference names a file, and not a profile by name: it
// has a slash, or ends in .yaml or .yml.
func IsFile(ref string) bool {
	return strings.Contains(ref, "/") || strings.HasSuffix(ref, ".yaml") || strings.HasSuffix(ref, ".yml")
}

// Find reads the profile of a reference: a file, by read, or a name: of a
// profile of the site, below siteDir ("": there are none), or else of an
// embedded one. Errors: NotFound for a name or file there is not, Refused for a
// file that is none or, of the site's, that others than root can change.
func Find(ref string, read func(path string, max int64) ([]byte, error), siteDir string) (Loaded, error) {
	return find(ref, read, siteDir, "/")
}

func find(ref string, read func(string, int64) ([]byte, error), siteDir, top string) (Loaded, error) {
	if IsFile(ref) {
		data, err := read(ref, MaxFile)
		if err != nil {
			return Loaded{}, fail.Wrap(fail.KindOf(err), err, "profile")
		}
		p, err := Parse(data, ref)
		return Loaded{Profile: p, Path: ref, Dir: filepath.Dir(ref)}, err
	}
	if !profileName().MatchString(ref) {
		return Loaded{}, fail.New(fail.NotFound, "%.80q is not the name of a profile", ref).
			Hint("names have small letters, digits, . _ and -; a file is named with its directory: ./FILE")
	}
	if siteDir != "" {
		file := filepath.Join(siteDir, ref+".yaml")
		data, err := trusted.ReadFile("profile", file, top, MaxFile)
		switch {
		case err == nil:
			p, err := parseNamed(data, file, ref)
			return Loaded{Profile: p, Name: ref, Path: file, Dir: siteDir, top: top}, err
		case !errors.Is(err, os.ErrNotExist):
			return Loaded{}, err
		}
		// Nobody else may have taken the site's away, to have the embedded one.
		if err := trusted.Dir("profile", siteDir, top); err != nil {
			return Loaded{}, err
		}
	}
	data, err := embedded.ReadFile("embedded/" + ref + ".yaml")
	if err != nil {
		return Loaded{}, unknown(ref, siteDir)
	}
	p, err := parseNamed(data, "embedded/"+ref+".yaml", ref)
	return Loaded{Profile: p, Name: ref}, err
}

// parseNamed parses a file whose name is what is granted to: it must not call
// itself something else.
func parseNamed(data []byte, file, name string) (Profile, error) {
	p, err := Parse(data, file)
	if err == nil && p.Name != "" && p.Name != name {
		return Profile{}, refused(file, strictyaml.Error{Msg: "it calls itself " + p.Name + "; the name of the file is its name"})
	}
	return p, err
}

// SiteNames gives the names of the site's profiles, sorted; none if there is no
// such directory. Files of other names are not profiles.
func SiteNames(siteDir string) ([]string, error) {
	entries, err := os.ReadDir(siteDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "the site's profiles")
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".yaml"); ok && profileName().MatchString(name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// unknown is the error for a name nobody has, with those like it.
func unknown(name, siteDir string) error {
	all := Embedded()
	if siteDir != "" {
		site, _ := SiteNames(siteDir) // who cannot list them is told the others
		all = append(all, site...)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	var near []string
	for _, n := range all {
		if edits.Distance(n, name) <= 2 || strings.HasPrefix(n, name) || strings.HasPrefix(name, n) {
			near = append(near, n)
		}
	}
	e := fail.New(fail.NotFound, "there is no profile %s", name)
	if len(near) > 0 {
		return e.Hint("did you mean %s? safe-run profile ls lists them all; a file is named with its directory: ./%s", strings.Join(near[:min(len(near), 5)], ", "), name)
	}
	return e.Hint("safe-run profile ls lists them; a file is named with its directory: ./%s", name)
}
