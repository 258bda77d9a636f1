// Package logs keeps what containers print and reads it back: docker's
// json-file format in files of bounded size, and the systemd journal.
package logs

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/docker/go-units"

	"github.com/safe-run/safe-run/internal/fail"
)

// The drivers there are.
const (
	JSONFile    = "json-file"   // files in the container's directory
	Journald    = "journald"    // the systemd journal, with docker's fields
	None        = "none"        // nothing is kept
	Passthrough = "passthrough" // stdout and stderr are the caller's; nothing is kept here
)

// Defaults of json-file: together they bound what one container's output
// takes on disk.
const (
	DefaultMaxSize = 10 << 20
	DefaultMaxFile = 3
)

const (
	mostFiles  = 200     // each rotation renames all of them, and a reader opens them
	optionSize = 4 << 10 // longest value of an option, bytes
)

// Config is where and how the output of one container is kept.
type Config struct {
	Driver  string
	MaxSize int64 // json-file: bytes of one file
	MaxFile int   // json-file: number of files

	// What is noted with each entry.
	Tag         string   // template of docker's: {{.Name}}; "" is the driver's default
	Labels      []string // names of labels
	LabelsRegex string
	Env         []string // names of variables
	EnvRegex    string

	Dir  string // json-file: directory of the files, made at the first output
	ID   string // journald: the container to read
	Unit string // passthrough: the systemd unit whose journal has the output, or ""
}

// File is the file that is written now.
func (c Config) File() string { return c.file(0) }

// file is the path of the i-th newest file.
func (c Config) file(i int) string {
	if i == 0 {
		return filepath.Join(c.Dir, "json.log")
	}
	return filepath.Join(c.Dir, "json.log."+strconv.Itoa(i))
}

// option sets what one --log-opt of a driver asks for. The drivers are those
// that know it.
type option struct {
	drivers []string
	set     func(c *Config, v string) error
}

func options() map[string]option {
	files, both := []string{JSONFile}, []string{JSONFile, Journald}
	return map[string]option{
		"max-size":        {files, setMaxSize},
		"max-file":        {files, setMaxFile},
		"compress":        {files, setCompress},
		"mode":            {both, setMode},
		"max-buffer-size": {both, setBuffer},
		"tag":             {both, func(c *Config, v string) error { c.Tag = v; return checkTag(v) }},
		"labels":          {both, func(c *Config, v string) error { c.Labels = strings.Split(v, ","); return nil }},
		"env":             {both, func(c *Config, v string) error { c.Env = strings.Split(v, ","); return nil }},
		"labels-regex":    {both, func(c *Config, v string) (err error) { c.LabelsRegex = v; _, err = regexp.Compile(v); return }},
		"env-regex":       {both, func(c *Config, v string) (err error) { c.EnvRegex = v; _, err = regexp.Compile(v); return }},
		"cache-disabled":  {both, setCacheDisabled},
		"cache-max-size":  {both, setCache},
		"cache-max-file":  {both, setCache},
		"cache-compress":  {both, setCache},
	}
}

// Parse reads --log-driver and --log-opt. "" is json-file. Errors are
// fail.Usage.
func Parse(driver string, opts map[string]string) (Config, error) {
	c := Config{Driver: driver}
	switch driver {
	case "", JSONFile:
		c.Driver, c.MaxSize, c.MaxFile = JSONFile, DefaultMaxSize, DefaultMaxFile
	case Journald:
	case None, Passthrough:
		if len(opts) > 0 {
			return Config{}, fail.New(fail.Usage, "invalid logging opts for driver %s", driver)
		}
		return c, nil
	case "local":
		return Config{}, fail.New(fail.Usage, "the log driver local is not supported").Hint("json-file, the default, rotates its files too: leave the flag out")
	default:
		return Config{}, fail.New(fail.Usage, "the log driver %.80q is not supported", driver).Hint("those there are: json-file, journald, none, passthrough")
	}
	known := options()
	for _, key := range slices.Sorted(maps.Keys(opts)) {
		v, o := opts[key], known[key]
		if !slices.Contains(o.drivers, c.Driver) {
			return Config{}, fail.New(fail.Usage, "unknown log opt %.80q for %s log driver", key, c.Driver)
		}
		if len(v) > optionSize {
			return Config{}, fail.New(fail.Usage, "the value of log opt %q is longer than %d bytes", key, optionSize)
		}
		if err := o.set(&c, v); err != nil {
			return Config{}, fail.New(fail.Usage, "log opt %s=%.80q: %s", key, v, printable(err.Error()))
		}
	}
	return c, nil
}

// printable is the text of an error whose author may have put the value into it as it is.
func printable(s string) string {
	if len(s) > 300 {
		s = s[:300] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

func refuse(format string, args ...any) error { return fail.New(fail.Usage, format, args...) }

// Docker's json-file reads sizes as powers of ten (daemon/logger/jsonfilelog).
func setMaxSize(c *Config, v string) error {
	if v == "-1" {
		return refuse("a log without a bound fills the host's disk; give a size such as 10m")
	}
	n, err := units.FromHumanSize(v)
	if err == nil && n <= 0 {
		return refuse("max-size must be a positive number")
	}
	c.MaxSize = n
	return err
}

func setMaxFile(c *Config, v string) error {
	n, err := strconv.Atoi(v)
	switch {
	case err != nil:
		return refuse("it is not a number")
	case n < 1:
		return refuse("max-file cannot be less than 1")
	case n > mostFiles:
		return refuse("max-file cannot be more than %d", mostFiles)
	}
	c.MaxFile = n
	return nil
}

func setCompress(_ *Config, v string) error {
	if on, err := strconv.ParseBool(v); err != nil || on {
		return refuse("rotated files are not compressed; it takes false only, and max-size and max-file bound the disk")
	}
	return nil
}

func setMode(_ *Config, v string) error {
	if v != "blocking" {
		return refuse("only blocking is supported: output is written as it comes, and dropped when the disk is full, so there is nothing to wait for")
	}
	return nil
}

func setBuffer(*Config, string) error {
	return refuse("it belongs to mode=non-blocking, which is not supported")
}

func setCacheDisabled(_ *Config, v string) error {
	_, err := strconv.ParseBool(v)
	return err
}

func setCache(*Config, string) error {
	return refuse("there is no cache: the driver's own store is read")
}
