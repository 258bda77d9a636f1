package e2e

import "github.com/safe-run/safe-run/tests/imagekit"

// files adds a layer. The hostile images themselves are in tests/threats.
func files(entries ...imagekit.Entry) func(*imagekit.Image) {
	return func(img *imagekit.Image) { img.Layers = append(img.Layers, imagekit.Layer{Entries: entries}) }
}
