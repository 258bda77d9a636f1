package check

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/policy"
)

// sample is a file of testdata/samples.txt: a text, and what is to be found in
// it. Of each launch that are two lines: the verdict with the ids of what is
// refused (and their lines), ! and what is not honoured, ? and what is unknown;
// and the rewritten line.
type sample struct {
	name  string
	t     Type
	text  string
	found string
}

// samples reads the file. A text in quotation marks is one of Go's strings.
func samples(t testing.TB) (all []sample) {
	data, err := os.ReadFile("testdata/samples.txt")
	if err != nil {
		t.Fatal(err)
	}
	for block := range strings.SplitSeq("\n"+string(data), "\n== ") {
		head, rest, _ := strings.Cut(block, "\n")
		if head == "" {
			continue
		}
		s := sample{name: head, t: Shell}
		if name, kind, ok := strings.Cut(head, " ("); ok {
			s.name, s.t = name, Type(strings.TrimSuffix(kind, ")"))
		}
		text, found, ok := strings.Cut(rest, "\n-- found\n")
		if !ok {
			t.Fatalf("%s: no found", head)
		}
		if q, err := strconv.Unquote(text); err == nil {
			text = q
		}
		s.text, s.found = text, strings.TrimSpace(found)
		all = append(all, s)
	}
	if len(all) < 60 {
		t.Fatalf("only %d samples", len(all))
	}
	return all
}

func look(t testing.TB, kind Type, text string) *Report {
	t.Helper()
	r, err := Look("file", []byte(text), Options{Type: kind, Verbs: []string{"ps", "logs"}})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return r
}

// brief is what was found of a launch, in the form of the samples.
func brief(l Launch) string {
	what := string(l.Verdict) + ":"
	for _, r := range l.Refused {
		what += fmt.Sprintf(" %s@%d", r.ID, r.Line)
	}
	for _, m := range l.NotHonoured {
		what += " !" + strings.ReplaceAll(m.Flag, " ", "_")
	}
	for _, m := range l.Unknown {
		what += " ?" + strings.ReplaceAll(m.Flag, " ", "_")
	}
	return what + "\n" + l.Rewritten + "\n"
}

// TestSamples compares with the file. With CHECK_WRITE=1 it writes what is
// found instead, to be read before it is believed.
func TestSamples(t *testing.T) {
	var out bytes.Buffer
	for _, s := range samples(t) {
		var b strings.Builder
		for _, l := range look(t, s.t, s.text).Launches {
			b.WriteString(brief(l))
		}
		got := strings.TrimSpace(b.String())
		if os.Getenv("CHECK_WRITE") == "" && got != s.found {
			t.Errorf("%s\n got:\n%s\nwant:\n%s", s.name, got, s.found)
		}
		text, head := s.text, s.name
		if strings.ContainsAny(text, "\r\x1b") {
			text = strconv.QuoteToASCII(text)
		}
		if s.t != Shell {
			head += " (" + string(s.t) + ")"
		}
		fmt.Fprintf(&out, "== %s\n%s\n-- found\n%s\n\n", head, text, got)
	}
	if os.Getenv("CHECK_WRITE") != "" {
		if err := os.WriteFile("testdata/samples.txt", out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// checkAgain looks at the rewritten line of a launch: nothing may be refused of
// it, and all of it be honoured.
func checkAgain(t testing.TB, l Launch) {
	t.Helper()
	kind, text := Shell, strings.ReplaceAll(l.Rewritten, "%n", "nn")+"\n"
	if strings.HasPrefix(text, "Exec") {
		kind, text = Unit, "[Service]\n"+text
	}
	r, err := Look("again", []byte(text), Options{Type: kind})
	if err != nil {
		t.Errorf("the rewritten line cannot be read: %v\n%s", err, l.Rewritten)
		return
	}
	if len(r.Launches) == 0 {
		t.Errorf("the rewritten line starts nothing: %s", l.Rewritten)
	}
	for _, again := range r.Launches {
		if len(again.Refused) > 0 || len(again.NotHonoured) > 0 {
			t.Errorf("the rewritten line is not accepted: %s\n%s", l.Rewritten, brief(again))
		}
	}
}

func TestRewrittenLinesAreAccepted(t *testing.T) {
	for _, s := range samples(t) {
		for _, l := range look(t, s.t, s.text).Launches {
			checkAgain(t, l)
		}
	}
}

// TestSite: the site's grants, maxima and lists count as they do for run.
func TestSite(t *testing.T) {
	site, err := policy.ParseSite([]byte(`
version: 1
publish-address: required
registries: [registry.example]
limits: {max: {memory: 1g}}
grants:
  - {image: registry.example/vpn, capabilities: [NET_ADMIN], devices: [{path: /dev/net/tun}], binds: [{source: /etc/ssh, readonly: true}]}
`), "policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, want string }{
		{
			"docker run --cap-add NET_ADMIN --device /dev/net/tun -v /etc/ssh:/x:ro registry.example/vpn:1",
			"accepted:\nsafe-run run --cap-add NET_ADMIN --device /dev/net/tun -v /etc/ssh:/x:ro registry.example/vpn:1\n",
		},
		{
			"docker run --cap-add NET_ADMIN -v /etc/ssh:/x registry.example/other",
			"refused: capability@1 bind-secret@1\nsafe-run run registry.example/other\n",
		},
		{
			"docker run -p 80:80 -m 2g registry.example/web",
			"refused: publish-address@1 limit-over-maximum@1\nsafe-run run -p 127.0.0.1:80:80 registry.example/web\n",
		},
		// Of another registry no change of a flag makes it accepted.
		{"docker run --rm nginx", "refused: registry@1\nsafe-run run --rm nginx\n"},
		{"docker run --rm $IMAGE", "accepted: ?$IMAGE\nsafe-run run --rm $IMAGE\n"},
	} {
		r, err := Look("file", []byte(c.text), Options{Type: Shell, Site: site})
		if err != nil || len(r.Launches) != 1 {
			t.Fatalf("%s: %v", c.text, err)
		}
		if got := brief(r.Launches[0]); got != c.want {
			t.Errorf("%s\n got: %s\nwant: %s", c.text, got, c.want)
		}
	}
}
