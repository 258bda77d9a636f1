package cli

import (
	"os"
	"reflect"
	"testing"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

func u32(n uint32) *uint32 { return &n }

func TestMounts(t *testing.T) {
	const (
		bind, volume, tmpfs, image = spec.MountBind, spec.MountVolume, spec.MountTmpfs, spec.MountImage
	)
	for _, c := range []struct {
		flag, value string
		want        spec.Mount
	}{
		{"-v", "/a/../b:/c/", spec.Mount{Type: bind, Source: "/b", Target: "/c"}},
		{"-v", ".:/c", spec.Mount{Type: bind, Source: "/home/me", Target: "/c"}},
		{"-v", "./x:/c:ro", spec.Mount{Type: bind, Source: "/home/me/x", Target: "/c", ReadOnly: true}},
		{"-v", "../x:/c:rw,z,rslave,cached", spec.Mount{Type: bind, Source: "/home/x", Target: "/c", Relabel: "z", Propagation: "rslave"}},
		{"-v", ".hidden:/c:exec", spec.Mount{Type: bind, Source: "/home/me/.hidden", Target: "/c", Exec: true}},
		{"-v", "data:/c:nocopy,ro", spec.Mount{Type: volume, Source: "data", Target: "/c", NoCopy: true, ReadOnly: true}},
		{"-v", "/c//d", spec.Mount{Type: volume, Target: "/c/d"}},
		{"-v", "/a:/ro", spec.Mount{Type: bind, Source: "/a", Target: "/ro"}},
		{"--mount", "dst=/c", spec.Mount{Type: volume, Target: "/c"}},
		{"--mount", "type=bind,src=/a,target=/c,readonly", spec.Mount{Type: bind, Source: "/a", Target: "/c", ReadOnly: true}},
		{"--mount", "TYPE=BIND,Source=/a,Destination=/c,RO=1,exec", spec.Mount{Type: bind, Source: "/a", Target: "/c", ReadOnly: true, Exec: true}},
		{"--mount", "type=bind,src=.,dst=/c,bind-propagation=RSHARED", spec.Mount{Type: bind, Source: "/home/me", Target: "/c", Propagation: "rshared"}},
		{"--mount", "type=bind,src=/a,dst=/c,bind-recursive=disabled,readonly=false", spec.Mount{Type: bind, Source: "/a", Target: "/c", NonRecursive: true}},
		{"--mount", "type=bind,src=/a,dst=/c,ro,bind-recursive=readonly,bind-propagation=rprivate", spec.Mount{Type: bind, Source: "/a", Target: "/c", ReadOnly: true, Propagation: "rprivate"}},
		{"--mount", `type=bind,"src=/a,b",dst=/c,consistency=cached`, spec.Mount{Type: bind, Source: "/a,b", Target: "/c"}},
		{"--mount", "type=volume,src=data,dst=/c,volume-subpath=a/b,volume-nocopy,volume-label=a=b,volume-label=c,volume-driver=local,volume-opt=o=bind", spec.Mount{
			Type: volume, Source: "data", Target: "/c", Subpath: "a/b", NoCopy: true, Driver: "local",
			Labels: map[string]string{"a": "b", "c": ""}, DriverOpts: map[string]string{"o": "bind"},
		}},
		{"--mount", "type=image,src=busybox,dst=/c,image-subpath=bin", spec.Mount{Type: image, Source: "busybox", Target: "/c", Subpath: "bin", ReadOnly: true}},
		{"--mount", "type=tmpfs,dst=/c,tmpfs-size=1m,tmpfs-mode=1770,ro", spec.Mount{Type: tmpfs, Target: "/c", ReadOnly: true, Tmpfs: spec.TmpfsOptions{Size: 1 << 20, Mode: u32(0o1770)}}},
		{"--tmpfs", "/c", spec.Mount{Type: tmpfs, Target: "/c"}},
		{"--tmpfs", "/c/:size=64m,mode=700,uid=5,gid=6,nr_inodes=1k,exec,suid,mpol=bind:0", spec.Mount{Type: tmpfs, Target: "/c", Exec: true, Tmpfs: spec.TmpfsOptions{
			Size: 64 << 20, Mode: u32(0o700), UID: u32(5), GID: u32(6), Inodes: 1024, Flags: []string{"exec", "suid", "mpol=bind:0"},
		}}},
		{"--tmpfs", "/c:size=1g,size=50%,exec,noexec,defaults", spec.Mount{Type: tmpfs, Target: "/c", Tmpfs: spec.TmpfsOptions{SizePct: 50, Flags: []string{"exec", "noexec"}}}},
		{"--tmpfs", "/c:size=50%,size=4096,ro", spec.Mount{Type: tmpfs, Target: "/c", ReadOnly: true, Tmpfs: spec.TmpfsOptions{Size: 4096, Flags: []string{"ro"}}}},
		{"--tmpfs", "/c:nr_blocks=2", spec.Mount{Type: tmpfs, Target: "/c", Tmpfs: spec.TmpfsOptions{Size: 2 * int64(os.Getpagesize())}}},
	} {
		got := mustParse(t, c.flag, c.value, "img").Workload.Mounts
		c.want.Origin = c.flag
		if len(got) != 1 || !reflect.DeepEqual(got[0], c.want) {
			t.Errorf("%s %s:\n got %+v\nwant %+v", c.flag, c.value, got, c.want)
		}
	}
}

func TestMountErrors(t *testing.T) {
	for _, c := range []struct{ flag, value, text string }{
		{"-v", "", "empty section"},
		{"-v", ":/c", "empty section"},
		{"-v", "/a:", "empty section"},
		{"-v", "/a:/b:", "empty section"},
		{"-v", "/a:/b:ro:x", "too many colons"},
		{"-v", "/a:b", "absolute"},
		{"-v", "/a:ro", "mode alone"},
		{"-v", "/a:/", "cannot be /"},
		{"-v", "/a:/b/..", "cannot be /"},
		{"-v", "/a:/b\n/c", "control character"},
		{"-v", "/a\xff:/b", "UTF-8"},
		{"-v", "~/a:/b", "only the shell expands"},
		{"-v", "a:/b", "not a name"},
		{"-v", "a/b:/c", "not a name"},
		{"-v", "/a:/b:foo", "invalid mode"},
		{"-v", "/a:/b:ro,rw", "exclude each other"},
		{"-v", "/a:/b:z,Z", "exclude each other"},
		{"-v", "/a:/b:shared,slave", "exclude each other"},
		{"-v", "/a:/b:ro,,z", "invalid mode"},
		{"-v", "/a:/b:nocopy", "nocopy is for volumes"},
		{"-v", "data:/b:shared", "for binds"},
		{"-v", "/a:/b:U", "owner of host files"},
		{"-v", "/a:/b:O", "overlay"},
		{"-v", "/a:/b:idmap=uids=0-1-2", "idmapped here already"},
		{"-v", "/a:/b:noexec", "leave it out"},
		{"-v", "/a:/b:suid", "never take effect"},
		{"--mount", "", "empty"},
		{"--mount", "type=bind,src=/a", "target is required"},
		{"--mount", "type=bind,dst=/a", "needs a source"},
		{"--mount", "type=bind,src=a,dst=/a", "absolute path"},
		{"--mount", "type=bind,src=~/a,dst=/a", "only the shell expands"},
		{"--mount", "type=bind, src=/a,dst=/a", "blanks"},
		{"--mount", "type=bind,src=/a ,dst=/a", "blanks"},
		{"--mount", "type=bind,src=,dst=/a", "is empty"},
		{"--mount", "type,src=/b,dst=/a", "unknown option"},
		{"--mount", "type=bind,src,dst=/a", "key=value"},
		{"--mount", "type=foo,dst=/a", "unknown mount type"},
		{"--mount", "type=npipe,src=x,dst=/a", "named pipes"},
		{"--mount", "type=cluster,src=x,dst=/a", "swarm"},
		{"--mount", "type=bind,src=/a,dst=/b,tmpfs-size=1m", "cannot mix"},
		{"--mount", "type=tmpfs,dst=/b,volume-nocopy=false", "cannot mix"},
		{"--mount", "dst=/b,bind-recursive=enabled", "cannot mix"},
		{"--mount", "type=tmpfs,src=/a,dst=/b", "no source"},
		{"--mount", "type=image,dst=/b", "needs a source"},
		{"--mount", "dst=/b,ro", "anonymous volume"},
		{"--mount", "dst=/b,ro=yes", "true, 1, false or 0"},
		{"--mount", "src=../x,dst=/b", "not a name"},
		{"--mount", "src=data,dst=/b,volume-subpath=../x", "does not lead out"},
		{"--mount", "src=data,dst=/b,volume-subpath=/x", "does not lead out"},
		{"--mount", "src=data,dst=/b,volume-driver=nfs", "volume drivers"},
		{"--mount", "type=bind,src=/a,dst=/b,bind-nonrecursive", "deprecated"},
		{"--mount", "type=bind,src=/a,dst=/b,bind-create-src", "never created"},
		{"--mount", "type=bind,src=/a,dst=/b,ro,bind-recursive=writable", "all the way down"},
		{"--mount", "type=bind,src=/a,dst=/b,bind-recursive=readonly", "requires readonly"},
		{"--mount", "type=bind,src=/a,dst=/b,bind-recursive=readonly,ro", "rprivate"},
		{"--mount", "type=bind,src=/a,dst=/b,bind-propagation=up", "it takes private"},
		{"--mount", "type=bind,src=/a,dst=/b,U=true", "owner of host files"},
		{"--mount", "type=bind,src=/a,dst=/b,idmap", "idmapped here already"},
		{"--mount", "type=bind,src=/a,dst=/b\nx", "control character"},
		{"--mount", `type=bind,src="/a,dst=/b`, "CSV"},
		{"--mount", "type=tmpfs,dst=/b,tmpfs-mode=99", "octal"},
		{"--mount", "type=tmpfs,dst=/b,tmpfs-mode=10000", "octal"},
		{"--mount", "type=tmpfs,dst=/b,tmpfs-size=x", "invalid size"},
		{"--mount", "type=tmpfs,dst=b", "absolute"},
		{"--tmpfs", "b", "absolute"},
		{"--tmpfs", "", "absolute"},
		{"--tmpfs", "/", "cannot be /"},
		{"--tmpfs", "/a:size=0", "no limit"},
		{"--tmpfs", "/a:size=0k", "no limit"},
		{"--tmpfs", "/a:size=101%", "1 to 100"},
		{"--tmpfs", "/a:size=1.5g", "number with"},
		{"--tmpfs", "/a:size=-1", "number with"},
		{"--tmpfs", "/a:size=", "number with"},
		{"--tmpfs", "/a:size=k", "number with"},
		{"--tmpfs", "/a:size=+1", "number with"},
		{"--tmpfs", "/a:size=010", "number with"},
		{"--tmpfs", "/a:size=9999999p", "too large"},
		{"--tmpfs", "/a:nr_blocks=9999999999999999", "too large"},
		{"--tmpfs", "/a:nr_inodes=0", "no limit"},
		{"--tmpfs", "/a:uid=-1", "number from 0"},
		{"--tmpfs", "/a:mode=8", "octal"},
		{"--tmpfs", "/a:foo", "none of that name"},
		{"--tmpfs", "/a:huge=always", "none of that name"},
		{"--tmpfs", "/a:remount", "new mount"},
		{"--tmpfs", "/a:bind", "new mount"},
		{"--tmpfs", "/a:rshared", "nobody"},
		{"--tmpfs", "/a:mpol=x y", "memory policy"},
	} {
		wantError(t, fail.Usage, c.text, c.flag, c.value, "img")
	}
}

func TestSameTargetTwice(t *testing.T) {
	for _, args := range [][]string{
		{"-v", "/a:/t", "-v", "/b:/t"},
		{"-v", "/a:/t", "--mount", "type=bind,src=/a,dst=/t"},
		{"-v", "/a:/t", "--tmpfs", "/t"},
		{"--tmpfs", "/t:size=1m", "--tmpfs", "/t/:size=2m"},
		{"--mount", "dst=/t", "--mount", "dst=/x/../t"},
	} {
		wantError(t, fail.Conflict, "duplicate mount point", append(args, "img")...)
	}
	if got := mustParse(t, "-v", "/a:/t", "-v", "/a:/t", "--tmpfs", "/s", "--tmpfs", "/s", "img").Workload.Mounts; len(got) != 2 {
		t.Errorf("%+v", got)
	}
}
