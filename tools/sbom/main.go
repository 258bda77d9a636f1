// Sbom tells what programs written in Go are made of: every module that is
// linked in, its version, its checksum, its licence. It prints an SPDX 2.3
// document, and ends with 1 when a licence is not one of those that may be
// linked into and shipped with a program under Apache-2.0.
//
//	sbom -o FILE [-debian PACKAGE=LICENCE,...] PROGRAM...
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	classifier "github.com/google/licenseclassifier/v2"
	"github.com/google/licenseclassifier/v2/assets"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
)

func main() {
	out := flag.String("o", "", "write the SPDX document to `FILE`")
	debian := flag.String("debian", "", "`PACKAGE=LICENCE,...` of Debian that are linked in or shipped beside")
	flag.Parse()
	components, err := describe(*out, *debian, flag.Args())
	if err == nil {
		err = judge(components)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

// permitted are the licences, by their SPDX names. The LGPL's are of
// libraries in C that runc is linked with; their sources are Debian's.
var permitted = []string{
	"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Unlicense", "CC0-1.0", "Zlib",
	"MPL-2.0", "LGPL-2.1-only", "LGPL-2.1-or-later",
}

// component is one thing that is linked in or shipped.
type component struct {
	Name, Version string
	Sum           string // h1: of go.sum; empty for what is no module
	Source        string // where it is had
	Licences      []string
	Programs      []string // that have it
}

// describe finds what the programs are made of, and writes it to the file out
// if that is not empty.
func describe(out, debian string, programs []string) ([]*component, error) {
	if len(programs) == 0 {
		return nil, errors.New("which program?")
	}
	found := map[string]*component{}
	sums := map[string]string{}
	for _, p := range programs {
		if err := linked(p, found); err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		h := sha256.Sum256(b)
		sums[p] = hex.EncodeToString(h[:])
	}
	components := make([]*component, 0, len(found))
	for _, c := range found {
		components = append(components, c)
	}
	slices.SortFunc(components, func(a, b *component) int { return strings.Compare(a.Name+"@"+a.Version, b.Name+"@"+b.Version) })
	if err := licences(components); err != nil {
		return nil, err
	}
	if debian != "" {
		for word := range strings.SplitSeq(debian, ",") {
			c, err := packaged(word)
			if err != nil {
				return nil, err
			}
			components = append(components, c)
		}
	}
	if out != "" {
		if err := write(out, programs, sums, components); err != nil {
			return nil, err
		}
	}
	return components, nil
}

// judge prints the licences, how many components have each, and fails for
// those that are not permitted or were not found.
func judge(components []*component) error {
	count := map[string]int{}
	var bad []string
	for _, c := range components {
		if len(c.Licences) == 0 {
			bad = append(bad, c.Name+" "+c.Version+": no licence found")
		}
		for _, l := range c.Licences {
			count[l]++
			if !slices.Contains(permitted, l) {
				bad = append(bad, c.Name+" "+c.Version+": "+l)
			}
		}
	}
	names := make([]string, 0, len(count))
	for l := range count {
		names = append(names, l)
	}
	slices.Sort(names)
	fmt.Printf("%d components:", len(components))
	for _, l := range names {
		fmt.Printf(" %s %d", l, count[l])
	}
	fmt.Println()
	if len(bad) > 0 {
		return errors.New("licences to look at:\n  " + strings.Join(bad, "\n  "))
	}
	return nil
}

// linked adds what the build information of a program names.
func linked(program string, found map[string]*component) error {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return err
	}
	add := func(name, version, sum, source string) {
		key := name + "@" + version
		if found[key] == nil {
			found[key] = &component{Name: name, Version: version, Sum: sum, Source: source}
		}
		found[key].Programs = append(found[key].Programs, program)
	}
	add("std", info.GoVersion, "", "https://go.dev/dl/")
	for _, d := range info.Deps {
		if d.Replace != nil {
			d = d.Replace
		}
		add(d.Path, d.Version, d.Sum, "https://proxy.golang.org/"+d.Path+"/@v/"+d.Version+".zip")
	}
	// A program of another module is one of its own dependencies.
	if m := info.Main; m.Version != "" && m.Version != "(devel)" && !strings.HasPrefix(m.Path, "github.com/safe-run/") {
		add(m.Path, m.Version, m.Sum, "https://proxy.golang.org/"+m.Path+"/@v/"+m.Version+".zip")
	}
	return nil
}

// licences finds the licence of each module in the module cache.
func licences(components []*component) error {
	c, err := assets.DefaultClassifier()
	if err != nil {
		return err
	}
	var modules []string
	for _, m := range components {
		if m.Name != "std" {
			modules = append(modules, m.Name+"@"+m.Version)
		}
	}
	cmd := exec.Command("go", append([]string{"mod", "download", "-json"}, modules...)...)
	cmd.Stderr = os.Stderr
	list, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("go mod download: %w", err)
	}
	dirs := map[string]string{}
	for d := json.NewDecoder(strings.NewReader(string(list))); d.More(); {
		var m struct{ Path, Version, Dir string }
		if err := d.Decode(&m); err != nil {
			return err
		}
		dirs[m.Path+"@"+m.Version] = m.Dir
	}
	for _, m := range components {
		dir := dirs[m.Name+"@"+m.Version]
		if m.Name == "std" {
			root, err := exec.Command("go", "env", "GOROOT").Output()
			if err != nil {
				return err
			}
			dir = strings.TrimSpace(string(root))
		}
		if m.Licences, err = licencesIn(c, dir); err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
		if m.Name == "std" && len(m.Licences) == 0 {
			m.Licences = []string{"BSD-3-Clause"} // a distribution's Go may come without the file
		}
	}
	return nil
}

// licencesIn reads the files at the top of a module that are licences by
// their names.
func licencesIn(c *classifier.Classifier, dir string) ([]string, error) {
	if dir == "" {
		return nil, nil
	}
	entries, err := fs.ReadDir(os.DirFS(dir), ".")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		lower := strings.ToLower(e.Name())
		// LICENSE.docs is about texts that are not linked in.
		if e.IsDir() || strings.HasSuffix(lower, ".docs") || !strings.HasPrefix(lower, "licen") && !strings.HasPrefix(lower, "copying") && !strings.HasPrefix(lower, "unlicense") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		for _, m := range c.Match(b).Matches {
			if m.MatchType == "License" && !slices.Contains(names, m.Name) {
				names = append(names, m.Name)
			}
		}
	}
	slices.Sort(names)
	return names, nil
}

// packaged describes a package of Debian that is installed.
func packaged(word string) (*component, error) {
	name, licence, ok := strings.Cut(word, "=")
	if !ok {
		return nil, fmt.Errorf("%q is not PACKAGE=LICENCE", word)
	}
	version, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", name).Output()
	if err != nil {
		return nil, fmt.Errorf("dpkg-query %s: %w", name, err)
	}
	return &component{
		Name: name, Version: string(version), Licences: []string{licence},
		Source: "https://packages.debian.org/source/" + name,
	}, nil
}

// write makes the document. The same programs give the same bytes: its time
// is that of the last commit, or SOURCE_DATE_EPOCH.
func write(file string, programs []string, sums map[string]string, components []*component) error {
	made := time.Unix(0, 0).UTC()
	if s, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
		made = time.Unix(s, 0).UTC()
	}
	all := sha256.New()
	doc := &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: "safe-run",
		CreationInfo: &spdx.CreationInfo{
			Created:  made.Format(time.RFC3339),
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "safe-run-sbom-" + runtime.Version()}},
		},
	}
	ids := map[string]common.ElementID{}
	for _, p := range programs {
		name := filepath.Base(p)
		fmt.Fprintln(all, name, sums[p])
		ids[p] = common.ElementID("Program-" + word(name))
		doc.Packages = append(doc.Packages, &spdx.Package{
			PackageName: name, PackageSPDXIdentifier: ids[p], PackageFileName: name, PackageDownloadLocation: "NOASSERTION",
			PackageLicenseConcluded: "NOASSERTION", PackageLicenseDeclared: "NOASSERTION", PackageCopyrightText: "NOASSERTION",
			PackageChecksums:      []common.Checksum{{Algorithm: common.SHA256, Value: sums[p]}},
			PrimaryPackagePurpose: "APPLICATION",
		})
		doc.Relationships = append(doc.Relationships, relation("DOCUMENT", "DESCRIBES", ids[p]))
	}
	for _, c := range components {
		id := common.ElementID("Component-" + word(c.Name) + "-" + word(c.Version))
		licence := "NOASSERTION"
		if len(c.Licences) > 0 {
			licence = strings.Join(c.Licences, " AND ")
		}
		p := &spdx.Package{
			PackageName: c.Name, PackageSPDXIdentifier: id, PackageVersion: c.Version, PackageDownloadLocation: c.Source,
			PackageLicenseConcluded: "NOASSERTION", PackageLicenseDeclared: licence, PackageCopyrightText: "NOASSERTION",
		}
		if len(c.Programs) > 0 {
			p.PackageExternalReferences = []*spdx.PackageExternalReference{{
				Category: "PACKAGE-MANAGER", RefType: "purl", Locator: "pkg:golang/" + path.Clean(c.Name) + "@" + strings.TrimPrefix(c.Version, "go"),
			}}
		}
		if c.Sum != "" {
			// The dirhash of go.sum is no checksum of a file: SPDX has no word for it.
			if _, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(c.Sum, "h1:")); err == nil {
				p.PackageComment = "go.sum " + c.Sum
			}
		}
		doc.Packages = append(doc.Packages, p)
		for _, program := range c.Programs {
			doc.Relationships = append(doc.Relationships, relation(ids[program], "DEPENDS_ON", id))
		}
		if len(c.Programs) == 0 {
			doc.Relationships = append(doc.Relationships, relation("DOCUMENT", "DESCRIBES", id))
		}
		fmt.Fprintln(all, c.Name, c.Version, c.Sum)
	}
	doc.DocumentNamespace = "https://github.com/safe-run/safe-run/spdx/" + hex.EncodeToString(all.Sum(nil))
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(spdxjson.Write(doc, f, spdxjson.Indent(" ")), f.Close())
}

func relation(from common.ElementID, kind string, to common.ElementID) *spdx.Relationship {
	return &spdx.Relationship{
		RefA: common.MakeDocElementID("", string(from)), RefB: common.MakeDocElementID("", string(to)), Relationship: kind,
	}
}

// word makes a name one that an SPDX identifier may have in it.
func word(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '-'
	}, s)
}
