package cni

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// trustedDir gives the path, without symbolic links, of a directory that root
// alone can change, and that stands in such directories up to the root. In
// one that is everybody's with the sticky bit, as /tmp, nobody but root
// renames what is root's.
func trustedDir(path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("%q is not an absolute path", path)
	}
	at, todo := "/", strings.Split(path, "/")
	st, err := lstat(at)
	for links := 0; len(todo) > 0 && err == nil; {
		name := todo[0]
		todo = todo[1:]
		if name == "" || name == "." {
			continue
		}
		if err = onlyRoots(at, st, st.Mode&unix.S_ISVTX != 0); err != nil {
			break
		}
		next := filepath.Join(at, name) // ".." too: at has no links
		if st, err = lstat(next); err != nil {
			break
		}
		if st.Mode&unix.S_IFMT != unix.S_IFLNK {
			at = next
			continue
		}
		if links++; links > 40 {
			return "", &fs.PathError{Op: "open", Path: path, Err: unix.ELOOP}
		}
		if st.Uid != 0 {
			return "", fmt.Errorf("the link %q belongs to uid %d, who can change it", next, st.Uid)
		}
		var target string
		if target, err = os.Readlink(next); err != nil {
			break
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		todo = append(strings.Split(target, "/"), todo...)
		st, err = lstat(at)
	}
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		err = &fs.PathError{Op: "open", Path: path, Err: unix.ENOTDIR}
	}
	if err == nil {
		err = onlyRoots(at, st, false)
	}
	return at, err
}

// trustedFile gives the path of a regular file in a trusted directory that
// root alone can change. A link may lead to another name in the directory,
// as those of programs with several names do, and not out of it.
func trustedFile(dir, name string) (string, error) {
	path := filepath.Join(dir, name)
	st, err := lstat(path)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
		target, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		if filepath.IsAbs(target) && filepath.Dir(target) == dir {
			target = filepath.Base(target)
		}
		if target != filepath.Base(target) || target == ".." {
			return "", fmt.Errorf("%q is a link out of its directory", path)
		}
		path = filepath.Join(dir, target)
		st, err = lstat(path)
		if err != nil {
			return "", err
		}
	}
	if err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return "", fmt.Errorf("%q is not a regular file", path)
	}
	return path, onlyRoots(path, st, false)
}

func lstat(path string) (st unix.Stat_t, err error) {
	if err := unix.Lstat(path, &st); err != nil {
		return st, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return st, nil
}

// onlyRoots says whether nobody but root can change a file or directory.
func onlyRoots(path string, st unix.Stat_t, sticky bool) error {
	switch {
	case st.Uid != 0:
		return fmt.Errorf("%q belongs to uid %d, who can change it", path, st.Uid)
	case st.Mode&0o022 != 0 && !sticky:
		return fmt.Errorf("%q has mode %04o: others than root can change it", path, st.Mode&0o7777)
	}
	return nil
}
