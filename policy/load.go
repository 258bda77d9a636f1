package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/internal/fail"
)

// maxFile is the largest policy file read, and maxNesting the deepest.
const (
	maxFile    = 1 << 20
	maxNesting = 32
)

// LoadSite reads the site's policy. No file is the built-in policy. Any other
// file than one only root can change, and any word in it nobody knows, is an
// error: a policy that is half understood protects nothing.
func LoadSite(file string) (Site, error) {
	data, err := readTrusted(file, "/")
	if errors.Is(err, os.ErrNotExist) {
		return Site{}, nil
	}
	if err != nil {
		return Site{}, err
	}
	return ParseSite(data, file)
}

// readTrusted reads a file that only root can have written: owned by root, not
// writable by others, and so for every directory from top on the way to it.
// Links are refused, so what was checked is what is read.
func readTrusted(file, top string) ([]byte, error) {
	file = path.Clean(file)
	how := &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY, Resolve: unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(unix.AT_FDCWD, file, how)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, os.ErrNotExist
	case errors.Is(err, unix.ELOOP):
		return nil, fail.New(fail.Refused, "policy %s is, or lies behind, a symbolic link", shown(file)).Hint("put the file itself there")
	case err != nil:
		return nil, fail.Wrap(fail.Refused, err, "cannot read policy %s", shown(file))
	}
	f := os.NewFile(uintptr(fd), file)
	defer f.Close() //nolint:errcheck // read only

	if err := trusted(fd, file, unix.S_IFREG); err != nil {
		return nil, err
	}
	for dir := path.Dir(file); ; dir = path.Dir(dir) {
		if err := trustedDir(dir); err != nil {
			return nil, err
		}
		if dir == top || dir == "/" {
			break
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fail.Wrap(fail.Refused, err, "cannot read policy %s", shown(file))
	}
	return data, nil
}

func trustedDir(dir string) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail.Wrap(fail.Refused, err, "cannot look at %s, which holds the policy", shown(dir))
	}
	defer unix.Close(fd) //nolint:errcheck // O_PATH: nothing to lose
	return trusted(fd, dir, unix.S_IFDIR)
}

func trusted(fd int, name string, kind uint32) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fail.Wrap(fail.Refused, err, "cannot look at %s", shown(name))
	}
	switch {
	case st.Mode&unix.S_IFMT != kind:
		return fail.New(fail.Refused, "policy: %s is not a regular file", shown(name))
	case st.Uid != 0:
		return fail.New(fail.Refused, "policy: %s belongs to uid %d, who can change it", shown(name), st.Uid).Hint("chown root:root %s", shown(name))
	case st.Mode&0o022 != 0:
		return fail.New(fail.Refused, "policy: %s has mode %04o: others than root can change it", shown(name), st.Mode&0o7777).Hint("chmod go-w %s", shown(name))
	}
	return nil
}

// ParseSite decodes and checks the content of a policy file. All errors of
// meaning are given at once; each names its place.
func ParseSite(data []byte, name string) (Site, error) {
	refuse := func(line int, what string) (Site, error) {
		at := shown(name)
		if line > 0 {
			at = fmt.Sprintf("%s:%d", at, line)
		}
		return Site{}, fail.New(fail.Refused, "policy %s: %s", at, what).Hint("the format is in docs/policy.md; check a file with: safe-run policy check FILE")
	}
	if len(data) > maxFile {
		return refuse(0, "larger than 1 MiB")
	}
	if line := tooDeep(data); line > 0 {
		return refuse(line, "nested too deeply")
	}
	s, line, err := decode(data)
	if err != nil {
		return refuse(line, sanitized(err.Error()))
	}
	var wrong []string
	s.check(func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) })
	if len(wrong) > 0 {
		return refuse(0, strings.Join(wrong, "; "))
	}
	s.path = name
	return s, nil
}

// tooDeep bounds nesting before the parser, which recurses, sees the text. It
// gives the line, or 0. Brackets in strings and comments count as well: no
// policy has that many.
func tooDeep(data []byte) (line int) {
	for i, text := range bytes.Split(data, []byte("\n")) {
		flow := bytes.Count(text, []byte("[")) + bytes.Count(text, []byte("{"))
		block := bytes.Count(text, []byte("- ")) + bytes.Count(text, []byte("? ")) + bytes.Count(text, []byte(": "))
		indent := len(text) - len(bytes.TrimLeft(text, " "))
		if flow > 64*maxNesting || block > 64*maxNesting || indent > 8*maxNesting || depthOf(text) > maxNesting {
			return i + 1
		}
	}
	if depthOf(data) > maxNesting {
		return 1
	}
	return 0
}

func depthOf(text []byte) (deepest int) {
	depth := 0
	for _, c := range text {
		switch c {
		case '[', '{':
			depth++
			deepest = max(deepest, depth)
		case ']', '}':
			depth = max(0, depth-1)
		}
	}
	return deepest
}

// decode reads one strict document: no unknown and no repeated keys, no
// anchors, aliases, merges or tags, so that what stands there is what it is.
func decode(data []byte) (s Site, line int, err error) {
	defer func() {
		// The parser is not ours; a panic of its is a file that is not understood.
		if p := recover(); p != nil {
			s, line, err = Site{}, 0, errors.New("cannot be parsed")
		}
	}()
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		line, err = position(err)
		return Site{}, line, err
	}
	var docs []ast.Node
	for _, d := range file.Docs {
		if d.Body != nil {
			docs = append(docs, d.Body)
		}
	}
	switch len(docs) {
	case 0:
		return Site{}, 0, errors.New("empty; it needs at least: version: 1")
	case 1:
	default:
		return Site{}, docs[1].GetToken().Position.Line, errors.New("a second document")
	}
	var odd oddities
	ast.Walk(&odd, docs[0])
	if odd.what != "" {
		return Site{}, odd.line, errors.New(odd.what)
	}
	if _, ok := docs[0].(*ast.MappingNode); !ok {
		return Site{}, 1, errors.New("not a list of keys and values")
	}
	if err := yaml.NodeToValue(docs[0], &s, yaml.Strict()); err != nil {
		line, err = position(err)
		return Site{}, line, err
	}
	return s, 0, nil
}

// oddities finds what makes a document say other than it shows.
type oddities struct {
	what string
	line int
}

func (o *oddities) Visit(n ast.Node) ast.Visitor {
	what := ""
	switch n.Type() {
	case ast.AnchorType, ast.AliasType, ast.MergeKeyType:
		what = "anchors, aliases and merge keys are not taken; write it out"
	case ast.TagType, ast.DirectiveType:
		what = "tags and directives are not taken"
	case ast.NullType:
		what = "a key without a value; leave the key out"
	}
	if what != "" && o.what == "" {
		o.what = what
		if tok := n.GetToken(); tok != nil && tok.Position != nil {
			o.line = tok.Position.Line
		}
	}
	return o
}

// position takes the line out of an error of the parser, and its words without
// the excerpt of the file.
func position(err error) (int, error) {
	var e yaml.Error
	if !errors.As(err, &e) {
		return 0, err
	}
	line := 0
	if tok := e.GetToken(); tok != nil && tok.Position != nil {
		line = tok.Position.Line
	}
	return line, errors.New(e.GetMessage())
}
