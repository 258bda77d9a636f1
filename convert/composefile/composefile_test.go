package composefile_test

import (
	"testing"

	"github.com/safe-run/safe-run/convert/composefile"
	"github.com/safe-run/safe-run/convert/internal/formattest"
)

func TestEverything(t *testing.T) {
	formattest.Everything(t, composefile.Format(), "no rules; nothing could run", "no command line says", "which YAML is")
}
