package harness

import (
	"sync"

	"golang.org/x/sys/unix"
)

// Exchange makes two names change places as quickly as it goes
// (renameat2(2), RENAME_EXCHANGE): the attacker's side of a race. stop ends it
// and tells how often they did; it may be called more than once.
func Exchange(a, b string) (stop func() int) {
	end, times := make(chan struct{}), make(chan int, 1)
	go func() {
		n := 0
		for {
			select {
			case <-end:
				times <- n
				return
			default:
				if unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE) == nil {
					n++
				}
			}
		}
	}()
	return sync.OnceValue(func() int {
		close(end)
		return <-times
	})
}
