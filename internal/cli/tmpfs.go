package cli

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/safe-run/safe-run/spec"

	"github.com/safe-run/safe-run/internal/lazyre"
)

// tmpfsFlags are the mount flags a --tmpfs may name, with why not.
var tmpfsFlags = map[string]string{
	"rw": "", "ro": "", "exec": "", "noexec": "", "suid": "", "nosuid": "", "dev": "", "nodev": "",
	"sync": "", "async": "", "dirsync": "", "atime": "", "noatime": "", "diratime": "", "nodiratime": "",
	"relatime": "", "norelatime": "", "strictatime": "", "nostrictatime": "",
	"defaults": "", "private": "", "rprivate": "", // what it is without them
	"shared": notShared, "rshared": notShared, "slave": notShared, "rslave": notShared,
	"unbindable": notShared, "runbindable": notShared,
	"bind": notNew, "rbind": notNew, "remount": notNew,
	"mand": "Linux has no mandatory locking any more", "nomand": "Linux has no mandatory locking any more",
	"tmpcopyup": "the content of the image is not copied into a tmpfs", "notmpcopyup": "it is so already; leave it out",
}

const (
	notShared = "a tmpfs belongs to one container, there is nobody to propagate it to"
	notNew    = "a tmpfs is always a new mount"
)

// mpol is the memory policy of tmpfs(5), without node lists that contain
// commas: commas separate the options.
var mpol = lazyre.New(`^(default|local|prefer|bind|interleave)(=(static|relative))?(:[0-9]+(-[0-9]+)?)?$`)

// setTmpfs reads one --tmpfs: DST[:OPTION,...].
func (p *parser) setTmpfs(v string) error {
	if err := clean(v); err != nil {
		return err
	}
	target, options, _ := strings.Cut(v, ":")
	m := spec.Mount{Origin: "--tmpfs", Type: spec.MountTmpfs}
	var err error
	if m.Target, err = checkTarget(target); err != nil {
		return err
	}
	if options != "" {
		for _, o := range strings.Split(options, ",") {
			if err := tmpfsOption(&m, o); err != nil {
				return fmt.Errorf("invalid tmpfs option %s: %w", quote(o), err)
			}
		}
	}
	p.addMount(m)
	return nil
}

func tmpfsOption(m *spec.Mount, o string) error {
	t := &m.Tmpfs
	if why, known := tmpfsFlags[o]; known {
		switch {
		case why != "":
			return errors.New(why)
		case o == "defaults" || o == "private" || o == "rprivate":
			return nil
		case o == "exec" || o == "noexec":
			m.Exec = o == "exec"
		case o == "ro" || o == "rw":
			m.ReadOnly = o == "ro"
		}
		t.Flags = append(t.Flags, o)
		return nil
	}
	key, val, ok := strings.Cut(o, "=")
	if !ok {
		return errors.New("there is none of that name; it takes size, mode, uid, gid, nr_inodes, nr_blocks, mpol and mount flags")
	}
	var err error
	switch key {
	case "size":
		if pct, isPct := strings.CutSuffix(val, "%"); isPct {
			n, err := strconv.ParseUint(pct, 10, 8)
			if err != nil || n < 1 || n > 100 {
				return errors.New("the percentage is a number from 1 to 100")
			}
			t.Size, t.SizePct = 0, int(n)
			return nil
		}
		t.SizePct = 0
		t.Size, err = kernelSize(val)
	case "nr_blocks":
		// The same limit as size, counted in pages (tmpfs(5)). It is kept as
		// a size so that no maximum can be got round by the other word.
		var n int64
		if n, err = kernelSize(val); err == nil {
			page := int64(os.Getpagesize())
			if n > math.MaxInt64/page {
				return errors.New("it is too large")
			}
			t.Size, t.SizePct = n*page, 0
		}
	case "nr_inodes":
		t.Inodes, err = kernelSize(val)
	case "mode":
		err = setMode(t, val)
	case "uid":
		t.UID, err = tmpfsID(val)
	case "gid":
		t.GID, err = tmpfsID(val)
	case "mpol":
		if !mpol().MatchString(val) {
			return errors.New("it is not a memory policy")
		}
		t.Flags = append(t.Flags, o)
	default:
		return errors.New("there is none of that name")
	}
	return err
}

func tmpfsID(v string) (*uint32, error) {
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil || n > math.MaxInt32 {
		return nil, errors.New("the id is a number from 0 to 2147483647")
	}
	id := uint32(n)
	return &id, nil
}

// kernelSize reads a number as the kernel does in mount options (memparse):
// decimal with an optional k, m, g, t or p. 0 is no limit to the kernel, so it
// is not a size.
func kernelSize(v string) (int64, error) {
	num, shift := v, 0
	if v != "" {
		if i := strings.IndexByte("kmgtp", v[len(v)-1]|0x20); i >= 0 {
			num, shift = v[:len(v)-1], 10*(i+1)
		}
	}
	// A leading 0 would be octal to the kernel.
	n, err := strconv.ParseUint(num, 10, 63)
	switch {
	case err != nil || strings.TrimLeft(num, "0") != num && n != 0 || num[0] == '+':
		return 0, errors.New("it takes a number with an optional k, m or g, such as 64m")
	case n == 0:
		return 0, errors.New("0 would be no limit; name one")
	case n > math.MaxInt64>>shift:
		return 0, errors.New("it is too large")
	}
	return int64(n) << shift, nil
}
