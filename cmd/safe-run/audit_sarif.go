package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/safe-run/safe-run/audit"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/sarif"
)

// home is where safe-run is made.
const home = "https://github.com/safe-run/safe-run"

// printSARIF prints what is wrong for code scanning. What is as it should be,
// and mere notes, would become alerts there; they are rules without results.
func printSARIF(w io.Writer, reports []audit.Report, now time.Time) error {
	d := sarif.Document{
		Tool:     sarif.Tool{Name: "safe-run", Version: version, URI: home},
		Category: "safe-run-audit", Ended: now,
		Rules: sarifRules(reports),
	}
	for _, r := range reports {
		nth := map[string]int{}
		for _, f := range r.Findings {
			if f.Severity < audit.Low {
				continue
			}
			nth[f.ID]++
			d.Results = append(d.Results, sarifResult(r.Subject, f, nth[f.ID]))
		}
	}
	var b bytes.Buffer
	if err := sarif.Write(&b, d); err != nil {
		return fail.Wrap(fail.Internal, err, "printing SARIF")
	}
	_, err := io.WriteString(w, escapeHidden(b.String()))
	return fail.Wrap(fail.Internal, err, "printing")
}

// sarifRules are the checks of these reports. A rule is as serious as the worst
// of its findings: one check may give several severities, a rule has one.
func sarifRules(reports []audit.Report) (rules []sarif.Rule) {
	at, worstOf := map[string]int{}, map[string]audit.Severity{}
	for _, r := range reports {
		for _, f := range r.Findings {
			i, known := at[f.ID]
			if !known {
				i = len(rules)
				title := brief(f.Title, 200)
				at[f.ID] = i
				rules = append(rules, sarif.Rule{
					ID: f.ID, Title: title, Meaning: "What the kernel enforces on a container: " + title + ".",
					HelpURI: home + "/blob/main/docs/audit.md#checks", Severity: cvss(audit.OK), Level: sarifLevel(audit.OK),
				})
			}
			rule := &rules[i]
			if f.Severity > worstOf[f.ID] {
				worstOf[f.ID] = f.Severity
				rule.Severity, rule.Level = cvss(f.Severity), sarifLevel(f.Severity)
				rule.Help = oneLine(f.Fix)
			}
		}
	}
	return rules
}

func sarifResult(of audit.Subject, f audit.Finding, nth int) sarif.Result {
	text := f.Title + ": " + f.Fact
	if f.Fix != "" {
		text += ". " + strings.ToUpper(f.Fix[:1]) + f.Fix[1:]
	}
	// Of a container that is made anew each time, only the name stays.
	path := []string{"containers", cmp.Or(of.Namespace, "host"), titleOf(of)}
	return sarif.Result{
		Rule: f.ID, Level: sarifLevel(f.Severity), Text: brief(text, 2000),
		// A name from Kubernetes has slashes of its own.
		Path: strings.Join(path, "/"), Name: oneLine(strings.Join(path[1:], "/")), Kind: "container",
		Key: fmt.Sprint(nth),
	}
}

// sarifLevel is the severity in the words of SARIF, which has three.
func sarifLevel(s audit.Severity) sarif.Level {
	switch {
	case s >= audit.High:
		return sarif.Error
	case s == audit.Medium:
		return sarif.Warning
	}
	return sarif.Note
}

// cvss puts a severity in the middle of what GitHub calls by the same word.
func cvss(s audit.Severity) float64 {
	return [...]float64{audit.OK: 0, audit.Info: 0, audit.Low: 2, audit.Medium: 5.5, audit.High: 8, audit.Critical: 9.5}[min(max(s, audit.OK), audit.Critical)]
}
