package cli

import (
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/sys/signal"
	"github.com/moby/term"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

const (
	minInt64 = math.MinInt64
	maxInt64 = math.MaxInt64
)

// check says what is wrong with a value.
type check func(string) error

func parseBool(v string, to *bool) error {
	b, err := strconv.ParseBool(v)
	if err != nil {
		return errors.New("it takes true or false")
	}
	*to = b
	return nil
}

func boolTo(to func(*spec.Workload) *bool) setter {
	return func(p *parser, v string) error { return parseBool(v, to(p.w)) }
}

func boolPtrTo(to func(*spec.Workload) **bool) setter {
	return func(p *parser, v string) error {
		var b bool
		if err := parseBool(v, &b); err != nil {
			return err
		}
		*to(p.w) = &b
		return nil
	}
}

// strTo keeps the last value; an empty one means not given, as in docker.
func strTo(to func(*spec.Workload) *string, c check) setter {
	return func(p *parser, v string) error {
		if v != "" {
			if err := c(v); err != nil {
				return err
			}
		}
		*to(p.w) = v
		return nil
	}
}

// ptrTo keeps the last value, and that it was given.
func ptrTo(to func(*spec.Workload) **string, c check) setter {
	return func(p *parser, v string) error {
		if err := c(v); err != nil {
			return err
		}
		*to(p.w) = &v
		return nil
	}
}

func listTo(to func(*spec.Workload) *[]string, c check) setter {
	return listVal(func(p *parser) *[]string { return to(p.w) }, c)
}

func listVal(to func(*parser) *[]string, c check) setter {
	return func(p *parser, v string) error {
		if err := c(v); err != nil {
			return err
		}
		*to(p) = append(*to(p), v)
		return nil
	}
}

func oneOf(to func(*parser) *string, words ...string) setter {
	return func(p *parser, v string) error {
		if !slices.Contains(words, v) {
			return fmt.Errorf("it takes %s", strings.Join(words, " or "))
		}
		*to(p) = v
		return nil
	}
}

// refused checks the form of a value whose flag cannot be honoured.
func refused(c check) setter {
	return func(p *parser, v string) error {
		if err := c(v); err != nil {
			return err
		}
		p.cannot("")
		return nil
	}
}

// nsTo takes a namespace mode: empty, one of words, or a join of another
// container's or a file's namespace. Joins are for the policy to refuse.
func nsTo(to func(*spec.Workload) *string, words ...string) setter {
	return func(p *parser, v string) error {
		join := strings.HasPrefix(v, "container:") || strings.HasPrefix(v, "ns:")
		if v != "" && !join && !slices.Contains(words, v) {
			return fmt.Errorf("invalid mode: it takes %s", strings.Join(words, " or ")+", or nothing for one of its own")
		}
		if join && strings.HasSuffix(v, ":") {
			return errors.New("invalid mode: no name after the colon")
		}
		if err := clean(v); err != nil {
			return err
		}
		*to(p.w) = v
		return nil
	}
}

func (p *parser) setIPC(v string) error {
	if v == "shareable" {
		p.cannot("shareable: no container may join another's IPC namespace here, so there is nobody to share with; use private")
		return nil
	}
	p.can()
	return nsTo(func(w *spec.Workload) *string { return &w.IPCMode }, "none", "private", "host")(p, v)
}

func (p *parser) setAddress(v string) error {
	sock := strings.TrimPrefix(v, "unix://")
	if !path.IsAbs(sock) {
		return errors.New("it takes the absolute path of a socket")
	}
	if err := clean(sock); err != nil {
		return err
	}
	p.inv.Address = path.Clean(sock)
	return nil
}

func (p *parser) setNamespace(v string) error {
	if err := checkName(v); err != nil {
		return err
	}
	p.inv.Namespace = v
	return nil
}

func (p *parser) setPlatform(v string) error {
	p.platformSet = true
	p.w.Platform = v
	return checkPlatform(v)
}

// finishPlatform takes docker's variable where the flag is not given.
func (p *parser) finishPlatform() error {
	if p.platformSet {
		return nil
	}
	v, _ := p.ctx.LookupEnv("DOCKER_DEFAULT_PLATFORM")
	if err := checkPlatform(v); err != nil {
		return fmt.Errorf("DOCKER_DEFAULT_PLATFORM=%s: %w", quote(v), err)
	}
	p.w.Platform = v
	return nil
}

func checkPlatform(v string) error {
	if v == "" {
		return nil
	}
	if len(v) > shownBytes {
		return errors.New("too long for os[/arch[/variant]]")
	}
	got, err := platforms.Parse(v)
	if err != nil {
		return errors.New("it takes os[/arch[/variant]], such as linux/arm64")
	}
	if got.OS != "linux" {
		return fmt.Errorf("containers for %s cannot run on Linux", got.OS)
	}
	return nil
}

func (p *parser) setPull(v string) error {
	switch v {
	case "always", "missing", "never":
		p.w.Pull = v
	case "":
		p.w.Pull = "missing"
	case "newer":
		return fail.New(fail.Usage, "it takes always, missing or never").Hint("--pull always downloads only what changed")
	default:
		return errors.New("it takes always, missing or never")
	}
	return nil
}

func (p *parser) setWorkdir(v string) error {
	if v == "" {
		p.w.Workdir = ""
		return nil
	}
	if err := clean(v); err != nil {
		return err
	}
	if !path.IsAbs(v) {
		return errors.New("the working directory must be an absolute path")
	}
	p.w.Workdir = path.Clean(v)
	return nil
}

// setUser takes USER: for USER, as docker does: it is what "$(id -u):$GID"
// gives in a shell without GID.
func (p *parser) setUser(v string) error {
	if user, empty := strings.CutSuffix(v, ":"); empty && !strings.Contains(user, ":") {
		v = user
		if user == "" {
			return errors.New("it names neither a user nor a group")
		}
	}
	return strTo(func(w *spec.Workload) *string { return &w.User }, checkUser)(p, v)
}

// checkUser checks the form name|uid[:group|gid]. Who that is, is known only
// with the image.
func checkUser(v string) error {
	if err := clean(v); err != nil {
		return err
	}
	user, group, both := strings.Cut(v, ":")
	if strings.Contains(group, ":") || (both && group == "") || user == "" {
		return errors.New("it takes USER[:GROUP], names or numbers")
	}
	for _, id := range []string{user, group} {
		if err := checkID(id); err != nil {
			return err
		}
	}
	return nil
}

// checkID bounds a numeric id; docker's range is 0 to 2147483647. Names pass.
func checkID(v string) error {
	digits := strings.TrimLeft(v, "+-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return nil
	}
	if n, err := strconv.ParseInt(v, 10, 64); err != nil || n < 0 || n > math.MaxInt32 {
		return fmt.Errorf("the id %s is not in the range 0 to %d", quote(v), math.MaxInt32)
	}
	return nil
}

func checkGroup(v string) error {
	if v == "keep-groups" {
		return errors.New("keep-groups would give the host's groups to the container; name the group")
	}
	if err := cleanWord(v); err != nil {
		return err
	}
	if strings.Contains(v, ":") {
		return errors.New("it takes one group, a name or a number")
	}
	return checkID(v)
}

func (p *parser) setAttach(v string) error {
	s := strings.ToLower(v)
	if !slices.Contains([]string{"stdin", "stdout", "stderr"}, s) {
		return errors.New("valid streams are STDIN, STDOUT and STDERR")
	}
	if !slices.Contains(p.w.Attach, s) {
		p.w.Attach = append(p.w.Attach, s)
	}
	return nil
}

func checkSignal(v string) error {
	s, err := signal.ParseSignal(v)
	if err != nil || s < 1 || s > 64 {
		return errors.New("it takes the name of a signal or a number from 1 to 64")
	}
	return nil
}

func (p *parser) setStopTimeout(v string) error {
	n, err := strconv.ParseInt(v, 0, 32)
	if err != nil || n < -1 {
		return errors.New("it takes a number of seconds, or -1 to wait for ever")
	}
	i := int(n)
	p.w.StopTimeout = &i
	return nil
}

// checkAttach is docker's one error of flags that exits with 1.
func (p *parser) checkAttach() error {
	if p.w.Detach && len(p.w.Attach) > 0 {
		return fail.New(fail.NoStatus, "conflicting options: cannot specify both --attach and --detach")
	}
	return nil
}

func (p *parser) checkDetachKeys() error {
	if p.w.DetachKeys == nil || *p.w.DetachKeys == "" {
		return nil
	}
	if _, err := term.ToBytes(*p.w.DetachKeys); err != nil {
		return fail.New(fail.NoStatus, "invalid detach keys %s: %s", quote(*p.w.DetachKeys), printable(err.Error())).
			Hint("list single characters, ctrl-a to ctrl-z, ctrl- with one of @ [ \\ ] ^ _, or DEL, separated by commas")
	}
	return nil
}

func (p *parser) setIsolation(v string) error {
	if v == "" || v == "default" {
		p.can()
		return nil
	}
	p.cannot("")
	return clean(v)
}
