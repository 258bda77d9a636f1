package workloads

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/safe-run/safe-run/tests/harness"
)

// TestRedis: no capability at all.
func TestRedis(t *testing.T) {
	s := here.Serve(t, "--rm", "--read-only", "--cap-drop", "ALL", "-p", "127.0.0.1:16379:6379", "redis")
	s.Until(t, func() error {
		a := harness.Call(5*time.Second, "redis-cli", "-p", "16379", "ping")
		if strings.TrimSpace(a.Stdout) != "PONG" {
			return fmt.Errorf("redis-cli: %s", a)
		}
		return nil
	})
	all, err := s.Processes()
	if err != nil || len(all) != 1 {
		t.Fatalf("%d processes, %v", len(all), err)
	}
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		if got := all[0].Status[set]; got != "0000000000000000" {
			t.Errorf("%s: %s", set, got)
		}
	}
	if all[0].UID != 999 {
		t.Errorf("redis runs as %d", all[0].UID)
	}

	a := harness.Call(time.Minute, "redis-benchmark", "-p", "16379", "-t", "set,get", "-n", "20000", "--csv")
	rates := map[string]float64{}
	for line := range strings.Lines(a.Stdout) {
		// "SET","45662.10",...
		f := strings.Split(strings.ReplaceAll(line, `"`, ""), ",")
		if len(f) > 1 {
			rates[f[0]], _ = strconv.ParseFloat(f[1], 64)
		}
	}
	if a.Code != 0 || rates["SET"] <= 0 || rates["GET"] <= 0 {
		t.Fatalf("redis-benchmark: %s", a)
	}
	t.Logf("SET %.0f/s, GET %.0f/s", rates["SET"], rates["GET"])
	// The server's own count: nothing was lost and sent again, and nothing failed.
	a = harness.Call(5*time.Second, "redis-cli", "-p", "16379", "info", "commandstats")
	for _, want := range []string{"cmdstat_set:calls=20000,", "cmdstat_get:calls=20000,"} {
		if !strings.Contains(a.Stdout, want) {
			t.Errorf("no %s in %s", want, a)
		}
	}
	if a := s.Stop(syscall.SIGTERM); a.Code != 0 {
		t.Errorf("the end: %s", a)
	}
}
