package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// find looks a command up as the runtime does, in PATH if it has no slash.
// code and why are docker's exit code and text if there is none.
func find(name, path string) (found string, code int, why string) {
	what := "exec: " + strconv.Quote(name) + ": "
	if strings.Contains(name, "/") {
		switch err := executable(name); err {
		case nil:
			return name, 0, ""
		case syscall.ENOENT, syscall.ENOTDIR:
			return "", 127, what + "stat " + name + ": " + err.Error()
		default:
			return "", 126, what + err.Error()
		}
	}
	for dir := range strings.SplitSeq(path, ":") {
		// An empty or relative directory depends on the working directory,
		// where the runtime executes nothing by its bare name either.
		if !strings.HasPrefix(dir, "/") || name == "" {
			continue
		}
		if p := strings.TrimRight(dir, "/") + "/" + name; executable(p) == nil {
			return p, 0, ""
		}
	}
	return "", 127, what + "executable file not found in $PATH"
}

// executable gives nil, or why a file cannot be executed: EISDIR, EACCES, what
// stat said.
func executable(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err.(*os.PathError).Err
	}
	if st.IsDir() {
		return syscall.EISDIR
	}
	if st.Mode()&0o111 == 0 {
		return syscall.EACCES
	}
	const xOK, effective = 1, 0x200 // X_OK, AT_EACCESS
	if err := syscall.Faccessat(-100, path, xOK, effective); err == syscall.EACCES {
		return err
	}
	return nil
}
