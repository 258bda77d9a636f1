package cri

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/safe-run/safe-run/tests/harness"
)

// here and node are set before the first test and only read by them.
var (
	here *harness.Ground
	node *Node
)

func TestMain(m *testing.M) {
	var failed error
	code := harness.Main(m, "../..", []string{"build", "engine", "cni", "cri", "images", "build/images/nginx.tar", "build/images/redis.tar"}, []string{"busybox", "probe", "nginx", "redis"},
		func(g *harness.Ground) {
			here = g
			failed = startNode()
		},
		func() error {
			if node == nil {
				return nil
			}
			return node.Stop()
		})
	if failed != nil {
		fmt.Fprintln(os.Stderr, "cri: the node of the tests:", failed)
		code = 1
	}
	os.Exit(code)
}

func startNode() (err error) {
	ctx := context.Background()
	if node, err = StartNode(ctx, here.Repo, filepath.Join(here.Dir, "node")); err != nil {
		return err
	}
	for image, file := range map[string]string{busyboxImage: "busybox", probeImage: "probe", "nginx:latest": "nginx", "redis:latest": "redis"} {
		if err := node.Load(ctx, filepath.Join(here.Repo, "build/images", file+".tar"), image); err != nil {
			return err
		}
	}
	return nil
}

const (
	busyboxImage = "busybox:latest"
	probeImage   = "safe-run-probe:latest"
)
