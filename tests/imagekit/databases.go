package imagekit

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// Ids of the accounts the official images make.
const (
	postgresID  = 999
	mysqlID     = 999
	memcachedID = 11211
)

// account makes root, one account, and nobody.
func account(name string, id int, home string) []Entry {
	return []Entry{
		File("etc/passwd", 0o644, fmt.Sprintf("root:x:0:0:root:/root:/bin/sh\n%s:x:%d:%d::%s:/usr/sbin/nologin\n"+
			"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n", name, id, id, home)),
		File("etc/group", 0o644, fmt.Sprintf("root:x:0:\n%s:x:%d:\nnogroup:x:65534:\n", name, id)),
	}
}

// applets are names for the busybox of Debian's busybox-static.
func applets(names ...string) []Entry {
	var entries []Entry
	for _, n := range names {
		entries = append(entries, Symlink("usr/bin/"+n, "busybox"))
	}
	return entries
}

// owned is a directory of an account.
func owned(name string, mode int64, id int) Entry {
	d := Dir(name, mode)
	d.UID, d.GID = id, id
	return d
}

// postgresEntrypoint is the part of docker's official script that needs
// rights: root prepares the directories, changes to postgres and starts the
// script again. Left out are scripts of the user's, and what reads secrets
// from files.
const postgresEntrypoint = `#!/bin/sh
set -e
if [ "$1" != postgres ]; then
	exec "$@"
fi
mkdir -p "$PGDATA"
chmod 00700 "$PGDATA" || :
mkdir -p /var/run/postgresql || :
chmod 03775 /var/run/postgresql || :
if [ "$(id -u)" = 0 ]; then
	find "$PGDATA" ! -user postgres -exec chown postgres {} +
	find /var/run/postgresql ! -user postgres -exec chown postgres {} +
	exec gosu postgres "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
	if [ -z "$POSTGRES_PASSWORD" ]; then
		echo "Error: Database is uninitialized and superuser password is not specified." >&2
		exit 1
	fi
	printf '%s\n' "$POSTGRES_PASSWORD" | initdb --username=postgres --pwfile=/dev/stdin --encoding=UTF8 --locale=C \
		--auth-local=trust --auth-host=scram-sha-256 $POSTGRES_INITDB_ARGS
	printf 'host all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
fi
exec "$@" -c listen_addresses='*'
`

// Postgres is Debian's PostgreSQL as docker's official image sets it up: a
// script that starts as root, gives the data directory to postgres, changes
// to that user and makes the database cluster there if it has none.
// POSTGRES_PASSWORD must be set for that. Packages are kept in debs.
func Postgres(debs string) (Image, error) {
	tools, err := Debian(debs, "gosu", "busybox-static")
	if err != nil {
		return Image{}, err
	}
	version, err := postgresVersion()
	if err != nil {
		return Image{}, err
	}
	packages, err := Debian(debs, "postgresql-"+version, "postgresql-client-"+version)
	if err != nil {
		return Image{}, err
	}
	entries := append(account("postgres", postgresID, "/var/lib/postgresql"), Dir("var/lib/postgresql", 0o755),
		owned("var/lib/postgresql/data", 0o1777, postgresID), Dir("usr/local", 0o755), Dir("usr/local/bin", 0o755),
		File("usr/local/bin/docker-entrypoint.sh", 0o755, postgresEntrypoint))
	return Image{
		Config: Config{
			Env:        []string{path + ":/usr/lib/postgresql/" + version + "/bin", "PGDATA=/var/lib/postgresql/data"},
			Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"postgres"},
			Volumes: Set("/var/lib/postgresql/data"), ExposedPorts: Set("5432/tcp"), StopSignal: "SIGINT",
		},
		Layers: []Layer{{Entries: layered(serverBase(), layered(tools, packages))}, {
			Entries: append(entries, applets("sh", "chmod", "chown", "find", "id", "mkdir")...),
		}},
	}, nil
}

// postgresVersion asks apt for the major version of this Debian.
func postgresVersion() (string, error) {
	out, err := exec.Command("apt-cache", "depends", "--important", "postgresql").Output()
	if err != nil {
		return "", fmt.Errorf("apt-cache depends postgresql: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if version, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: postgresql-"); ok {
			return version, nil
		}
	}
	return "", fmt.Errorf("apt-cache depends postgresql names no version: %q", out)
}

// mariadbEntrypoint is, likewise, the part of docker's official script that
// needs rights. A password cannot be set here: root has none.
const mariadbEntrypoint = `#!/bin/sh
set -e
if [ "$1" != mariadbd ]; then
	exec "$@"
fi
DATADIR=/var/lib/mysql SOCKET=/run/mysqld/mysqld.sock
mkdir -p "$DATADIR"
if [ "$(id -u)" = 0 ]; then
	find "$DATADIR" ! -user mysql -exec chown mysql: {} +
	find "${SOCKET%/*}" -maxdepth 0 ! -user mysql -exec chown mysql: {} +
	exec gosu mysql "$0" "$@"
fi
if [ ! -d "$DATADIR/mysql" ]; then
	if [ -z "$MARIADB_ALLOW_EMPTY_ROOT_PASSWORD" ]; then
		echo "Database is uninitialized and password option is not specified" >&2
		exit 1
	fi
	mariadb-install-db --datadir="$DATADIR" --rpm --auth-root-authentication-method=normal --skip-test-db \
		--skip-name-resolve --cross-bootstrap --extra-file=/usr/local/share/remote-root.sql
fi
exec "$@"
`

// mariadbRoot lets root in from everywhere, as the official image does.
const mariadbRoot = "flush privileges;\ncreate user root@'%';\ngrant all on *.* to root@'%' with grant option;\n"

// MariaDB is Debian's MariaDB as docker's official image sets it up: like
// Postgres, with mysql as the user. MARIADB_ALLOW_EMPTY_ROOT_PASSWORD must be
// set for a new data directory. Packages are kept in debs.
func MariaDB(debs string) (Image, error) {
	packages, err := Debian(debs, "mariadb-server-core", "mariadb-client-core", "mariadb-client", "gosu", "busybox-static")
	if err != nil {
		return Image{}, err
	}
	packages = slices.DeleteFunc(packages, func(e Entry) bool {
		// Five megabytes each, and none of use to a server that runs.
		name, program := strings.CutPrefix(e.Path, "usr/bin/")
		return program && !slices.Contains([]string{
			"busybox", "mariadb", "mariadb-admin", "mariadb-install-db", "my_print_defaults", "resolveip",
		}, name)
	})
	entries := append(account("mysql", mysqlID, "/nonexistent"), owned("var/lib/mysql", 0o755, mysqlID),
		owned("run/mysqld", 0o1777, mysqlID), Dir("usr/local", 0o755), Dir("usr/local/bin", 0o755),
		Dir("usr/local/share", 0o755), File("usr/local/share/remote-root.sql", 0o644, mariadbRoot), Dir("etc/mysql", 0o755),
		File("etc/mysql/my.cnf", 0o644, "[mariadb]\nskip-name-resolve\nsocket=/run/mysqld/mysqld.sock\n[client]\nsocket=/run/mysqld/mysqld.sock\n"),
		File("usr/local/bin/docker-entrypoint.sh", 0o755, mariadbEntrypoint))
	return Image{
		Config: Config{
			Env: []string{path}, Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"mariadbd"},
			Volumes: Set("/var/lib/mysql"), ExposedPorts: Set("3306/tcp"),
		},
		Layers: []Layer{{Entries: layered(serverBase(), packages)}, {
			Entries: append(entries, applets("awk", "basename", "cat", "chmod", "chown", "dirname", "find", "hostname", "id",
				"ls", "mkdir", "sed", "sh", "tr", "uname")...),
		}},
	}, nil
}

// Memcached is Debian's memcached as docker's official image sets it up: a
// user without any right from the start. Packages are kept in debs.
func Memcached(debs string) (Image, error) {
	packages, err := Debian(debs, "memcached")
	if err != nil {
		return Image{}, err
	}
	return Image{
		Config: Config{
			User: "memcache", Env: []string{path}, Cmd: []string{"memcached"}, ExposedPorts: Set("11211/tcp"),
		},
		Layers: []Layer{{Entries: layered(serverBase(), packages)}, {Entries: account("memcache", memcachedID, "/nonexistent")}},
	}, nil
}
