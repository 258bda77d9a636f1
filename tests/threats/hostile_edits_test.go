package threats

import (
	"fmt"
	"strings"

	"github.com/safe-run/safe-run/tests/harness"
	"github.com/safe-run/safe-run/tests/imagekit"
)

// What images of the corpus are changed with, and looked at for.

func configured(edit func(*imagekit.Config)) func(*imagekit.Image) {
	return func(img *imagekit.Image) { edit(&img.Config) }
}

func withFiles(entries ...imagekit.Entry) func(*imagekit.Image) {
	return func(img *imagekit.Image) { img.Layers = append(img.Layers, imagekit.Layer{Entries: entries}) }
}

// replaced takes a directory of the first layer away, for images that have
// something else in its place.
func replaced(entry imagekit.Entry) func(*imagekit.Image) {
	return func(img *imagekit.Image) {
		var kept []imagekit.Entry
		for _, e := range img.Layers[0].Entries {
			p := strings.TrimSuffix(e.Path, "/")
			if p != entry.Path && !strings.HasPrefix(p, entry.Path+"/") {
				kept = append(kept, e)
			}
		}
		img.Layers[0].Entries = append(kept, entry)
	}
}

func as(user string) func(*imagekit.Image) {
	return configured(func(c *imagekit.Config) { c.User = user })
}

func allOf(edits ...func(*imagekit.Image)) func(*imagekit.Image) {
	return func(img *imagekit.Image) {
		for _, e := range edits {
			e(img)
		}
	}
}

// printed: the program ran and printed exactly that.
func printed(out string) func(harness.Answer) error {
	return func(r harness.Answer) error {
		if r.Code != 0 || r.Stdout != out {
			return fmt.Errorf("wanted stdout %q", out)
		}
		return nil
	}
}

// without: the program printed none of these words of the host.
func without(words ...string) func(harness.Answer) error {
	return func(r harness.Answer) error {
		for _, w := range words {
			if strings.Contains(r.Stdout, w) {
				return fmt.Errorf("%q of the host", w)
			}
		}
		return nil
	}
}
