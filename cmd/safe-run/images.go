package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/images"
	"github.com/safe-run/safe-run/internal/store"
	"github.com/safe-run/safe-run/spec"
)

// endpoint are the flags of every verb that talks to containerd.
type endpoint struct{ address, namespace string }

func (e *endpoint) flags(c *cobra.Command) {
	c.Flags().StringVar(&e.address, "address", "", "containerd socket")
	c.Flags().StringVar(&e.namespace, "namespace", "", "containerd namespace")
}

// with connects, does the work, and cleans up what earlier launches left.
func (e *endpoint) with(ctx context.Context, work func(context.Context, *session) error) error {
	s, err := connect(ctx, e.address, e.namespace, nil)
	if err != nil {
		return err
	}
	s.sweep(ctx)
	return work(ctx, s)
}

// pull fetches an image, showing progress on a terminal and nothing otherwise.
func pull(ctx context.Context, s *session, ref, platform string, quiet bool) (spec.Image, error) {
	ctx, stop := interruptible(ctx)
	defer stop()
	var progress images.Progress
	done := func() {}
	if !quiet && term.IsTerminal(int(os.Stderr.Fd())) {
		progress, done = images.Bar(os.Stderr, ref)
	}
	img, err := s.images.Pull(ctx, ref, platform, progress)
	done()
	return img, bySignal(ctx, err)
}

// interruptible ends the context at the first signal that asks to stop, so
// that half of an image is removed and not left.
func interruptible(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	go func() {
		if s, ok := <-c; ok {
			n, _ := s.(syscall.Signal)
			cancel(&fail.Error{Kind: fail.Interrupted, Msg: "interrupted", Signal: int(n)})
		}
	}()
	return ctx, func() { signal.Stop(c); close(c); cancel(nil) }
}

// bySignal replaces an error by the signal that caused it.
func bySignal(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil && fail.KindOf(cause) == fail.Interrupted {
		return cause
	}
	return err
}

func pullVerb() *cobra.Command {
	var e endpoint
	var quiet bool
	var platform string
	c := &cobra.Command{Use: "pull [OPTIONS] NAME[:TAG|@DIGEST]", Short: "Fetch an image from its registry", Args: exactly(1), RunE: func(c *cobra.Command, args []string) error {
		return e.with(c.Context(), func(ctx context.Context, s *session) error {
			before, _ := s.images.Resolve(ctx, args[0], platform)
			img, err := pull(ctx, s, args[0], platform, quiet)
			if err != nil {
				return err
			}
			if !quiet {
				status := "Downloaded newer image for "
				if before.Target == img.Target {
					status = "Image is up to date for "
				}
				fmt.Printf("Digest: %s\nStatus: %s%s\n", printable(img.Target), status, printable(images.Familiar(img.Name)))
			}
			fmt.Println(printable(img.Name))
			return err
		})
	}}
	c.Long = `Fetch an image from its registry. The name of the registry may be left out, as
with docker: it is docker.io then. Credentials are those of docker's config.json
and its helpers. The site's policy can name the registries there are.`
	c.Example = `  safe-run pull nginx:1.29
  safe-run pull -q registry.example:5000/team/app@sha256:0123...cdef`
	e.flags(c)
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "only the image's name")
	c.Flags().StringVar(&platform, "platform", "", "os[/arch[/variant]]")
	return c
}

func loadVerb() *cobra.Command {
	var e endpoint
	var input, platform string
	var quiet bool
	c := &cobra.Command{Use: "load [OPTIONS]", Short: "Read images from a docker or OCI archive", Args: exactly(0), RunE: func(c *cobra.Command, _ []string) error {
		var r io.Reader = os.Stdin
		if input != "" {
			caller, err := cli.CallerOf(os.Geteuid(), os.LookupEnv)
			if err != nil {
				return err
			}
			var f *os.File
			if err := caller.Do(func() (err error) { f, err = os.Open(input); return err }); err != nil {
				return fail.Wrap(fail.Usage, err, "image archive")
			}
			defer f.Close()
			r = f
		} else if term.IsTerminal(int(os.Stdin.Fd())) {
			return fail.New(fail.Usage, "requested load from stdin, but stdin is a terminal").Hint("name the archive with --input, or redirect it")
		}
		return e.with(c.Context(), func(ctx context.Context, s *session) error {
			var progress images.Progress
			done := func() {}
			if !quiet && term.IsTerminal(int(os.Stderr.Fd())) {
				progress, done = images.Bar(os.Stderr, "archive")
			}
			ctx, stop := interruptible(ctx)
			defer stop()
			lines, err := s.images.Load(ctx, r, platform, progress)
			err = bySignal(ctx, err)
			done()
			for _, l := range lines {
				fmt.Println(printable(l))
			}
			return err
		})
	}}
	c.Long = `Read images from an archive of docker save, podman save, buildah or skopeo:
docker's format or OCI's, also compressed. Images get the names the archive has.`
	c.Example = `  safe-run load -i app.tar
  docker save app:1.2 | safe-run load
  buildah push app:1.2 docker-archive:app.tar:app:1.2 && safe-run load -i app.tar`
	e.flags(c)
	c.Flags().StringVarP(&input, "input", "i", "", "read from this file instead of stdin")
	c.Flags().StringVar(&platform, "platform", "", "os[/arch[/variant]]")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "no progress display")
	return c
}

func rmiVerb() *cobra.Command {
	var e endpoint
	var force, noPrune bool
	c := &cobra.Command{Use: "rmi [OPTIONS] IMAGE [IMAGE...]", Short: "Remove images", Args: atLeast(1), RunE: func(c *cobra.Command, args []string) error {
		return e.with(c.Context(), func(ctx context.Context, s *session) error {
			uses, err := imageUses(s.launcher.Store)
			if err != nil {
				return err
			}
			var errs error
			for _, ref := range args {
				err := s.images.Removable(ctx, force, uses, ref)
				var lines []string
				if err == nil {
					lines, err = s.images.Remove(ctx, true, ref)
				}
				for _, l := range lines {
					fmt.Println(printable(l))
				}
				if force && err != nil && fail.KindOf(err) == fail.NotFound {
					printError(os.Stderr, err)
					err = nil
				}
				errs = errors.Join(errs, err)
			}
			return errs
		})
	}}
	c.Long = `Remove images. One that a running container was made from stays, also with -f.`
	c.Example = `  safe-run rmi nginx:1.28
  safe-run images -q --filter dangling=true | xargs -r safe-run rmi`
	e.flags(c)
	c.Flags().BoolVarP(&force, "force", "f", false, "also images of containers that have ended, and all names of an id")
	c.Flags().BoolVar(&noPrune, "no-prune", false, "has no effect: there are no untagged parents")
	return c
}

// imageUses are all containers with their images, and the images that are
// mounted in them.
func imageUses(st *store.Store) ([]images.Use, error) {
	ids, err := st.IDs()
	if err != nil {
		return nil, err
	}
	var uses []images.Use
	for _, id := range ids {
		rec, err := st.Load(id)
		if err != nil {
			continue // being made or removed
		}
		running := st.Supervised(id)
		uses = append(uses, images.Use{Container: id, Image: rec.Image, Digest: rec.Digest, Running: running})
		asked, err := st.LoadAsked(id)
		if err != nil {
			continue
		}
		for _, m := range asked.Workload.Mounts {
			if m.Type != spec.MountImage {
				continue
			}
			if name, err := images.Normalize(m.Source); err == nil {
				uses = append(uses, images.Use{Container: id, Image: name, Running: running})
			}
		}
	}
	return uses, nil
}
