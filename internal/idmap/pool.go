// Package idmap gives each container a block of subordinate user and group
// ids that no other container, user or tool of this host has.
package idmap

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// Files are the tables of the host that say which ids belong to whom. An empty
// or missing path is an empty table.
type Files struct {
	SubUID, SubGID string
	Passwd, Group  string
	// Nspawn is the directory in which systemd-nspawn locks the blocks it
	// uses of the range both share, one file per first uid.
	Nspawn string
}

// DefaultFiles are those of this host.
func DefaultFiles() Files {
	return Files{
		SubUID: "/etc/subuid", SubGID: "/etc/subgid",
		Passwd: "/etc/passwd", Group: "/etc/group",
		Nspawn: "/run/systemd/nspawn-uid",
	}
}

// Pool is the set of blocks of a host, kept in a directory of claims that all
// processes share.
//
// A claim is a symbolic link named after the kind and the first id of the
// block ("u524288", "g524288"), whose target text names the owner. Making a
// symbolic link fails if the name exists and carries its text from the first
// moment, so a claim is exclusive and never half-written, in one system call,
// without locks, and costs the same whatever the number of containers. The
// next free block is found by a hint that moves on with each claim; a wrong
// hint costs more tries, never a wrong answer.
//
// No claim is synced to disk. If the host crashes, claims of containers that
// still have a record may be lost. Nothing runs then, and no file on disk
// carries ids of the block (rootfs and binds are idmapped, tmpfs is gone), so
// the only danger is to give the block to a second container and then to start
// the first one again with its old ids. Whoever starts a recorded container
// therefore calls Hold first, which takes the old block again or says that it
// is taken.
type Pool struct {
	dir    string
	uids   blocks
	gids   blocks
	total  int
	nspawn string // "" if our blocks come from the site's own entry
	own    bool   // they do
	self   string // this process, "PID-STARTTIME"
	proc   string
}

// Claim is a block that is taken.
type Claim struct {
	Block spec.IDBlock
	Owner string
	// Taker is the process that took the block, "PID-STARTTIME".
	Taker string
}

const hintFile = "next"

// Look says how many blocks there are, taken or free, and whether they are of
// an entry of Owner. It makes nothing; errors as Open.
func Look(f Files) (blocks int, own bool, err error) {
	p, err := read(f)
	if err != nil {
		return 0, false, err
	}
	return p.total, p.own, nil
}

// Open reads the host's tables and gives the pool whose claims are in dir,
// which is made (mode 0700) if it is missing.
//
// The blocks come from the entries of Owner in SubUID and SubGID. If neither
// file has one, they come from the range systemd reserves for containers. Ids
// that belong to others in any of the tables are left out in both cases.
// The error is of kind HostCannot if there is not a single block.
func Open(dir string, f Files) (*Pool, error) {
	p, err := read(f)
	if err != nil {
		return nil, err
	}
	p.dir = dir
	if err := privateDir(dir); err != nil {
		return nil, err
	}
	start, err := startTime(p.proc, os.Getpid())
	if err != nil {
		return nil, fail.Wrap(fail.HostCannot, err, "reading this process's start time")
	}
	p.self = fmt.Sprintf("%d-%s", os.Getpid(), start)
	return p, nil
}

// read gives the pool of the host's tables, without a directory.
func read(f Files) (*Pool, error) {
	uids, ownU, err := load(f.SubUID, f.Passwd, f.Passwd)
	if err != nil {
		return nil, err
	}
	gids, ownG, err := load(f.SubGID, f.Group, f.Passwd)
	if err != nil {
		return nil, err
	}
	if ownU != ownG {
		has, not := f.SubUID, f.SubGID
		if ownG {
			has, not = not, has
		}
		return nil, fail.New(fail.HostCannot, "%q has an entry for %q, but %q has none: a container needs both kinds of ids", has, Owner, not).
			Hint("add the same line to %s", not)
	}
	p := &Pool{uids: uids, gids: gids, total: min(uids.total, gids.total), proc: "/proc"}
	p.own = ownU
	if !ownU {
		p.nspawn = f.Nspawn
	}
	if p.total == 0 {
		return nil, fail.New(fail.HostCannot, "no block of %d subordinate ids is free of other owners in %q and %q (%d of uids, %d of gids)",
			BlockSize, f.SubUID, f.SubGID, uids.total, gids.total).
			Hint("add a line such as %s:%d:%d, a range nobody else has, to both files", Owner, systemdFirst, 1024*BlockSize)
	}
	return p, nil
}

// load gives the blocks of one kind and whether they come from an entry of
// ours. ids is the table of that kind's ids, passwd tells our uid, since an
// entry may name its owner by number.
func load(sub, ids, passwd string) (blocks, bool, error) {
	subData, err := readTable(sub)
	if err != nil {
		return blocks{}, false, err
	}
	idData, err := readTable(ids)
	if err != nil {
		return blocks{}, false, err
	}
	used, ours, err := parseIDs(ids, idData, Owner)
	if err != nil {
		return blocks{}, false, err
	}
	if passwd != ids {
		pwData, err := readTable(passwd)
		if err != nil {
			return blocks{}, false, err
		}
		var members []span
		if members, ours, err = parsePasswdGIDs(passwd, pwData); err != nil {
			return blocks{}, false, err
		}
		used = append(used, members...)
	}
	isOwner := func(name string) bool { return name == Owner || slices.Contains(ours, name) }
	mine, others, err := parseSubIDs(sub, subData, isOwner)
	if err != nil {
		return blocks{}, false, err
	}
	own := len(mine) > 0
	if !own {
		mine = []span{{systemdFirst, systemdEnd}}
	}
	return cut(mine, append(used, others...)), own, nil
}

// parsePasswdGIDs gives the primary groups of a passwd file and the uid of
// Owner, in decimal.
func parsePasswdGIDs(path string, data []byte) (used []span, uids []string, err error) {
	_, uids, err = parseIDs(path, data, Owner)
	if err != nil {
		return nil, nil, err
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.SplitN(line, ":", 5)
		if len(fields) < 5 {
			continue
		}
		if id, ok := decimal([]byte(fields[3])); ok {
			used = append(used, span{id, id + 1})
		}
	}
	return used, uids, nil
}

// Len is the number of blocks there are, taken or free.
func (p *Pool) Len() int { return p.total }

// Take claims a free block for owner, a container id (letters, digits, "_.-",
// at most 128). The error is of kind HostCannot if all blocks are taken.
func (p *Pool) Take(owner string) (spec.IDBlock, error) {
	if !validOwner(owner) {
		return spec.IDBlock{}, fail.New(fail.Internal, "%.80q cannot own ids", owner)
	}
	// The hint is followed for some tries: it is wrong where long-lived
	// containers sit, or where others took the same hint at the same moment.
	i := p.hint()
	for range min(64, p.total) {
		b, ok, err := p.try(i, owner)
		if err != nil || ok {
			return b, err
		}
		i = (i + 1) % p.total
	}
	// A pool of which a tenth is free gives a block in some ten random tries.
	for range min(128, p.total) {
		b, ok, err := p.try(rand.IntN(p.total), owner)
		if err != nil || ok {
			return b, err
		}
	}
	return p.takeAny(owner)
}

// takeAny walks the whole pool; only a pool that is nearly full needs it.
func (p *Pool) takeAny(owner string) (spec.IDBlock, error) {
	names, err := p.names()
	if err != nil {
		return spec.IDBlock{}, err
	}
	taken := make(map[string]bool, len(names))
	for _, n := range names {
		taken[n] = true
	}
	for i := range p.total {
		b := p.block(i)
		if taken[uname(b)] || taken[gname(b)] {
			continue
		}
		b, ok, err := p.try(i, owner)
		if err != nil || ok {
			return b, err
		}
	}
	return spec.IDBlock{}, fail.New(fail.HostCannot, "all %d blocks of %d subordinate ids are taken by containers", p.total, BlockSize).
		Hint("remove containers, or give user %s a larger range in /etc/subuid and /etc/subgid", Owner)
}

// try claims block i. It gives false if somebody has it.
func (p *Pool) try(i int, owner string) (spec.IDBlock, bool, error) {
	b := p.block(i)
	if p.nspawn != "" {
		var st unix.Stat_t
		if unix.Lstat(p.nspawn+"/"+strconv.FormatUint(uint64(b.HostUID), 10), &st) == nil {
			return b, false, nil
		}
	}
	ok, err := p.claim(b, owner)
	if err != nil || !ok {
		return b, false, err
	}
	p.setHint((i + 1) % p.total)
	return b, true, nil
}

// claim makes both links of a block. Two are needed, although they mostly have
// the same number: after an edit of the tables another uid block may come with
// the same gid block.
func (p *Pool) claim(b spec.IDBlock, owner string) (bool, error) {
	t := text(Claim{Block: b, Owner: owner, Taker: p.self})
	err := unix.Symlink(t, p.dir+"/"+uname(b))
	if errors.Is(err, unix.EEXIST) {
		return false, nil
	}
	if err != nil {
		return false, fail.Wrap(fail.HostCannot, err, "claiming ids in %q", p.dir)
	}
	// A second name of the same link: one inode instead of two, half the cost.
	err = unix.Link(p.dir+"/"+uname(b), p.dir+"/"+gname(b))
	if err == nil {
		return true, nil
	}
	// Nobody else removes this link meanwhile: the process it names is alive.
	_ = unix.Unlink(p.dir + "/" + uname(b))
	if errors.Is(err, unix.EEXIST) {
		return false, nil
	}
	return false, fail.Wrap(fail.HostCannot, err, "claiming ids in %q", p.dir)
}

// Hold makes sure that owner has the very block b, as before a recorded
// container starts again: true if it had it or could take it, false if somebody
// else has it now or it no longer lies in the pool. Then the container needs
// another block, and a spec with it.
func (p *Pool) Hold(b spec.IDBlock, owner string) (bool, error) {
	if !validOwner(owner) || b.Size != BlockSize {
		return false, fail.New(fail.Internal, "%.80q cannot own ids", owner)
	}
	if !p.contains(b) {
		return false, nil
	}
	unlock, err := p.lock()
	if err != nil {
		return false, err
	}
	defer unlock()
	for _, name := range []string{uname(b), gname(b)} {
		c, err := p.read(name)
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			return false, err
		case c.Owner != owner:
			return false, nil
		}
	}
	t := text(Claim{Block: b, Owner: owner, Taker: p.self})
	for _, name := range []string{uname(b), gname(b)} {
		if err := unix.Symlink(t, p.dir+"/"+name); err != nil && !errors.Is(err, unix.EEXIST) {
			return false, fail.Wrap(fail.HostCannot, err, "claiming ids in %q", p.dir)
		}
		// A taker does not ask for the lock and may have been faster.
		if c, err := p.read(name); err != nil || c.Owner != owner {
			p.drop(b, owner)
			return false, nil
		}
	}
	return true, nil
}

func (p *Pool) contains(b spec.IDBlock) bool {
	return p.uids.has(b.HostUID) && p.gids.has(b.HostGID)
}

// has says whether a block of b begins at id.
func (b blocks) has(id uint32) bool {
	return slices.ContainsFunc(b.runs, func(r run) bool {
		return uint64(id) >= r.start && uint64(id) < r.start+uint64(r.n)*BlockSize && (uint64(id)-r.start)%BlockSize == 0
	})
}

// Release gives a block of owner back. A block that is free or has another
// owner is left alone: releasing twice is no error.
func (p *Pool) Release(b spec.IDBlock, owner string) error {
	unlock, err := p.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return p.drop(b, owner)
}

// drop removes the links of a block that name owner. The lock is held: between
// reading a link and removing it nobody else may remove and a third make it.
func (p *Pool) drop(b spec.IDBlock, owner string) error {
	var errs []error
	for _, name := range []string{gname(b), uname(b)} {
		c, err := p.read(name)
		if errors.Is(err, os.ErrNotExist) || err == nil && c.Owner != owner {
			continue
		}
		if err == nil {
			err = unix.Unlink(p.dir + "/" + name)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return fail.Wrap(fail.Internal, errors.Join(errs...), "releasing ids in %q", p.dir)
}

// Reclaim releases the blocks whose taker has ended and whose owner is not
// alive, and gives their number. alive is asked once per owner, without a lock
// held; it must say true for every container that has a record, running or
// not.
//
// A launch needs no protection of its own, if the process that takes a block
// also makes the container's record: while it lives, the block stays, and if it
// died without a record, there will never be one.
func (p *Pool) Reclaim(alive func(owner string) bool) (int, error) {
	names, err := p.names()
	if err != nil {
		return 0, err
	}
	verdict := map[string]bool{}
	gone := map[spec.IDBlock]string{}
	var errs []error
	for _, name := range names {
		c, err := p.read(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		// The order matters: the record is made while the taker lives, so once it
		// is dead the answer about the record is final.
		if p.running(c.Taker) {
			continue
		}
		live, known := verdict[c.Owner]
		if !known {
			live = alive(c.Owner)
			verdict[c.Owner] = live
		}
		if !live {
			gone[c.Block] = c.Owner
		}
	}
	if len(gone) == 0 {
		return 0, errors.Join(errs...)
	}
	unlock, err := p.lock()
	if err != nil {
		return 0, err
	}
	defer unlock()
	n := 0
	for b, owner := range gone {
		if err := p.drop(b, owner); err != nil {
			errs = append(errs, err)
			continue
		}
		n++
	}
	return n, errors.Join(errs...)
}

// List gives all claims, ordered by first uid.
func (p *Pool) List() ([]Claim, error) {
	names, err := p.names()
	if err != nil {
		return nil, err
	}
	var out []Claim
	for _, name := range names {
		if name[0] != 'u' {
			continue
		}
		c, err := p.read(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Claim) int { return int(int64(a.Block.HostUID) - int64(b.Block.HostUID)) })
	return out, nil
}

func (p *Pool) block(i int) spec.IDBlock {
	return spec.IDBlock{HostUID: p.uids.at(i), HostGID: p.gids.at(i), Size: BlockSize}
}
