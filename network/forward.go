package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/netfilter"
)

// openForward sees to it that the host forwards packets of a network: by its
// settings, and past the filters of others. It says what it changed.
func (h *Host) openForward(d Definition) (told []string, err error) {
	notice, err := h.forwarding().Enable(d.V4().IsValid(), d.V6().IsValid())
	if err != nil {
		return nil, err
	}
	if notice != "" {
		told = append(told, notice)
	}
	made, warnings, err := h.Table.OpenForward(d.Bridge)
	for _, r := range made {
		told = append(told, fmt.Sprintf("let containers through %s, which drops what is forwarded, until the last one ends", r))
	}
	return append(told, warnings...), err
}

func (h *Host) closeForward(d Definition) error { return h.Table.CloseForward(d.Bridge) }

// closeAll sets the host back once no container has a network.
func (h *Host) closeAll() error {
	_, err := h.forwarding().Restore()
	return errors.Join(err, h.Table.Remove())
}

func (h *Host) forwarding() netfilter.Forwarding {
	return netfilter.Forwarding{
		Table: h.Table, State: filepath.Join(h.Store.Run, "forwarding.json"),
		Ours: func(name string) bool { return validBridge(name) || validPort(name) },
	}
}

// untold says whether something about the host was not said yet since it
// started: what every launch finds anew, one line is enough for. The caller
// holds the lock.
func (h *Host) untold(text string) bool {
	path := filepath.Join(h.Store.Run, "told")
	said, err := readOwn(path, maxTold)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if slices.Contains(strings.Split(string(said), "\n"), text) {
		return false
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return true
	}
	defer f.Close()
	_, _ = fmt.Fprintln(f, text)
	return true
}

const maxTold = 64 << 10 // bytes: then everything is said again
