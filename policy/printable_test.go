package policy

import (
	"strings"
	"testing"
)

// TestPrintable: what a string of somebody else's looks like in a refusal.
func TestPrintable(t *testing.T) {
	for c := range rune(0x250) {
		harmless := c > ' ' && c < 0x7f && c != '"' && c != '\\' || c >= 0xa1 && c != 0xad
		if got := shown("a" + string(c)); (got == "a"+string(c)) != harmless {
			t.Errorf("%q is shown as %s", c, got)
		}
	}
	if got := shown(""); got != `""` {
		t.Errorf("nothing is shown as %s", got)
	}
	for n, want := range map[int]int{200: 200, 201: 203} {
		if got := shown(strings.Repeat("a", n)); len(got) != want {
			t.Errorf("%d bytes are shown as %d", n, len(got))
		}
	}
	for n, want := range map[int]int{500: 500, 501: 503} {
		if got := sanitized(strings.Repeat("a", n)); len(got) != want {
			t.Errorf("%d bytes are told as %d", n, len(got))
		}
	}
	for c := range rune(0x100) {
		if hasControl("a"+string(c)) != (c < ' ' || c == 0x7f) {
			t.Errorf("%q", c)
		}
	}
	for n, want := range map[int]bool{4095: true, 4096: false} {
		if cleanPath("/"+strings.Repeat("a", n-1)) != want {
			t.Errorf("a path of %d bytes: want %v", n, want)
		}
	}
}
