package imagekit

import "archive/tar"

// Tcpdump is Debian's tcpdump: it opens its socket as root and becomes the
// user tcpdump before it reads the first packet. Packages are kept in debs.
func Tcpdump(debs string) (Image, error) {
	packages, err := Debian(debs, "tcpdump")
	if err != nil {
		return Image{}, err
	}
	return Image{
		Config: Config{Env: []string{path}, Entrypoint: []string{"tcpdump"}, Cmd: []string{"-l", "-n", "-i", "any"}},
		Layers: []Layer{
			{Entries: layered(serverBase(), packages)},
			{Entries: accounts("tcpdump:x:101:101::/nonexistent:/usr/sbin/nologin", "tcpdump:x:101:")},
		},
	}, nil
}

// ChronyID is the user of chronyd in its image.
const ChronyID = 102

// chronyConf is Debian's, but that chronyc asks through the socket in
// /run/chrony only.
const chronyConf = `pool pool.ntp.org iburst
driftfile /var/lib/chrony/chrony.drift
cmdport 0
makestep 1 3
rtcsync
`

// Chrony is Debian's chrony as an NTP client that keeps the clock of the host,
// never root, as chronyd-restricted.service of its makers has it. Packages are
// kept in debs.
func Chrony(debs string) (Image, error) {
	packages, err := Debian(debs, "chrony")
	if err != nil {
		return Image{}, err
	}
	state := Dir("var/lib/chrony", 0o750)
	state.UID, state.GID = ChronyID, ChronyID
	return Image{
		Config: Config{User: "_chrony", Env: []string{path}, Cmd: []string{"chronyd", "-U", "-d", "-f", "/etc/chrony/chrony.conf"}},
		Layers: []Layer{
			{Entries: layered(serverBase(), packages)},
			{Entries: append(
				accounts("_chrony:x:102:102:Chrony daemon:/var/lib/chrony:/usr/sbin/nologin", "_chrony:x:102:"),
				File("etc/chrony/chrony.conf", 0o644, chronyConf), state,
			)},
		},
	}, nil
}

// accounts are the files of the servers' accounts with a user and a group more.
func accounts(user, group string) []Entry {
	return []Entry{
		{Path: "etc/passwd", Type: tar.TypeReg, Mode: 0o644, Body: []byte(serverPasswd + user + "\n")},
		{Path: "etc/group", Type: tar.TypeReg, Mode: 0o644, Body: []byte(serverGroup + group + "\n")},
	}
}
