// Package sample has rules to be broken, one of each kind, and a test that
// does not look at all of them.
package sample

// Limit is a bound.
const Limit = 10

var names = []string{"a", "b"}

type finding struct {
	name string
	need *int
}

// Check finds what is wrong with a word.
func Check(word string, n int, strict bool) (found []finding) {
	for _, name := range names {
		if word == name && n > Limit || strict {
			found = append(found, finding{name: name, need: &n})
		}
	}
	switch word {
	case "x":
		return nil
	}
	if n < 0 { // nobody tests this
		found = nil
	}
	return found
}
