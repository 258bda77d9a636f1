package threats

import (
	"testing"

	"github.com/safe-run/safe-run/tests/imagekit"
)

// built is an image of the corpus, or a good one for "".
func built(t *testing.T, name string, edits ...func(*imagekit.Image)) *imagekit.Built {
	t.Helper()
	readyCorpus(t)
	img := tried.good
	img.Layers = append([]imagekit.Layer(nil), tried.good.Layers...)
	if name != "" {
		found := false
		for _, h := range tried.rows {
			if h.name == name && h.image != nil {
				h.image(&img)
				found = true
			}
		}
		if !found {
			t.Fatalf("no hostile image %q", name)
		}
	}
	allOf(edits...)(&img)
	b, err := imagekit.Build(img)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
