package control

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Clients are the attached clients of a container, safe for concurrent use.
// The zero value has none.
type Clients struct {
	mu   sync.Mutex
	list atomic.Pointer[[]*Client] // never changed in place
}

// Add lets k have the output from now on.
func (s *Clients) Add(k *Client) {
	s.change(func(l []*Client) []*Client { return append(l, k) })
}

// Remove takes k out; it is not ended.
func (s *Clients) Remove(k *Client) {
	s.change(func(l []*Client) []*Client { return slices.DeleteFunc(l, func(o *Client) bool { return o == k }) })
}

func (s *Clients) change(f func([]*Client) []*Client) (was []*Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.list.Load(); p != nil {
		was = *p
	}
	if now := f(slices.Clone(was)); len(now) == 0 {
		s.list.Store(nil)
	} else {
		s.list.Store(&now)
	}
	return was
}

// Len is how many there are.
func (s *Clients) Len() int {
	if p := s.list.Load(); p != nil {
		return len(*p)
	}
	return 0
}

// Write sends p to all, one after the other; those it fails for are removed.
// Without clients it costs next to nothing.
func (s *Clients) Write(stream byte, p []byte) {
	l := s.list.Load()
	if l == nil {
		return
	}
	for _, k := range *l {
		if k.Write(stream, p) != nil {
			s.Remove(k)
		}
	}
}

// End sends the exit code to all and removes them. It returns when all have
// it, or were cut off for taking nothing.
func (s *Clients) End(code int) {
	var wg sync.WaitGroup
	for _, k := range s.change(func([]*Client) []*Client { return nil }) {
		wg.Go(func() { k.End(code) })
	}
	wg.Wait()
}
