package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/compose"
	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
)

// contentDir is where the configs and secrets of a project are whose content
// stands in the compose file. It is beside safe-run's own state, whose files no
// container gets. "" is the place of a project whose name is not known yet.
func contentDir(project string) string {
	root := store.DefaultRoot
	if _, sudo := os.LookupEnv("SUDO_UID"); !sudo {
		if v := os.Getenv("SAFE_RUN_ROOT"); filepath.IsAbs(v) {
			root = filepath.Clean(v)
		}
	}
	if project == "" {
		project = ".project" // no name of one
	}
	return filepath.Join(root+"-compose", project)
}

// settle puts the place of the project's contents where its name was not known.
func settle(p *compose.Project) error {
	before, now := contentDir("")+"/", contentDir(p.Name)+"/"
	for i := range p.Services {
		s := &p.Services[i]
		for j := range s.Flags {
			s.Flags[j].Word = strings.ReplaceAll(s.Flags[j].Word, before, now)
		}
		for j := range s.Contents {
			name, below := strings.CutPrefix(s.Contents[j].Path, before)
			if !below || !filepath.IsLocal(name) {
				return fail.New(fail.Internal, "content at %.200q", s.Contents[j].Path)
			}
			s.Contents[j].Path = name
		}
	}
	return nil
}

// writeContents makes the files of services, for who called: run opens them with
// the caller's rights. Where a path leads is the caller's word, so nothing leaves
// the directory, which is root's.
func writeContents(project string, services []compose.Service) error {
	var all []compose.Content
	for _, s := range services {
		all = append(all, s.Contents...)
	}
	if len(all) == 0 {
		return nil
	}
	caller, err := cli.CallerOf(os.Geteuid(), os.LookupEnv)
	if err != nil {
		return err
	}
	if caller == nil {
		caller = &cli.Caller{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	}
	dir := contentDir(project)
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return fail.Wrap(fail.HostCannot, err, "contents of configs and secrets")
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fail.Wrap(fail.HostCannot, err, "contents of configs and secrets")
	}
	defer root.Close()
	for _, c := range all {
		if err := writeContent(root, c, caller); err != nil {
			return fail.Wrap(fail.HostCannot, err, "contents of configs and secrets")
		}
	}
	return nil
}

// writeContent leaves a file alone that is as it should be: a container may have
// it bound.
func writeContent(root *os.Root, c compose.Content, caller *cli.Caller) error {
	mode := fs.FileMode(0o644)
	if c.Secret {
		mode = 0o600
	}
	if old, err := root.ReadFile(c.Path); err == nil && string(old) == string(c.Data) {
		return nil
	}
	if err := root.MkdirAll(filepath.Dir(c.Path), 0o711); err != nil {
		return err
	}
	fresh := c.Path + ".new"
	if err := root.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := root.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(c.Data)
	err = errors.Join(err, f.Chown(int(caller.UID), int(caller.GID)), f.Chmod(mode), f.Close())
	if err == nil {
		err = root.Rename(fresh, c.Path)
	}
	return err
}

// removeContents removes the files of a project.
func removeContents(project string) error {
	return fail.Wrap(fail.HostCannot, os.RemoveAll(contentDir(project)), "contents of configs and secrets")
}

// volumesFile lists the volumes a project has made, a name on each line; no
// project has that name.
func volumesFile(project string) string { return contentDir(project) + ".volumes" }

// ownedVolumes are the volumes a project has made: down -v removes them, and no
// others that happen to have a name of the file.
func ownedVolumes(project string) ([]string, error) {
	text, err := os.ReadFile(volumesFile(project))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	names := strings.Fields(string(text))
	slices.Sort(names)
	return slices.Compact(names), fail.Wrap(fail.HostCannot, err, "the list of the project's volumes")
}

// ownVolumes adds volumes to the list.
func ownVolumes(project string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	err := os.MkdirAll(filepath.Dir(volumesFile(project)), 0o711)
	var f *os.File
	if err == nil {
		f, err = os.OpenFile(volumesFile(project), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	}
	if err == nil {
		_, err = f.WriteString(strings.Join(names, "\n") + "\n")
		err = errors.Join(err, f.Close())
	}
	return fail.Wrap(fail.HostCannot, err, "the list of the project's volumes")
}

func disownVolumes(project string) error {
	err := os.Remove(volumesFile(project))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fail.Wrap(fail.HostCannot, err, "the list of the project's volumes")
}
