package threats

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/safe-run/safe-run/tests/harness"
	"github.com/safe-run/safe-run/tests/imagekit"
)

// fate is what must come of a hostile image.
type fate int

const (
	unloaded     fate = iota // load refuses it, with 1
	unrun                    // loaded or not, its program never runs: 1, or 125 to 127
	inert                    // loaded and run, and what it tried has no effect (check)
	unrunOrInert             // unrun, or inert
)

// hostile is one image made to hurt.
type hostile struct {
	name  string                // "TOPIC: what is odd"; rows of the catalogue pick by topic
	image func(*imagekit.Image) // changes a good busybox image
	write func(w io.Writer, b *imagekit.Built) error
	args  []string // the command; nil: `sh -c 'echo RAN'`
	flags []string // of run, beyond --rm
	env   []string // of safe-run itself
	want  fate
	says  string // what the error must say of the reason; "": any words
	check func(r harness.Answer) error
}

// The corpus's own places and words.
type surroundings struct {
	dir    string // on the host, where no image may make anything
	marker string // a path below dir that is not there
	secret string // value of THREATS_SECRET in the environment of safe-run
}

// corpus is all of them.
func corpus(s surroundings) []hostile {
	return slices.Concat(
		hostileUsers(), hostilePlaces(s), hostileWords(s), hostileRoots(s), hostileEntries(s),
		hostileBombs(), hostileLayers(), hostileDocuments(), hostileIndexes(), hostileArchives(),
	)
}

// ran is what came of one image; each is tried once, for whatever test asks first.
type ran struct {
	problems []string
	took     time.Duration
	peak     int64 // bytes: the largest of load's and run's
}

// tried is what the corpus is tried in, and what came of it. Tests run one after another.
var tried struct {
	surroundings
	rows []hostile
	good imagekit.Image
	of   map[string]ran
}

// The most a launcher may need for an image, however odd.
const peakLimit = 100 << 20

// readyCorpus makes the corpus's own places, once.
func readyCorpus(t *testing.T) {
	t.Helper()
	if tried.of != nil {
		return
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	if tried.good, err = imagekit.Busybox(busybox); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(here.Dir, "hostile")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	tried.surroundings = surroundings{dir: dir, marker: filepath.Join(dir, "marker"), secret: "f00dcafe-secret"}
	tried.rows = corpus(tried.surroundings)
	tried.of = map[string]ran{}
}

// hostileImages tries those images of the corpus whose name begins with one of
// the topics; all of them if there is none, and in short tests the first of
// each topic. It gives the time they took.
func hostileImages(t *testing.T, topics ...string) (n int, took time.Duration) {
	t.Helper()
	readyCorpus(t)
	for _, topic := range topics {
		if !slices.ContainsFunc(tried.rows, func(h hostile) bool { return strings.HasPrefix(h.name, topic) }) {
			t.Errorf("no hostile image %q", topic)
		}
	}
	begun := map[string]bool{}
	for i, h := range tried.rows {
		topic := slices.IndexFunc(topics, func(p string) bool { return strings.HasPrefix(h.name, p) })
		if len(topics) > 0 {
			if topic < 0 || testing.Short() && begun[topics[topic]] {
				continue
			}
			begun[topics[topic]] = true
		}
		r, done := tried.of[h.name]
		if !done {
			r = try(fmt.Sprintf("hostile-%d", i), h)
			tried.of[h.name] = r
		}
		for _, p := range r.problems {
			t.Errorf("%s: %s", h.name, p)
		}
		n++
		took += r.took
	}
	return n, took
}

// try loads and runs one image.
func try(name string, h hostile) (r ran) {
	problem := func(format string, args ...any) { r.problems = append(r.problems, fmt.Sprintf(format, args...)) }
	archive := filepath.Join(here.Dir, "hostile.tar")
	defer os.Remove(archive)
	if err := archived(archive, name+":latest", h); err != nil {
		problem("cannot be made: %v", err)
		return r
	}
	if err := forget(); err != nil {
		problem("%v", err)
	}
	before := leftovers()
	start := time.Now()
	a, peak := launched(h.env, "load", "--quiet", "-i", archive)
	r.peak = peak
	loaded := a.Code == 0
	if loaded {
		args := h.args
		if args == nil {
			args = []string{"sh", "-c", "echo RAN"}
		}
		a, peak = launched(h.env, slices.Concat([]string{"--rm", "--pull", "never"}, h.flags, []string{name}, args)...)
		r.peak = max(r.peak, peak)
		here.Run("rmi", name)
	}
	r.took = time.Since(start)
	if r.peak > peakLimit {
		problem("safe-run needed %d MiB", r.peak>>20)
	}
	for _, p := range judged(h, loaded, a) {
		problem("%s", p)
	}
	made, _ := filepath.Glob(filepath.Join(tried.dir, "*"))
	for _, m := range made {
		problem("made on the host: %s", m)
		_ = os.RemoveAll(m)
	}
	for _, l := range leftovers() {
		if !slices.Contains(before, l) {
			problem("left behind: %s", l)
		}
	}
	return r
}

// archived writes the image to a file.
func archived(archive, name string, h hostile) error {
	img := tried.good
	img.Name = name
	img.Layers = []imagekit.Layer{{Entries: slices.Clone(tried.good.Layers[0].Entries)}}
	if h.image != nil {
		h.image(&img)
	}
	built, err := imagekit.Build(img)
	if err != nil {
		return err
	}
	f, err := os.Create(archive)
	if err != nil {
		return err
	}
	write := h.write
	if write == nil {
		write = func(w io.Writer, b *imagekit.Built) error { return imagekit.WriteOCI(w, b) }
	}
	return errors.Join(write(f, built), f.Close())
}

// judged says what is wrong with an answer. loaded: it is that of run.
func judged(h hostile, loaded bool, a harness.Answer) (wrong []string) {
	bad := func(what string) { wrong = append(wrong, what+": "+a.String()) }
	refusal := !loaded && a.Code == 1 || loaded && (a.Code == 125 || a.Code == 126 || a.Code == 127)
	switch {
	case a.Code == -1:
		bad("hangs, or was killed")
	case h.want == unloaded && (loaded || !refusal):
		bad("wanted a refusal by load")
	case h.want == unrun && !refusal:
		bad("wanted a refusal")
	case h.want == inert && (!loaded || refusal):
		bad("not run")
	case !loaded && !refusal:
		bad("wanted exit 1 of load")
	}
	if refusal && strings.Contains(a.Stdout, "RAN") {
		bad("ran")
	}
	if refusal {
		if p := unclear(a.Stderr); p != "" {
			bad(p)
		}
		if !strings.Contains(a.Stderr, h.says) {
			bad("the error does not say " + h.says)
		}
	} else if h.check != nil {
		if err := h.check(a); err != nil {
			bad(err.Error())
		}
	}
	if strings.ContainsAny(a.Stderr+a.Stdout, "\x1b\x07\x00\u009b") {
		bad("control characters reach the terminal")
	}
	if strings.Contains(a.Stderr, "panic") || strings.Contains(a.Stderr, "goroutine ") || a.Code == 2 {
		bad("a crash")
	}
	return wrong
}

// unclear says why a text is no clear error, or "".
func unclear(text string) string {
	switch {
	case !regexp.MustCompile(`(?m)^safe-run: \S`).MatchString(text):
		return "no word of the reason"
	case len(text) > 4000 || strings.Count(text, "\n") > 20:
		return "an error of pages"
	case strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && unicode.IsControl(r) }):
		return "an error that is not printable"
	}
	return ""
}

// forget gives memory back, and with it the peak so far: a child's begins with
// that of the process it was forked from.
func forget() error {
	debug.FreeOSMemory()
	return os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}

// launched runs safe-run, and gives the most memory it or a child it waited
// for had at once.
func launched(env []string, args ...string) (harness.Answer, int64) {
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patient(3*time.Minute))
	defer cancel()
	cmd := exec.CommandContext(ctx, here.Bin, args...)
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	a := harness.Answer{Code: -1, Stdout: out.String(), Stderr: errs.String()}
	if cmd.ProcessState == nil {
		a.Stderr += err.Error()
		return a, 0
	}
	a.Code = cmd.ProcessState.ExitCode()
	return a, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
}

// leftovers is what a launch makes in safe-run's own directories.
func leftovers() (all []string) {
	for _, dir := range []string{
		here.Root + "/containers", here.Root + "/names", here.Root + "/ids", here.Root + "/volumes", here.State + "/live", here.State + "/io",
	} {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if e.Name() != "next" {
				all = append(all, dir+"/"+e.Name())
			}
		}
	}
	return all
}

// contents are the blobs and unpacked layers the engine keeps.
func contents(t *testing.T) []string {
	all := lines(here.Ctr(t, "content", "ls", "-q"))
	for _, l := range lines(here.Ctr(t, "snapshots", "--snapshotter", "overlayfs", "ls"))[1:] {
		all = append(all, strings.Fields(l)[0])
	}
	slices.Sort(all)
	return all
}

// noMoreContent waits until containerd, whose own clean-up is a moment later,
// has nothing but what was kept.
func noMoreContent(t *testing.T, kept []string) {
	t.Helper()
	patient(t, func() error {
		for _, c := range contents(t) {
			if !slices.Contains(kept, c) {
				return fmt.Errorf("content left behind: %s", c)
			}
		}
		return nil
	})
}

// TestHostileImages loads and runs each image of the corpus: a clear error or
// no effect, little time and memory, and nothing stays.
func TestHostileImages(t *testing.T) {
	before, kept := here.Inventory(t), contents(t)
	n, took := hostileImages(t)
	if n < 90 {
		t.Errorf("only %d images", n)
	}
	// A minute, on a machine that has nothing else to do.
	if limit := time.Duration(float64(harness.Patient(time.Minute)) * max(1, loadAverage(t)/float64(runtime.NumCPU()))); took > limit {
		t.Errorf("they took %s, more than %s", took, limit)
	}
	worst := slices.SortedFunc(func(yield func(hostile) bool) {
		for _, h := range tried.rows {
			if !yield(h) {
				return
			}
		}
	}, func(a, b hostile) int { return int(tried.of[b.name].took - tried.of[a.name].took) })
	for i, h := range worst {
		if r := tried.of[h.name]; i < 12 || r.peak > peakLimit/10*9 {
			t.Logf("%6.2f s %3d MiB  %s", r.took.Seconds(), r.peak>>20, h.name)
		}
	}
	t.Logf("%d images, %s", n, took)
	harness.Same(t, before, here.Inventory(t))
	noMoreContent(t, kept)
}

// loadAverage is how many processes wanted a processor, over the last minute.
func loadAverage(t *testing.T) (n float64) {
	b, err := os.ReadFile("/proc/loadavg")
	if err == nil {
		_, err = fmt.Sscan(string(b), &n)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}
