package harness

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Process is what /proc says of a process in a container.
type Process struct {
	Pid    int // on the host
	Args   string
	UID    uint32            // effective, as the container sees it
	Status map[string]string // fields of /proc/PID/status
}

// Processes finds those of the container, by their cgroups.
func (s *Service) Processes() ([]Process, error) {
	id, err := os.ReadFile(s.idFile)
	if err != nil {
		return nil, err
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var of []Process
	for _, dir := range dirs {
		groups, err := os.ReadFile(dir + "/cgroup")
		if err != nil || !strings.Contains(string(groups), strings.TrimSpace(string(id))) {
			continue // ended meanwhile, or another's
		}
		if p, err := process(dir); err == nil {
			of = append(of, p)
		} else if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
			return nil, err
		}
	}
	return of, nil
}

func process(dir string) (p Process, err error) {
	if p.Pid, err = strconv.Atoi(filepath.Base(dir)); err != nil {
		return p, err
	}
	text, err := os.ReadFile(dir + "/status")
	if err != nil {
		return p, err
	}
	p.Status = map[string]string{}
	for line := range strings.Lines(string(text)) {
		k, v, _ := strings.Cut(line, ":")
		p.Status[k] = strings.TrimSpace(v)
	}
	args, err := os.ReadFile(dir + "/cmdline")
	if err != nil {
		return p, err
	}
	p.Args = strings.TrimSpace(strings.ReplaceAll(string(args), "\x00", " "))
	uids := strings.Fields(p.Status["Uid"])
	if len(uids) != 4 {
		return p, fmt.Errorf("%s: Uid %q", dir, p.Status["Uid"])
	}
	uid, err := strconv.ParseUint(uids[1], 10, 32)
	if err != nil {
		return p, err
	}
	p.UID, err = mapped(dir+"/uid_map", uid)
	return p, err
}

// mapped gives the id inside of an id on the host.
func mapped(file string, id uint64) (uint32, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		var inside, outside, count uint64
		if _, err := fmt.Sscan(s.Text(), &inside, &outside, &count); err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		if id >= outside && id < outside+count {
			return uint32(inside + id - outside), nil
		}
	}
	return 0, fmt.Errorf("%s does not map %d", file, id)
}
