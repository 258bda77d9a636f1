package images

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/credentials"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/lazyre"
)

// dockerHub is the key docker's configuration files its hub under.
const dockerHub = "https://index.docker.io/v1/"

// Credentials finds user and password of a registry in docker's config.json
// and through the helper programs it names. The zero value has none.
type Credentials struct {
	// File is config.json; a missing file means no credentials.
	File string
	// AuthJSON is the content of DOCKER_AUTH_CONFIG, which goes first.
	AuthJSON string
	// HelperDirs are the directories docker-credential-* programs are taken
	// from. All must be absolute.
	HelperDirs []string
	// RootOnly demands that a helper can be changed by no one but root.
	RootOnly bool
	// HelperEnv is the environment of helpers.
	HelperEnv []string
}

var systemDirs = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// CallerCredentials are those `docker` would use in this process: DOCKER_CONFIG
// or HOME/.docker, DOCKER_AUTH_CONFIG, helpers from PATH. Under sudo, where
// that environment belongs to somebody else, it is root's own file and helpers
// of the system's directories, run with a clean environment.
func CallerCredentials(getenv func(string) string) Credentials {
	if getenv("SUDO_UID") != "" {
		return Credentials{
			File: "/root/.docker/config.json", HelperDirs: systemDirs, RootOnly: true,
			HelperEnv: []string{"HOME=/root", "PATH=" + strings.Join(systemDirs, ":")},
		}
	}
	dir := getenv("DOCKER_CONFIG")
	if dir == "" && getenv("HOME") != "" {
		dir = filepath.Join(getenv("HOME"), ".docker")
	}
	c := Credentials{AuthJSON: getenv("DOCKER_AUTH_CONFIG"), HelperEnv: os.Environ()}
	if dir != "" {
		c.File = filepath.Join(dir, config.ConfigFileName)
	}
	for _, d := range filepath.SplitList(getenv("PATH")) {
		if filepath.IsAbs(d) {
			c.HelperDirs = append(c.HelperDirs, d)
		}
	}
	return c
}

// lookup gives user and secret for a registry host; a secret without user is
// an identity token. It is what containerd's resolver asks, with the host the
// request goes to, so a mirror or redirect never sees another host's.
func (c Credentials) lookup(host string) (user, secret string, err error) {
	key := host
	if host == "registry-1.docker.io" || host == "docker.io" || host == "index.docker.io" {
		key = dockerHub
	}
	if c.AuthJSON != "" {
		f, err := config.LoadFromReader(strings.NewReader(c.AuthJSON))
		if err != nil {
			return "", "", fail.New(fail.Usage, "DOCKER_AUTH_CONFIG cannot be read")
		}
		if a, err := credentials.NewFileStore(f).Get(key); err == nil && a.Username != "" {
			return a.Username, a.Password, nil
		}
	}
	f, err := c.load()
	if err != nil || f == nil {
		return "", "", err
	}
	if helper := helperFor(f, key); helper != "" {
		return c.askHelper(helper, key)
	}
	a, err := credentials.NewFileStore(f).Get(key)
	if err != nil {
		return "", "", wrap(fail.Internal, err, "read credentials of %q", host)
	}
	if a.IdentityToken != "" {
		return "", a.IdentityToken, nil
	}
	return a.Username, a.Password, nil
}

func helperFor(f *configfile.ConfigFile, key string) string {
	if h, ok := f.CredentialHelpers[strings.TrimSuffix(key, "/v1/")]; ok {
		return h
	}
	if h, ok := f.CredentialHelpers[key]; ok {
		return h
	}
	return f.CredentialsStore
}

// load reads the file; nil if there is none. Errors never quote its content.
func (c Credentials) load() (*configfile.ConfigFile, error) {
	if c.File == "" {
		return nil, nil
	}
	const max = 1 << 20
	// O_NONBLOCK: a FIFO in its place must not hang the pull.
	fd, err := os.OpenFile(c.File, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fail.Wrap(fail.Usage, err, "read registry credentials")
	}
	defer fd.Close()
	st, err := fd.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Size() > max {
		return nil, fail.New(fail.Usage, "%q is not a regular file of at most %d bytes", c.File, max)
	}
	f, err := config.LoadFromReader(io.LimitReader(fd, max))
	if err != nil {
		return nil, fail.New(fail.Usage, "%q is not a valid docker configuration", c.File).
			Hint("check its JSON, or write it anew with `docker login`")
	}
	return f, nil
}

var helperName = lazyre.New(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// helperTime bounds a helper; some ask the user for a password.
const helperTime = 2 * time.Minute

// askHelper runs docker-credential-NAME get, as docker does: the key on
// standard input, JSON on standard output.
func (c Credentials) askHelper(name, key string) (user, secret string, err error) {
	program, err := c.findHelper(name)
	if err != nil {
		return "", "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), helperTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "get")
	cmd.Stdin = strings.NewReader(key)
	cmd.Env = c.HelperEnv
	if cmd.Env == nil {
		cmd.Env = []string{}
	}
	cmd.Dir = "/"
	var out bytes.Buffer
	cmd.Stdout = &limitedBuffer{&out, 64 << 10}
	if err := cmd.Run(); err != nil {
		// The helpers' common text for "nothing stored"
		// (docker-credential-helpers, credentials/error.go).
		if strings.Contains(out.String(), "credentials not found in native keychain") {
			return "", "", nil
		}
		return "", "", wrap(fail.Internal, err, "credential helper %s", program)
	}
	var got struct{ Username, Secret string }
	if json.Unmarshal(out.Bytes(), &got) != nil {
		return "", "", fail.New(fail.Internal, "credential helper %s did not answer in JSON", program)
	}
	if got.Username == "<token>" {
		return "", got.Secret, nil
	}
	return got.Username, got.Secret, nil
}

func (c Credentials) findHelper(name string) (string, error) {
	if !helperName().MatchString(name) {
		return "", fail.New(fail.Usage, "%q names the credential helper %q, which is no name of a program", c.File, short(name))
	}
	for _, dir := range c.HelperDirs {
		p := filepath.Join(dir, "docker-credential-"+name)
		var st unix.Stat_t
		if unix.Stat(p, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o111 == 0 {
			continue
		}
		if c.RootOnly && (st.Uid != 0 || st.Mode&0o022 != 0) {
			continue
		}
		return p, nil
	}
	return "", fail.New(fail.Usage, "the credential helper docker-credential-%s, named in %q, was not found", name, c.File).
		Hint("install it in one of %s", strings.Join(c.HelperDirs, ", "))
}

// limitedBuffer keeps the first n bytes and ends the writer after them.
type limitedBuffer struct {
	b *bytes.Buffer
	n int
}

func (l *limitedBuffer) Write(p []byte) (int, error) {
	if l.b.Len()+len(p) > l.n {
		return 0, errors.New("too much output")
	}
	return l.b.Write(p)
}
