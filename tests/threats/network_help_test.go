package threats

import (
	"sync"
	"testing"

	"github.com/safe-run/safe-run/tests/harness"
)

// neighbour is connected at its first use, and gone with this process.
var neighbour = sync.OnceValues(harness.ConnectLan)

// connectedLan is the neighbour on the host's wire, and the world behind it.
func connectedLan(t *testing.T) *harness.Lan {
	t.Helper()
	l, err := neighbour()
	if err != nil {
		t.Fatal(err)
	}
	return l
}
