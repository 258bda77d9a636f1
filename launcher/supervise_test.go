package launcher

import "testing"

func TestHoldsSignals(t *testing.T) {
	for _, c := range []struct {
		name, blocked, ignored string
		want                   bool
	}{
		{"before", "0000000000000000", "0000000000000000", false},
		{"others only", "0000000000010000", "0000000000001000", false},
		{"blocked", "fffffffe7ffbfeff", "0000000000000000", true},
		{"tini in its sigtimedwait(2)", "0000000000000000", "0000000000300000", true},
	} {
		status := "Name:\tdocker-init\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\nSigBlk:\t" + c.blocked +
			"\nSigIgn:\t" + c.ignored + "\nSigCgt:\t0000000000000000\n"
		if got := holdsSignals(status); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if holdsSignals("") {
		t.Error("nothing holds signals")
	}
}
