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

// names are what the generated files of /etc say.
type names struct {
	hostname  string
	addresses []netip.Addr // the container's own, none without a network
	gateway   netip.Addr   // what host-gateway stands for
	resolv    []byte
}

// hostsFile is /etc/hosts as docker generates it. Names and addresses were
// validated when they were parsed.
func hostsFile(w spec.Workload, n names) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	for _, h := range w.AddHosts {
		name, ip, _ := strings.Cut(h, ":")
		a, err := netip.ParseAddr(ip)
		if ip == "host-gateway" {
			if a, err = n.gateway, nil; !a.IsValid() {
				return nil, fail.New(fail.Usage, "--add-host %s: without a network there is no gateway", h)
			}
		}
		if err != nil {
			return nil, fail.Wrap(fail.Usage, err, "--add-host %s", h)
		}
		fmt.Fprintf(&b, "%s\t%s\n", a, name)
	}
	full := n.hostname
	if w.Domainname != "" {
		full = n.hostname + "." + w.Domainname + " " + n.hostname
	}
	own := n.addresses
	if len(own) == 0 { // its name is its loopback
		own = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	for _, a := range own {
		fmt.Fprintf(&b, "%s\t%s\n", a, full)
	}
	return b.Bytes(), nil
}

// filesIn names the generated files of a container's directory.
func filesIn(dir string) spec.HostFiles {
	return spec.HostFiles{
		Hosts:      filepath.Join(dir, "hosts"),
		Hostname:   filepath.Join(dir, "hostname"),
		ResolvConf: filepath.Join(dir, "resolv.conf"),
	}
}

// contents are the generated files, for a container with a network of its own.
func contents(w spec.Workload, n names) (c [3][]byte, err error) {
	hosts, err := hostsFile(w, n)
	return [3][]byte{hosts, []byte(n.hostname + "\n"), n.resolv}, err
}

// writeFiles makes the generated files of /etc. They belong to the
// container's root, so that they need no idmapped mount (for which
// containerd would ask the runtime for its features at every start); they are
// bound read-only.
func writeFiles(files spec.HostFiles, data [3][]byte, ids spec.IDBlock) error {
	for i, path := range []string{files.Hosts, files.Hostname, files.ResolvConf} {
		if err := os.WriteFile(path, data[i], 0o644); err != nil {
			return fail.Wrap(fail.HostCannot, err, "generated files")
		}
		if err := os.Chmod(path, 0o644); err != nil { // whatever the umask
			return fail.Wrap(fail.HostCannot, err, "generated files")
		}
		if ids.Size != 0 {
			if err := os.Lchown(path, int(ids.HostUID), int(ids.HostGID)); err != nil {
				return fail.Wrap(fail.HostCannot, err, "generated files")
			}
		}
	}
	return nil
}
