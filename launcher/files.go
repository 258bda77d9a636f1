package launcher

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// hostsFile is /etc/hosts as docker generates it. Names and addresses were
// validated when they were parsed.
func hostsFile(w spec.Workload, hostname string) []byte {
	var b bytes.Buffer
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	for _, h := range w.AddHosts {
		name, ip, ok := strings.Cut(h, ":")
		if eq := strings.IndexByte(h, '='); eq >= 0 && (!ok || eq < len(name)) {
			name, ip = h[:eq], h[eq+1:]
		}
		if a, err := netip.ParseAddr(strings.Trim(ip, "[]")); err == nil {
			fmt.Fprintf(&b, "%s\t%s\n", a, name)
		}
	}
	full := hostname
	if w.Domainname != "" {
		full = hostname + "." + w.Domainname + " " + hostname
	}
	// Without a network the container's own name is its loopback.
	fmt.Fprintf(&b, "127.0.0.1\t%s\n", full)
	return b.Bytes()
}

// filesIn names the generated files of a container's directory.
func filesIn(dir string) spec.HostFiles {
	return spec.HostFiles{
		Hosts:      filepath.Join(dir, "hosts"),
		Hostname:   filepath.Join(dir, "hostname"),
		ResolvConf: filepath.Join(dir, "resolv.conf"),
	}
}

// writeFiles makes the generated files of /etc. They belong to the
// container's root, so that they need no idmapped mount (for which
// containerd would ask the runtime for its features at every start); they are
// bound read-only.
func writeFiles(files spec.HostFiles, w spec.Workload, hostname string, ids spec.IDBlock) error {
	for _, f := range []struct {
		path string
		data []byte
	}{
		{files.Hosts, hostsFile(w, hostname)},
		{files.Hostname, []byte(hostname + "\n")},
		{files.ResolvConf, []byte("# no network\n")},
	} {
		if err := os.WriteFile(f.path, f.data, 0o644); err != nil {
			return fail.Wrap(fail.HostCannot, err, "generated files")
		}
		if err := os.Chmod(f.path, 0o644); err != nil { // whatever the umask
			return fail.Wrap(fail.HostCannot, err, "generated files")
		}
		if ids.Size != 0 {
			if err := os.Lchown(f.path, int(ids.HostUID), int(ids.HostGID)); err != nil {
				return fail.Wrap(fail.HostCannot, err, "generated files")
			}
		}
	}
	return nil
}
