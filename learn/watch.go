package learn

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Watch samples what no event tells: how much of each tmpfs is in use, and
// whether a throw-away root file system grows beyond bounds.
type Watch struct {
	stop chan struct{}
	done chan struct{}
	mu   sync.Mutex
	used map[string]int64
	full map[string]bool
}

// maxScratch bounds what a throw-away root file system may hold, in bytes: it
// is on the host's disk.
const maxScratch = 1 << 30

// ErrScratchFull is that bound.
var ErrScratchFull = errors.New("the throw-away root file system has grown beyond 1 GiB")

// StartWatch watches the container of the first process pid. tmpfs are its
// mount points; upper, if not "", is the directory of its root file system
// that is bounded: beyond, end is called once. sample is called with each
// round.
func StartWatch(pid int, tmpfs []string, upper string, every time.Duration, end func(error), sample func()) *Watch {
	w := &Watch{stop: make(chan struct{}), done: make(chan struct{}), used: map[string]int64{}, full: map[string]bool{}}
	// Held: the process may end, and another take its number.
	root, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		root = -1
	}
	go w.run(root, tmpfs, upper, every, end, sample)
	return w
}

func (w *Watch) run(root int, tmpfs []string, upper string, every time.Duration, end func(error), sample func()) {
	defer close(w.done)
	defer unix.Close(root)
	tick := time.NewTicker(every)
	defer tick.Stop()
	ended := false
	for {
		for _, at := range tmpfs {
			w.measure(root, at)
		}
		sample()
		if upper != "" && !ended && larger(upper, maxScratch) {
			ended = true
			end(ErrScratchFull)
		}
		select {
		case <-w.stop:
			return
		case <-tick.C:
		}
	}
}

func (w *Watch) measure(root int, at string) {
	if root < 0 {
		return
	}
	// Links in it are the container's: they lead nowhere else.
	fd, err := unix.Openat2(root, at, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil || st.Type != unix.TMPFS_MAGIC {
		return
	}
	used := int64(st.Blocks-st.Bfree) * st.Bsize
	w.mu.Lock()
	defer w.mu.Unlock()
	w.used[at] = max(w.used[at], used)
	w.full[at] = st.Blocks > 0 && st.Bfree == 0 || st.Files > 0 && st.Ffree == 0
}

// Tmpfs gives the most seen in use of each mount point, in bytes.
func (w *Watch) Tmpfs() map[string]int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.used)
}

// Full are the mount points that were full when last seen.
func (w *Watch) Full() (at []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p, full := range w.full {
		if full {
			at = append(at, p)
		}
	}
	slices.Sort(at)
	return at
}

// Stop ends the watch.
func (w *Watch) Stop() {
	close(w.stop)
	<-w.done
}

// larger says whether the files below dir take more than most bytes.
func larger(dir string, most int64) bool {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it went while we looked
		}
		if info, err := d.Info(); err == nil {
			sum += inodeCost
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				sum += st.Blocks * 512
			}
		}
		if sum > most {
			return errStop
		}
		return nil
	})
	return errors.Is(err, errStop) || errors.Is(err, os.ErrPermission)
}

// inodeCost is what a file counts beyond its content, so that empty ones are
// bounded as well.
const inodeCost = 1024

var errStop = errors.New("stop")
