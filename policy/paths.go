package policy

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/internal/source"
)

// access is what a guard refuses.
type access int

const (
	open  access = iota // nothing: the bind is allowed
	write               // a writable bind
	all                 // a read-only bind as well
)

// guard protects a path of the host. A source above it holds it, so it is
// refused there as at the path itself.
type guard struct {
	pattern string // absolute; a segment "*" is any one name
	rule    string // id in the catalogue
	at      access // the path itself, and everything above
	below   access
}

// guards is the table of what the host cannot give away, most serious first.
//
// The list of system directories has its core in the CIS Docker Benchmark,
// 5.6; the rest is what root's secrets, engines and init systems keep on disk.
func guards() []guard {
	list := []guard{{"/", "bind-root", all, open}}
	for _, p := range []string{"/dev", "/proc", "/sys"} {
		list = append(list, guard{p, "bind-kernel", all, all})
	}
	for _, p := range []string{
		"/run/containerd", "/run/docker", "/run/containers", "/run/crio", "/run/k3s", "/run/runc", "/run/crun",
		"/run/libpod", "/run/lxc", "/run/netns", "/run/safe-run", "/run/buildkit", "/run/nri",
		"/var/lib/containerd", "/var/lib/docker", "/var/lib/containers", "/var/lib/kubelet", "/var/lib/rancher",
		"/var/lib/k0s", "/var/lib/nerdctl", "/var/lib/buildkit", "/var/lib/buildkitd", "/var/lib/cni", "/var/lib/crio", "/var/lib/etcd",
		"/var/lib/lxc", "/var/lib/lxd", "/var/lib/incus", "/var/lib/machines", "/var/lib/portables", "/var/lib/libvirt",
		"/var/lib/safe-run", "/var/lib/snapd", "/var/snap/lxd", "/var/snap/docker", "/var/snap/microk8s", "/opt/containerd", "/opt/cni",
		"/home/*/.local/share/docker", "/home/*/.local/share/containers", "/home/*/.local/share/containerd",
		"/root/.local/share/docker", "/root/.local/share/containers", "/root/.local/share/containerd",
	} {
		list = append(list, guard{p, "bind-container-store", all, all})
	}
	for _, p := range []string{
		"/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/security/opasswd",
		"/etc/sudoers", "/etc/sudoers.d", "/etc/ssh", "/etc/ssl/private", "/etc/pki/tls/private", "/etc/pki/*/private",
		"/etc/letsencrypt", "/etc/kubernetes", "/etc/rancher", "/etc/docker", "/etc/containers", "/etc/containerd",
		"/etc/cni", "/etc/crio", "/etc/safe-run", "/etc/wireguard", "/etc/openvpn", "/etc/ipsec.d", "/etc/ipsec.secrets", "/etc/swanctl",
		"/etc/krb5.keytab", "/etc/NetworkManager/system-connections", "/etc/netplan", "/etc/wpa_supplicant", "/etc/ppp",
		"/etc/credstore", "/etc/credstore.encrypted", "/etc/cryptsetup-keys.d", "/etc/samba/private", "/etc/sssd",
		"/etc/mysql/debian.cnf", "/etc/ceph", "/etc/vault.d", "/etc/consul.d", "/etc/nomad.d",
		"/run/credentials", "/run/secrets", "/usr/lib/credstore", "/usr/local/etc/ssh",
		"/var/backups", "/var/lib/sss", "/var/lib/samba/private", "/var/lib/systemd", "/var/lib/private", "/var/lib/NetworkManager",
		"/var/lib/AccountsService", "/var/lib/fprint", "/var/lib/tpm2-tss", "/var/lib/cloud", "/var/lib/waagent", "/var/lib/amazon",
		"/var/lib/acme", "/var/spool/cron", "/var/spool/at", "/var/spool/anacron", "/var/spool/mail", "/var/mail",
	} {
		list = append(list, guard{p, "bind-secret", all, all})
	}
	for _, home := range []string{"/root", "/home/*"} {
		for _, p := range homeSecrets() {
			list = append(list, guard{home + "/" + p, "bind-secret", all, all})
		}
		list = append(list, guard{home, "bind-home", all, open})
		for _, p := range homeStartup() {
			list = append(list, guard{home + "/" + p, "bind-startup", write, write})
		}
	}
	list = append(list, guard{"/home", "bind-home", all, open})
	for _, p := range []string{
		"/run/systemd", "/run/dbus", "/run/udev", "/run/user", "/run/log", "/run/lock", "/run/initctl", "/run/snapd",
		"/tmp/.X11-unix", "/tmp/.ICE-unix", "/boot", "/efi", "/sysroot", "/ostree", "/lost+found", "/swapfile", "/swap.img",
	} {
		list = append(list, guard{p, "bind-system", all, all})
	}
	for _, p := range []string{
		"/etc", "/usr", "/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32", "/usr/libexec",
		"/usr/local", "/usr/local/bin", "/usr/local/sbin", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix", "/snap",
		"/gnu",
	} {
		list = append(list, guard{p, "bind-system", all, write})
	}
	for _, p := range []string{
		"/var", "/var/lib", "/var/cache", "/var/spool", "/var/tmp", "/run", "/tmp", "/opt", "/var/snap",
	} {
		list = append(list, guard{p, "bind-system", all, open})
	}
	for _, p := range []string{
		"/var/lib/dpkg", "/var/lib/apt", "/var/lib/rpm", "/var/lib/pacman", "/var/lib/dbus", "/var/lib/polkit-1", "/var/lib/alternatives",
		"/var/lib/initramfs-tools", "/var/lib/ucf", "/var/lib/misc", "/var/cache/apt", "/var/cache/dnf", "/var/log/journal", "/var/log/audit",
	} {
		list = append(list, guard{p, "bind-system", write, write})
	}
	for _, p := range []string{"/var/log", "/srv", "/mnt", "/media"} {
		list = append(list, guard{p, "bind-system", write, open})
	}
	return list
}

// homeSecrets are the files and directories below a home that hold keys,
// passwords, tokens or sessions.
func homeSecrets() []string {
	return []string{
		".ssh", ".gnupg", ".docker", ".kube", ".aws", ".azure", ".config/gcloud", ".config/gh", ".config/hub", ".config/glab-cli",
		".config/doctl", ".config/containers", ".config/op", ".config/sops", ".config/age", ".config/rclone", ".config/BraveSoftware",
		".config/google-chrome", ".config/chromium", ".config/Code", ".mozilla", ".thunderbird", ".netrc", "_netrc", ".git-credentials",
		".config/git/credentials", ".pgpass", ".my.cnf", ".mylogin.cnf", ".vault-token", ".password-store", ".local/share/keyrings",
		".local/share/kwalletd", ".npmrc", ".yarnrc.yml", ".pypirc", ".cargo/credentials", ".cargo/credentials.toml", ".gem/credentials",
		".m2/settings.xml", ".m2/settings-security.xml", ".gradle/gradle.properties", ".terraform.d", ".terraformrc", ".boto", ".s3cfg",
		".oci", ".bash_history", ".zsh_history", ".histfile", ".python_history", ".mysql_history", ".psql_history", ".lesshst", ".viminfo",
		".Xauthority", ".ICEauthority", ".dbus", ".pki", ".putty", ".electrum", ".bitcoin", ".ethereum", ".claude", ".codex", ".config/nix",
	}
}

// homeStartup are the files below a home that a login, a shell or a program
// the user starts executes: writing them is running code as that user.
func homeStartup() []string {
	return []string{
		".bashrc", ".bash_profile", ".bash_login", ".bash_logout", ".bash_aliases", ".profile", ".zshrc", ".zshenv", ".zprofile",
		".zlogin", ".zlogout", ".kshrc", ".cshrc", ".tcshrc", ".login", ".inputrc", ".xinitrc", ".xsession", ".xsessionrc", ".xprofile",
		".pam_environment", ".vimrc", ".vim", ".emacs", ".emacs.d", ".tmux.conf", ".screenrc", ".gitconfig", ".forward", ".procmailrc",
		".rhosts", ".shosts", ".k5login", ".config/systemd", ".config/autostart", ".config/fish", ".config/git", ".config/environment.d",
		".config/nvim", ".local/bin", ".local/share/systemd", ".local/share/applications", ".local/lib", "bin", ".cargo/bin", ".gdbinit",
		".pythonrc", ".pythonstartup", ".lldbinit", ".oh-my-zsh", ".nvm", ".pyenv", ".rbenv", ".sdkman", ".asdf",
	}
}

// secretNames are directories that hold keys wherever they are, at homes no
// table knows.
func secretNames() []string { return []string{".ssh", ".gnupg", ".aws", ".kube", ".azure"} }

// engineSockets are the control sockets of container engines: who can connect
// is root of the host. No policy grants them.
func engineSockets() []string {
	return []string{
		"/run/docker.sock", "/run/docker.sock.raw", "/run/docker/metrics.sock", "/run/docker/containerd/containerd.sock",
		"/run/containerd/containerd.sock", "/run/containerd/containerd.sock.ttrpc", "/run/containerd/debug.sock",
		"/run/k3s/containerd/containerd.sock", "/run/k0s/containerd.sock", "/run/crio/crio.sock", "/run/cri-dockerd.sock",
		"/run/podman/podman.sock", "/run/buildkit/buildkitd.sock", "/run/nri/nri.sock", "/run/balena-engine.sock",
		"/run/dockershim.sock", "/run/frakti.sock", "/run/kata-containers/shim-monitor.sock", "/run/safe-run/engine/containerd.sock",
		"/var/run/docker.sock", "/var/run/containerd/containerd.sock", "/var/run/crio/crio.sock", "/var/run/podman/podman.sock",
		"/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock", "/run/libvirt/virtlxcd-sock", "/var/lib/lxd/unix.socket", "/var/lib/incus/unix.socket",
		"/var/snap/lxd/common/lxd/unix.socket", "/run/incus/unix.socket", "/var/lib/kubelet/device-plugins/kubelet.sock",
		"/var/lib/kubelet/pod-resources/kubelet.sock",
	}
}

// otherSockets control other services of the host.
func otherSockets() []string {
	return []string{
		"/run/systemd/private", "/run/systemd/notify", "/run/systemd/journal/socket", "/run/systemd/journal/stdout",
		"/run/systemd/io.system.ManagedOOM", "/run/systemd/userdb/io.systemd.DynamicUser", "/run/dbus/system_bus_socket", "/run/snapd.socket",
		"/run/snapd-snap.socket", "/run/udev/control", "/run/nscd/socket", "/run/polkit/agent-helper.socket", "/run/acpid.socket",
		"/run/rpcbind.sock", "/run/pcscd/pcscd.comm", "/run/uuidd/request", "/run/gssproxy.sock", "/run/lvm/lvmpolld.socket",
		"/tmp/.X11-unix/X0",
	}
}

// KnownPaths are the fixed paths of the catalogue and the well-known control
// sockets, for comparison with a source by identity: a hard link or another
// mount is the same thing. stores are as in Request.
func KnownPaths(stores ...string) source.KnownPaths {
	return source.KnownPaths{
		Sensitive: append(sensitivePaths(), stores...),
		Sockets:   slices.Concat(engineSockets(), otherSockets()),
	}
}

func sensitivePaths() []string {
	var fixed []string
	for _, g := range guards() {
		if !strings.Contains(g.pattern, "*") {
			fixed = appendNew(fixed, g.pattern)
		}
	}
	return fixed
}

// relation is how a path lies to a pattern.
type relation int

const (
	apart relation = iota
	same
	inside // the path lies below
	above  // the path holds it
)

func relate(p, pattern string) relation {
	a, b := segments(p), segments(pattern)
	for i := range min(len(a), len(b)) {
		if b[i] != "*" && a[i] != b[i] {
			return apart
		}
	}
	switch cmp.Compare(len(a), len(b)) {
	case 0:
		return same
	case 1:
		return inside
	default:
		return above
	}
}

func segments(p string) []string {
	p = strings.Trim(path.Clean(p), "/")
	if p == "" {
		return nil
	}
	return strings.Split(p, "/")
}

// verdict is what one name of a source gives away.
type verdict struct {
	rule    string
	pattern string
	access  access
	rel     relation
	row     int // in the table
}

// before orders verdicts: refused even to read comes first, then the path
// itself, what lies in it, what holds it; then as the table goes.
func (v verdict) before(o verdict) bool {
	return cmp.Or(cmp.Compare(o.access, v.access), cmp.Compare(v.rel, o.rel), cmp.Compare(v.row, o.row)) < 0
}

// judgeName finds the guard that refuses a bind of name. writable says how it
// is asked for.
func judgeName(table []guard, name string, writable bool) (best verdict, found bool) {
	take := func(v verdict) {
		// The zero verdict comes after all but what is open.
		if (v.access == all || writable) && v.before(best) {
			best, found = v, true
		}
	}
	for i, g := range table {
		switch rel := relate(name, g.pattern); rel {
		case same, above:
			take(verdict{g.rule, g.pattern, g.at, rel, i})
		case inside:
			take(verdict{g.rule, g.pattern, g.below, rel, i})
		}
	}
	for _, seg := range segments(name) {
		if slices.Contains(secretNames(), seg) {
			take(verdict{"bind-secret", name, all, same, len(table)})
		}
	}
	return best, found
}
