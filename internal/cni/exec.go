package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
	"golang.org/x/sys/unix"
)

const (
	// pluginTime is what all plugins of a network have together.
	pluginTime = 60 * time.Second
	maxOutput  = 1 << 20
	maxErrors  = 4 << 10
)

// runner runs plugins for libcni, instead of its own that gives them this
// process's environment and believes in any file.
type runner struct {
	version.PluginDecoder
	dirs []string
	lock *os.File // of the attachment: a plugin that outlives this process has it still
}

// FindInPath finds the program of a plugin among those that root alone can
// change.
func (r runner) FindInPath(plugin string, dirs []string) (string, error) {
	if plugin == "" || plugin != filepath.Base(plugin) || plugin == "." || plugin == ".." {
		return "", fmt.Errorf("%.100q is not the name of a plugin", plugin)
	}
	for _, dir := range dirs {
		path, err := trustedFile(dir, plugin)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return path, err
	}
	return "", fmt.Errorf("its plugin %.100q is not there (searched: %s)", plugin, strings.Join(dirs, ", "))
}

// ExecPlugin runs a plugin.
func (r runner) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	out, errs := &bounded{max: maxOutput}, &bounded{max: maxErrors}
	cmd := exec.CommandContext(ctx, path)
	cmd.Dir = "/"
	cmd.Env = environment(environ)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), out, errs
	if r.lock != nil {
		cmd.ExtraFiles = []*os.File{r.lock}
	}
	// Not in the terminal's group: what interrupts the launch does not leave
	// half of a plugin's work.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("it was stopped: %w", context.Cause(ctx))
	}
	if err == nil && out.over {
		err = fmt.Errorf("it gave more than %d bytes", maxOutput)
	}
	if err == nil {
		return out.buf.Bytes(), nil
	}
	var said types.Error
	if json.Unmarshal(out.buf.Bytes(), &said) == nil && said.Msg != "" {
		return nil, errors.New(clean(strings.Trim(said.Msg+"; "+said.Details, "; ")))
	}
	if errs.buf.Len() > 0 {
		return nil, fmt.Errorf("%w: %s", err, clean(errs.buf.String()))
	}
	return nil, err
}

// environment is what the specification gives a plugin, and nothing of this
// process's own.
func environment(all []string) []string {
	env := []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	known := []string{"CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_ARGS", "CNI_IFNAME", "CNI_PATH"}
	for _, kv := range all {
		if key, _, ok := strings.Cut(kv, "="); ok && slices.Contains(known, key) {
			env = append(env, kv)
		}
	}
	return env
}

// bounded keeps the beginning of what is written to it.
type bounded struct {
	buf  bytes.Buffer // not embedded: its ReadFrom has no bound
	max  int
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	keep := p[:min(len(p), b.max-b.buf.Len())]
	b.over = b.over || len(keep) < len(p)
	_, _ = b.buf.Write(keep)
	return len(p), nil
}
