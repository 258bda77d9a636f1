package cli

import (
	"testing"
	"time"
)

// A regular file by its type, and reading it waits for the kernel's next message.
func TestReadFileThatWaits(t *testing.T) {
	done := make(chan error, 1)
	go func() {
		_, err := (*Caller)(nil).ReadFile("/proc/kmsg", 4<<20)
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("it has an end")
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it waits for good")
	}
}
