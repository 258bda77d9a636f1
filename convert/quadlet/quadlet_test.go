package quadlet_test

import (
	"testing"

	"github.com/safe-run/safe-run/convert/internal/formattest"
	"github.com/safe-run/safe-run/convert/quadlet"
)

func TestEverything(t *testing.T) {
	formattest.Everything(t, quadlet.Format(), "no rules; nothing could run", "no command line says", "is no name of an image", "cannot hand over the word", "looks like a secret")
}
