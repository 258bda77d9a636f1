package sample

import "testing"

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		word   string
		n      int
		strict bool
		want   int
	}{
		{"a", 10, false, 0}, {"a", 11, false, 1}, {"b", 11, false, 1}, {"c", 11, false, 0}, {"c", 0, true, 2}, {"x", 0, true, 0}, {"a", 1, false, 0},
	} {
		got := Check(c.word, c.n, c.strict)
		if len(got) != c.want {
			t.Errorf("%+v: %v", c, got)
		}
		for _, f := range got {
			if f.need == nil {
				t.Errorf("%+v: no need", c)
			}
		}
	}
}
