package convert_test

import (
	"testing"

	"github.com/safe-run/safe-run/convert"
	"github.com/safe-run/safe-run/convert/converttest"
	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/spec"
)

// A filter of the container's own comes back as it was, also one that is joined
// with conditions of the built-in one.
func TestOwnFilterComesBack(t *testing.T) {
	o := converttest.Options()
	for name, filter := range map[string]string{
		"a list":       `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read","write","ioctl","socket","clone","personality","exit_group"],"action":"SCMP_ACT_ALLOW"}]}`,
		"conditions":   `{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"syscalls":[{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]},{"names":["ioctl","read"],"action":"SCMP_ACT_ALLOW"}]}`,
		"errno":        `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"},{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","errnoRet":13}]}`,
		"kills others": `{"defaultAction":"SCMP_ACT_KILL_PROCESS","syscalls":[{"names":["read","ioctl"],"action":"SCMP_ACT_ALLOW"}]}`,
	} {
		for _, caps := range [][]string{nil, {"CHOWN"}} {
			w := spec.Workload{Image: "img", CapAdd: caps, SigProxy: true, Networks: []spec.NetworkUse{{Name: "bridge"}}}
			w.Seccomp = &spec.SeccompFile{Path: "/x.json", JSON: []byte(filter)}
			w.SecurityOpts = []string{cli.ProfileSeccomp}
			files, _, err := convert.Export(toy{keeps: true}, convert.Project{Containers: []convert.Container{{Name: "web", Workload: w}}}, o)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if len(files) == 0 {
				t.Errorf("%s: nothing written", name)
			}
		}
	}
}
