package learn

import (
	"errors"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"sync"
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

// The ends of a throw-away root file system. ErrDiskFull is for what no walk
// finds, such as files that were removed and are still open.
var (
	ErrScratchFull = errors.New("the throw-away root file system has grown beyond 1 GiB, or has directories deeper than 128")
	ErrDiskFull    = errors.New("the disk that holds the throw-away root file system is nearly full")
)

// StartWatch watches the container of the first process pid. tmpfs are its
// mount points; upper, if not "", is the directory of its root file system
// that is bounded: beyond, or if the disk has little left, end is called once.
// sample is called with each round.
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
	ended := upper == ""
	floor := free(upper).half()
	var next time.Time
	for {
		for _, at := range tmpfs {
			w.measure(root, at)
		}
		sample()
		switch now := time.Now(); {
		case ended:
		case free(upper).below(floor):
			ended = true
			end(ErrDiskFull)
		case now.After(next):
			if ended = larger(upper, maxScratch); ended {
				end(ErrScratchFull)
			}
			next = time.Now().Add(time.Since(now)) // half of the time at most
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

// room is what a file system has left: bytes and inodes.
type room struct{ bytes, inodes uint64 }

// free gives what is left where dir is; all there could be if that cannot be
// told.
func free(dir string) room {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return room{math.MaxUint64, math.MaxUint64}
	}
	return room{st.Bavail * uint64(st.Bsize), st.Ffree}
}

// half gives what has to be left of it.
func (r room) half() room {
	return room{min(r.bytes/2, maxScratch), min(r.inodes/2, maxScratch/inodeCost)}
}

func (r room) below(floor room) bool { return r.bytes < floor.bytes || r.inodes < floor.inodes }

// larger says whether the files below dir take more than most bytes, or lie
// too deep to be looked at. The container changes them meanwhile: no path of it
// is ever looked up as a whole.
func larger(dir string, most int64) bool {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false // it has gone
	}
	return !fits(os.NewFile(uintptr(fd), "directory"), &most, 0)
}

// fits takes what is in a directory off left, and says whether that is enough.
func fits(dir *os.File, left *int64, depth int) bool {
	defer dir.Close()
	if depth > maxScratchDepth {
		return false
	}
	for {
		names, err := dir.Readdirnames(512)
		for _, name := range names {
			var st unix.Stat_t
			if unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
				continue // gone while we looked
			}
			if *left -= inodeCost + st.Blocks*512; *left < 0 {
				return false
			}
			if st.Mode&unix.S_IFMT != unix.S_IFDIR {
				continue
			}
			fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err == nil && !fits(os.NewFile(uintptr(fd), "directory"), left, depth+1) {
				return false
			}
		}
		if len(names) == 0 || err != nil {
			return true
		}
	}
}

// inodeCost is what a file counts beyond its content, so that empty ones are
// bounded as well.
const inodeCost = 1024
