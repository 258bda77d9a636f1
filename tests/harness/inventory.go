package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Inventory is all a launch may leave behind, by kind.
type Inventory map[string][]string

// Inventory counts what there is now.
func (g *Ground) Inventory(t testing.TB) Inventory {
	t.Helper()
	inv := Inventory{}
	for kind, args := range map[string][]string{
		"container": {"containers", "ls", "-q"},
		"task":      {"tasks", "ls", "-q"},
		"lease":     {"leases", "ls", "-q"},
	} {
		inv[kind] = lines(g.Ctr(t, args...))
	}
	// Committed snapshots are the unpacked layers of images; active ones
	// belong to containers.
	for _, l := range lines(g.Ctr(t, "snapshots", "--snapshotter", "overlayfs", "ls"))[1:] {
		if f := strings.Fields(l); f[len(f)-1] != "Committed" {
			inv["snapshot"] = append(inv["snapshot"], f[0])
		}
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines(string(info)) {
		if f := strings.Fields(l); strings.HasPrefix(f[4], g.Dir) {
			inv["mount"] = append(inv["mount"], f[4])
		}
	}
	for _, dir := range []string{
		filepath.Join(g.Root, "containers"), filepath.Join(g.Root, "names"), filepath.Join(g.Root, "ids"),
		filepath.Join(g.Root, "volumes"), filepath.Join(g.State, "live"), filepath.Join(g.State, "io"),
	} {
		entries, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, e := range entries {
			// The pool of ids keeps where it will look next.
			if e.Name() != "next" {
				inv[filepath.Base(dir)] = append(inv[filepath.Base(dir)], e.Name())
			}
		}
	}
	inv["shim"] = g.Shims(t)
	// The network of the namespace that is the host to these tests.
	for kind, script := range map[string]string{
		"link": "ip -o link | cut -d: -f2", "address": "ip -o addr | awk '{print $2, $4}'", "route": "ip route; ip -6 route | grep -v '^fe80' || true",
		"nft": "nft list ruleset | sed 's/counter packets [0-9]* bytes [0-9]*/counter/; s/ expires [0-9a-z]*//g'", "port": "ss -Hlntu | awk '{print $1, $5}'",
		"sysctl": "cd /proc/sys/net; grep -H . ipv4/ip_forward ipv6/conf/all/forwarding ipv4/conf/*/route_localnet ipv6/conf/lan0/accept_ra 2>/dev/null || true",
		"claim":  "ls -d " + g.Root + "/networks/*/claims/[0-9]* 2>/dev/null || true",
	} {
		out, err := exec.Command("sh", "-c", script).Output()
		if err != nil {
			t.Fatalf("%s: %v", script, err)
		}
		if kind == "nft" { // as one: its lines mean nothing alone
			inv[kind] = []string{string(out)}
			continue
		}
		inv[kind] = lines(string(out))
	}
	for k := range inv {
		slices.Sort(inv[k])
		if len(inv[k]) == 0 {
			delete(inv, k)
		}
	}
	return inv
}

// Shims are the ids of the containers that have a shim of the engine under
// test.
func (g *Ground) Shims(t testing.TB) []string {
	t.Helper()
	var ids []string
	dirs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, d := range dirs {
		b, err := os.ReadFile(d)
		if err != nil {
			continue
		}
		args := strings.Split(string(b), "\x00")
		if !strings.Contains(args[0], "containerd-shim") || !slices.Contains(args, g.Socket) {
			continue
		}
		if i := slices.Index(args, "-id"); i > 0 && i+1 < len(args) {
			ids = append(ids, args[i+1])
		}
	}
	return ids
}

// Same fails the test with what is new and what is gone.
func Same(t *testing.T, before, after Inventory) {
	t.Helper()
	kinds := map[string]bool{}
	for k := range before {
		kinds[k] = true
	}
	for k := range after {
		kinds[k] = true
	}
	for k := range kinds {
		for _, x := range after[k] {
			if !slices.Contains(before[k], x) {
				t.Errorf("left behind: %s %s", k, x)
			}
		}
		for _, x := range before[k] {
			if !slices.Contains(after[k], x) {
				t.Errorf("vanished: %s %s", k, x)
			}
		}
	}
}

// Ctr asks the engine behind safe-run's back.
func (g *Ground) Ctr(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(g.Repo, "build/engine/ctr"), append([]string{"--address", g.Socket, "--namespace", "safe-run"}, args...)...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ctr %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return string(out)
}

func lines(s string) []string {
	s = strings.TrimRight(s, "\n")
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}
