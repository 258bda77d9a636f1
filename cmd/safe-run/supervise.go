package main

import (
	"context"
	"os"
	"os/exec"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/store"
)

// background hands a running container over to a process of its own, which
// keeps the lock, drains the output and cleans up at the end.
func background(address, namespace string) func(e *store.Entry, id string) error {
	return func(e *store.Entry, id string) error {
		self, err := os.Executable()
		if err != nil {
			return fail.Wrap(fail.HostCannot, err, "background supervisor")
		}
		root, run := place()
		c := exec.Command(self, "__supervise", "--address", address, "--namespace", namespace, id)
		c.Env = []string{"SAFE_RUN_ROOT=" + root, "SAFE_RUN_STATE=" + run, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
		c.Dir = "/"
		c.ExtraFiles = []*os.File{e.Lock()} // becomes descriptor 3
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		return fail.Wrap(fail.HostCannot, c.Start(), "background supervisor")
	}
}

func superviseVerb() *cobra.Command {
	var e endpoint
	c := &cobra.Command{Use: "__supervise ID", Hidden: true, Args: exactly(1), RunE: func(c *cobra.Command, args []string) error {
		s, err := connect(context.Background(), e.address, e.namespace, nil)
		if err != nil {
			return err
		}
		return s.launcher.Supervise(context.Background(), args[0], os.NewFile(3, "lock"))
	}}
	e.flags(c)
	return c
}
