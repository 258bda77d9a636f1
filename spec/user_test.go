package spec

import (
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/fail"
)

const (
	testPasswd = `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1::/:/bin/false
app:x:1000:1001:App:/home/app:/bin/sh
app:x:0:0:second entry::
big:x:70000:70000::/:
12345:x:0:0:digits as a name::
99999999999999999999:x:0:0:::
odd:x:zero:0::/:
# comment:x:0:0::/:
`
	testGroup = `root:x:0:root
wheel:x:10:root,app
app:x:1001:
video:x:44:app
huge:x:70001:app
odd:x:-1:app
# c:x:5:app
`
)

func TestResolveUser(t *testing.T) {
	for _, tc := range []struct {
		user string
		add  []string
		want User
		err  string // part of the error
		kind fail.Kind
	}{
		{user: "", want: User{}},
		{user: "0", want: User{}},
		{user: "root", want: User{}},
		{user: "0:0", want: User{}},
		{user: "00", want: User{Home: "/root", Name: "root", Additional: []uint32{0, 10}}},
		{user: "app", want: User{UID: 1000, GID: 1001, Home: "/home/app", Name: "app", Additional: []uint32{10, 44}}},
		{user: "1000", want: User{UID: 1000, GID: 1001, Home: "/home/app", Name: "app", Additional: []uint32{10, 44}}},
		{user: "app:wheel", want: User{UID: 1000, GID: 10, Home: "/home/app", Name: "app"}},
		{user: "app:44", want: User{UID: 1000, GID: 44, Home: "/home/app", Name: "app"}},
		{user: "4000", want: User{UID: 4000}},
		{user: "4000:5000", want: User{UID: 4000, GID: 5000}},
		{user: ":wheel", want: User{GID: 10}},
		{user: "65535", want: User{UID: 65535}},
		{user: "4000", add: []string{"video", "7"}, want: User{UID: 4000, Additional: []uint32{44, 7}}},
		{user: "", add: []string{"7"}, want: User{Additional: []uint32{7}}},
		// An id is never a name, in the image's files or not.
		{user: "12345", want: User{UID: 12345}},
		{user: "99999999999999999999", err: "range 0-2147483647", kind: fail.Usage},
		{user: "2147483648", err: "range 0-2147483647", kind: fail.Usage},
		{user: "4294967296", err: "range 0-2147483647", kind: fail.Usage},
		{user: "4294967295:0", err: "range", kind: fail.Usage},
		{user: "65536", err: "ids 0 to 65535", kind: fail.HostCannot},
		{user: "0:65536", err: "ids 0 to 65535", kind: fail.HostCannot},
		{user: "big", err: "ids 0 to 65535", kind: fail.HostCannot},
		{user: "-1", err: "invalid user", kind: fail.Usage},
		{user: "+0", err: "invalid user", kind: fail.Usage},
		{user: " 0", err: "invalid user", kind: fail.Usage},
		{user: "0 ", err: "invalid user", kind: fail.Usage},
		{user: "0x0", err: "unable to find user", kind: fail.Usage},
		{user: "1e1", err: "unable to find user", kind: fail.Usage},
		{user: "odd", err: "unable to find user", kind: fail.Usage},
		{user: "nobody", err: `unable to find user "nobody"`, kind: fail.Usage},
		{user: "app:none", err: `unable to find group "none"`, kind: fail.Usage},
		{user: "app:huge", err: "ids 0 to 65535", kind: fail.HostCannot},
		{user: "app:odd", err: "unable to find group", kind: fail.Usage},
		{user: "a:b:c", err: "invalid user", kind: fail.Usage},
		{user: ":", err: "invalid user", kind: fail.Usage},
		{user: "a\nb", err: `"a\nb"`, kind: fail.Usage},
		{user: "a\x00", err: `"a\x00"`, kind: fail.Usage},
		{user: "app", add: []string{"none"}, err: "unable to find group", kind: fail.Usage},
		{user: "app", add: []string{""}, err: "invalid group", kind: fail.Usage},
		{user: "app", add: []string{"+1"}, err: "invalid group", kind: fail.Usage},
		{user: "app", add: []string{"99999999999"}, err: "range", kind: fail.Usage},
	} {
		t.Run(fmt.Sprintf("%q %q", tc.user, tc.add), func(t *testing.T) {
			got, err := ResolveUser(tc.user, tc.add, []byte(testPasswd), []byte(testGroup))
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) || fail.KindOf(err) != tc.kind {
					t.Fatalf("%+v, %v (kind %d)", got, err, fail.KindOf(err))
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, tc.want) {
				t.Fatalf("%+v, %v; want %+v", got, err, tc.want)
			}
			if !NeedsFiles(tc.user, tc.add) {
				alone, err := ResolveUser(tc.user, tc.add, nil, nil)
				if err != nil || !reflect.DeepEqual(got, alone) {
					t.Errorf("NeedsFiles is false, but without them: %+v, %v", alone, err)
				}
			}
		})
	}
}

func TestNeedsFiles(t *testing.T) {
	for _, tc := range []struct {
		user string
		add  []string
		want bool
	}{
		{"", nil, false},
		{"root", nil, false},
		{"0", []string{"5"}, false},
		{"", []string{"video"}, true},
		{"1000", nil, true},
		{"1000:", nil, true},
		{"1000:1000", nil, false},
		{"1000:app", nil, true},
		{"app", nil, true},
		{"app:5", nil, true},
		{":5", nil, false},
	} {
		if got := NeedsFiles(tc.user, tc.add); got != tc.want {
			t.Errorf("%q %q: %v", tc.user, tc.add, got)
		}
	}
}

// Files no program wrote: long lines, no newline, a million members.
func TestResolveUserHostileFiles(t *testing.T) {
	members := strings.Repeat("m,", 400_000) + "app"
	u, err := ResolveUser("app", nil, []byte("app:x:5:5::/:"), []byte("big:x:7:"+members+"\nb:x:8:app"))
	if err == nil && len(u.Additional) != 2 {
		t.Errorf("%+v", u)
	}
	if _, err := ResolveUser("app", nil, make([]byte, maxUserFile+1), nil); err == nil {
		t.Error("a file of any size is read")
	}
	if _, err := ResolveUser("app", nil, []byte(strings.Repeat("x", 1<<20)), nil); err == nil {
		t.Error("found in nonsense")
	}
	// Each line costs little, and one with an id that overflows is nobody's.
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if u, err := ResolveUser("app", nil, []byte(strings.Repeat("x:x:4294967296:1::\n", 100_000)+"app:x:5:6:a:b:/home:/sh"), nil); err != nil || u.UID != 5 || u.GID != 6 || u.Home != "b" {
		t.Errorf("%+v %v", u, err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 100<<20 {
		t.Errorf("a hundred thousand lines took %d bytes", n)
	}
	many := strings.Repeat("g:x:7:app\n", maxGroups+10)
	if _, err := ResolveUser("app", nil, []byte("app:x:5:5::/:"), []byte(many)); err == nil {
		t.Error("more groups than the kernel takes")
	}
}
