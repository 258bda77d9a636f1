package edits

import "testing"

func TestDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "ab", 2}, {"ab", "", 2}, {"nginx", "nginx", 0}, {"ngnix", "nginx", 2}, {"kitten", "sitting", 3}, {"volum", "volume", 1},
	} {
		if got := Distance(tc.a, tc.b); got != tc.want {
			t.Errorf("%q, %q: %d, wanted %d", tc.a, tc.b, got, tc.want)
		}
	}
}
