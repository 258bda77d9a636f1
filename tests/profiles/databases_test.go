package profiles

import (
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// databases that become another user, and one that never was root.
func databases() []software {
	return []software{
		{
			profile: "postgres", image: "postgres", port: "5432", data: "/var/lib/postgresql/data", check: asksPostgres,
			flags: []string{"-e", "POSTGRES_PASSWORD=secret", "-e", "POSTGRES_INITDB_ARGS=--no-sync"},
		},
		{
			profile: "mariadb", image: "mariadb", port: "3306", data: "/var/lib/mysql", check: asksMariaDB,
			flags: []string{"-e", "MARIADB_ALLOW_EMPTY_ROOT_PASSWORD=1"},
		},
		{profile: "memcached", image: "memcached", port: "11211", check: asksMemcached},
	}
}

// query has a client in the container write, and read what this container and
// the ones before have written. It may be repeated.
func query(c *container, before string, client ...string) error {
	sql := fmt.Sprintf("%screate table if not exists starts (n int); delete from starts where n = %d; "+
		"insert into starts values (%[2]d); select count(*) from starts;", before, c.start)
	a := c.exec(append(client, sql)...)
	out := strings.Fields(a.Stdout)
	if a.Code != 0 || len(out) == 0 || out[len(out)-1] != fmt.Sprint(c.start) {
		return fmt.Errorf("%s: %s", client[0], a)
	}
	return nil
}

// asksPostgres speaks to the server from outside, and writes and reads with
// its own client, which is let in without a password at the socket.
func asksPostgres(c *container) error {
	// SSLRequest: length, and a number that is no version of the protocol.
	// The answer is one letter.
	got, err := talk(c.address, "\x00\x00\x00\x08\x04\xd2\x16\x2f", 1)
	if err != nil {
		return err
	}
	if got != "N" && got != "S" {
		return fmt.Errorf("an answer to SSLRequest is %q", got)
	}
	return query(c, "", "psql", "-qAt", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-c")
}

// asksMariaDB does likewise; a server of this protocol speaks first.
func asksMariaDB(c *container) error {
	got, err := talk(c.address, "", 16)
	if err != nil {
		return err
	}
	if !strings.Contains(got, ".") || got[4] != 10 {
		return fmt.Errorf("the greeting is %q", got)
	}
	return query(c, "create database if not exists proof; use proof; ", "mariadb", "-N", "-e")
}

// asksMemcached stores a value and asks for it.
func asksMemcached(c *container) error {
	const want = "STORED\r\nVALUE key 0 5\r\nvalue\r\nEND\r\n"
	got, err := talk(c.address, "set key 0 0 5\r\nvalue\r\nget key\r\n", len(want))
	if err == nil && got != want {
		err = fmt.Errorf("memcached answers %q", got)
	}
	return err
}

// dialer gives up before TCP's first repetition, after a second: what is sent
// while the container's network is not there yet is lost.
func dialer() *net.Dialer { return &net.Dialer{Timeout: 250 * time.Millisecond} }

// talk sends some bytes and reads as many as wanted.
func talk(address, send string, wanted int) (string, error) {
	conn, err := dialer().Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, send); err != nil {
		return "", err
	}
	answer := make([]byte, wanted)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return "", err
	}
	return string(answer), nil
}
