package cri

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/safe-run/safe-run/tests/harness"
	"github.com/safe-run/safe-run/tests/imagekit"
)

// TestServes: servers with the embedded profiles do their work in a Pod, too.
func TestServes(t *testing.T) {
	for _, c := range []struct {
		w   workload
		ask func(ip string) error
	}{
		{workload{flags: []string{"--profile=nginx", "--publish=8080:80"}, image: "nginx:latest"}, servesPage},
		{workload{flags: []string{"--profile=redis", "--publish=6379:6379", "--volume=data:/data"}, image: "redis:latest"}, keepsValue},
	} {
		t.Run(c.w.image, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), harness.Patient(time.Minute))
			defer cancel()
			o := exported(t, c.w, "Deployment")
			name := o.Pod.Spec.Containers[0].Name
			if node == nil {
				t.Fatal("the node did not start")
			}
			r, err := node.Start(ctx, o)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := r.Remove(); err != nil {
					t.Error(err)
				}
			}()
			for err = c.ask(r.IP); err != nil && ctx.Err() == nil; err = c.ask(r.IP) {
				time.Sleep(20 * time.Millisecond)
			}
			if err != nil {
				stdout, stderr, _ := r.Log(name)
				t.Errorf("%v\n%s%s", err, stdout, stderr)
			}
		})
	}
}

func servesPage(ip string) error {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + net.JoinHostPort(ip, "80"))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err == nil && !strings.Contains(string(body), imagekit.WelcomePage) {
		err = fmt.Errorf("%s: %q", res.Status, body)
	}
	return err
}

// keepsValue stores a value, reads it, and has everything written to disk.
func keepsValue(ip string) error {
	c, err := net.DialTimeout("tcp", net.JoinHostPort(ip, "6379"), 2*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	const want = "+OK\r\n$5\r\nvalue\r\n+OK\r\n"
	if _, err := io.WriteString(c, "SET key value\r\nGET key\r\nSAVE\r\n"); err != nil {
		return err
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		return fmt.Errorf("redis answers %q, %v", got, err)
	}
	return nil
}
