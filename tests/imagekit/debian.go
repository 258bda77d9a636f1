package imagekit

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sync/errgroup"
)

// Debian makes the entries of a root file system out of packages: those
// named, and of what they depend on the packages with the shared libraries
// their programs need. No maintainer script runs, so what a script would
// make (accounts, directories, links) is for the caller to add. Documents,
// manuals and translations are left out.
//
// Packages are downloaded to dir, an absolute path, with the apt sources of
// this host; one that is there already is taken from there.
func Debian(dir string, names ...string) ([]Entry, error) {
	files, err := download(dir, names)
	if err != nil {
		return nil, err
	}
	return assemble(files, names)
}

// download asks apt for what an empty system would have to install, so that
// the answer does not depend on what this one has.
func download(dir string, names []string) ([]string, error) {
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("folder of packages %q: not an absolute path", dir)
	}
	if err := os.MkdirAll(filepath.Join(dir, "partial"), 0o755); err != nil {
		return nil, err
	}
	status := filepath.Join(dir, "status")
	if err := os.WriteFile(status, nil, 0o644); err != nil {
		return nil, err
	}
	install := func(mode string) ([]byte, error) {
		return aptGet(append([]string{
			"-o", "Dir::State::status=" + status, "-o", "Dir::Cache::archives=" + dir, "-o", "Debug::NoLocking=1",
			"-o", "APT::Sandbox::User=root", "-y", "--no-install-recommends", mode, "install",
		}, names...)...)
	}
	fetch := func() ([]string, error) {
		plan, err := install("--simulate")
		if err != nil {
			return nil, err
		}
		if _, err := install("--download-only"); err != nil {
			return nil, err
		}
		return planned(plan, dir)
	}
	files, err := fetch()
	if err == nil {
		return files, nil
	}
	// The lists are missing or name versions the mirror has no more.
	if _, updateErr := aptGet("update"); updateErr != nil {
		return nil, errors.Join(err, updateErr)
	}
	return fetch()
}

func aptGet(args ...string) ([]byte, error) {
	cmd := exec.Command("apt-get", append([]string{"-q"}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, bytes.TrimSpace(errs.Bytes()))
	}
	return out, nil
}

// planned reads apt's simulation, lines like
//
//	Inst libc6 (2.36-9+deb12u14 Debian:12.15/oldstable [amd64]) []
//
// and names the files apt downloads these packages to.
func planned(plan []byte, dir string) ([]string, error) {
	escape := strings.NewReplacer(":", "%3a", "_", "%5f")
	var files []string
	for line := range strings.Lines(string(plan)) {
		rest, ok := strings.CutPrefix(line, "Inst ")
		if !ok {
			continue
		}
		name, rest, _ := strings.Cut(rest, " ")
		inside, _, ok := strings.Cut(strings.TrimPrefix(rest, "("), ")")
		version, _, _ := strings.Cut(inside, " ")
		arch := inside[strings.LastIndexByte(inside, '[')+1:]
		if !ok || version == "" || !strings.HasSuffix(arch, "]") {
			return nil, fmt.Errorf("apt-get --simulate: line %q not understood", line)
		}
		name, _, _ = strings.Cut(name, ":")
		file := fmt.Sprintf("%s_%s_%s.deb", name, escape.Replace(version), strings.TrimSuffix(arch, "]"))
		files = append(files, filepath.Join(dir, file))
	}
	if len(files) == 0 {
		return nil, errors.New("apt-get --simulate: nothing to install")
	}
	return files, nil
}

// deb is an unpacked package.
type deb struct {
	name    string
	entries []Entry
	needs   []string // names of the shared libraries its programs are linked with
}

// assemble picks the packages and puts their files together.
func assemble(files, names []string) ([]Entry, error) {
	packages := map[string]*deb{}
	owner := map[string]*deb{} // of a shared library, by file name
	unpacked := make([]*deb, len(files))
	group := new(errgroup.Group)
	group.SetLimit(runtime.NumCPU())
	for i, f := range files {
		group.Go(func() (err error) {
			if unpacked[i], err = unpack(f); err != nil {
				err = fmt.Errorf("%s: %w", f, err)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, p := range unpacked {
		packages[p.name] = p
		for _, e := range p.entries {
			if dir, file := filepath.Split(e.Path); strings.Contains(file, ".so") && strings.HasPrefix(dir, "usr/lib") {
				owner[file] = p
			}
		}
	}
	var queue []*deb
	for _, n := range names {
		if packages[n] == nil {
			return nil, fmt.Errorf("package %s is not among those downloaded", n)
		}
		queue = append(queue, packages[n])
	}
	merged, taken := map[string]Entry{}, map[*deb]bool{}
	for len(queue) > 0 {
		p := queue[0]
		queue = queue[1:]
		if taken[p] {
			continue
		}
		taken[p] = true
		for _, e := range p.entries {
			merged[e.Path] = e
		}
		for _, lib := range p.needs {
			if owner[lib] == nil {
				return nil, fmt.Errorf("package %s needs %s, which none has", p.name, lib)
			}
			queue = append(queue, owner[lib])
		}
	}
	return inOrder(merged), nil
}

// inOrder sorts by path, hard links after everything they may point to.
func inOrder(files map[string]Entry) []Entry {
	entries := make([]Entry, 0, len(files))
	for _, e := range files {
		entries = append(entries, e)
	}
	sort.Slice(entries, func(i, j int) bool {
		a, b := entries[i], entries[j]
		if l := a.Type == tar.TypeLink; l != (b.Type == tar.TypeLink) {
			return !l
		}
		return a.Path < b.Path
	})
	return entries
}

func unpack(file string) (*deb, error) {
	p := &deb{}
	p.name, _, _ = strings.Cut(filepath.Base(file), "_")
	cmd := exec.Command("dpkg-deb", "--fsys-tarfile", file)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	readErr := p.read(tar.NewReader(out))
	// dpkg-deb must not wait for a reader that gave up.
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("dpkg-deb: %w\n%s", err, bytes.TrimSpace(errs.Bytes()))
	}
	return p, readErr
}

func (p *deb) read(tr *tar.Reader) error {
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		e := Entry{Path: mergeUsr(h.Name), Type: h.Typeflag, Mode: h.Mode & 0o7777, UID: h.Uid, GID: h.Gid}
		if e.Path == "" || trimmed(e.Path) {
			continue
		}
		switch h.Typeflag {
		case tar.TypeDir:
			e.Path += "/"
		case tar.TypeSymlink:
			e.Link = h.Linkname
		case tar.TypeLink:
			e.Link = mergeUsr(h.Linkname)
		case tar.TypeReg:
			if e.Body, err = io.ReadAll(tr); err != nil {
				return err
			}
			libs, err := imported(e.Body)
			if err != nil {
				return fmt.Errorf("%s: %w", e.Path, err)
			}
			p.needs = append(p.needs, libs...)
		default:
			return fmt.Errorf("%s: a file of type %q", e.Path, h.Typeflag)
		}
		p.entries = append(p.entries, e)
	}
}

// imported names the shared libraries a program or library needs; none if
// the file is neither.
func imported(body []byte) ([]string, error) {
	if !bytes.HasPrefix(body, []byte(elf.ELFMAG)) {
		return nil, nil
	}
	f, err := elf.NewFile(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return nil, nil
	}
	return f.ImportedLibraries()
}

// mergedUsr are the directories of the root that are links into usr, in
// Debian since 12; packages may still name files by the old paths.
func mergedUsr() []string { return []string{"bin", "lib", "lib64", "sbin"} }

// mergeUsr gives the path of a package's file without leading dot or slash.
func mergeUsr(name string) string {
	name = strings.TrimPrefix(filepath.Clean("/"+name), "/")
	top, _, _ := strings.Cut(name, "/")
	if slices.Contains(mergedUsr(), top) {
		return "usr/" + name
	}
	return name
}

// trimmed says what a server does not need.
func trimmed(name string) bool {
	for _, dir := range []string{
		"doc", "man", "locale", "info", "lintian", "bash-completion", "bug", "apport", "doc-base", "icons",
	} {
		if prefix := "usr/share/" + dir; name == prefix || strings.HasPrefix(name, prefix+"/") {
			return true
		}
	}
	// Converters of character sets, a third of the C library's size; what
	// PostgreSQL's compiler of queries wants, with LLVM ten times PostgreSQL's.
	return strings.Contains(name+"/", "/gconv/") || strings.Contains(name+"/", "/bitcode/") || strings.HasSuffix(name, "/llvmjit.so")
}
