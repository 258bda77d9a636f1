package source

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/spec"
)

// knownPoint is a well-known path that exists on this host.
type knownPoint struct {
	path     string // as it is known
	real     string // where it is; differs when a link is on the way
	dev, ino uint64
	socket   bool // of the list of control sockets
}

// knownPoints looks up the known paths once. A path that cannot be looked at
// is no fact.
func (h *host) knownPoints() []knownPoint {
	if h.gotPoints {
		return h.points
	}
	h.gotPoints = true
	for _, p := range h.known.Sensitive {
		h.addPoint(p, false)
	}
	for _, p := range h.known.Sockets {
		h.addPoint(p, true)
	}
	return h.points
}

func (h *host) addPoint(p string, socket bool) {
	fd, err := openPath(p)
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(fd) }() // O_PATH: nothing to lose
	var st unix.Statx_t
	if unix.Statx(fd, "", unix.AT_EMPTY_PATH|statAttrs, unix.STATX_INO, &st) != nil {
		return
	}
	real, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return
	}
	h.points = append(h.points, knownPoint{
		path: p, real: real, dev: unix.Mkdev(st.Dev_major, st.Dev_minor), ino: st.Ino, socket: socket,
	})
}

// compare fills Above, and completes the aliases by known paths that are
// reached over a symbolic link: /var/lib/docker -> /data/docker makes
// /data/docker/volumes also known as /var/lib/docker/volumes.
func (h *host) compare(s *spec.Source) {
	points := h.knownPoints()
	for _, k := range points {
		if k.real != k.path && k.real != "/" {
			s.Aliases = throughLink(s.Aliases, k)
			for i := range s.Submounts {
				s.Submounts[i].Aliases = throughLink(s.Submounts[i].Aliases, k)
			}
		}
	}
	for _, k := range points {
		if k.dev == s.Dev && k.ino == s.Ino || holds(s, k.path) || holds(s, k.real) {
			s.Above = appendNew(s.Above, k.path)
			if k.socket {
				s.Sockets = appendNew(s.Sockets, k.path)
			}
		}
	}
}

func throughLink(names []string, k knownPoint) []string {
	for _, n := range names {
		if rel, ok := under(n, k.real); ok {
			names = appendNew(names, path.Join(k.path, rel))
		}
	}
	return names
}

// holds says whether p is s, lies below it, or in one of its submounts.
func holds(s *spec.Source, p string) bool {
	for _, name := range s.Aliases {
		if _, ok := under(p, name); ok {
			return true
		}
	}
	for _, sub := range s.Submounts {
		for _, name := range sub.Aliases {
			if _, ok := under(p, name); ok {
				return true
			}
		}
	}
	return false
}

// boundSockets are the paths of the unix sockets alive in this network
// namespace, read once. This finds them in trees of any size; a walk finds
// those of other network namespaces, and renamed ones.
func (h *host) boundSockets() []string {
	if h.gotSocks {
		return h.sockets
	}
	h.gotSocks = true
	f, err := os.Open("/proc/net/unix")
	if err != nil {
		return nil
	}
	defer f.Close() // read only
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		if p := socketPath(sc.Text()); p != "" {
			h.sockets = append(h.sockets, p)
		}
	}
	return h.sockets
}

// socketPath takes the path out of a line of /proc/net/unix:
// "Num RefCount Protocol Flags Type St Inode Path". Names that are abstract
// ("@...") or relative give "".
func socketPath(line string) string {
	for range 7 {
		line = strings.TrimLeft(line, " ")
		i := strings.IndexByte(line, ' ')
		if i < 0 {
			return ""
		}
		line = line[i:]
	}
	p := strings.TrimPrefix(line, " ")
	if !strings.HasPrefix(p, "/") {
		return ""
	}
	return path.Clean(p)
}
