package imagekit

// haproxyID is the account's id in docker's official image.
const haproxyID = 99

// haproxyConf listens on port 80 without ever having been root, as the
// official image does if it is told to, and passes requests on to a second
// front end, which answers them.
const haproxyConf = `global
    maxconn 1000
    log stdout format raw local0 notice

defaults
    mode http
    log global
    timeout connect 5s
    timeout client 30s
    timeout server 30s

frontend http
    bind :80
    default_backend pages

backend pages
    server page 127.0.0.1:8080

frontend page
    bind 127.0.0.1:8080
    http-request return status 200 content-type text/html string "It proxies\n"
`

// ProxiedPage is what the HAProxy image serves through its back end.
const ProxiedPage = "It proxies\n"

// HAProxy is Debian's HAProxy as docker's official image sets it up, with a
// configuration. Packages are kept in debs.
func HAProxy(debs string) (Image, error) {
	packages, err := Debian(debs, "haproxy")
	if err != nil {
		return Image{}, err
	}
	entries := append(account("haproxy", haproxyID, "/var/lib/haproxy"), owned("var/lib/haproxy", 0o755, haproxyID),
		Dir("usr/local", 0o755), Dir("usr/local/etc", 0o755), Dir("usr/local/etc/haproxy", 0o755),
		File("usr/local/etc/haproxy/haproxy.cfg", 0o644, haproxyConf))
	return Image{
		Config: Config{
			User: "haproxy", Env: []string{path}, WorkingDir: "/var/lib/haproxy", StopSignal: "SIGUSR1", ExposedPorts: Set("80/tcp"),
			Cmd: []string{"haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"},
		},
		Layers: []Layer{{Entries: layered(serverBase(), packages)}, {Entries: entries}},
	}, nil
}
