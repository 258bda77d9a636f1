package sarif

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestWrite(t *testing.T) {
	d := Document{
		Tool: Tool{Name: "tool", Version: "1"}, Category: "c", Ended: time.Unix(0, 0),
		Rules: []Rule{{ID: "no-new-privs", Title: "Title", Severity: 8, Level: Error}},
		Results: []Result{
			{Rule: "no-new-privs", Level: Error, Text: `see [here](http://x) \`, Path: "a/b c", Name: "a/b c", Kind: "container", Key: "1"},
		},
	}
	var b bytes.Buffer
	if err := Write(&b, d); err != nil {
		t.Fatal(err)
	}
	const want = `{
  "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
  "version": "2.1.0",
  "runs": [
    {
      "tool": {
        "driver": {
          "name": "tool",
          "version": "1",
          "rules": [
            {
              "id": "no-new-privs",
              "name": "NoNewPrivs",
              "shortDescription": {
                "text": "Title"
              },
              "fullDescription": {
                "text": "Title"
              },
              "help": {
                "text": "Title"
              },
              "defaultConfiguration": {
                "level": "error"
              },
              "properties": {
                "tags": [
                  "security"
                ],
                "precision": "very-high",
                "security-severity": "8.0"
              }
            }
          ]
        }
      },
      "automationDetails": {
        "id": "c/"
      },
      "invocations": [
        {
          "executionSuccessful": true,
          "endTimeUtc": "1970-01-01T00:00:00.000Z"
        }
      ],
      "results": [
        {
          "ruleId": "no-new-privs",
          "ruleIndex": 0,
          "level": "error",
          "message": {
            "text": "see \\[here\\](http://x) \\\\"
          },
          "locations": [
            {
              "physicalLocation": {
                "artifactLocation": {
                  "uri": "a/b%20c"
                },
                "region": {
                  "startLine": 1
                }
              },
              "logicalLocations": [
                {
                  "name": "b c",
                  "fullyQualifiedName": "a/b c",
                  "kind": "container"
                }
              ]
            }
          ],
          "partialFingerprints": {
            "primaryLocationLineHash": "HASH:1"
          }
        }
      ]
    }
  ]
}
`
	got := b.String()
	if i := strings.Index(got, `:1"`); i > 16 {
		got = got[:i-16] + "HASH" + got[i:]
	}
	if got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestWriteNothing(t *testing.T) {
	var b bytes.Buffer
	if err := Write(&b, Document{}); err != nil || !strings.Contains(b.String(), `"results": []`) || !strings.Contains(b.String(), `"rules": []`) {
		t.Errorf("%v\n%s", err, b.String())
	}
}

func TestWriteRefuses(t *testing.T) {
	for name, d := range map[string]Document{
		"a result without a rule": {Results: []Result{{Rule: "x"}}},
		"a rule twice":            {Rules: []Rule{{ID: "x"}, {ID: "x"}}},
	} {
		if err := Write(&bytes.Buffer{}, d); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func FuzzResult(f *testing.F) {
	for _, s := range []string{"web", "http://x/y", "../../etc/passwd", "//host/x", "a:b", "\x00\x1b[31m", "", "%2e%2e/", "[a](b)", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := Result{Rule: "r", Text: s, Path: "containers/" + s, Name: s}.result(0)
		uri := r.Locations[0].Physical.Artifact.URI
		u, err := url.Parse(uri)
		if err != nil || u.Scheme != "" || u.Host != "" || strings.HasPrefix(u.EscapedPath(), "/") || u.Fragment != "" || u.RawQuery != "" {
			t.Errorf("%q gives %q: %v", s, uri, err)
		}
		for p := range strings.SplitSeq(uri, "/") {
			if p == ".." || p == "" {
				t.Errorf("%q gives %q", s, uri)
			}
		}
		if alone := relative(s); strings.Contains(alone, ":") {
			t.Errorf("%q gives %q, which may have a scheme", s, alone)
		}
		if _, err := json.Marshal(r); err != nil {
			t.Error(err)
		}
	})
}
