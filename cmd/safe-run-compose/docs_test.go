package main

import (
	"strings"
	"testing"

	"github.com/safe-run/safe-run/internal/clidocs"
)

// TestDocs: the pages are what the verbs say of themselves.
func TestDocs(t *testing.T) {
	if stale := clidocs.Stale("../../docs/verbs", docsPages()); len(stale) > 0 {
		t.Errorf("docs/verbs: not what the program says: %s; write them anew: make docs", strings.Join(stale, " "))
	}
}
