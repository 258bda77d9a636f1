package idmap

import (
	"strconv"
	"strings"
	"testing"
)

// FuzzAccounts: no block holds the id or the primary group of an account of
// the host's passwd, whatever else is in the file; and none holds 0.
func FuzzAccounts(f *testing.F) {
	f.Add("root:x:0:0::/:\nalice:x:1000000:1000::/:\nbob:x:7:1065536:b:/:\n", "safe-run:1000000:1000000\n")
	f.Add("#a:x:1:2::\n:x:5:5::\na:x:05:+6::\n\r\nsafe-run:x:900:900::/:/bin/false", "900:100000:70000\nsafe-run:1:65536\n")
	f.Add("a::4294967295:4294967296::\na:b:1:2\nx:x:65535:65536:\n", "safe-run:1:4294967294")
	f.Fuzz(func(t *testing.T, passwd, sub string) {
		uids, _, err := parseIDs("passwd", []byte(passwd), Owner)
		if err != nil {
			return
		}
		gids, ours, err := parsePasswdGIDs("passwd", []byte(passwd))
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range ours {
			if n, err := strconv.ParseUint(o, 10, 32); err != nil || o != strings.TrimSpace(o) || n > 1<<32-1 {
				t.Fatalf("%q is no uid", o)
			}
		}
		mine, others, err := parseSubIDs("subuid", []byte(sub), func(s string) bool { return s == Owner })
		if err != nil {
			return
		}
		b := cut(mine, append(append(others, uids...), gids...))
		for i := range min(b.total, 50) {
			first := uint64(b.at(i))
			if first == 0 || first+BlockSize > idEnd {
				t.Fatalf("block at %d", first)
			}
			for line := range strings.Lines(passwd) {
				fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
				if len(fields) < 7 || fields[0] == "" || fields[0][0] == '#' {
					continue
				}
				for _, field := range fields[2:4] {
					if id, err := strconv.ParseUint(field, 10, 32); err == nil && len(field) <= 10 && id >= first && id < first+BlockSize {
						t.Fatalf("block at %d holds %d of %q", first, id, line)
					}
				}
			}
		}
	})
}
