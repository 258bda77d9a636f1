package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/licenseclassifier/v2/assets"
	spdxjson "github.com/spdx/tools-golang/json"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// TestDocument: this very test program is described, the same each time, and
// the document is one that SPDX's own library reads.
func TestDocument(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	var docs [2][]byte
	for i := range docs {
		file := filepath.Join(t.TempDir(), "sbom.json")
		if _, err := describe(file, "", []string{self}); err != nil {
			t.Fatal(err)
		}
		if docs[i], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(docs[0], docs[1]) {
		t.Error("two runs, two documents")
	}
	doc, err := spdxjson.Read(bytes.NewReader(docs[0]))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"std", "github.com/spdx/tools-golang", "github.com/google/licenseclassifier/v2"} {
		if !slices.ContainsFunc(doc.Packages, func(p *spdx.Package) bool { return p.PackageName == want && p.PackageLicenseDeclared != "NOASSERTION" }) {
			t.Errorf("%s is missing, or has no licence", want)
		}
	}
}

// TestForbidden: a licence that is not permitted, or none, is an error.
func TestForbidden(t *testing.T) {
	for _, c := range []component{{Name: "x", Licences: []string{"AGPL-3.0"}}, {Name: "y"}} {
		if err := judge([]*component{&c}); err == nil || !strings.Contains(err.Error(), c.Name) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	c, err := assets.DefaultClassifier()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if got, err := licencesIn(c, dir); err != nil || len(got) != 0 {
		t.Errorf("an empty directory: %v, %v", got, err)
	}
}
