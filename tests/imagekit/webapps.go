package imagekit

import (
	"fmt"
	"strings"
)

// What the web images serve at /.
const (
	ApachePage = "<!DOCTYPE html>\n<title>It works</title>\n<p>This page is served by apache in a container.</p>\n"
	NodePage   = "This page is served by node in a container."
	PythonPage = "This page is served by python in a container."
)

// httpdConf is that of docker's official httpd image without what a static
// page does not use. The account is Debian's, and modules are where Debian has
// them.
const httpdConf = `ServerRoot "/usr/local/apache2"
ServerName localhost
Listen 80
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule mime_module /usr/lib/apache2/modules/mod_mime.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
User www-data
Group www-data
<Directory />
    AllowOverride none
    Require all denied
</Directory>
DocumentRoot "/usr/local/apache2/htdocs"
<Directory "/usr/local/apache2/htdocs">
    Options FollowSymLinks
    Require all granted
</Directory>
DirectoryIndex index.html
PidFile logs/httpd.pid
DefaultRuntimeDir logs
ErrorLog /proc/self/fd/2
LogLevel warn
LogFormat "%h %l %u %t \"%r\" %>s %b" common
CustomLog /proc/self/fd/1 common
TypesConfig conf/mime.types
`

// Apache is Debian's apache2 as docker's official httpd image sets it up: the
// parent is root and gives its children to www-data, it listens on port 80,
// logs to standard output and standard error, and has its process id in
// /usr/local/apache2/logs. Packages are kept in debs.
func Apache(debs string) (Image, error) {
	packages, err := Debian(debs, "apache2-bin")
	if err != nil {
		return Image{}, err
	}
	const root = "usr/local/apache2"
	return Image{
		Config: Config{
			Env: []string{path}, Cmd: []string{"httpd", "-f", "/" + root + "/conf/httpd.conf", "-DFOREGROUND"},
			ExposedPorts: Set("80/tcp"), StopSignal: "SIGWINCH", WorkingDir: "/" + root,
		},
		Layers: []Layer{{Entries: layered(serverBase(), packages)}, {Entries: []Entry{
			Symlink("usr/sbin/httpd", "apache2"),
			Dir("usr/local", 0o755), Dir(root, 0o755), Dir(root+"/conf", 0o755), Dir(root+"/htdocs", 0o755), Dir(root+"/logs", 0o755),
			File(root+"/conf/httpd.conf", 0o644, httpdConf), File(root+"/conf/mime.types", 0o644, "text/html html\n"),
			File(root+"/htdocs/index.html", 0o644, ApachePage),
		}}},
	}, nil
}

// nodeApp ends on SIGTERM because the first process of a container has no
// default for signals.
const nodeApp = `'use strict';
const http = require('node:http');
const server = http.createServer((request, response) => {
  response.writeHead(200, {'Content-Type': 'text/plain'});
  response.end('` + NodePage + `');
});
process.on('SIGTERM', () => server.close(() => process.exit(0)));
server.listen(3000, () => console.log('listening on 3000'));
`

// Node is a web application in JavaScript, as the manual of docker's official
// node image sets one up: in /usr/src/app, of user node, on port 3000.
// Packages are kept in debs.
func Node(debs string) (Image, error) {
	// What other builds of node have inside, Debian's reads at the start from files of
	// these packages.
	packages, err := Debian(debs, "nodejs", "node-acorn", "node-busboy", "node-cjs-module-lexer", "node-undici")
	if err != nil {
		return Image{}, err
	}
	return Image{
		Config: Config{
			User: "node", Env: []string{path, "NODE_ENV=production"}, WorkingDir: "/usr/src/app",
			Cmd: []string{"node", "server.js"}, ExposedPorts: Set("3000/tcp"),
		},
		Layers: []Layer{{Entries: layered(serverBase(), packages)}, {Entries: append(
			accounts("node:x:1000:1000:node:/home/node:/usr/sbin/nologin", "node:x:1000:"),
			Dir("usr/src", 0o755), Dir("usr/src/app", 0o755), File("usr/src/app/server.js", 0o644, nodeApp),
		)}},
	}, nil
}

const pythonApp = `import http.server
import signal
import sys


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"` + PythonPage + `"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("listening on 8000", flush=True)
http.server.ThreadingHTTPServer(("", 8000), Page).serve_forever()
`

// Python is a web application in Python, as the manual of docker's official
// python image sets one up, of a user of its own, on port 8000. Packages are
// kept in debs.
func Python(debs string) (Image, error) {
	packages, err := pythonPackages(debs)
	if err != nil {
		return Image{}, err
	}
	return Image{
		Config: Config{
			User: "app", Env: []string{path, "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1"}, WorkingDir: "/usr/src/app",
			Cmd: []string{"python3", "app.py"}, ExposedPorts: Set("8000/tcp"),
		},
		Layers: []Layer{{Entries: layered(serverBase(), packages)}, {Entries: append(
			accounts("app:x:1000:1000:app:/usr/src/app:/usr/sbin/nologin", "app:x:1000:"),
			Dir("usr/src", 0o755), Dir("usr/src/app", 0o755), File("usr/src/app/app.py", 0o644, pythonApp),
		)}},
	}, nil
}

// pythonPackages finds the version the release of Debian has by where the
// command python3 leads: the packages with its library have it in their names.
func pythonPackages(debs string) ([]Entry, error) {
	command, err := Debian(debs, "python3-minimal")
	if err != nil {
		return nil, err
	}
	for _, e := range command {
		if e.Path == "usr/bin/python3" && strings.HasPrefix(e.Link, "python3.") {
			return Debian(debs, "python3-minimal", e.Link+"-minimal", "lib"+e.Link+"-minimal", "lib"+e.Link+"-stdlib")
		}
	}
	return nil, fmt.Errorf("python3-minimal has no link usr/bin/python3")
}
