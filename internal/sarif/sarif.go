// Package sarif writes findings in the Static Analysis Results Interchange
// Format, version 2.1.0 (OASIS standard, 27 March 2020), with what GitHub's
// code scanning wants beyond it: a physical location for each result, and a
// security-severity for each rule.
package sarif

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
)

// Level is how serious a result is, in the words of the standard.
type Level string

// Levels of results that are failures.
const (
	Note    Level = "note"
	Warning Level = "warning"
	Error   Level = "error"
)

// Tool is the program that found it all.
type Tool struct {
	Name    string
	Version string // as the program says it
	URI     string // where to read about it
}

// Rule is one check.
type Rule struct {
	ID       string // stable: alerts are told apart by it
	Title    string
	Meaning  string  // one or more sentences
	Help     string  // what to do; plain text
	HelpURI  string  // where to read about it
	Severity float64 // 0 to 10, as CVSS has it; GitHub: over 9 is critical, 7 high, 4 medium
	Level    Level   // of results that say none
}

// Result is one finding.
type Result struct {
	Rule  string // ID of one of the rules
	Level Level
	Text  string // may hold strings of others: nothing in it becomes a link

	// Where: the object as a path, which need not exist (web/nginx), and by its
	// full name and kind.
	Path, Name, Kind string
	// Key tells this result from the others of its rule and place in all runs.
	Key string
}

// Document is one run of the tool.
type Document struct {
	Tool     Tool
	Category string // tells runs on the same sources apart: "safe-run-audit"
	Rules    []Rule
	Results  []Result
	Ended    time.Time
}

// Write prints the document. A result whose rule is not listed is an error.
func Write(w io.Writer, d Document) error {
	l, err := d.log()
	if err != nil {
		return err
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(l)
}

func (d Document) log() (log, error) {
	r := run{
		Tool: tool{driver{
			Name: d.Tool.Name, Version: d.Tool.Version, InformationURI: d.Tool.URI, Rules: make([]descriptor, 0, len(d.Rules)),
		}},
		Invocations: []invocation{{ExecutionSuccessful: true, EndTimeUTC: d.Ended.UTC().Format("2006-01-02T15:04:05.000Z")}},
		Results:     make([]result, 0, len(d.Results)), // required, also if there are none
	}
	if d.Category != "" {
		r.Automation = &automation{ID: d.Category + "/"}
	}
	index := make(map[string]int, len(d.Rules))
	for i, rule := range d.Rules {
		if _, twice := index[rule.ID]; twice {
			return log{}, fmt.Errorf("rule %q is there twice", rule.ID)
		}
		index[rule.ID] = i
		r.Tool.Driver.Rules = append(r.Tool.Driver.Rules, rule.descriptor())
	}
	for _, res := range d.Results {
		i, ok := index[res.Rule]
		if !ok {
			return log{}, fmt.Errorf("a result has the rule %q, which is not there", res.Rule)
		}
		r.Results = append(r.Results, res.result(i))
	}
	return log{
		Schema:  "https://json.schemastore.org/sarif-2.1.0.json",
		Version: "2.1.0", Runs: []run{r},
	}, nil
}

func (r Rule) descriptor() descriptor {
	d := descriptor{
		ID: r.ID, Name: pascal(r.ID), Short: message{r.Title}, Full: message{r.Meaning}, Help: message{r.Help}, HelpURI: r.HelpURI,
		Default: configuration{Level: r.Level},
		Properties: properties{
			Tags: []string{"security"}, Precision: "very-high", Severity: fmt.Sprintf("%.1f", r.Severity),
		},
	}
	if r.Meaning == "" {
		d.Full = d.Short
	}
	if r.Help == "" {
		d.Help = d.Full
	}
	return d
}

func (r Result) result(index int) result {
	sum := sha256.Sum256([]byte(strings.Join([]string{r.Rule, r.Path, r.Name, r.Key}, "\x00")))
	return result{
		RuleID: r.Rule, RuleIndex: index, Level: r.Level, Message: message{withoutLinks(r.Text)},
		Locations: []location{{
			Physical: physical{Artifact: artifact{URI: relative(r.Path)}, Region: region{StartLine: 1}},
			Logical:  []logical{{Name: last(r.Name), FullyQualifiedName: r.Name, Kind: r.Kind}},
		}},
		Fingerprints: map[string]string{"primaryLocationLineHash": hex.EncodeToString(sum[:8]) + ":1"},
	}
}

// withoutLinks escapes what would be an embedded link in a plain text message
// (section 3.11.6 of the standard): text of a container must not become one.
func withoutLinks(s string) string {
	return strings.NewReplacer(`\`, `\\`, "[", `\[`, "]", `\]`).Replace(s)
}

// relative makes a relative reference (RFC 3986) of a path: no scheme, no
// authority, no way upwards.
func relative(path string) string {
	var parts []string
	for p := range strings.SplitSeq(path, "/") {
		switch p {
		case "", ".", "..":
		default:
			// A colon in the first segment would end a scheme.
			parts = append(parts, strings.ReplaceAll(url.PathEscape(p), ":", "%3A"))
		}
	}
	if len(parts) == 0 {
		return "unnamed"
	}
	return strings.Join(parts, "/")
}

func last(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

// pascal turns no-new-privs into NoNewPrivs, the form the standard wants of a
// rule's name.
func pascal(id string) string {
	var b strings.Builder
	for p := range strings.SplitSeq(id, "-") {
		if p != "" {
			b.WriteString(strings.ToUpper(p[:1]) + p[1:])
		}
	}
	return b.String()
}
