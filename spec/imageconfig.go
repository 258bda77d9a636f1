package spec

import (
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/signal"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/safe-run/safe-run/internal/fail"
)

// Bounds of an image's configuration. Real ones are a few kilobytes; the
// kernel takes 128 KiB per argument and 2 MiB in all.
const (
	maxConfigBytes = 4 << 20
	maxWords       = 4096    // of ENTRYPOINT, CMD, ENV, VOLUME, EXPOSE and labels, each
	maxWordBytes   = 1 << 17 // MAX_ARG_STRLEN
	maxWordsBytes  = 1 << 20 // of each of them together
)

// imageConfig is the part of the configuration that is used. HEALTHCHECK and
// SHELL are docker's extensions to the OCI schema.
type imageConfig struct {
	Created      *time.Time `json:"created"`
	Architecture string     `json:"architecture"`
	OS           string     `json:"os"`
	Config       struct {
		ocispec.ImageConfig
		Healthcheck *imageHealth
		Shell       []string
	} `json:"config"`
}

// ImageFromConfig reads what an image's configuration asks for. Name, Digest
// and ChainID are the caller's to fill in. Everything in it is bounded, free
// of NUL, and cleaned: volumes are clean absolute paths outside of the
// kernel's trees, the stop signal is one the kernel has, ports are ports, the
// health check has a form that is known.
// Errors have kind Usage.
func ImageFromConfig(configJSON []byte) (Image, error) {
	if len(configJSON) > maxConfigBytes {
		return Image{}, badImage("a configuration of %d bytes; the limit is %d", len(configJSON), maxConfigBytes)
	}
	var c imageConfig
	if err := json.Unmarshal(configJSON, &c); err != nil {
		return Image{}, fail.New(fail.Usage, "the image has a configuration that is not valid: %q", bounded(err.Error()))
	}
	img := Image{
		OS: c.OS, Arch: c.Architecture,
		User: c.Config.User, Env: c.Config.Env, Entrypoint: c.Config.Entrypoint, Cmd: c.Config.Cmd,
		Workdir: c.Config.WorkingDir, StopSignal: c.Config.StopSignal, Labels: c.Config.Labels,
		Shell: c.Config.Shell,
	}
	if len(img.Shell) > 0 && img.Shell[0] == "" {
		img.Shell = nil
	}
	if c.Created != nil {
		img.Created = *c.Created
	}
	for _, list := range []struct {
		what  string
		words []string
	}{
		{"ENV", img.Env},
		{"ENTRYPOINT", img.Entrypoint},
		{"CMD", img.Cmd},
		{"SHELL", img.Shell},
		{"VOLUME", sortedKeys(c.Config.Volumes)},
		{"EXPOSE", sortedKeys(c.Config.ExposedPorts)},
		{"LABEL", labelWords(img.Labels)},
		{"USER, WORKDIR or STOPSIGNAL", []string{img.User, img.Workdir, img.StopSignal, img.OS, img.Arch}},
	} {
		if err := boundedWords(list.what, list.words); err != nil {
			return Image{}, err
		}
	}
	for _, entry := range img.Env {
		if name, _, ok := strings.Cut(entry, "="); !ok || name == "" {
			return Image{}, badImage("a malformed ENV entry %s; it must be NAME=value", printed(entry))
		}
	}
	if img.Workdir != "" {
		if err := cleanable(img.Workdir); err != nil {
			return Image{}, fail.Wrap(fail.Usage, err, "the image's WORKDIR")
		}
	}
	if hasControl(img.User) {
		return Image{}, badImage("a control character in USER %s", printed(img.User))
	}
	if img.StopSignal != "" {
		if _, err := StopSignal(img.StopSignal); err != nil {
			return Image{}, fail.Wrap(fail.Usage, err, "the image's STOPSIGNAL")
		}
	}
	var err error
	if img.Health, err = c.Config.Healthcheck.healthcheck(); err != nil {
		return Image{}, err
	}
	if img.Volumes, err = volumePaths(sortedKeys(c.Config.Volumes)); err != nil {
		return Image{}, err
	}
	img.Exposed, err = exposedPorts(sortedKeys(c.Config.ExposedPorts))
	return img, err
}

func badImage(format string, args ...any) *fail.Error {
	return fail.New(fail.Usage, "the image has "+format, args...)
}

func bounded(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}

func boundedWords(what string, words []string) error {
	if len(words) > maxWords {
		return badImage("%d words in %s; the limit is %d", len(words), what, maxWords)
	}
	total := 0
	for _, w := range words {
		if len(w) > maxWordBytes {
			return badImage("a word of %d bytes in %s; the limit is %d", len(w), what, maxWordBytes)
		}
		if strings.ContainsRune(w, 0) {
			return badImage("a NUL byte in %s: %s", what, printed(w))
		}
		total += len(w)
	}
	if total > maxWordsBytes {
		return badImage("%d bytes in %s; the limit is %d", total, what, maxWordsBytes)
	}
	return nil
}

func labelWords(labels map[string]string) []string {
	words := make([]string, 0, len(labels))
	for k, v := range labels {
		words = append(words, k+"="+v)
	}
	return words
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// StopSignal gives the number of a signal by name, with or without SIG, or
// number (1 to 64). "" is SIGTERM.
func StopSignal(s string) (int, error) {
	if s == "" {
		return int(signal.SignalMap["TERM"]), nil
	}
	if digits(s) {
		if n, err := strconv.Atoi(s); err == nil && n >= 1 && n <= 64 {
			return n, nil
		}
		return 0, fail.New(fail.Usage, "stop signal %s is not between 1 and 64", printed(s))
	}
	n, err := signal.ParseSignal(s)
	if err != nil || n < 1 || n > 64 {
		return 0, fail.New(fail.Usage, "stop signal %s is not a signal's name", printed(s))
	}
	return int(n), nil
}

// volumePaths cleans the image's VOLUMEs. What would hide the root, the
// kernel's trees or anything above them is an error (CVE-2023-28642).
func volumePaths(volumes []string) ([]string, error) {
	var out []string
	for _, v := range volumes {
		p := v
		// docker takes a relative VOLUME as one below /.
		if !strings.HasPrefix(p, "/") {
			p = "/" + p
		}
		if err := cleanable(p); err != nil {
			return nil, fail.Wrap(fail.Usage, err, "the image's VOLUME")
		}
		if slices.Contains(strings.Split(p, "/"), "..") {
			return nil, badImage("a VOLUME with \"..\": %s", printed(v))
		}
		p = path.Clean(p)
		if p == "/" || kernelPath(p) {
			return nil, badImage("a VOLUME over the root, /proc, /sys or /dev: %s", printed(v))
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out, nil
}

func exposedPorts(ports []string) ([]PortRange, error) {
	var out []PortRange
	for _, p := range ports {
		r, err := ParsePortRange(p)
		if err != nil {
			return nil, badImage("an EXPOSE that is no port: %s", printed(p))
		}
		out = append(out, r)
	}
	return out, nil
}
