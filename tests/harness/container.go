package harness

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Process is what /proc says of a process in a container.
type Process struct {
	Pid       int // on the host
	Args      string
	UID       uint32            // effective, as the container sees it
	Status    map[string]string // fields of /proc/PID/status
	namespace string
}

// Processes finds those of the container in which a process has the command
// name comm, by the user namespace they share with it. There must be one
// such container.
func Processes(comm string) ([]Process, error) {
	own, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		return nil, err
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var all []Process
	spaces := map[string]bool{}
	for _, dir := range dirs {
		p, err := process(dir, own)
		if err != nil || p.namespace == own {
			continue // ended meanwhile, or not in a container
		}
		all = append(all, p)
		if p.Status["Name"] == comm {
			spaces[p.namespace] = true
		}
	}
	if len(spaces) != 1 {
		return nil, fmt.Errorf("%d containers run %s", len(spaces), comm)
	}
	var of []Process
	for _, p := range all {
		if spaces[p.namespace] {
			of = append(of, p)
		}
	}
	return of, nil
}

func process(dir, own string) (p Process, err error) {
	if p.Pid, err = strconv.Atoi(filepath.Base(dir)); err != nil {
		return p, err
	}
	if p.namespace, err = os.Readlink(dir + "/ns/user"); err != nil || p.namespace == own {
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
