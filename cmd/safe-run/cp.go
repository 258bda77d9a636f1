package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/ctar"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/launcher"
)

// insideFlag is how cp starts itself as the container's end of the copy.
const insideFlag = "__inside"

func cpVerb() *cobra.Command {
	var (
		e      endpoint
		o      copying
		inside bool
	)
	c := &cobra.Command{
		Use:   "cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n  safe-run cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
		Short: "Copy files between a container and the host",
		Long: "Copy files between a container and the host. \"-\" is a tar archive on standard input or output.\n" +
			"Files copied into a container belong to its root, files copied out of it to the caller.\n" +
			"Devices, FIFOs and sockets are left out, and so is what lies on /proc, /sys and their like.",
		Example: `  safe-run cp web:/etc/nginx/nginx.conf .
  safe-run cp page.html web:/tmp/
  safe-run cp web:/var/log - | tar tf -`,
		Args: between(0, 2),
		RunE: func(c *cobra.Command, args []string) error {
			if inside {
				if len(args) > 0 || !ctar.Inherited() {
					return fail.New(fail.Usage, "--%s is for safe-run itself", insideFlag)
				}
				return ctar.Serve()
			}
			if err := countError(c, len(args), 2, 2); err != nil {
				return err
			}
			if !c.Flags().Changed("quiet") {
				o.quiet = !term.IsTerminal(int(os.Stderr.Fd()))
			}
			if err := o.read(args[0], args[1]); err != nil {
				return err
			}
			if err := needRoot(); err != nil {
				return err
			}
			return e.with(c.Context(), o.do)
		},
	}
	e.flags(c)
	f := c.Flags()
	f.BoolVarP(&o.owners, "archive", "a", false, "keep the owners (uid and gid)")
	f.BoolVarP(&o.follow, "follow-link", "L", false, "follow a symbolic link in SRC_PATH")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print nothing on success")
	f.BoolVar(&inside, insideFlag, false, "")
	_ = f.MarkHidden(insideFlag)
	return c
}

// copying is what a cp was asked for.
type copying struct {
	owners, follow, quiet bool

	container string // name or id
	inside    string // path in the container, absolute
	outside   string // path on the host, absolute, or "-"
	into      bool   // into the container
	caller    *cli.Caller
	bytes     int64 // of the tar stream
}

// read tells docker's four cases apart.
func (o *copying) read(src, dst string) error {
	from, fromPath := containerPath(src)
	to, toPath := containerPath(dst)
	switch {
	case from != "" && to != "":
		return fail.New(fail.NoStatus, "copying between containers is not supported").
			Hint("safe-run cp %s - | safe-run cp - %s", src, dst)
	case from == "" && to == "":
		return fail.New(fail.NoStatus, "must specify at least one container source")
	case to != "":
		o.into, o.container, o.inside, o.outside = true, to, toPath, src
	default:
		o.container, o.inside, o.outside = from, fromPath, dst
	}
	// A path inside that is not absolute starts at the root directory. It is
	// not cleaned: "x/.." need not be the directory of x.
	if o.inside = "/" + strings.TrimLeft(o.inside, "/"); strings.ContainsRune(o.inside, 0) || len(o.inside) > 4000 {
		return fail.New(fail.NoStatus, "an impossible path in the container")
	}
	var err error
	if o.outside != "-" {
		if o.outside, err = hostPath(o.outside); err != nil {
			return err
		}
	}
	o.caller, err = cli.CallerOf(os.Geteuid(), os.LookupEnv)
	return err
}

// containerPath splits CONTAINER:PATH. What begins with a slash or a dot is a
// path of the host, colon or not.
func containerPath(arg string) (container, p string) {
	if path.IsAbs(arg) || strings.HasPrefix(arg, ".") {
		return "", arg
	}
	if c, p, ok := strings.Cut(arg, ":"); ok && c != "" {
		return c, p
	}
	return "", arg
}

// hostPath makes a path absolute, so that messages say which one it is. What
// it ends with counts.
func hostPath(p string) (string, error) {
	if p == "" {
		return "", fail.New(fail.NoStatus, "an empty path")
	}
	if path.IsAbs(p) {
		return p, nil
	}
	cwd, err := os.Getwd()
	return filepath.Clean(cwd) + "/" + p, fail.Wrap(fail.NoStatus, err, "working directory")
}

func (o *copying) do(ctx context.Context, s *session) (err error) {
	ctx, stop := interruptible(ctx)
	defer stop()
	defer func() { err = bySignal(ctx, err) }()
	rec, err := s.launcher.Store.Find(o.container)
	if err != nil {
		return err
	}
	files, err := s.launcher.FilesOf(ctx, rec)
	if err != nil {
		return err
	}
	defer files.Close()
	if err := o.reachable(files); err != nil {
		return err
	}
	c, err := ctar.Start(ctx, []string{"cp", "--" + insideFlag}, files.Root, rec.Block, o.container)
	if err != nil {
		return err
	}
	defer c.Close()
	var missed ctar.Problems
	if o.into {
		missed, err = o.copyIn(c)
	} else {
		missed, err = o.copyOut(c)
	}
	if err == nil {
		err = missed.Err()
	}
	if err != nil || o.quiet {
		return err
	}
	dst := o.outside
	if o.into {
		dst = o.container + ":" + o.inside
	}
	if dst != "-" {
		fmt.Fprintf(os.Stderr, "Successfully copied %s to %s\n", units.HumanSizeWithPrecision(float64(o.bytes), 3), printable(dst))
	}
	return nil
}

// reachable refuses what would only seem to be copied.
func (o *copying) reachable(f *launcher.Files) error {
	p := path.Clean(o.inside)
	for _, m := range f.Absent {
		if p == m || strings.HasPrefix(p, m+"/") {
			return fail.New(fail.NoStatus, "%s is on a mount that is only there while the container runs", p).
				Hint("safe-run start %s", o.container)
		}
	}
	return nil
}

// copyOut copies from the container.
func (o *copying) copyOut(c *ctar.Container) (ctar.Problems, error) {
	var none ctar.Problems
	base := ctar.Base(o.inside)
	if o.outside == "-" {
		if term.IsTerminal(int(os.Stdout.Fd())) {
			return none, fail.New(fail.NoStatus, "refusing to write an archive to a terminal").Hint("send it to a file or to tar")
		}
		return c.Pack(o.inside, o.follow, base, func(r io.Reader) (ctar.Problems, error) {
			_, err := io.Copy(os.Stdout, r)
			return none, fail.Wrap(fail.NoStatus, err, "writing the archive")
		})
	}
	src, err := c.Source(o.inside, o.follow)
	if err != nil {
		return none, err
	}
	var dir, name string
	err = o.caller.Do(func() error {
		dst, err := ctar.HostDestination(o.outside)
		if err == nil {
			dir, name, err = ctar.Plan(base, src.Dir, dst)
		}
		return err
	})
	if err != nil {
		return none, err
	}
	return c.Pack(o.inside, o.follow, name, func(r io.Reader) (p ctar.Problems, err error) {
		err = o.caller.Do(func() (err error) {
			// Only root can give files away.
			p, err = ctar.HostUnpack(&counted{r, &o.bytes}, dir, only(name), o.owners && o.caller == nil)
			return err
		})
		return p, err
	})
}

// copyIn copies to the container.
func (o *copying) copyIn(c *ctar.Container) (ctar.Problems, error) {
	var none ctar.Problems
	if o.outside == "-" {
		dst, err := c.Destination(o.inside)
		if err == nil && !dst.Dir {
			err = fail.New(fail.NoStatus, "destination \"%s:%s\" must be a directory", o.container, o.inside)
		}
		if err != nil {
			return none, err
		}
		return c.Unpack(dst.Path, "", o.owners, func(w io.Writer) (ctar.Problems, error) {
			_, err := io.Copy(w, &counted{os.Stdin, &o.bytes})
			return none, err
		})
	}
	var src ctar.Info
	err := o.caller.Do(func() (err error) {
		src, err = ctar.HostSource(o.outside, o.follow)
		return err
	})
	if err != nil {
		return none, err
	}
	dst, err := c.Destination(o.inside)
	if err != nil {
		return none, err
	}
	dir, name, err := ctar.Plan(ctar.Base(o.outside), src.Dir, dst)
	if err != nil {
		return none, err
	}
	return c.Unpack(dir, only(name), o.owners, func(w io.Writer) (p ctar.Problems, err error) {
		err = o.caller.Do(func() (err error) {
			p, err = ctar.HostPack(&countedWriter{w, &o.bytes}, o.outside, o.follow, name)
			return err
		})
		return p, err
	})
}

// only is the one name a stream may have at its top; the content of a
// directory has any.
func only(name string) string {
	if name == "." {
		return ""
	}
	return name
}

// counted counts what is read.
type counted struct {
	io.Reader
	n *int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	*c.n += int64(n)
	return n, err
}

// countedWriter counts what is written.
type countedWriter struct {
	io.Writer
	n *int64
}

func (c *countedWriter) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	*c.n += int64(n)
	return n, err
}
