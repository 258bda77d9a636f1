package imagekit

import "slices"

// Accounts of the server images: those of Debian's base-passwd, and redis,
// which a maintainer script would make.
const (
	wwwData, redisID = 33, 999

	serverPasswd = `root:x:0:0:root:/root:/usr/sbin/nologin
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
redis:x:999:999::/var/lib/redis:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
`
	serverGroup = "root:x:0:\ntty:x:5:\nwww-data:x:33:\nredis:x:999:\nnogroup:x:65534:\n"
)

// WelcomePage is what the Nginx image serves at /.
const WelcomePage = "<!DOCTYPE html>\n<title>It serves</title>\n<p>This page is served by nginx in a container.</p>\n"

// nginxConf is that of docker's official image, with two changes: what nginx
// writes while it runs is in /run and /tmp, as that image's manual asks for a
// read-only root file system, and the account is Debian's.
const nginxConf = `user www-data;
worker_processes auto;
error_log /var/log/nginx/error.log notice;
pid /run/nginx.pid;

events {
    worker_connections 1024;
}

http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    log_format main '$remote_addr - $remote_user [$time_local] "$request" '
                    '$status $body_bytes_sent "$http_referer" '
                    '"$http_user_agent" "$http_x_forwarded_for"';
    access_log /var/log/nginx/access.log main;
    sendfile on;
    keepalive_timeout 65;
    client_body_temp_path /tmp/nginx-body;
    proxy_temp_path /tmp/nginx-proxy;
    fastcgi_temp_path /tmp/nginx-fastcgi;
    uwsgi_temp_path /tmp/nginx-uwsgi;
    scgi_temp_path /tmp/nginx-scgi;

    server {
        listen 80;
        listen [::]:80;
        server_name localhost;
        location / {
            root /usr/share/nginx/html;
            index index.html;
        }
    }
}
`

// Nginx is Debian's nginx as docker's official image sets it up: the master
// is root and gives its workers to www-data, it listens on port 80 and logs
// to standard output and standard error. Packages are kept in debs.
func Nginx(debs string) (Image, error) {
	packages, err := Debian(debs, "nginx", "nginx-common")
	if err != nil {
		return Image{}, err
	}
	state := Dir("var/lib/nginx", 0o755)
	state.UID = wwwData
	return Image{
		Config: Config{
			Env: []string{path}, Cmd: []string{"nginx", "-g", "daemon off;"},
			ExposedPorts: Set("80/tcp"), StopSignal: "SIGQUIT",
		},
		Layers: []Layer{{Entries: layered(serverBase(), packages)}, {Entries: []Entry{
			File("etc/nginx/nginx.conf", 0o644, nginxConf),
			File("usr/share/nginx/html/index.html", 0o644, WelcomePage),
			Dir("var/log/nginx", 0o755), state,
			Symlink("var/log/nginx/access.log", "/dev/stdout"), Symlink("var/log/nginx/error.log", "/dev/stderr"),
		}}},
	}, nil
}

// Redis is Debian's redis as docker's official image sets it up, but for that
// image's script, which changes from root to redis: here redis is the user
// from the start. Nothing is saved. Packages are kept in debs.
func Redis(debs string) (Image, error) {
	packages, err := Debian(debs, "redis-server", "redis-tools")
	if err != nil {
		return Image{}, err
	}
	data := Dir("data", 0o755)
	data.UID, data.GID = redisID, redisID
	return Image{
		Config: Config{
			User: "redis", Env: []string{path}, WorkingDir: "/data", Volumes: Set("/data"), ExposedPorts: Set("6379/tcp"),
			Cmd: []string{"redis-server", "--protected-mode", "no", "--save", ""},
		},
		Layers: []Layer{{Entries: layered(serverBase(), packages)}, {Entries: []Entry{data}}},
	}, nil
}

// layered is one layer of both, without two entries for a path: lower
// decides.
func layered(lower, upper []Entry) []Entry {
	files := map[string]Entry{}
	for _, e := range append(slices.Clone(upper), lower...) {
		files[e.Path] = e
	}
	return inOrder(files)
}

// serverBase is what Debian's base-files and base-passwd would give.
func serverBase() []Entry {
	entries := []Entry{
		Dir("dev", 0o755), Dir("etc", 0o755), Dir("home", 0o755), Dir("proc", 0o555), Dir("root", 0o700),
		Dir("run", 0o755), Dir("srv", 0o755), Dir("sys", 0o555), Dir("tmp", 0o1777), Dir("usr", 0o755),
		Dir("var", 0o755), Dir("var/lib", 0o755), Dir("var/log", 0o755), Dir("var/tmp", 0o1777),
		Symlink("var/run", "/run"),
		File("etc/passwd", 0o644, serverPasswd), File("etc/group", 0o644, serverGroup),
		// glibc's own order asks DNS before /etc/hosts.
		File("etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nhosts: files dns\n"),
	}
	for _, d := range mergedUsr() {
		entries = append(entries, Dir("usr/"+d, 0o755), Symlink(d, "usr/"+d))
	}
	return entries
}
