package spec

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/moby/sys/user"
)

// FuzzResolveUser: ids are ones a container has, a number is never another
// number or a name, and of files with nothing odd in them docker would read
// the same.
func FuzzResolveUser(f *testing.F) {
	for _, u := range []string{"", "root", "app", "app:wheel", "4294967296", "12345", "-1", "a:b:c", ":", "00", "1000", ":video", "0:0", "app:", "99999:app"} {
		f.Add(u, "video", testPasswd, testGroup)
	}
	f.Add("a", "", "a:x:7:8::/h:\n\n b:x:7:9\n", "g:x:5:a,b\n#c:x:6:a\nh:x:5:a,a\n")
	f.Add("7:g", "g", "a:x:7:8\na:x:9:9", "g:x:00005:\n")
	f.Fuzz(func(t *testing.T, of, add, passwd, group string) {
		var adds []string
		if add != "" {
			adds = []string{add}
		}
		u, err := ResolveUser(of, adds, []byte(passwd), []byte(group))
		likeDocker(t, of, passwd, group)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\x00\x1b\n\r") || len(err.Error()) > 1000 {
				t.Errorf("not fit to print: %q", err)
			}
			return
		}
		for _, id := range append([]uint32{u.UID, u.GID}, u.Additional...) {
			if id >= blockSize {
				t.Errorf("id %d of %q", id, of)
			}
		}
		name, _, _ := strings.Cut(of, ":")
		if digits(name) && strings.TrimLeft(name, "0") != "" && fmt.Sprint(u.UID) != strings.TrimLeft(name, "0") {
			t.Errorf("%q became uid %d", of, u.UID)
		}
		if !NeedsFiles(of, adds) {
			alone, err := ResolveUser(of, adds, nil, nil)
			if err != nil || !reflect.DeepEqual(alone, u) {
				t.Errorf("%q: NeedsFiles is false: %+v, %v", of, alone, err)
			}
		}
	})
}

// likeDocker compares with the code docker and containerd resolve users by,
// where this one does not mean to be stricter.
func likeDocker(t *testing.T, of, passwd, group string) {
	t.Helper()
	name, groupName, _ := strings.Cut(of, ":")
	if rootSpec(of) || name == "" && groupName == "" || !nameOrID(name) || !nameOrID(groupName) || octal(name) || octal(groupName) || !plain(passwd, 4, 2, 3) || !plain(group, 3, 2) {
		return
	}
	want, err := user.GetExecUser(of, nil, strings.NewReader(passwd), strings.NewReader(group))
	if err == nil && slices.ContainsFunc(append(want.Sgids, want.Uid, want.Gid), func(id int) bool { return !usable(id) }) {
		return
	}
	got, gotErr := ResolveUser(of, nil, []byte(passwd), []byte(group))
	if (err == nil) != (gotErr == nil) {
		t.Fatalf("user %q: %+v %v, docker %+v %v", of, got, gotErr, want, err)
	}
	if err != nil {
		return
	}
	var groups []int
	for _, g := range got.Additional {
		groups = append(groups, int(g))
	}
	if int(got.UID) != want.Uid || int(got.GID) != want.Gid || !slices.Equal(groups, want.Sgids) && len(groups)+len(want.Sgids) > 0 {
		t.Fatalf("user %q: %+v, docker %+v", of, got, want)
	}
}

func octal(s string) bool { return digits(s) && len(s) > 1 && s[0] == '0' }

// plain says whether each line has so many fields at least, and ids that a
// container can have in some of them.
func plain(file string, fields int, ids ...int) bool {
	for line := range bytes.Lines([]byte(file)) {
		line = bytes.TrimSpace(line)
		f := bytes.Split(line, []byte(":"))
		if len(line) > 0 && (len(line) > 60<<10 || len(f) < fields) {
			return false
		}
		for _, i := range ids {
			if len(line) > 0 && (!digits(string(f[i])) || !usable(whole(f[i]))) {
				return false
			}
		}
	}
	return true
}
