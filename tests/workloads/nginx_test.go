package workloads

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/safe-run/safe-run/tests/harness"
	"github.com/safe-run/safe-run/tests/imagekit"
)

// page reads a page of a web server.
func page(url string) (string, error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, res.Status)
	}
	return string(body), err
}

// serves waits until the page is as wanted.
func serves(url, want string) func() error {
	return func() error {
		body, err := page(url)
		if err == nil && !strings.Contains(body, want) {
			err = fmt.Errorf("%s: %q, wanted %q", url, body, want)
		}
		return err
	}
}

// TestNginx: the four capabilities of the list every manual of a hardened
// nginx has, a read-only root file system, and 10,000 requests.
func TestNginx(t *testing.T) {
	const url = "http://127.0.0.1:18080/"
	s := here.Serve(t, "--rm", "--read-only", "--cap-drop", "ALL", "--cap-add", "CHOWN", "--cap-add", "SETUID", "--cap-add", "SETGID",
		"--cap-add", "NET_BIND_SERVICE", "-p", "127.0.0.1:18080:80", "nginx")
	s.Until(t, serves(url, imagekit.WelcomePage))

	t.Run("privileges", func(t *testing.T) { nginxPrivileges(t, s) })

	const wanted = 10_000
	requests := 0
	for deadline := time.Now().Add(2 * time.Minute); requests < wanted; {
		n, err := wrk(url)
		if err != nil {
			t.Fatal(err)
		}
		if requests += n; time.Now().After(deadline) {
			t.Fatalf("only %d requests answered", requests)
		}
	}
	// What wrk counts is in the log as answered by nginx, too.
	s.Until(t, func() error {
		if logged := strings.Count(s.Stdout(), `"GET / HTTP/1.1" 200 `); logged < requests {
			return fmt.Errorf("wrk counts %d answers, the log %d", requests, logged)
		}
		return nil
	})
	t.Logf("%d requests", requests)

	if a := s.Stop(syscall.SIGTERM); a.Code != 0 || !strings.Contains(a.Stderr, "exit") {
		t.Errorf("the end: %s", harness.Answer{Code: a.Code, Stderr: a.Stderr})
	}
}

// nginxPrivileges looks at the processes from the host.
func nginxPrivileges(t *testing.T, s *harness.Service) {
	all, err := s.Processes()
	if err != nil {
		t.Fatal(err)
	}
	const (
		wwwData = 33
		four    = "00000000000004c1" // CHOWN, SETGID, SETUID, NET_BIND_SERVICE: bits 0, 6, 7, 10
		none    = "0000000000000000"
	)
	workers := 0
	for _, p := range all {
		uid, effective := uint32(0), four
		if strings.HasPrefix(p.Args, "nginx: worker process") {
			workers++
			uid, effective = wwwData, none
		} else if !strings.HasPrefix(p.Args, "nginx: master process") {
			t.Errorf("process %d is %q", p.Pid, p.Args)
		}
		if p.UID != uid || p.Status["CapEff"] != effective || p.Status["CapBnd"] != four || p.Status["NoNewPrivs"] != "1" || p.Status["Seccomp"] != "2" {
			t.Errorf("%s: uid %d, CapEff %s, CapBnd %s, NoNewPrivs %s, Seccomp %s", p.Args, p.UID,
				p.Status["CapEff"], p.Status["CapBnd"], p.Status["NoNewPrivs"], p.Status["Seccomp"])
		}
	}
	if workers == 0 {
		t.Error("no worker")
	}
}

// wrk requests a page over 50 connections for two seconds and gives the
// number of answers; any error is an error.
func wrk(url string) (int, error) {
	a := harness.Call(30*time.Second, "wrk", "-t", "2", "-c", "50", "-d", "2s", url)
	if a.Code != 0 || strings.Contains(a.Stdout, "Socket errors") || strings.Contains(a.Stdout, "Non-2xx") {
		return 0, fmt.Errorf("wrk: %s", a)
	}
	m := regexp.MustCompile(`(\d+) requests in`).FindStringSubmatch(a.Stdout)
	if m == nil {
		return 0, fmt.Errorf("wrk: %s", a)
	}
	return strconv.Atoi(m[1])
}
