package images

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"
)

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func TestBar(t *testing.T) {
	var out syncBuffer
	report, end := Bar(&out, "app\x1b[31m:v1")
	for i := range int64(5) {
		report("Downloading", i<<20, 10<<20)
		time.Sleep(80 * time.Millisecond)
	}
	report("Unpacking", 1, 2)
	time.Sleep(80 * time.Millisecond)
	report("Loading", 5, -1)
	time.Sleep(80 * time.Millisecond)
	end()
	report("Loading", 6, -1) // late reports must not block or panic
	report("Loading", 7, -1)
	text := out.b.String()
	for _, want := range []string{"Downloading app", "Unpacking app", "Loading app", "MB"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %q", want, text)
		}
	}
	if strings.Contains(text, "\x1b[31m") || strings.Contains(text, "\n") {
		t.Errorf("name not cleaned, or more than one line: %q", text)
	}
	Progress(nil).report("nothing", 1, 2)
}
