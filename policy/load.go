package policy

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/strictyaml"
	"github.com/safe-run/safe-run/internal/trusted"
)

// maxFile is the largest policy file read.
const maxFile = 1 << 20

// LoadSite reads the site's policy. No file is the built-in policy. Any other
// file than one only root can change, and any word in it nobody knows, is an
// error: a policy that is half understood protects nothing.
func LoadSite(file string) (Site, error) {
	data, err := trusted.ReadFile("policy", file, "/", maxFile)
	if errors.Is(err, os.ErrNotExist) {
		return Site{}, nil
	}
	if err != nil {
		return Site{}, err
	}
	return ParseSite(data, file)
}

// ParseSite decodes and checks the content of a policy file. All errors of
// meaning are given at once; each names its place.
func ParseSite(data []byte, name string) (Site, error) {
	refuse := func(line int, what string) (Site, error) {
		return Site{}, fail.New(fail.Refused, "policy %s: %s", strictyaml.At(name, line), what).
			Hint("the format is in docs/policy.md; check a file with: safe-run policy check FILE")
	}
	var s Site
	doc, err := strictyaml.Parse(data, maxFile)
	if err == nil {
		err = doc.Decode(&s)
	}
	if e := (*strictyaml.Error)(nil); errors.As(err, &e) {
		return refuse(e.Line, e.Msg)
	}
	var wrong []string
	s.check(func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) })
	if len(wrong) > 0 {
		return refuse(0, strings.Join(wrong, "; "))
	}
	s.path = name
	return s, nil
}
