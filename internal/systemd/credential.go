package systemd

import (
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// maxCredential is systemd's own bound for one credential, in bytes.
const maxCredential = 1 << 20

// Credential gives the content of one of the unit's credentials
// (LoadCredential=, SetCredential=). The kinds of its errors: NotFound,
// Usage for what is not a credential's name, HostCannot.
func (u *Unit) Credential(id string) ([]byte, error) {
	if !validName(id) || id == "." || id == ".." {
		return nil, fail.New(fail.Usage, "%.100q is not the name of a credential", id)
	}
	if u == nil || u.Credentials == "" {
		return nil, fail.New(fail.NotFound, "there is no credential %q: this process has none", id).
			Hint("LoadCredential=%s:PATH in the unit's [Service] section", id)
	}
	dir, err := unix.Open(u.Credentials, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "opening the credentials of %s", u.Name)
	}
	defer func() { _ = unix.Close(dir) }()
	fd, err := unix.Openat(dir, id, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil, fail.New(fail.NotFound, "%s has no credential %q", u.Name, id).
			Hint("LoadCredential=%s:PATH in the unit's [Service] section", id)
	}
	if err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "opening the credential %q", id)
	}
	f := os.NewFile(uintptr(fd), id)
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "the credential %q", id)
	}
	if !st.Mode().IsRegular() || st.Size() > maxCredential {
		return nil, fail.New(fail.HostCannot, "the credential %q is not a regular file of at most %d bytes", id, maxCredential)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxCredential+1))
	if err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "reading the credential %q", id)
	}
	if len(b) > maxCredential {
		return nil, fail.New(fail.HostCannot, "the credential %q has more than %d bytes", id, maxCredential)
	}
	return b, nil
}
