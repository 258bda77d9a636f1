package idmap

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"slices"
	"strconv"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// BlockSize is the number of ids of one block: the 16 bits of ids that images
// use.
const BlockSize = 65536

// Owner is the name in /etc/subuid and /etc/subgid under which the site gives
// safe-run its ranges.
const Owner = "safe-run"

const (
	// The range systemd reserves for containers, see "Summary" in
	// https://systemd.io/UIDS-GIDS: 524288 up to and including 1879048191.
	systemdFirst = 524288
	systemdEnd   = 1879048192

	// 4294967295 is (uid_t)-1, "no id", and 4294967294 is the overflow id on
	// systems that count down; no block may touch either.
	idEnd = math.MaxUint32 - 1

	// Larger tables are not read: they could only be an accident or an attack.
	maxFile  = 32 << 20
	maxLines = 2_000_000
)

// span is a half-open range of ids.
type span struct{ start, end uint64 }

// readTable reads a passwd-like file. It must be a regular file of root's (or
// of the caller's), that nobody else can write, and not a symbolic link. A
// missing file is empty.
func readTable(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, nil
	case errors.Is(err, unix.ELOOP):
		return nil, fail.New(fail.HostCannot, "%q is a symbolic link: ids are given out only from a regular file", path).
			Hint("replace the link by the file itself")
	case err != nil:
		return nil, fail.Wrap(fail.HostCannot, err, "opening %q", path)
	}
	f := os.NewFile(uintptr(fd), path)
	defer func() { _ = f.Close() }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "looking at %q", path)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, fail.New(fail.HostCannot, "%q is not a regular file", path)
	case st.Mode&0o022 != 0:
		return nil, fail.New(fail.HostCannot, "%q can be written by others than its owner (mode %04o)", path, st.Mode&0o7777).
			Hint("chmod 0644 %s", path)
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return nil, fail.New(fail.HostCannot, "%q belongs to uid %d, not to root", path, st.Uid).
			Hint("chown root %s", path)
	case st.Size > maxFile:
		return nil, fail.New(fail.HostCannot, "%q is larger than %d MiB", path, maxFile>>20)
	}
	b := make([]byte, 0, st.Size+1)
	buf := bytes.NewBuffer(b)
	if _, err := io.Copy(buf, io.LimitReader(f, maxFile+1)); err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "reading %q", path)
	}
	if buf.Len() > maxFile {
		return nil, fail.New(fail.HostCannot, "%q is larger than %d MiB", path, maxFile>>20)
	}
	return buf.Bytes(), nil
}

// parseSubIDs splits the entries of a subuid or subgid file into ours and
// those of others.
//
// The parser of moby/sys/user reads a number it does not understand as 0, the
// host's root. So each line is checked here before it is handed over. A line
// in our name that is wrong is an error. A wrong line in another name is
// skipped, as the shadow tools do (such a line grants nobody anything), except
// that one with a usable start but an unusable count is taken to own all from
// there on.
func parseSubIDs(path string, data []byte, isOwner func(string) bool) (mine, others []span, err error) {
	n := 0
	for len(data) > 0 {
		var line []byte
		line, data, _ = bytes.Cut(data, []byte{'\n'})
		if n++; n > maxLines {
			return nil, nil, fail.New(fail.HostCannot, "%q has more than %d lines", path, maxLines)
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		name, rest, _ := bytes.Cut(line, []byte{':'})
		startText, countText, _ := bytes.Cut(rest, []byte{':'})
		start, okStart := decimal(startText)
		count, okCount := decimal(countText)
		own := isOwner(string(name))
		sane := okStart && okCount && count > 0 && start < idEnd && count <= idEnd-start
		switch {
		case own && !sane:
			return nil, nil, fail.New(fail.HostCannot, "%q, line %d: %q is not NAME:START:COUNT with START and COUNT decimal, COUNT at least 1, and all ids below %d",
				path, n, clip(line), uint64(idEnd)).
				Hint("write, for 1024 containers: %s:%d:%d", Owner, systemdFirst, 1024*BlockSize)
		case own && start == 0:
			return nil, nil, fail.New(fail.HostCannot, "%q, line %d: %q gives containers the host's root", path, n, clip(line)).
				Hint("START must be above the ids of this host's users, for example %d", systemdFirst)
		case !own && !sane:
			if okStart && start < idEnd {
				others = append(others, span{start, idEnd})
			}
			continue
		}
		if !own {
			others = append(others, span{start, start + count})
			continue
		}
		ids, err := user.ParseSubID(bytes.NewReader(line))
		if err != nil || len(ids) != 1 || uint64(ids[0].SubID) != start || uint64(ids[0].Count) != count {
			return nil, nil, fail.New(fail.HostCannot, "%q, line %d: %q cannot be read", path, n, clip(line))
		}
		mine = append(mine, span{start, start + count})
	}
	return mine, others, nil
}

// parseIDs reads the third field of a passwd or group file: the ids somebody
// can log in with or be a member of, as spans of one. It also gives the
// numeric ids of the entry called want, in decimal.
func parseIDs(path string, data []byte, want string) (used []span, ids []string, err error) {
	n := 0
	for len(data) > 0 {
		var line []byte
		line, data, _ = bytes.Cut(data, []byte{'\n'})
		if n++; n > maxLines {
			return nil, nil, fail.New(fail.HostCannot, "%q has more than %d lines", path, maxLines)
		}
		name, rest, ok := bytes.Cut(line, []byte{':'})
		if !ok || len(name) == 0 || name[0] == '#' {
			continue
		}
		_, rest, _ = bytes.Cut(rest, []byte{':'})
		text, _, _ := bytes.Cut(rest, []byte{':'})
		id, ok := decimal(text)
		if !ok {
			continue
		}
		used = append(used, span{id, id + 1})
		if string(name) == want {
			ids = append(ids, string(text))
		}
	}
	return used, ids, nil
}

// decimal parses an unsigned 32-bit number of digits alone: no sign, no space,
// no base prefix, no underscore.
func decimal(b []byte) (uint64, bool) {
	if len(b) == 0 || len(b) > 10 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	v, err := strconv.ParseUint(string(b), 10, 64)
	return v, err == nil && v <= math.MaxUint32
}

// clip bounds hostile text for a message.
func clip(b []byte) string {
	if len(b) > 80 {
		return string(b[:77]) + "..."
	}
	return string(b)
}

// merge sorts spans and joins those that touch.
func merge(spans []span) []span {
	if len(spans) < 2 {
		return spans
	}
	slices.SortFunc(spans, func(a, b span) int {
		switch {
		case a.start < b.start:
			return -1
		case a.start > b.start:
			return 1
		}
		return 0
	})
	out := spans[:1]
	for _, s := range spans[1:] {
		last := &out[len(out)-1]
		if s.start <= last.end {
			last.end = max(last.end, s.end)
			continue
		}
		out = append(out, s)
	}
	return out
}

// blocks is the sequence of blocks that can be given out, as runs of
// neighbours: block i is found without a list of all of them (the systemd range
// alone has 28664).
type blocks struct {
	runs  []run
	total int
}

type run struct {
	start uint64 // first id of the first block
	first int    // index of the first block
	n     int
}

// cut gives the blocks that lie in ranges and touch none of used. Both are
// merged here. Blocks start at the start of a range, or after what is used at
// the next multiple of BlockSize, so that two programs that follow the 64K
// convention never overlap by halves.
func cut(ranges, used []span) blocks {
	ranges, used = merge(ranges), merge(used)
	var b blocks
	add := func(start, end uint64) {
		if end < start+BlockSize {
			return
		}
		n := int((end - start) / BlockSize)
		b.runs = append(b.runs, run{start: start, first: b.total, n: n})
		b.total += n
	}
	u := 0
	for _, r := range ranges {
		start := r.start
		for u < len(used) && used[u].end <= start {
			u++
		}
		for i := u; i < len(used) && used[i].start < r.end; i++ {
			if used[i].start > start {
				add(start, used[i].start)
			}
			if used[i].end > start {
				start = (used[i].end + BlockSize - 1) &^ (BlockSize - 1)
			}
		}
		if start < r.end {
			add(start, r.end)
		}
	}
	return b
}

// at gives the first id of block i, 0 <= i < total.
func (b blocks) at(i int) uint32 {
	k, _ := slices.BinarySearchFunc(b.runs, i, func(r run, i int) int { return r.first + r.n - 1 - i })
	// The search is for the first run whose last index is not below i.
	r := b.runs[k]
	return uint32(r.start + uint64(i-r.first)*BlockSize)
}
